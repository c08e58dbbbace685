"""The ways out of the store: Alertmanager, Apprise, and the topic of alerts for other programs."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal

import orjson

from alerts.alert import Alert
from alerts.notifiers import AlertmanagerNotifier, AppriseNotifier, Notifier
from alerts.verdict import Retryable
from pipeline.bus import BrokerAway, Bus
from pipeline.settings import Settings
from pipeline.topics import Topics

SCHEMA_VERSION: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Receiver:
    """Where alerts go. `renew_after`: how soon a lease is renewed; None where each transition is told once.

    `all_changes`: it hears of every change at once, of pending alerts too and outside of working hours.
    `sends`: what is done with a message of which nobody knows whether it arrived, because a worker died meanwhile.
    `again`: sent again, for the receiver knows a repetition; `at-least-once`: sent again and marked; `once`: not sent.
    """

    notifier: Notifier
    renew_after: timedelta | None = None
    all_changes: bool = False
    sends: Literal["again", "at-least-once", "once"] = "again"


class TopicNotifier:
    """Publishes alerts to the compacted topic: key the fingerprint, value the newest state of its newest incident.

    At least once: of one incident, the value with the greatest `revision` counts.
    """

    name = "topic"

    def __init__(self, settings: Settings) -> None:
        self._topic = Topics.of(settings.kafka).alerts.name
        self._bus = Bus(settings.kafka)

    async def send(self, alerts: Sequence[Alert], now: datetime) -> None:
        """Returns once the broker has all. Raises Retryable."""
        try:
            await self._bus.publish(self._topic, [(alert.fingerprint.encode(), encode(alert)) for alert in alerts])
        except BrokerAway as error:
            raise Retryable(str(error)) from error

    async def close(self) -> None:
        """Flush and disconnect."""
        await asyncio.to_thread(self._bus.close)


def encode(alert: Alert) -> bytes:
    """An alert as it travels: the JSON of `Alert.to_json`, its fingerprint and the version of the schema."""
    fields = {"schema_version": SCHEMA_VERSION, "fingerprint": alert.fingerprint, **orjson.loads(alert.to_json())}
    return orjson.dumps(fields)


def people(settings: Settings) -> list[Receiver]:
    """The configured receivers that people look at. Raises ValueError for an address that cannot be used."""
    alerts = settings.alerts
    found = []
    if alerts.alertmanager:
        notifier = AlertmanagerNotifier(alerts.alertmanager, alerts.lease_s)
        found.append(Receiver(notifier=notifier, renew_after=timedelta(seconds=alerts.lease_s / 3)))
    # One receiver each, so that what one took is not sent it again because another failed.
    services = {one.name: one for one in map(AppriseNotifier, alerts.apprise)}
    found += [Receiver(notifier=one, sends=alerts.apprise_delivery) for one in services.values()]
    return found


def programs(settings: Settings) -> list[Receiver]:
    """The topic of alerts."""
    return [Receiver(notifier=TopicNotifier(settings), all_changes=True)]
