"""A backtest gives what the live engine gave: on any stream, and on what a real store holds of it."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from alerts.alert import Alert, Sample
from alerts.backtest import replay
from alerts.rule import Rule
from pipeline.store import read
from pipeline.store.history import samples as history
from pipeline.store.read import reading
from tests.property.test_engine import RULES, arrivals, fold
from tests.store import NOW, arrival, opened, scored, store_on

RISE = Rule(name="rise", false_alarms_per_week=5, min_items=5)


def lives(alerts: list[Alert]) -> dict[str, tuple[object, ...]]:
    """What an incident is: when, what, with which evidence; not the links of the live one."""
    return {
        alert.incident: (
            alert.rule, alert.state, alert.labels, alert.starts_at, alert.ends_at, alert.evidence,
            alert.annotations["description"],
        )
        for alert in alerts
        if alert.state != "pending"
    }  # fmt: skip


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(samples=arrivals(), data=st.data())
def test_a_backtest_gives_the_incidents_of_the_live_engine(samples: list[Sample], data: st.DataObject) -> None:
    cuts = data.draw(st.lists(st.integers(0, len(samples)), max_size=8))
    _, live = fold(samples, [*cuts, len(samples)], ticks=True)
    plain = [replace(sample, copy_of="") for sample in samples]
    found = replay(RULES, plain)
    assert lives(list(found.alerts)) == lives(list(live.values()))
    assert found.items == len(samples)


def test_a_backtest_of_a_store_gives_the_incidents_that_its_worker_saw(tmp_path: Path) -> None:
    dice = random.Random(4)
    items = []
    for number in range(400):
        bad = dice.random() < (0.85 if 200 <= number < 280 else 0.2)
        text = f"{dice.getrandbits(160):x}"
        one = scored(
            str(number), mood="negative" if bad else "positive", minutes_ago=300 - number * 0.5, text=text,
            raw=("raw-life-1", 0, number), received_at=NOW - timedelta(minutes=299 - number * 0.5),
        )  # fmt: skip
        items.append(replace(one, scored_at=one.feedback.received_at))
    with opened(f"sqlite:///{tmp_path}/store.db") as engine:
        store = store_on(engine, rules=[RISE])
        for offset, start in enumerate(range(0, len(items), 7)):
            batch = items[start : start + 7]
            store.fold([arrival(offset, *batch)], now=batch[-1].scored_at)
        with reading(engine) as connection:
            live = read.alerts(connection)
            found = replay([RISE], history(connection, None, None, fresh=timedelta(hours=6)))
            later = list(history(connection, NOW - timedelta(minutes=150), NOW, fresh=timedelta(hours=6)))
    assert found.items == len(items) and len(later) == 100
    assert len(live) == 1
    assert lives(list(found.alerts)) == lives(live)
