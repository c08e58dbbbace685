"""Webhooks: /v1/hooks/<name>. Believed over the raw body, answered once the broker has what they brought."""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections import OrderedDict, defaultdict
from collections.abc import Iterable, Sequence
from typing import Final

from aiohttp import web

from connectors.connector import Delivery, Gap, Permanent, Receiver, Refused, Request, Verdict
from pipeline.bus import BrokerAway
from pipeline.connector_build import Built
from pipeline.connector_metrics import OneConnector
from pipeline.conversion import convert
from pipeline.dead_letter import Fuse, FuseBlown
from pipeline.follow import INLINE_ITEMS, Means
from pipeline.publisher import Overloaded

log = logging.getLogger("ovoz.connectors")

PREFIX: Final = "/v1/hooks/"
ANSWER_WITHIN_S: Final = 2.5
"""Slack repeats what is not answered within 3 s; the others give more."""
MAX_UNDER_WAY: Final = 64
HELD_BODIES: Final = 16
"""Bodies that are being read hold at most so many times the greatest body of the hook."""
REMEMBERED: Final = 10_000
LOG_EVERY_S: Final = 600.0


class Hooks:
    """The webhooks of all connectors that have one, by the name of the instance."""

    def __init__(self, built: Iterable[tuple[Built, OneConnector]], means: Means, public_url: str | None) -> None:
        self._hooks = {
            one.table.name: Hook(one, one.receiver, metrics, means, public_url)
            for one, metrics in built
            if one.receiver is not None
        }

    def __iter__(self) -> Iterable[str]:
        return iter(self._hooks)

    def open(self, name: str) -> bool:
        """Whether the webhook of this name takes deliveries."""
        return name in self._hooks and self._hooks[name].open

    def __len__(self) -> int:
        return len(self._hooks)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer one request."""
        hook = self._hooks.get(request.match_info["name"])
        if hook is None:
            raise web.HTTPNotFound
        return await hook.handle(request)


class _Busy(Exception):
    """As much as may be is being done for this hook."""


class Hook:
    """One webhook."""

    def __init__(
        self, built: Built, receiver: Receiver, metrics: OneConnector, means: Means, public_url: str | None
    ) -> None:
        self._built = built
        self._receiver = receiver
        self._metrics = metrics
        self._means = means
        self._public = public_url.rstrip("/") if public_url else None
        self._name = f"{built.origin.source} {built.origin.instance!r}"
        self._stored: OrderedDict[str, Delivery] = OrderedDict()
        self._fuse = Fuse(means.fuse_share, means.fuse_items)
        self._under_way = 0
        self._reading = 0
        self._said: dict[str, float] = {}
        self._unsaid: dict[str, int] = defaultdict(int)
        self._stopped = False

    @property
    def open(self) -> bool:
        """Whether it takes deliveries: it has not stopped, and the broker is there."""
        return not self._stopped and self._means.sink.open

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Within the time that the strictest service gives; a request that comes to nothing asks to be repeated."""
        try:
            async with asyncio.timeout(ANSWER_WITHIN_S):
                return await self._handle(request)
        except _Busy:
            self._metrics.count("deliveries", 1, "failed")
            return _again("busy", close=True)
        except TimeoutError:
            self._metrics.count("deliveries", 1, "late")
            self._say("late", "not done within the time that a service gives; it will be repeated")
            return _again("late", close=True)
        except Refused as refused:
            self._metrics.count("refused", 1, refused.reason)
            if refused.status in (401, 403):
                self._metrics.count("signature_failures")
            self._say(refused.reason, f"refused a request: {refused}")
            response = _plain(refused.status, refused.reason, close=refused.status == 413)
            if refused.allow is not None:
                response.headers["Allow"] = refused.allow
            return response
        except (BrokerAway, Overloaded) as error:
            self._metrics.count("deliveries", 1, "failed")
            self._say("broker", f"the broker did not take a delivery: {error}")
            return _again("broker")
        except Verdict as verdict:
            self._metrics.count("deliveries", 1, "failed")
            kind = "permanent" if isinstance(verdict, Permanent) else "retryable"
            self._metrics.count("verdicts", 1, kind)
            self._say(kind, f"what a delivery names cannot be fetched: {verdict}")
            return _again(kind)
        except FuseBlown as error:
            self._stopped = True
            self._metrics.show("stopped")
            log.error("webhook of %s stopped, the others go on: %s", self._name, error)
            return _again("stopped")
        except (ConnectionError, asyncio.CancelledError):
            raise
        except Exception as error:
            self._metrics.count("deliveries", 1, "failed")
            self._metrics.count("verdicts", 1, "error")
            where = "".join(traceback.format_tb(error.__traceback__)[-3:])
            self._say("error", f"{type(error).__name__}, which should not happen:\n{where}")
            return _plain(500, "error")

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        if self._stopped:
            raise _Busy
        body = await self._read(request)
        # Counted only now: whoever sends slowly must not keep out those who have sent.
        if self._under_way >= MAX_UNDER_WAY:
            raise _Busy
        self._under_way += 1
        try:
            return await self._take(request, body)
        finally:
            self._under_way -= 1

    async def _take(self, request: web.Request, body: bytes) -> web.StreamResponse:
        means = self._means
        url = str(request.url) if self._public is None else f"{self._public}{request.raw_path}"
        delivery = await self._receiver.receive(
            Request(
                method=request.method,
                url=url,
                headers={name.lower(): value for name, value in request.headers.items()},
                query=dict(request.query),
                body=body,
                received_at=means.now(),
            )
        )
        known = self._stored.get(delivery.delivery_id) if delivery.delivery_id else None
        if known is not None:
            self._metrics.count("deliveries", 1, "repeated")
            return _answer(known, request.method)
        if delivery.items or delivery.skipped or delivery.gaps:
            await self._store(delivery)
            self._metrics.count("deliveries", 1, "stored")
        else:
            self._metrics.count("deliveries", 1, "handshake")
        if delivery.delivery_id:
            # Remembered only now: what was not stored must be taken when it is repeated.
            self._stored[delivery.delivery_id] = Delivery(
                status=delivery.status, answer=delivery.answer, content_type=delivery.content_type
            )
            while len(self._stored) > REMEMBERED:
                self._stored.popitem(last=False)
        return _answer(delivery, request.method)

    async def _store(self, delivery: Delivery) -> None:
        means, metrics, now = self._means, self._metrics, self._means.now()
        arguments = (delivery.items, delivery.skipped, self._built.origin, means.redactor)
        if len(delivery.items) <= INLINE_ITEMS:
            converted = convert(*arguments, now=now)
        else:
            converted = await asyncio.to_thread(convert, *arguments, now=now)
        await means.sink.offer(converted)
        if delivery.gaps:
            await self._note(delivery.gaps)
        metrics.set("last_success_timestamp_seconds", now.timestamp())
        metrics.count("items", len(converted.feedback))
        metrics.count("skipped", len(converted.letters))
        if (newest := converted.last_event) is not None:
            metrics.set("last_event_timestamp_seconds", newest.timestamp())
            metrics.set("lag_seconds", (means.now() - newest).total_seconds())
        self._fuse.record(len(delivery.items) + len(delivery.skipped), len(converted.letters))

    async def _note(self, gaps: Sequence[Gap]) -> None:
        origin = self._built.origin
        self._metrics.count("gaps", len(gaps))
        await self._means.keep(
            self._means.store.note, gaps, workspace=origin.workspace, source=origin.source,
            instance=origin.instance, now=self._means.now(),
        )  # fmt: skip

    async def _read(self, request: web.Request) -> bytes:
        limit = self._built.table.max_body_bytes
        too_large = Refused(413, "body_too_large", f"the body has more than {limit} bytes")
        if (request.content_length or 0) > limit:
            raise too_large
        body = bytearray()
        try:
            async for chunk in request.content.iter_any():
                if len(body) + len(chunk) > limit:
                    raise too_large
                if self._reading + len(chunk) > HELD_BODIES * limit:
                    raise _Busy
                self._reading += len(chunk)
                body += chunk
        except web.RequestPayloadError:
            raise Refused(400, "broken_body", "the body cannot be received") from None
        finally:
            self._reading -= len(body)
        return bytes(body)

    def _say(self, reason: str, message: str) -> None:
        """Log the first of its kind, then how many there were, at most every ten minutes."""
        now = asyncio.get_running_loop().time()
        if now - self._said.get(reason, float("-inf")) < LOG_EVERY_S:
            self._unsaid[reason] += 1
            return
        more = f" ({self._unsaid.pop(reason)} more of this kind since the last note)" if self._unsaid[reason] else ""
        self._said[reason] = now
        log.warning("webhook of %s: %s%s", self._name, message, more)


def _answer(delivery: Delivery, method: str) -> web.Response:
    body = b"" if method == "HEAD" else delivery.answer
    return web.Response(status=delivery.status, body=body, content_type=delivery.content_type)


def _plain(status: int, reason: str, *, close: bool = False) -> web.Response:
    response = web.Response(status=status, text=reason)
    if close:
        response.force_close()
    return response


def _again(reason: str, *, close: bool = False) -> web.Response:
    response = _plain(503, reason, close=close)
    response.headers["Retry-After"] = "5"
    return response
