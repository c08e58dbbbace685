"""The ledger: what is accounted for, and which gaps are left."""

from __future__ import annotations

import pytest

from pipeline.ledger import Ledger, runs, size


def test_the_next_offset_moves_the_low_mark() -> None:
    assert Ledger(low=3).add([(3, 5)]) == Ledger(low=5)


def test_an_island_stays_apart_until_the_gap_is_filled() -> None:
    island = Ledger().add([(4, 6)])
    assert island == Ledger(low=0, spans=((4, 6),))
    assert island.holes(6) == [(0, 4)]
    assert island.add([(0, 4)]) == Ledger(low=6)


@pytest.mark.parametrize("filling", [[(2, 4)], [(2, 3), (3, 4)], [(3, 4), (2, 3)], [(1, 5)], [(2, 3), (2, 4)]])
def test_touching_spans_become_one(filling: list[tuple[int, int]]) -> None:
    assert Ledger().add([(1, 2), (4, 6)]).add(filling) == Ledger(low=0, spans=((1, 6),))


def test_what_lies_below_the_low_mark_changes_nothing() -> None:
    assert Ledger(low=10).add([(0, 9), (5, 10), (7, 7), (9, 3)]) == Ledger(low=10)
    assert Ledger(low=10).add([(-5, 12)]) == Ledger(low=12)


def test_high_is_one_past_the_greatest_offset() -> None:
    assert Ledger(low=4).high == 4
    assert Ledger(low=4, spans=((6, 9), (11, 12))).high == 12


def test_holes_end_where_they_are_asked_to() -> None:
    ledger = Ledger(low=2, spans=((4, 6), (9, 10)))
    assert ledger.holes(0) == ledger.holes(2) == []
    assert ledger.holes(3) == [(2, 3)]
    assert ledger.holes(5) == [(2, 4)]
    assert ledger.holes(12) == [(2, 4), (6, 9), (10, 12)]


def test_contains_is_right_at_every_edge() -> None:
    ledger = Ledger(low=2, spans=((4, 6), (9, 10)))
    assert [offset for offset in range(12) if ledger.contains(offset)] == [0, 1, 4, 5, 9]


def test_offsets_of_any_size_survive_storage() -> None:
    ledger = Ledger(low=2**62).add([(2**63 - 2, 2**63 - 1)])
    assert Ledger.from_json(ledger.low, ledger.to_json()) == ledger
    assert Ledger(low=2**62).contains(2**62 - 1) and not ledger.contains(2**62)


def test_runs_are_the_fewest_spans() -> None:
    assert runs([5, 3, 4, 9, 3]) == [(3, 6), (9, 10)]
    assert runs([]) == []
    assert size([(3, 6), (9, 10)]) == 4
