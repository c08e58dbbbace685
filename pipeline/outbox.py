"""Alerts leave the store: to each receiver what it must hear now, again while it is away."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import sqlalchemy as sa

from alerts.notifiers import Notifier
from alerts.verdict import Permanent, Retryable
from pipeline.metrics import WorkerMetrics
from pipeline.store import incidents
from pipeline.store.engine import StoreAway, away
from pipeline.store.read import reading

log = logging.getLogger("ovoz.outbox")

RETRY_S: Final = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Receiver:
    """Where alerts go. `renew_after`: how soon a lease is renewed; None where each transition is told once."""

    notifier: Notifier
    renew_after: timedelta | None


class Outbox:
    """Tells one worker's workspaces' alerts to the receivers."""

    def __init__(
        self,
        engine: sa.Engine,
        receivers: Sequence[Receiver],
        workspaces: Callable[[sa.Connection], list[str]],
        metrics: WorkerMetrics,
    ) -> None:
        self._engine = engine
        self._receivers = receivers
        self._workspaces = workspaces
        self._metrics = metrics
        self._stopped: set[str] = set()
        self._not_before: dict[str, datetime] = {}

    async def send_due(self) -> int:
        """One round over all receivers: how many alerts were told."""
        told = 0
        for receiver in self._receivers:
            name, now = receiver.notifier.name, datetime.now(UTC)
            if name not in self._stopped and now >= self._not_before.get(name, now):
                told += await self._send(receiver, now)
        return told

    async def _send(self, receiver: Receiver, now: datetime) -> int:
        loop = asyncio.get_running_loop()
        name = receiver.notifier.name
        try:
            pending = await loop.run_in_executor(None, self._due, receiver, now)
            if not pending:
                return 0
            await receiver.notifier.send([alert for alert, _ in pending], now)
            await loop.run_in_executor(None, self._delivered, name, pending, now)
        except Retryable as error:
            pause = RETRY_S if error.retry_after_s is None else error.retry_after_s
            self._not_before[name] = now + timedelta(seconds=pause)
            log.warning("receiver %s did not take alerts, trying again in %.0f s: %s", name, pause, error)
            self._count(name, "retry", 1)
            return 0
        except Permanent as error:
            return await self._refused(name, error, pending, now)
        except StoreAway as error:
            log.debug("alerts wait for the store: %s", error)
            return 0
        self._count(name, "sent", len(pending))
        return len(pending)

    async def _refused(
        self, name: str, error: Permanent, pending: Sequence[incidents.Pending], now: datetime
    ) -> int:
        if not error.incidents:
            log.error("receiver %s refuses alerts and gets no more until this worker restarts: %s", name, error)
            self._stopped.add(name)
            self._count(name, "refused", len(pending))
            return 0
        log.error("receiver %s refuses %d of %d alerts: %s", name, len(error.incidents), len(pending), error)
        # What is refused for good counts as told, or it would be tried again forever.
        await asyncio.get_running_loop().run_in_executor(None, self._delivered, name, pending, now)
        self._count(name, "refused", len(error.incidents))
        self._count(name, "sent", len(pending) - len(error.incidents))
        return len(pending) - len(error.incidents)

    def _due(self, receiver: Receiver, now: datetime) -> list[incidents.Pending]:
        with reading(self._engine) as connection:
            workspaces = self._workspaces(connection)
            if not workspaces:
                return []
            return incidents.due(
                connection, receiver.notifier.name, workspaces, now=now, renew_after=receiver.renew_after
            )

    def _delivered(self, name: str, told: Sequence[incidents.Pending], now: datetime) -> None:
        try:
            with self._engine.begin() as connection:
                incidents.delivered(connection, name, told, now=now)
        except sa.exc.DBAPIError as error:
            if away(error):
                raise StoreAway(str(error.orig)) from error
            raise

    def _count(self, receiver: str, outcome: str, count: int) -> None:
        self._metrics["feedback_alert_notifications_total"].labels(receiver, outcome).inc(count)
