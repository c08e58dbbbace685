"""The outbox: what a receiver does, or its clock, ends nothing else."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from alerts.alert import Alert
from alerts.verdict import Permanent, Retryable
from pipeline.metrics import WorkerMetrics
from pipeline.outbox import Outbox, Receiver
from pipeline.settings import Labels, Settings
from pipeline.settings import Store as StoreSettings
from pipeline.settings import Worker as WorkerSettings
from pipeline.worker import Worker
from tests.store import opened, ring


class Recorder:
    """A receiver that fails as it is told."""

    name = "recorder"

    def __init__(self) -> None:
        self.fault: Exception | None = None
        self.told: list[str] = []
        self.asked = 0
        self.notes: dict[str, str] = {}

    async def send(self, alerts: Sequence[Alert], now: datetime) -> None:
        self.asked += 1
        if self.fault is not None:
            raise self.fault
        self.told += [alert.incident for alert in alerts]
        self.notes = alerts[-1].annotations

    async def close(self) -> None:
        pass


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[sa.Engine]:
    with opened(f"sqlite:///{tmp_path}/ovoz.db") as made:
        ring(made)
        yield made


@pytest.mark.parametrize("fault", [Retryable("away"), ZeroDivisionError("a bug"), Permanent("no such room")])
async def test_no_fault_of_a_receiver_leaves_the_outbox(engine: sa.Engine, fault: Exception) -> None:
    recorder = Recorder()
    recorder.fault = fault
    outbox = Outbox(
        engine, Receiver(notifier=recorder, renew_after=None), lambda _: ["default"],
        WorkerMetrics(Labels(), lambda: None),
    )  # fmt: skip
    assert await outbox.send_due() == 0
    recorder.fault = None
    assert await outbox.send_due() == 0, "not at once"
    assert recorder.told == []


@pytest.mark.parametrize(("sends", "pauses"), [("again", [2, 2, 2, 2, 2, 2]), ("once", [2, 4, 8, 16, 30, 30])])
async def test_services_of_others_are_asked_ever_less_often_while_they_fail(
    engine: sa.Engine, monkeypatch: pytest.MonkeyPatch, sends: Any, pauses: list[int]
) -> None:
    recorder, clock = Recorder(), [1000.0]
    recorder.fault = Retryable("away")
    monkeypatch.setattr("pipeline.outbox.time.monotonic", lambda: clock[0])
    outbox = Outbox(
        engine, Receiver(notifier=recorder, sends=sends), lambda _: ["default"], WorkerMetrics(Labels(), lambda: None)
    )
    for pause in pauses:
        before = recorder.asked
        await outbox.send_due()
        assert recorder.asked == before + 1
        clock[0] += pause - 0.1
        await outbox.send_due()
        assert recorder.asked == before + 1, "not before its time"
        clock[0] += 0.2
    recorder.fault = None
    assert await outbox.send_due() == 1 and len(recorder.told) == 1


@pytest.mark.parametrize("everything", [False, True])
async def test_people_are_told_with_each_alert_that_the_pipeline_is_ill_and_programs_what_is_stored(
    engine: sa.Engine, everything: bool
) -> None:
    recorder, ill = Recorder(), ["Records have waited."]
    outbox = Outbox(
        engine, Receiver(notifier=recorder, renew_after=timedelta(seconds=0), all_changes=everything),
        lambda _: ["default"], WorkerMetrics(Labels(), lambda: None), lambda: " ".join(ill),
    )  # fmt: skip
    assert await outbox.send_due() == 1
    assert ("pipeline" in recorder.notes) is not everything
    ill.clear()
    if not everything:
        assert await outbox.send_due() == 1 and "pipeline" not in recorder.notes


def test_a_worker_says_that_records_wait_and_that_records_are_missing_and_nothing_when_it_starts(
    tmp_path: Path,
) -> None:
    store = StoreSettings(url=f"sqlite:///{tmp_path}/ovoz.db")
    settings = Settings(store=store, worker=WorkerSettings(data_dir=tmp_path))
    worker, now_s, place = Worker(settings, "fold"), time.monotonic(), ("feedback.raw", 0)
    assert worker._caution() == ""
    for ago in range(60, -1, -5):
        worker._backlog.observe({place: 100}, {place: 10}, now_s - ago)
    assert "30 seconds" in worker._caution() and "known outcome" not in worker._caution()
    worker._backlog.observe({place: 100}, {place: 100}, now_s)
    worker._holes.keep({0})
    worker._holes.observe(0, [(3, 5)], now_s)
    assert worker._caution() == "2 records have no known outcome yet: counts may be too low."


async def test_it_tries_again_after_a_while_whatever_the_clock_says(
    engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = Recorder()
    recorder.fault = Retryable("away", retry_after_s=5)
    outbox = Outbox(
        engine, Receiver(notifier=recorder, renew_after=timedelta(minutes=1)), lambda _: ["default"],
        WorkerMetrics(Labels(), lambda: None),
    )  # fmt: skip
    await outbox.send_due()
    recorder.fault = None
    later = time.monotonic() + 5.1
    monkeypatch.setattr("pipeline.outbox.time.monotonic", lambda: later)
    assert await outbox.send_due() == 1
    assert await outbox.send_due() == 0
    assert len(recorder.told) == 1
