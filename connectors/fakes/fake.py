"""What a fake service is, and the server that runs one with faults on demand."""

from __future__ import annotations

import asyncio
import importlib
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Literal, Protocol, runtime_checkable

from aiohttp import web

from connectors.connector import Clock, Request
from connectors.fakes.limit import Limit
from connectors.fakes.oauth import utc_now

Verb = Literal["edit", "delete", "expire", "since"]
Covered = Literal["body", "time"]
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """Something that a customer says at the service. `rating` 1..5, where the service has ratings."""

    id: str
    text: str
    at: datetime
    author: str = "Dilnoza"
    rating: int = 2
    language: str = "en"


class Fake(Protocol):
    """One service's rules. `can`: what it lets happen; verbs it lacks are not called.

    `edit`, `delete`: of something said before. `expire`: forget old cursors. `since`: it has history.
    """

    can: frozenset[Verb]

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        """What it serves."""
        ...

    def table(self, url: str) -> dict[str, Any]:
        """Settings of a connector that speaks to this fake, at `url`; its secrets as `env:NAME`."""
        ...

    @property
    def environment(self) -> Mapping[str, str]:
        """The secrets that `table` names, right for this fake."""
        ...

    def say(self, said: Said) -> None:
        """A customer says something."""
        ...

    def edit(self, id: str, text: str, at: datetime) -> None:
        """A customer changes it."""
        ...

    def delete(self, id: str, at: datetime) -> None:
        """It is taken away."""
        ...

    def expire(self) -> None:
        """No cursor given so far is known any more."""
        ...


@runtime_checkable
class Hook(Protocol):
    """A fake that calls webhooks. `covers`: what the vendor's proof protects, `body` and `time`."""

    covers: frozenset[Covered]

    def deliveries(self, said: Said, url: str, at: datetime) -> Sequence[Request]:
        """The requests that it sends for something said, signed as the vendor signs, to the hook at `url`."""
        ...

    def signed(self, body: bytes, url: str, at: datetime) -> Request:
        """Any body, proved as the vendor proves its own."""
        ...


@runtime_checkable
class Registering(Protocol):
    """A fake whose service tries a webhook before it is used."""

    def handshakes(self, url: str, at: datetime) -> Sequence[Handshake]:
        """The requests at registration, and the answers without which the service does not use the hook."""
        ...


@runtime_checkable
class Serving(Protocol):
    """A fake that is no web server, or not only one: it is opened before its `table` is asked for."""

    async def open(self) -> None:
        """Begin to serve."""
        ...

    async def close(self) -> None:
        """End."""
        ...


@runtime_checkable
class Limited(Protocol):
    """A fake of a service whose limits are documented: they are kept over all that it serves."""

    limits: Sequence[Limit]


@runtime_checkable
class OnBroker(Protocol):
    """A fake that lives on a Kafka broker: whoever opens it sets the broker's address before."""

    bootstrap: str


@runtime_checkable
class Streaming(Protocol):
    """A fake that streams. `tells`: what its stream tells besides what is new. `heartbeats`: how many it sent.

    With `mute` it keeps connections open and sends nothing any more.
    """

    tells: frozenset[Verb]
    heartbeats: int
    mute: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Handshake:
    """`answer`: the bytes that must come back, with a status below 300; None where any will do."""

    request: Request
    answer: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What goes wrong with one request: a status, an answer cut short, no answer, or a page of HTML."""

    kind: Literal["status", "cut", "silent", "html"] = "status"
    status: int = 500
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b'{"error": "injected"}'


def unknown(request: web.Request, known: str) -> web.Response | None:
    """A 400 for parameters that the service does not document; `known`: their names, between spaces."""
    strange = set(request.query) - set(known.split())
    if not strange:
        return None
    return web.json_response({"error": {"code": 400, "message": f"unknown parameter {sorted(strange)[0]}"}}, status=400)


HTML: Final = b"<!doctype html><html><body><h1>Service maintenance</h1></body></html>"


class Running:
    """`async with Running(fake) as service:` a fake on a free port of 127.0.0.1.

    Each answer takes `delay_s`; limits go by `now`. `faults` are taken one a request before the fake's own answer.
    `seen`: method and path of every request. `answers`: the bodies of its latest own answers.
    """

    def __init__(self, fake: Fake, *, delay_s: float = 0.0) -> None:
        self.fake = fake
        self.delay_s = delay_s
        self.now: Clock = utc_now
        self.faults: deque[Fault] = deque()
        self.seen: list[str] = []
        self.answers: deque[bytes] = deque(maxlen=100)
        self._changed = asyncio.Condition()
        self._under_way = 0
        self._open: dict[int, web.Request] = {}
        self.url = ""
        self._runner: web.AppRunner | None = None

    @property
    def table(self) -> dict[str, Any]:
        """Settings of a connector that speaks to it."""
        return self.fake.table(self.url)

    async def __aenter__(self) -> Running:
        app = web.Application(middlewares=[self._with_faults])
        app.add_routes(self.fake.routes())
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        if isinstance(self.fake, Serving):
            await self.fake.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        if isinstance(self.fake, Serving):
            await self.fake.close()
        if self._runner is not None:
            await self._runner.cleanup()

    @web.middleware
    async def _with_faults(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        self.seen.append(f"{request.method} {request.path}")
        await self._count(1)
        self._open[id(request)] = request
        try:
            if self.delay_s:
                await asyncio.sleep(self.delay_s)
            if not self.faults:
                now = self.now()
                kept = self.fake.limits if isinstance(self.fake, Limited) else ()
                counted = [limit for limit in kept if limit.path in request.path]
                refusal = next((found for limit in counted if (found := limit.take(now))), None)
                answer = refusal or await handler(request)
                if not answer.prepared:
                    for limit in counted:
                        answer.headers.update(limit.headers(limit, now))
                if isinstance(answer, web.Response) and isinstance(answer.body, bytes):
                    self.answers.append(answer.body)
                return answer
            fault = self.faults.popleft()
            if fault.kind == "silent":
                await asyncio.sleep(3_600)
            if fault.kind == "html":
                return web.Response(body=HTML, content_type="text/html")
            if fault.kind == "cut":
                response = web.StreamResponse(headers={"Content-Length": "4096", "Content-Type": "application/json"})
                await response.prepare(request)
                await response.write(b'{"items": [{"id": "1", "te')
                if request.transport is not None:
                    request.transport.close()
                return response
            return web.Response(status=fault.status, headers=dict(fault.headers), body=fault.body)
        finally:
            self._open.pop(id(request), None)
            await self._count(-1)

    def hang_up(self) -> None:
        """Break every connection that is being answered."""
        for request in self._open.values():
            if request.transport is not None:
                request.transport.abort()

    async def wait_under_way(self, requests: int) -> None:
        """Return once exactly so many requests are being answered."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._under_way == requests)

    async def _count(self, change: int) -> None:
        async with self._changed:
            self._under_way += change
            self._changed.notify_all()


# Name of the connector → module and class of its fake.
FAKES: Final[Mapping[str, tuple[str, str]]] = {
    "app_store": ("connectors.fakes.app_store", "FakeAppStore"),
    "bluesky": ("connectors.fakes.bluesky", "FakeBluesky"),
    "dynamics": ("connectors.fakes.dynamics", "FakeDynamics"),
    "folder": ("connectors.fakes.folder", "FakeFolder"),
    "google_business": ("connectors.fakes.google_business", "FakeGoogleBusiness"),
    "google_play": ("connectors.fakes.google_play", "FakeGooglePlay"),
    "hubspot": ("connectors.fakes.hubspot", "FakeHubSpot"),
    "imap": ("connectors.fakes.imap", "FakeImap"),
    "intercom": ("connectors.fakes.intercom", "FakeIntercom"),
    "kafka": ("connectors.fakes.kafka", "FakeKafka"),
    "mastodon": ("connectors.fakes.mastodon", "FakeMastodon"),
    "matrix": ("connectors.fakes.matrix", "FakeMatrix"),
    "reddit": ("connectors.fakes.reddit", "FakeReddit"),
    "rss": ("connectors.fakes.rss", "FakeRss"),
    "salesforce": ("connectors.fakes.salesforce", "FakeSalesforce"),
    "slack": ("connectors.fakes.slack", "FakeSlack"),
    "surveymonkey": ("connectors.fakes.surveymonkey", "FakeSurveyMonkey"),
    "telegram": ("connectors.fakes.telegram", "FakeTelegram"),
    "tripadvisor": ("connectors.fakes.tripadvisor", "FakeTripadvisor"),
    "trustpilot": ("connectors.fakes.trustpilot", "FakeTrustpilot"),
    "typeform": ("connectors.fakes.typeform", "FakeTypeform"),
    "webhook": ("connectors.fakes.webhook", "FakeWebhook"),
    "whatsapp": ("connectors.fakes.whatsapp", "FakeWhatsApp"),
    "x": ("connectors.fakes.x", "FakeX"),
    "yelp": ("connectors.fakes.yelp", "FakeYelp"),
    "youtube": ("connectors.fakes.youtube", "FakeYoutube"),
    "zendesk": ("connectors.fakes.zendesk", "FakeZendesk"),
    "zoho": ("connectors.fakes.zoho", "FakeZoho"),
}


def fake_of(name: str) -> Fake:
    """A new fake of the service that a connector asks. KeyError where there is none."""
    module, kind = FAKES[name]
    made: Fake = getattr(importlib.import_module(module), kind)()
    return made
