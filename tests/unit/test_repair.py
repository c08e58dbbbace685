"""Holes: seen, waited for, and only then read again."""

from __future__ import annotations

from pipeline.ledger import Ledger
from pipeline.repair import FoldProgress, HoleWatch, absent, holes


def test_what_was_committed_without_an_outcome_is_a_hole() -> None:
    assert holes(Ledger(low=3), 5) == [(3, 5)]


def test_what_was_overtaken_by_later_outcomes_is_a_hole() -> None:
    assert holes(Ledger(low=3, spans=((7, 9),)), None) == [(3, 7)]


def test_what_nobody_has_passed_is_no_hole() -> None:
    assert holes(Ledger(low=3), 3) == holes(Ledger(low=3), None) == holes(Ledger(low=3), 1) == []


def test_a_hole_is_overdue_only_after_its_time() -> None:
    watch = HoleWatch()
    watch.observe(0, [(3, 5)], 10.0)
    assert watch.overdue(0, 69.9, 60, float("inf")) == []
    assert watch.overdue(0, 70.0, 60, float("inf")) == [(3, 5)]


def test_each_offset_has_its_own_age() -> None:
    watch = HoleWatch()
    watch.observe(0, [(10, 20)], 0.0)
    watch.observe(0, [(5, 12), (15, 30)], 50.0)
    assert watch.overdue(0, 60.0, 60, float("inf")) == [(10, 12), (15, 20)]
    assert watch.overdue(0, 110.0, 60, float("inf")) == [(5, 10), (10, 12), (15, 20), (20, 30)]
    assert watch.count() == 22


def test_a_hole_that_closed_and_opened_again_is_young() -> None:
    watch = HoleWatch()
    watch.observe(0, [(1, 2)], 0.0)
    watch.observe(0, [], 30.0)
    watch.observe(0, [(1, 2)], 59.0)
    assert watch.overdue(0, 70.0, 60, float("inf")) == []


def test_an_old_hole_waits_for_a_fold_that_is_behind() -> None:
    watch = HoleWatch()
    watch.observe(0, [(1, 2)], 10.0)
    assert watch.overdue(0, 1000.0, 60, 9.9) == []
    assert watch.overdue(0, 1000.0, 60, 10.0) == [(1, 2)]


def test_holes_of_partitions_that_moved_away_are_forgotten() -> None:
    watch = HoleWatch()
    watch.observe(0, [(1, 2)], 0.0)
    watch.observe(1, [(1, 4)], 0.0)
    watch.keep([1])
    assert watch.count() == 3
    assert watch.overdue(0, 99.0, 1, float("inf")) == []


def test_the_fold_has_settled_what_it_has_passed_on_every_partition() -> None:
    progress = FoldProgress()
    ends = {("scored", 0): 5, ("dead", 0): 2}
    progress.observe(ends, {("scored", 0): 5}, 1.0)
    assert progress.settled_s == float("-inf")
    progress.observe({("scored", 0): 9, ("dead", 0): 2}, {("scored", 0): 5, ("dead", 0): 2}, 2.0)
    assert progress.settled_s == 1.0
    progress.observe({("scored", 0): 9}, {("scored", 0): 9, ("dead", 0): 2}, 3.0)
    assert progress.settled_s == 3.0


def test_an_empty_log_is_settled_at_once() -> None:
    progress = FoldProgress()
    progress.observe({("scored", 0): 0}, {}, 1.0)
    assert progress.settled_s == 1.0


def test_a_long_wait_needs_bounded_memory_and_still_settles() -> None:
    progress = FoldProgress()
    for second in range(1000):
        progress.observe({("scored", 0): 100 + second}, {}, float(second))
    assert len(progress._marks) <= 64
    progress.observe({("scored", 0): 2000}, {("scored", 0): 1500}, 1000.0)
    assert progress.settled_s == 999.0


def test_what_was_asked_for_and_not_read_is_absent() -> None:
    spans = [(2, 5), (7, 9), (20, 22)]
    assert absent(spans, [2, 4, 7, 8, 21]) == [(3, 4), (20, 21)]
    assert absent(spans, []) == spans
    assert absent(spans, range(30)) == []
