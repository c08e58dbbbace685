"""The benchmark of detection judges what ships: its short loop opens the incidents that alerts.series opens."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from alerts.series import start, step
from benchmarks.detection import _ITEMS, RULE, Score, fired, interval
from benchmarks.detection_rivals import alarms
from benchmarks.detection_streams import Incident, Stream, World, stream

WORLD = World(name="test", per_minute=1.0, swing=0.05, rate_swing=0.8, wander=0.05, brigades=2)
RISE = Incident(name="rise", share=0.7, volume=3)


def whole(one: Stream) -> list[float]:
    """When the alert of a series begins to fire, by the code that runs in the worker."""
    state, begins = start(RULE), []
    for at_s, bad, copy in zip(one.at_s.tolist(), one.negative.tolist(), one.copy.tolist(), strict=True):
        at = datetime.fromtimestamp(at_s, UTC)
        item = replace(_ITEMS[bad], at=at, text="late", copy_of="a:b:first" if copy else "")
        state, changes = step(state, RULE, item, at_s)
        begins += [change.at_s for change in changes if change.turn and change.status == "firing"]
    return begins


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_benchmarks_loop_is_the_workers(seed: int) -> None:
    one = stream(WORLD, 4, seed, RISE, first_day=1)
    found = fired(one)
    assert len(found) >= 2
    assert found == whole(one)


def test_a_stream_is_what_it_says() -> None:
    one = stream(World(name="plain", per_minute=5.0), 10, 1)
    assert one.at_s.size == pytest.approx(5 * 1440 * 10, rel=0.02)
    assert one.negative.mean() == pytest.approx(0.25, abs=0.01)
    assert (one.at_s[1:] >= one.at_s[:-1]).all()
    two = stream(World(name="plain", per_minute=5.0), 10, 1, RISE, first_day=2)
    (begin_s, *_) = two.begins_s
    inside = (two.at_s >= begin_s) & (two.at_s < begin_s + 3600)
    assert inside.sum() == pytest.approx(900, rel=0.2) and two.negative[inside].mean() == pytest.approx(0.7, abs=0.07)


def test_rivals_alarm_in_a_grave_incident_and_scores_count_it() -> None:
    one = stream(World(name="plain", per_minute=5.0), 10, 1, Incident(name="grave", share=0.95), first_day=9)
    by_method = dict(alarms(one))
    starts = by_method["fixed threshold", "80% of 15 min, 25 items"]
    score = Score()
    score.add(one, starts, Incident(name="grave", share=0.95))
    assert score.found == 1 and 5 < score.delay < 20 and score.false == 0
    assert score.weeks == pytest.approx(10 / 7)
    low, high = interval(0, 10)
    assert (low, high) == (0, pytest.approx(0.3689, abs=1e-3))
