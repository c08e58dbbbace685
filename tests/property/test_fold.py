"""Folding in any order, with anything delivered twice, in any batches, equals counting the newest versions."""

from __future__ import annotations

import random
from collections import defaultdict
from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from pipeline.fold import Changes, Held, Horizon, Identity, fold
from pipeline.records import Scored
from pipeline.windows import Cell, Tally, minute_of
from tests.store import NOW, RETENTION, scored

FLOOR = minute_of(NOW - RETENTION)

versions = st.builds(
    lambda name, version, mood, topic, age, deleted, space: scored(
        name, version, mood=mood, topic=topic, minutes_ago=age, deleted=deleted, workspace=space
    ),
    st.sampled_from("abcd"),
    st.integers(0, 6),
    st.sampled_from(["negative", "neutral", "positive"]),
    st.sampled_from(["delivery", "refund"]),
    st.integers(0, 2 * 24 * 60 // 7).map(lambda age: 7 * age) | st.integers(2 * 24 * 60 - 10, 2 * 24 * 60 + 10),
    st.sampled_from([False, False, False, True]),
    st.sampled_from(["one", "two"]),
)
# One version of one item is one text: of two that differ, no order could say which counts.
streams = st.lists(
    versions, max_size=30, unique_by=lambda s: (s.feedback.workspace, s.feedback.feedback_id, s.feedback.version)
)


def truth(stream: list[Scored]) -> dict[Cell, tuple[int, int]]:
    newest: dict[Identity, Scored] = {}
    for item in stream:
        key = (item.feedback.workspace, item.feedback.feedback_id)
        if key not in newest or newest[key].feedback.version < item.feedback.version:
            newest[key] = item
    cells: dict[Cell, list[int]] = defaultdict(lambda: [0, 0])
    for item in newest.values():
        said, minute = item.prediction, minute_of(item.feedback.created_at)
        if said is not None and minute >= FLOOR:
            cell = Cell(item.feedback.workspace, minute, "shop", "review", said.topic, "en", said.label)
            cells[cell][0] += 1
            cells[cell][1] += round(said.score * 1e6)
    return {cell: (count, score) for cell, (count, score) in cells.items()}


def run(batches: list[list[Scored]]) -> tuple[dict[Cell, Tally], list[Changes]]:
    held: dict[Identity, Held] = {}
    cells: dict[Cell, Tally] = defaultdict(Tally)
    horizons = {name: Horizon(FLOOR, None) for name in ("one", "two")}
    every = []
    for batch in batches:
        changes = fold(batch, held, horizons, late_after=timedelta(minutes=5), now=NOW)
        for cell, tally in changes.cells.items():
            cells[cell].add(tally.count, tally.score_e6)
        held.update({identity: after for identity, (_, after) in changes.items.items()})
        every.append(changes)
    return cells, every


@given(streams, st.randoms(use_true_random=False), st.integers(1, 9), st.floats(0, 1))
def test_any_order_duplication_and_batching_counts_the_newest_versions(
    stream: list[Scored], dice: random.Random, batch: int, again: float
) -> None:
    delivered = stream + [item for item in stream if dice.random() < again]
    dice.shuffle(delivered)
    cells, every = run([delivered[start : start + batch] for start in range(0, len(delivered), batch)])
    assert {cell: (t.count, t.score_e6) for cell, t in cells.items() if t.count or t.score_e6} == truth(stream)
    assert all(tally.count >= 0 for tally in cells.values())
    seen = sum(len(c.counted) for c in every)
    assert seen <= len({(s.feedback.workspace, s.feedback.feedback_id) for s in stream})
    known = len({(s.feedback.workspace, s.feedback.feedback_id, s.feedback.version) for s in stream})
    assert sum(c.unchanged for c in every) >= len(delivered) - known


@given(streams)
def test_what_was_added_can_be_taken_back_to_nothing(stream: list[Scored]) -> None:
    gone = [scored(item.feedback.external_id, 99, deleted=True, workspace=item.feedback.workspace) for item in stream]
    cells, _ = run([stream, gone])
    assert all(tally == Tally(0, 0) for tally in cells.values())
