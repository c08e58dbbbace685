"""Alerts leave the store: a receiver hears what it must hear now, and again while it is away."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

import sqlalchemy as sa

from alerts.alert import Alert
from alerts.verdict import Permanent, Retryable
from pipeline.metrics import WorkerMetrics
from pipeline.receivers import Receiver
from pipeline.store import incidents
from pipeline.store.engine import StoreAway, transaction
from pipeline.store.read import reading

log = logging.getLogger("ovoz.outbox")

RETRY_S: Final = 2.0
LONGEST_RETRY_S: Final = 30.0
"""To services of others, pauses double until they are so long."""
SURPRISE_S: Final = 30.0
"""Pause after a fault that no notifier should have, which may not go away by itself."""

REPEATED: Final = {"repeated": "Perhaps a repetition: a worker died while it sent this, so it may have arrived before."}


class Outbox:
    """Tells one worker's workspaces' alerts to one receiver, so that a slow one delays no other."""

    def __init__(
        self,
        engine: sa.Engine,
        receiver: Receiver,
        workspaces: Callable[[sa.Connection], list[str]],
        metrics: WorkerMetrics,
        caution: Callable[[], str] = lambda: "",
    ) -> None:
        """`caution`: what people must know of the pipeline to read its alerts; `""` while it is well."""
        self._caution = caution
        self._engine = engine
        self._receiver = receiver
        self._name = receiver.notifier.name
        self._workspaces = workspaces
        self._metrics = metrics
        self._stopped = False
        self._failures = 0
        self._not_before_s = 0.0

    async def send_due(self) -> int:
        """One round: how many alerts were told."""
        if self._stopped or time.monotonic() < self._not_before_s:
            return 0
        now, loop = datetime.now(UTC), asyncio.get_running_loop()
        pending: list[incidents.Pending] = []
        try:
            pending = await loop.run_in_executor(None, self._due, now)
            if not pending:
                return 0
            if self._receiver.sends != "again":
                sent = await self._tell_each(pending)
                self._failures = 0
                return sent
            await self._receiver.notifier.send([self._cautioned(alert) for alert, _ in pending], now)
            await loop.run_in_executor(None, self._delivered, pending, now)
        except Retryable as error:
            ours = self._receiver.sends == "again"
            pause_s = RETRY_S if ours else min(RETRY_S * 2.0**self._failures, LONGEST_RETRY_S)
            self._failures = min(self._failures + 1, 10)
            self._retry(pause_s if error.retry_after_s is None else error.retry_after_s, str(error))
            return 0
        except Permanent as error:
            return await self._refused(error, pending, now)
        except StoreAway as error:
            log.debug("alerts wait for the store: %s", error)
            return 0
        except Exception as error:
            # What goes wrong with a receiver must not end the worker that counts.
            log.exception("receiver %s failed in a way that is not known", self._name)
            self._retry(SURPRISE_S, repr(error))
            return 0
        self._count("sent", len(pending))
        return len(pending)

    async def _tell_each(self, pending: Sequence[incidents.Pending]) -> int:
        """One message after the other, each noted before and after it is sent. Raises what a notifier raises."""
        loop, sent, refusal = asyncio.get_running_loop(), 0, None
        for alert, revision in pending:
            claimed = await loop.run_in_executor(None, self._claim, alert)
            if claimed == "taken":
                continue
            if claimed == "unfinished" and self._receiver.sends == "once":
                log.warning("receiver %s may not have heard that %s is %s (incident %s): a worker died while it sent "
                            "this", self._name, alert.rule, alert.state, alert.incident)  # fmt: skip
                self._count("unknown", 1)
            else:
                message = self._cautioned(alert)
                if claimed == "unfinished":
                    message = replace(message, annotations=message.annotations | REPEATED)
                try:
                    await self._receiver.notifier.send([message], datetime.now(UTC))
                except Retryable as error:
                    await loop.run_in_executor(None, self._release, alert, claimed)
                    refusal = error
                    continue
                sent += 1
                self._count("sent" if claimed == "free" else "repeated", 1)
            await loop.run_in_executor(None, self._delivered, [(alert, revision)], datetime.now(UTC))
        if refusal is not None:
            raise refusal
        return sent

    def _retry(self, pause_s: float, why: str) -> None:
        self._not_before_s = time.monotonic() + pause_s
        log.warning("receiver %s did not take alerts, trying again in %.0f s: %s", self._name, pause_s, why)
        self._count("retry", 1)

    async def _refused(self, error: Permanent, pending: Sequence[incidents.Pending], now: datetime) -> int:
        if not error.incidents:
            log.error("receiver %s refuses alerts and gets no more until this worker restarts: %s", self._name, error)
            self._stopped = True
            self._count("refused", len(pending))
            return 0
        log.error("receiver %s refuses %d of %d alerts: %s", self._name, len(error.incidents), len(pending), error)
        # What is refused for good counts as told, or it would be tried again forever.
        try:
            await asyncio.get_running_loop().run_in_executor(None, self._delivered, pending, now)
        except StoreAway as away:
            log.debug("alerts wait for the store: %s", away)
            return 0
        self._count("rejected", len(error.incidents))
        self._count("sent", len(pending) - len(error.incidents))
        return len(pending) - len(error.incidents)

    def _due(self, now: datetime) -> list[incidents.Pending]:
        with reading(self._engine) as connection:
            workspaces = self._workspaces(connection)
            if not workspaces:
                return []
            return incidents.due(
                connection,
                self._name,
                workspaces,
                now=now,
                renew_after=self._receiver.renew_after,
                all_changes=self._receiver.all_changes,
            )

    def _delivered(self, told: Sequence[incidents.Pending], now: datetime) -> None:
        with transaction(self._engine) as connection:
            incidents.delivered(connection, self._name, told, now=now)

    def _cautioned(self, alert: Alert) -> Alert:
        caution = "" if self._receiver.all_changes else self._caution()
        return replace(alert, annotations=alert.annotations | {"pipeline": caution}) if caution else alert

    def _claim(self, alert: Alert) -> incidents.Claim:
        with transaction(self._engine) as connection:
            return incidents.claim(connection, self._name, alert, now=datetime.now(UTC))

    def _release(self, alert: Alert, claimed: incidents.Claim) -> None:
        with transaction(self._engine) as connection:
            incidents.release(connection, self._name, alert, claimed)

    def _count(self, outcome: str, count: int) -> None:
        self._metrics["feedback_alert_notifications_total"].labels(self._name, outcome).inc(count)
