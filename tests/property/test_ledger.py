"""The ledger against the plainest model there is: a set of offsets."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from pipeline.ledger import Ledger, Span, runs, size

SPANS = st.lists(st.tuples(st.integers(-2, 60), st.integers(-2, 60)), max_size=20)
OFFSETS = st.sets(st.integers(0, 60))


def offsets(spans: list[Span]) -> set[int]:
    return {offset for start, end in spans for offset in range(start, end)}


@given(st.integers(0, 30), st.lists(SPANS, max_size=6), st.randoms())
def test_any_order_and_grouping_of_adds_equals_the_set(low: int, groups: list[list[Span]], dice: object) -> None:
    ledger = Ledger(low=low)
    for group in groups:
        ledger = ledger.add(group)
    flat = [span for group in groups for span in group]
    dice.shuffle(flat)  # type: ignore[attr-defined]
    assert ledger == Ledger(low=low).add(flat)
    known = offsets(flat) | set(range(low))
    assert [offset for offset in range(64) if ledger.contains(offset)] == sorted(o for o in known if o >= 0)
    assert size(ledger.holes(64)) == 64 - len({offset for offset in known if 0 <= offset < 64})
    assert not offsets(ledger.holes(64)) & known
    assert ledger.high == max(known, default=-1) + 1 or ledger.high == low
    edges = [low, *(edge for span in ledger.spans for edge in span)]
    assert edges == sorted(set(edges))
    assert Ledger.from_json(ledger.low, ledger.to_json()) == ledger


@given(OFFSETS)
def test_runs_hold_exactly_their_offsets_and_never_touch(some: set[int]) -> None:
    spans = runs(some)
    assert offsets(spans) == some and size(spans) == len(some)
    assert all(left[1] < right[0] for left, right in pairwise(spans))
    assert Ledger().add(spans) == Ledger().add((offset, offset + 1) for offset in some)
