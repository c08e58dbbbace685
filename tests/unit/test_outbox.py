"""The outbox: what a receiver does, or its clock, ends nothing else."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from alerts.alert import Alert
from alerts.verdict import Permanent, Retryable
from pipeline.metrics import WorkerMetrics
from pipeline.outbox import Outbox, Receiver
from pipeline.settings import Labels
from tests.store import opened, ring


class Recorder:
    """A receiver that fails as it is told."""

    name = "recorder"

    def __init__(self) -> None:
        self.fault: Exception | None = None
        self.told: list[str] = []

    async def send(self, alerts: Sequence[Alert], now: datetime) -> None:
        if self.fault is not None:
            raise self.fault
        self.told += [alert.incident for alert in alerts]

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
