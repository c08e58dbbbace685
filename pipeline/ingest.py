"""The HTTP intake: feedback by POST, acknowledged once the broker has it. See docs/intake.md."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

import orjson
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from pipeline.author import AuthorKeyError, load_key
from pipeline.bus import BrokerAway, Bus
from pipeline.connector_metrics import ConnectorMetrics
from pipeline.drive import Drive
from pipeline.hooks import PREFIX, Hooks
from pipeline.intake_access import IntakeError, check_exposure, check_host, check_token
from pipeline.intake_body import Kind, Refused, Sorted, is_gzip, kind_of, read_body, too_large
from pipeline.intake_metrics import CONTENT_TYPE, IntakeMetrics
from pipeline.publisher import Hold, Overloaded, Publisher
from pipeline.redact import Redactor
from pipeline.settings import Ingest, Settings, SettingsError
from pipeline.sink import Sink
from pipeline.store.engine import StoreError
from pipeline.topics import Topics

log = logging.getLogger("ovoz.intake")

MAX_ITEMS_PER_REQUEST: Final = 10_000
HELD_BODIES: Final = 16
"""Bodies being read and records waiting for the broker hold at most 16 × max_body_bytes in all."""
READ_TIMEOUT_S: Final = 20.0
IDLE_TIMEOUT_S: Final = 15.0
DELIVERY_TIMEOUT_S: Final = 10.0
SHUTDOWN_TIMEOUT_S: Final = 5.0
MAX_CONNECTIONS: Final = 1_000
MAX_HEADERS: Final = 64
MAX_HEADER_BYTES: Final = 8_190
SWITCH_S: Final = 0.0005
INLINE_BYTES: Final = 4_096
"""Bodies up to this size are read on the event loop: it takes less time than changing threads."""
OPENAPI: Final = Path(__file__).with_name("openapi.yaml")

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Intake:
    """The handlers, and what they share."""

    def __init__(
        self,
        settings: Ingest,
        publisher: Publisher,
        metrics: IntakeMetrics,
        redactor: Redactor,
        openapi: bytes,
        hooks: Hooks | None = None,
    ) -> None:
        self._settings = settings
        self._publisher = publisher
        self._metrics = metrics
        self._redactor = redactor
        self._openapi = openapi
        self._hooks = hooks
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="intake")
        metrics.gauge("in_flight_items", "Items that wait for the broker", lambda: publisher.items)
        metrics.gauge(
            "in_flight_bytes", "Bytes of bodies being read and of waiting records", lambda: publisher.bytes
        )
        metrics.gauge(
            "broker_up", "1 while the broker acknowledges, else 0", lambda: float(publisher.away is None)
        )

    def app(self) -> web.Application:
        """The aiohttp application."""
        app = web.Application(middlewares=[self._answers])
        add = partial(app.router.add_route, expect_handler=_expect)
        add("POST", "/v1/feedback", self._feedback)
        add("GET", "/healthz", self._healthz)
        add("GET", "/readyz", self._readyz)
        add("GET", "/metrics", self._metrics_text)
        add("GET", "/openapi.yaml", self._openapi_text)
        if self._hooks is not None:
            # No token and no check of the host: each hook proves its sender by the vendor's own signature.
            add("*", f"{PREFIX}{{name}}", self._hooks.handle)
        return app

    def close(self) -> None:
        """End the reading thread."""
        self._reader.shutdown(wait=True)

    async def _feedback(self, request: web.Request) -> web.StreamResponse:
        settings = self._settings
        if settings.tokens:
            check_token(request.headers.get("Authorization"), settings.tokens)
        else:
            check_host(request.headers.get("Host"))
        kind = kind_of(request.headers.get("Content-Type"))
        gzip = is_gzip(request.headers.get("Content-Encoding"))
        if self._publisher.away is not None:
            raise _broker_away()
        with self._publisher.hold() as hold:
            try:
                body = await self._read(request, hold)
                self._metrics.body_bytes.inc(len(body))
                got = await self._sort_out(body, kind, gzip)
                del body
                hold.take(items=len(got.records), size=got.size)
                if got.records:
                    await self._publisher.publish(got.records)
            except Overloaded as error:
                raise Refused(
                    429,
                    "overloaded",
                    str(error),
                    "send it again after Retry-After seconds",
                    {"Retry-After": "1"},
                ) from None
            except BrokerAway:
                raise _broker_away() from None
        self._metrics.accepted.inc(len(got.accepted))
        self._metrics.refused(got.fields)
        answer: dict[str, Any] = {"accepted": got.accepted, "rejected": got.rejected}
        if not got.rejected:
            return _json(202, answer)
        total = len(got.rejected) + len(got.accepted)
        refusal = Refused(
            400,
            "faulty_items",
            f"{len(got.rejected)} of {total} items are faulty; the other {len(got.accepted)} were accepted",
            "correct what `rejected` names and send only those items again",
        )
        return _json(400, refusal.body() | answer)

    async def _read(self, request: web.Request, hold: Hold) -> bytes:
        limit = self._settings.max_body_bytes
        if (request.content_length or 0) > limit:
            raise too_large(limit)
        body = bytearray()
        try:
            async with asyncio.timeout(READ_TIMEOUT_S):
                async for chunk in request.content.iter_any():
                    if len(body) + len(chunk) > limit:
                        raise too_large(limit)
                    hold.take(size=len(body) + len(chunk))
                    body += chunk
        except TimeoutError:
            raise Refused(
                408,
                "slow_body",
                f"the body did not arrive within {READ_TIMEOUT_S:.0f} s",
                "send smaller bodies",
                {"Connection": "close"},
            ) from None
        except web.RequestPayloadError as error:
            raise Refused(
                400, "broken_body", f"the body cannot be received: {error}", "send the whole body"
            ) from None
        return bytes(body)

    async def _sort_out(self, body: bytes, kind: Kind, gzip: bool) -> Sorted:
        settings = self._settings
        read = partial(
            read_body,
            body,
            kind=kind,
            gzip=gzip,
            max_bytes=settings.max_body_bytes,
            max_items=min(MAX_ITEMS_PER_REQUEST, settings.max_in_flight_items),
            now=datetime.now(UTC),
            redactor=self._redactor,
        )
        if len(body) <= INLINE_BYTES and not gzip:
            return read()
        return await asyncio.get_running_loop().run_in_executor(self._reader, read)

    async def _healthz(self, request: web.Request) -> web.StreamResponse:
        return _json(200, {"status": "alive"})

    async def _readyz(self, request: web.Request) -> web.StreamResponse:
        if await self._publisher.ready() is not None:
            raise _broker_away()
        return _json(200, {"status": "ready"})

    async def _metrics_text(self, request: web.Request) -> web.StreamResponse:
        text = await asyncio.to_thread(self._metrics.render)
        return web.Response(body=text, headers={"Content-Type": CONTENT_TYPE})

    async def _openapi_text(self, request: web.Request) -> web.StreamResponse:
        return web.Response(body=self._openapi, content_type="application/yaml")

    @web.middleware
    async def _answers(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Every refusal as JSON, every answer counted."""
        try:
            response = await handler(request)
        except Refused as refused:
            response = _refusal(refused)
        except web.HTTPMethodNotAllowed as error:
            allowed = ", ".join(sorted(error.allowed_methods))
            cause = f"{request.path[:100]} does not take {error.method[:20]}"
            response = _refusal(Refused(405, "method", cause, f"use {allowed}", {"Allow": allowed}))
        except web.HTTPException as error:
            response = _refusal(_http_fault(error.status, f"{request.path[:100]!r}: {error.reason}"))
        except ConnectionError:
            raise
        except Exception:
            log.exception("a request failed")
            response = _refusal(_http_fault(500, "an error in the intake, written to its log"))
        self._metrics.answered(response.status)
        return response


class Connection(web.RequestHandler):
    """One HTTP connection whose protocol errors are answered with JSON too."""

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The answer to what is not HTTP, or has too long a head."""
        log.info("a connection sent what is not HTTP: %s", type(exc).__name__)
        why = exc.message if isinstance(exc, HttpProcessingError) else (message or "the request failed")
        response = _refusal(_http_fault(status, why.split("\n")[0][:200].rstrip(": ")))
        response.force_close()
        return response


class Crowded(asyncio.Protocol):
    """A connection over the limit: closed at once."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Close it."""
        transport.close()


async def serve(
    settings: Settings,
    *,
    stop: asyncio.Event,
    ready: Callable[[str], None] | None = None,
    environ: Mapping[str, str] = os.environ,
) -> None:
    """Answer and follow connectors until `stop` is set, then let requests under way finish (at most 5 s).

    Starts and goes on while the broker is away. `ready` is given the URL once it listens; `environ` holds the
    connectors' secrets. Raises IntakeError, AuthorKeyError, SettingsError, StoreError.
    """
    ingest, loop = settings.ingest, asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(ingest.host, ingest.port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise IntakeError(f"[ingest] host {ingest.host!r} is no address of this machine: {error}") from error
    check_exposure(ingest, [str(entry[4][0]) for entry in found])
    key = await asyncio.to_thread(load_key, ingest.author_key_file, ingest.data_dir)
    openapi = await asyncio.to_thread(OPENAPI.read_bytes)
    metrics = IntakeMetrics()
    bus = Bus(settings.kafka, delivery_timeout_s=DELIVERY_TIMEOUT_S)
    publisher = Publisher(
        bus,
        Topics.of(settings.kafka).raw.name,
        settings.kafka.bootstrap,
        max_items=ingest.max_in_flight_items,
        max_bytes=HELD_BODIES * ingest.max_body_bytes,
        observe=metrics.publish_s.observe,
    )
    redactor = Redactor(settings.privacy, key)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(publisher.close)
        drive = None
        if settings.connector:
            sink = Sink(publisher, bus, Topics.of(settings.kafka).dead.name)
            counted = ConnectorMetrics(metrics.registry)
            drive = await stack.enter_async_context(Drive(settings, environ, sink, redactor, counted))
        intake = Intake(ingest, publisher, metrics, redactor, openapi, drive.hooks if drive else None)
        stack.callback(intake.close)
        await _answer(ingest, intake, publisher, drive, stop, ready)


async def _answer(
    ingest: Ingest,
    intake: Intake,
    publisher: Publisher,
    drive: Drive | None,
    stop: asyncio.Event,
    ready: Callable[[str], None] | None,
) -> None:
    loop = asyncio.get_running_loop()
    runner = web.AppRunner(intake.app(), access_log=None, shutdown_timeout=SHUTDOWN_TIMEOUT_S)
    await runner.setup()
    http = runner.server

    def connection() -> asyncio.Protocol:
        if http is None or len(http.connections) >= MAX_CONNECTIONS:
            return Crowded()
        # The idle timeout also ends a connection whose first header lines never become a request.
        return Connection(
            http,
            loop=loop,
            access_log=None,  # type: ignore[arg-type]
            keepalive_timeout=IDLE_TIMEOUT_S,
            lingering_time=2.0,
            max_headers=MAX_HEADERS,
            max_line_size=MAX_HEADER_BYTES,
            max_field_size=MAX_HEADER_BYTES,
            auto_decompress=False,
        )

    try:
        publisher.start()
        try:
            server = await loop.create_server(connection, ingest.host, ingest.port, backlog=256)
        except OSError as error:
            where = f"{ingest.host}:{ingest.port}"
            raise IntakeError(
                f"cannot listen on {where}: {error.strerror}; stop what does, or set [ingest] port"
            ) from error
        host, port = server.sockets[0].getsockname()[:2]
        url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        if drive is not None:
            drive.start()
        if ready is not None:
            ready(url)
        try:
            await stop.wait()
        finally:
            server.close()
    finally:
        await runner.cleanup()


def run(settings: Settings) -> int:
    """`ovoz ingest`: serve until SIGINT or SIGTERM. Exit status 0, or 1 when it cannot start."""

    async def main() -> None:
        # The broker's client works on a thread of its own: each system call of the loop would wait 5 ms behind it.
        sys.setswitchinterval(SWITCH_S)
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
        await serve(settings, stop=stop, ready=lambda url: print(f"intake on {url}/v1/feedback", flush=True))

    try:
        asyncio.run(main())
    except (IntakeError, AuthorKeyError, SettingsError, StoreError) as error:
        print(f"ovoz ingest: {error}", file=sys.stderr)
        return 1
    return 0


def _broker_away() -> Refused:
    return Refused(
        503,
        "broker_away",
        "the broker did not acknowledge; some of the items may have arrived nevertheless",
        "send it again after Retry-After seconds: the same item counts once",
        {"Retry-After": "2"},
    )


def _http_fault(status: int, cause: str) -> Refused:
    remedies = {404: "POST /v1/feedback; /openapi.yaml describes everything", 500: "send it again; report it"}
    codes = {404: "not_found", 417: "expectation", 500: "internal"}
    return Refused(
        status, codes.get(status, "bad_request"), cause, remedies.get(status, "send plain HTTP/1.1")
    )


async def _expect(request: web.Request) -> web.StreamResponse | None:
    if request.headers.get("Expect", "").lower() != "100-continue":
        return _refusal(_http_fault(417, "only Expect: 100-continue is known"))
    await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    # What was written is not the answer, which therefore still may be an error.
    request.writer.output_size = 0
    return None


def _json(status: int, body: object) -> web.Response:
    return web.Response(status=status, body=orjson.dumps(body), content_type="application/json")


def _refusal(refused: Refused) -> web.Response:
    response = _json(refused.status, refused.body())
    response.headers.update(refused.headers)
    return response
