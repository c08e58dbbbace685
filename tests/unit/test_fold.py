"""Folding: each item counts once, in its newest version."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from pipeline.fold import Changes, Held, Horizon, Identity, fold
from pipeline.records import Scored
from pipeline.windows import Tally, minute_of
from tests.store import NOW, RETENTION, scored

FLOOR = minute_of(NOW - RETENTION)
LATE = timedelta(minutes=5)


def folded(
    *items: Scored, held: dict[Identity, Held] | None = None, watermark: datetime | None = None, **options: Any
) -> Changes:
    horizon = Horizon(FLOOR, watermark)
    horizons = {item.feedback.workspace: horizon for item in items}
    return fold(items, held or {}, horizons, late_after=LATE, now=NOW, **options)


def held_after(changes: Changes) -> dict[Identity, Held]:
    return {identity: held for identity, (_, held) in changes.items.items()}


def test_a_new_item_counts_in_its_cell() -> None:
    changes = folded(scored("a", minutes_ago=7, mood="negative"))
    ((cell, tally),) = changes.cells.items()
    assert (cell.minute, cell.sentiment, cell.topic) == (minute_of(NOW) - 7, "negative", "delivery")
    assert tally == Tally(1, -600_000)
    assert len(changes.counted) == 1


def test_an_unsure_item_counts_as_unsure_and_with_its_score() -> None:
    ((cell, tally),) = folded(scored("a", mood="unsure")).cells.items()
    assert (cell.sentiment, tally) == ("unsure", Tally(1, -150_000))


def test_the_same_version_again_changes_nothing() -> None:
    first = folded(scored("a"))
    again = folded(scored("a", mood="positive"), held=held_after(first))
    assert (again.cells, again.items, again.unchanged) == ({}, {}, 1)


def test_an_older_version_that_comes_late_changes_nothing() -> None:
    newer = folded(scored("a", 5))
    assert folded(scored("a", 4), held=held_after(newer)).cells == {}


def test_a_newer_version_moves_its_count_to_its_own_cell() -> None:
    first = folded(scored("a", 1, minutes_ago=9, mood="negative"))
    second = folded(scored("a", 2, minutes_ago=3, mood="positive"), held=held_after(first))
    moved = {(cell.minute - minute_of(NOW), cell.sentiment): tally for cell, tally in second.cells.items()}
    assert moved == {(-9, "negative"): Tally(-1, 600_000), (-3, "positive"): Tally(1, 600_000)}
    assert (second.replaced, second.counted) == (1, [])


def test_a_version_with_the_same_cell_and_score_leaves_no_change_of_cells() -> None:
    first = folded(scored("a", 1))
    second = folded(scored("a", 2), held=held_after(first))
    assert second.cells == {} and len(second.items) == 1


def test_a_deletion_takes_the_count_back_and_stays_remembered() -> None:
    first = folded(scored("a", 1))
    gone = folded(scored("a", 2, deleted=True), held=held_after(first))
    assert [tally.count for tally in gone.cells.values()] == [-1]
    assert gone.retracted == 1
    assert folded(scored("a", 1), held=held_after(gone)).cells == {}


def test_a_deletion_before_its_item_keeps_the_item_from_counting() -> None:
    gone = folded(scored("a", 2, deleted=True))
    assert gone.cells == {} and gone.expired == 0
    assert folded(scored("a", 1), held=held_after(gone)).cells == {}


def test_an_item_past_retention_is_remembered_but_counts_nowhere() -> None:
    old = folded(scored("a", minutes_ago=RETENTION.total_seconds() / 60 + 1))
    assert (old.cells, old.expired, old.counted, len(old.items)) == ({}, 1, [], 1)


def test_the_first_minute_of_retention_still_counts() -> None:
    assert len(folded(scored("a", minutes_ago=RETENTION.total_seconds() / 60)).cells) == 1


def test_one_batch_with_all_versions_gives_what_the_newest_gives() -> None:
    versions = [scored("a", 3, mood="positive"), scored("a", 1), scored("a", 2, deleted=True), scored("a", 3)]
    assert dict(folded(*versions).cells) == dict(folded(versions[0]).cells)


def test_the_same_id_in_two_workspaces_is_two_items() -> None:
    changes = folded(scored("a", workspace="one"), scored("a", workspace="two"))
    assert {cell.workspace for cell in changes.cells} == {"one", "two"}


def test_items_behind_the_watermark_are_counted_and_named_as_late() -> None:
    changes = folded(scored("a", minutes_ago=5.1), scored("b", minutes_ago=4.9), watermark=NOW)
    assert changes.late == ["shop"] and len(changes.counted) == 2


def test_a_backfilled_item_counts_and_leaves_the_watermark_alone() -> None:
    assert folded(scored("a", backfill=True)).watermarks == {}
    assert len(folded(scored("a", backfill=True)).cells) == 1


def test_the_watermark_only_rises() -> None:
    assert folded(scored("a", minutes_ago=3), watermark=NOW).watermarks == {}
    changes = folded(scored("a", minutes_ago=3), scored("b", minutes_ago=8))
    assert changes.watermarks == {"default": NOW - timedelta(minutes=3)}


def test_an_item_from_a_clock_that_runs_ahead_does_not_carry_the_watermark_beyond_now() -> None:
    ahead = scored("a", minutes_ago=-180)
    assert folded(ahead).watermarks == {"default": NOW}
    assert folded(ahead, scored("b", minutes_ago=1)).late == []


def test_the_greatest_version_is_a_version_like_any_other() -> None:
    top = folded(scored("a", 2**63 - 2), scored("a", 2**63 - 1, mood="positive"))
    assert [cell.sentiment for cell in top.cells] == ["positive"]


def silent(name: str, version: int = 1, **fields: Any) -> Scored:
    """A score without a comment: no words, so no prediction."""
    return scored(name, version, **{"text": "", **fields})


def test_what_has_no_words_is_kept_and_counts_nowhere() -> None:
    watermark = NOW - timedelta(minutes=1)
    changes = folded(silent("a", minutes_ago=30), watermark=watermark)
    ((_, held),) = changes.items.values()
    assert held.silent and held.cell is None
    assert (changes.cells, changes.counted, changes.late, changes.expired, changes.silent) == ({}, [], [], 0, 1)


def test_a_comment_that_follows_its_score_counts_as_new() -> None:
    first = folded(silent("a", 1))
    second = folded(scored("a", 2), held=held_after(first))
    assert len(second.counted) == 1 and second.replaced == 0
    assert [tally.count for tally in second.cells.values()] == [1]


def test_words_that_are_taken_back_are_retracted_and_their_score_stays() -> None:
    first = folded(scored("a", 1))
    second = folded(silent("a", 2), held=held_after(first))
    assert [tally.count for tally in second.cells.values()] == [-1]
    assert second.retracted == 1 and next(iter(held_after(second).values())).silent


def test_what_has_no_words_and_is_past_retention_keeps_nothing() -> None:
    changes = folded(silent("a", minutes_ago=RETENTION / timedelta(minutes=1) + 5))
    assert not next(iter(held_after(changes).values())).silent and changes.expired == 0
