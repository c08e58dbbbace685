"""Alerts on their way to people: Alertmanager's v2 API, and any service that Apprise knows.

Neither tries again by itself: it returns, or raises a verdict (alerts.verdict). This is the only module
of the package that talks to the network.
"""

from __future__ import annotations

import asyncio
import math
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

import aiohttp
import apprise

from alerts.alert import Alert
from alerts.verdict import NotDelivered, Permanent, Retryable

_TIMEOUT_S: Final = 10.0
_MAX_RETRY_AFTER_S: Final = 3600.0
_RETRYABLE: Final = frozenset({408, 425, 429})
_REMEMBERED: Final = 10_000
_LONGEST, _SHORTEST = 10_000, 200
"""Of a message by Apprise, in characters, whatever more or less a service takes."""


class Notifier(Protocol):
    """One way to the people on call."""

    @property
    def name(self) -> str:
        """What the outbox and the metrics call it; no secret."""
        ...

    async def send(self, alerts: Sequence[Alert], now: datetime) -> None:
        """Deliver all of `alerts`. Raises Retryable or Permanent."""
        ...

    async def close(self) -> None:
        """Let go of connections and threads."""
        ...


class AlertmanagerNotifier:
    """Posts to every Alertmanager of one high-availability group; one that took the alerts is enough.

    A firing alert is a lease: it ends by itself `lease_s` seconds after the last post, so post it again
    every third of that. Posting is idempotent: the label set is the identity.
    """

    name = "alertmanager"

    def __init__(self, urls: Sequence[str], lease_s: float, *, timeout_s: float = _TIMEOUT_S) -> None:
        """`urls` such as `http://127.0.0.1:9093`, a path prefix included. Raises ValueError for others."""
        if not urls:
            raise ValueError("needs at least one Alertmanager URL")
        for number, url in enumerate(urls, start=1):
            parts = urlsplit(url)
            if parts.scheme not in ("http", "https") or not parts.hostname:
                raise ValueError(f"Alertmanager URL {number} must start with http:// or https:// and a host")
        self._urls = tuple(f"{url.rstrip('/')}/api/v2/alerts" for url in urls)
        self._lease = timedelta(seconds=lease_s)
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._session: aiohttp.ClientSession | None = None

    async def send(self, alerts: Sequence[Alert], now: datetime) -> None:
        """Deliver `alerts` as of `now`, the clock that the Alertmanagers share.

        Of several incidents of one fingerprint only the newest is posted. The caller must not post the end
        of an older one once a newer one is firing.
        """
        if not alerts:
            return
        # Alertmanager knows label sets, not incidents: the end of an older one would end the newer one too.
        newest = {alert.fingerprint: alert for alert in sorted(alerts, key=lambda alert: alert.starts_at)}
        alerts = tuple(newest.values())
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=self._timeout)
        session = self._session
        answers = await asyncio.gather(*(self._deliver(session, url, alerts, now) for url in self._urls))
        took = [answer for answer in answers if not isinstance(answer, NotDelivered)]
        if took:
            refused = set.intersection(*(set(answer) for answer in took))
            if refused:
                reason = next(iter(took[0].values()))
                raise Permanent(f"refused {len(refused)} of {len(alerts)} alerts: {reason}", tuple(sorted(refused)))
            return
        failed = [answer for answer in answers if isinstance(answer, NotDelivered)]
        waits = [answer for answer in failed if isinstance(answer, Retryable)]
        if waits:
            known = [answer.retry_after_s for answer in waits if answer.retry_after_s is not None]
            raise Retryable("; ".join(map(str, failed)), min(known) if len(known) == len(waits) else None)
        raise Permanent("; ".join(map(str, failed)))

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _deliver(
        self, session: aiohttp.ClientSession, url: str, alerts: Sequence[Alert], now: datetime
    ) -> dict[str, str] | NotDelivered:
        """Reasons by incident of what this one Alertmanager refused; or why it took nothing."""
        try:
            bodies = [self._body(alert, now) for alert in alerts]
            refusal = await _post(session, url, bodies)
            if refusal is None:
                return {}
            # One bad alert answers 400 for all, and does not say which one it was.
            refused = {}
            for alert, body in zip(alerts, bodies, strict=True):
                refusal = await _post(session, url, [body]) if len(bodies) > 1 else refusal
                if refusal is not None:
                    refused[alert.incident] = refusal
            return refused
        except NotDelivered as verdict:
            return verdict

    def _body(self, alert: Alert, now: datetime) -> dict[str, Any]:
        # An event time ahead of this clock would be a start after the end, which is refused.
        starts_at = min(alert.starts_at, now)
        ends_at = now if alert.state == "resolved" else now + self._lease
        return {
            "labels": {"alertname": alert.rule, "workspace": alert.workspace, **dict(alert.labels)},
            "annotations": alert.annotations,
            "startsAt": starts_at.isoformat(),
            "endsAt": ends_at.isoformat(),
            "generatorURL": alert.annotations.get("query_url") or alert.annotations.get("dashboard_url", ""),
        }


async def _post(session: aiohttp.ClientSession, url: str, bodies: list[dict[str, Any]]) -> str | None:
    """None when taken, the reason when the content was refused (400). Raises Retryable or Permanent."""
    host = urlsplit(url).hostname
    try:
        async with session.post(url, json=bodies, allow_redirects=False) as response:
            status = response.status
            if status < 300:
                return None
            said = " ".join((await response.content.read(300)).decode("utf-8", "replace").split())
            retry_after_s = _retry_after_s(response.headers.get("Retry-After"))
    except TimeoutError:
        raise Retryable(f"Alertmanager at {host} did not answer in time") from None
    except aiohttp.ClientError as error:
        raise Retryable(f"Alertmanager at {host} cannot be reached ({type(error).__name__})") from None
    if status == 400:
        return said
    if status >= 500 or status in _RETRYABLE:
        raise Retryable(f"Alertmanager at {host} answered {status}", retry_after_s)
    raise Permanent(f"Alertmanager at {host} answered {status}: {said}")


def _retry_after_s(value: str | None) -> float | None:
    """The header's seconds, or the seconds until its date; None for anything else."""
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            at = parsedate_to_datetime(value)
        except ValueError:
            return None
        at = at if at.tzinfo else at.replace(tzinfo=UTC)
        seconds = (at - datetime.now(UTC)).total_seconds()
    return min(max(seconds, 0.0), _MAX_RETRY_AFTER_S) if math.isfinite(seconds) else None


class AppriseNotifier:
    """Sends one message an alert to one service: when it fires, and when it resolves.

    Apprise has no identity: what is sent twice arrives twice. So send transitions only. Within one process a
    message that was taken is not sent again.
    """

    def __init__(self, url: str) -> None:
        """Raises ValueError for a URL that Apprise cannot use, without repeating it: it holds secrets."""
        scheme = url.partition(":")[0][:20]
        service = apprise.Apprise.instantiate(url)
        if service is None:
            raise ValueError(f"an Apprise URL ({scheme}://…) cannot be used")
        self._service = service
        # Markup needs room for what it escapes. Most services refuse for good what is too long.
        self._room = max(min(service.body_maxlen, _LONGEST) // 2, _SHORTEST)
        if service.overflow_mode == apprise.OverflowMode.UPSTREAM:
            service.overflow_mode = apprise.OverflowMode.TRUNCATE
        # Apprise's own mark of a service: a digest, which does not show the secrets of its URL.
        self.name = f"{scheme}-{service.url_id()}"
        self._taken: OrderedDict[tuple[str, str], None] = OrderedDict()
        # One thread: Apprise blocks, and messages should arrive in order.
        self._executor: ThreadPoolExecutor | None = None

    async def send(self, alerts: Sequence[Alert], now: datetime) -> None:
        """Tell of `alerts`, one message each. Raises Retryable when any was not taken."""
        if self._executor is None:
            self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="apprise")
        loop = asyncio.get_running_loop()
        missed = 0
        for alert in alerts:
            if (alert.incident, alert.state) in self._taken:
                continue
            title = _title(alert)
            message = title, _text(alert, self._room - len(title)), alert.state
            if await loop.run_in_executor(self._executor, _notify, self._service, *message):
                self._taken[alert.incident, alert.state] = None
                if len(self._taken) > _REMEMBERED:
                    self._taken.popitem(last=False)
            else:
                missed += 1
        if missed:
            raise Retryable(f"{self._service.service_name} did not take {missed} of {len(alerts)} messages")

    async def close(self) -> None:
        """Wait for a message that is being sent, and end the thread."""
        if self._executor is not None:
            executor, self._executor = self._executor, None
            await asyncio.to_thread(executor.shutdown)


def _notify(service: Any, title: str, body: str, state: str) -> bool:
    kind = apprise.NotifyType.SUCCESS if state == "resolved" else apprise.NotifyType.WARNING
    messenger = apprise.Apprise()
    messenger.add(service)
    return bool(messenger.notify(title=title, body=body, notify_type=kind, body_format=apprise.NotifyFormat.TEXT))


def _title(alert: Alert) -> str:
    word = "Resolved" if alert.state == "resolved" else dict(alert.labels).get("severity", "alert").capitalize()
    return f"{word}: {alert.annotations.get('summary', alert.rule)}"


def _text(alert: Alert, limit: int) -> str:
    """The message: annotations only, whose quotes are harmless already (alerts.wording).

    At most `limit` characters: what can be looked up elsewhere goes first, then quotes, the oldest first.
    """
    notes = alert.annotations
    words = [notes.get(key, "") for key in ("repeated", "description", "pipeline")]
    quotes = notes.get("quotes", "").splitlines()
    links = [
        f"{word}: {notes[key]}"
        for word, key in (
            ("Blind meanwhile", "blind_sources"), ("Runbook", "runbook_url"), ("Dashboard", "dashboard_url"),
            ("Query", "query_url"), ("Model", "model"),
        )
        if key in notes
    ]  # fmt: skip
    whose = f"Workspace {alert.workspace}, incident {alert.incident[:8]}"
    while True:
        text = "\n\n".join(filter(None, [*words, "\n".join(quotes), *links, whose]))
        if len(text) <= limit:
            return text
        if len(links) > 2:
            links.pop()
        elif quotes:
            quotes.pop()
        elif links:
            links.pop()
        else:
            return text[: max(limit - 1, 1)] + "…"
