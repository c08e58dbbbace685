"""The only HTTP client of the connectors: requests in, decoded answers or verdicts out."""

from __future__ import annotations

import asyncio
import json
import re
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import aiohttp

from connectors.connector import Clock, Permanent, Quota, Retryable
from connectors.fields import Unreadable
from connectors.pace import Rate, Throttle, turn

T = TypeVar("T")
MAX_ANSWER_BYTES: Final = 32 * 2**20
MAX_RETRY_AFTER_S: Final = 86_400.0
_USER_AGENT: Final = "ovoz/0.1 (+https://pypi.org/project/ovoz)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A 2xx answer (or one in `expect`), read whole. Header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    where: str = ""

    def json(self) -> Any:
        """The body as JSON. Retryable when it is something else: a proxy's page, or cut off."""
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            begins = self.body[:40].decode("utf-8", "replace").strip()
            raise Retryable(
                f"{self.where} answered {self.status} with no JSON ({len(self.body)} bytes, beginning {begins!r})"
            ) from None

    def table(self) -> Mapping[str, Any]:
        """The body as a JSON object. Retryable otherwise."""
        found = self.json()
        if not isinstance(found, dict):
            raise Retryable(f"{self.where} answered a JSON {type(found).__name__}, expected an object")
        return found

    def read(self, parse: Callable[[Any], T]) -> T:
        """What `parse` makes of the JSON. Retryable where its frame is not of the documented form."""
        try:
            return parse(self.json())
        except Unreadable as error:
            raise Retryable(f"{self.where} answered in another form than documented: {error}") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How a service tells what is left: names of its headers (lower case), and how it writes the reset.

    `reset`: `seconds` from now, `epoch` seconds, or `iso` 8601.
    """

    remaining: str
    reset: str
    form: str = "seconds"


@dataclass(slots=True)
class Http:
    """Requests with a bound on time and size; every failure becomes a verdict.

    `now` dates Retry-After and quotas. The session belongs to whoever made this. `throttles`: the documented rates
    that requests keep, by waiting with `sleep`.
    """

    session: aiohttp.ClientSession
    now: Clock
    timeout_s: float = 30.0
    throttles: tuple[Throttle, ...] = ()
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep

    def keeping(self, rates: Iterable[Rate]) -> Http:
        """The same, for one connector whose service has these rates."""
        return replace(self, throttles=tuple(map(Throttle, rates)))

    async def get(self, url: str, **named: Any) -> Answer:
        """See `request`."""
        return await self.request("GET", url, **named)

    async def post(self, url: str, **named: Any) -> Answer:
        """See `request`."""
        return await self.request("POST", url, **named)

    async def request(
        self,
        method: str,
        url: str,
        *,
        params: Mapping[str, str | int] | None = None,
        headers: Mapping[str, str] | None = None,
        body: Any = None,
        form: Mapping[str, str] | None = None,
        auth: tuple[str, str] | None = None,
        expect: tuple[int, ...] = (),
        retryable: tuple[int, ...] = (),
        timeout_s: float | None = None,
        limits: Limits | None = None,
    ) -> Answer:
        """One request, read whole. `body` goes as JSON. Statuses in `expect` are answers, not failures; those
        in `retryable` are to be asked again although their class says no. `limits`: the headers that say when to
        ask again after a 429 without Retry-After. Raises Retryable, Permanent.
        """
        where = place(method, url)
        if wait_s := turn(self.throttles, url, where, self.now()):
            await self.sleep(wait_s)
        try:
            async with asyncio.timeout(timeout_s or self.timeout_s):
                async with self._open(method, url, params, headers, body, form, auth) as response:
                    raw = await _read(response, where)
        except TimeoutError:
            raise Retryable(f"{where} did not answer within {timeout_s or self.timeout_s:g} s") from None
        except (aiohttp.ClientPayloadError, aiohttp.ServerDisconnectedError) as error:
            raise Retryable(f"{where}: the answer broke off ({type(error).__name__})") from None
        except (aiohttp.ClientError, OSError) as error:
            raise Retryable(f"{where} cannot be reached: {_plain(error)}") from None
        except ValueError:
            # A service's own ids and links go into addresses and headers: lone surrogates, line ends.
            raise Retryable(f"{where} cannot be asked: the request holds characters that none may hold") from None
        found = {name.lower(): value for name, value in response.headers.items()}
        if response.status < 300 or response.status in expect:
            return Answer(status=response.status, headers=found, body=raw, where=where)
        raise verdict(response.status, found, raw, where, now=self.now(), retryable=retryable, limits=limits)

    @asynccontextmanager
    async def lines(
        self,
        url: str,
        *,
        params: Mapping[str, str | int] | None = None,
        headers: Mapping[str, str] | None = None,
        limits: Limits | None = None,
        silence_s: float = 90.0,
        max_line: int = 2**20,
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """A long answer, line by line without line ends (server-sent events, NDJSON).

        Retryable when it is silent for `silence_s` or breaks off; a line over `max_line` bytes too.
        """
        where = place("GET", url)
        opening = self._open("GET", url, params, headers, None, None, None, timeout=None)
        try:
            async with AsyncExitStack() as stack:
                response = await self._opened(stack, opening, where)
                found = {name.lower(): value for name, value in response.headers.items()}
                if response.status >= 300:
                    raw = await _read(response, where)
                    raise verdict(response.status, found, raw, where, now=self.now(), retryable=(), limits=limits)
                yield _lines(response, where, silence_s, max_line)
        except (aiohttp.ClientError, OSError) as error:
            raise Retryable(f"{where}: the stream broke off: {_plain(error)}") from None

    @asynccontextmanager
    async def frames(
        self,
        url: str,
        *,
        params: Mapping[str, str | int] | None = None,
        headers: Mapping[str, str] | None = None,
        expect: tuple[int, ...] = (),
        silence_s: float = 90.0,
        max_frame: int = 4 * 2**20,
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """A WebSocket's messages as bytes; nothing is sent but answers to pings.

        Unexpected answers to the handshake are verdicts as in `request`; statuses in `expect` raise
        Handshake. Retryable when the stream is silent for `silence_s` or breaks off.
        """
        where = place("GET", url)
        asked = None if params is None else {name: str(value) for name, value in params.items()}
        try:
            async with AsyncExitStack() as stack:
                opening = self.session.ws_connect(
                    url,
                    params=asked,
                    headers={"User-Agent": _USER_AGENT, **(headers or {})},
                    max_msg_size=max_frame,
                    timeout=aiohttp.ClientWSTimeout(ws_close=1.0),
                )
                socket = await self._opened(stack, opening, where)
                yield _messages(socket, where, silence_s)
        except aiohttp.WSServerHandshakeError as error:
            if error.status in expect:
                raise Handshake(error.status) from None
            if error.status < 300:
                raise Retryable(f"{where} answered {error.status} and no WebSocket") from None
            found = {name.lower(): value for name, value in (error.headers or {}).items()}
            raise verdict(error.status, found, b"", where, now=self.now(), retryable=()) from None
        except (aiohttp.ClientError, OSError) as error:
            raise Retryable(f"{where}: the stream broke off: {_plain(error)}") from None

    async def _opened(self, stack: AsyncExitStack, opening: Any, where: str) -> Any:
        """What a long answer or a WebSocket is read from. Retryable when it does not open in time."""
        try:
            async with asyncio.timeout(self.timeout_s):
                return await stack.enter_async_context(opening)
        except TimeoutError:
            raise Retryable(f"{where} did not answer within {self.timeout_s:g} s") from None

    def _open(
        self,
        method: str,
        url: str,
        params: Mapping[str, str | int] | None,
        headers: Mapping[str, str] | None,
        body: Any,
        form: Mapping[str, str] | None,
        auth: tuple[str, str] | None,
        timeout: float | None = 300.0,
    ) -> Any:
        return self.session.request(
            method,
            url,
            params=None if params is None else {name: str(value) for name, value in params.items()},
            headers={"User-Agent": _USER_AGENT, **_basic(auth), **(headers or {})},
            json=body,
            data=form,
            timeout=aiohttp.ClientTimeout(total=timeout, sock_connect=self.timeout_s),
            allow_redirects=False,
        )


def _basic(auth: tuple[str, str] | None) -> dict[str, str]:
    """The header of HTTP Basic (RFC 7617), in UTF-8."""
    return {"Authorization": f"Basic {b64encode(':'.join(auth).encode()).decode()}"} if auth else {}


async def _read(response: aiohttp.ClientResponse, where: str) -> bytes:
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > MAX_ANSWER_BYTES:
            raise Retryable(f"{where} answers more than {MAX_ANSWER_BYTES // 2**20} MB")
    return bytes(body)


class Handshake(Exception):
    """A WebSocket was refused with a status that the caller expects."""

    def __init__(self, status: int) -> None:
        super().__init__(f"status {status}")
        self.status = status


async def _messages(socket: aiohttp.ClientWebSocketResponse, where: str, silence_s: float) -> AsyncIterator[bytes]:
    while True:
        try:
            async with asyncio.timeout(silence_s):
                message = await socket.receive()
        except TimeoutError:
            raise Retryable(f"{where} has been silent for {silence_s:g} s") from None
        if message.type is aiohttp.WSMsgType.TEXT:
            yield message.data.encode()
        elif message.type is aiohttp.WSMsgType.BINARY:
            yield message.data
        else:
            raise Retryable(f"{where}: the service ended the stream", retry_after_s=0.0)


async def _lines(
    response: aiohttp.ClientResponse, where: str, silence_s: float, max_line: int
) -> AsyncIterator[bytes]:
    rest = b""
    while True:
        try:
            async with asyncio.timeout(silence_s):
                chunk = await response.content.readany()
        except TimeoutError:
            raise Retryable(f"{where} has been silent for {silence_s:g} s") from None
        if not chunk:
            raise Retryable(f"{where}: the service ended the stream", retry_after_s=0.0)
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            yield line.removesuffix(b"\r")
        if len(rest) > max_line:
            raise Retryable(f"{where} sent a line of more than {max_line} bytes")


def verdict(
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    where: str,
    *,
    now: datetime,
    retryable: tuple[int, ...],
    limits: Limits | None = None,
) -> Retryable | Permanent:
    """What a failed answer means. 429 and 5xx pass; other 4xx and redirects stay until somebody acts."""
    said = _said(body)
    told = f"{where} answered {status}" + (f": {said}" if said else "")
    if status == 429 or status >= 500 or status == 408 or status in retryable:
        wait_s = retry_after(headers, now)
        left = quota(headers, limits, now) if limits and status == 429 and wait_s is None else None
        if left is not None:
            wait_s = min(max(0.0, (left.reset_at - now).total_seconds()), MAX_RETRY_AFTER_S)
        return Retryable(told, wait_s)
    remedy = {
        401: "the credentials are not taken: renew them",
        403: "the credentials lack a permission: grant it",
        404: "there is no such thing: check the ids in its settings",
        410: "the service has withdrawn this: look for its successor",
    }.get(status, "check its settings" if status >= 400 else "the address has moved: check its base_url")
    return Permanent(f"{told}; {remedy}")


def retry_after(headers: Mapping[str, str], now: datetime) -> float | None:
    """Seconds that a Retry-After header asks for (RFC 9110: seconds or a date), at most a day; else None."""
    value = headers.get("retry-after", "").strip()
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            at = parsedate_to_datetime(value)
        except ValueError:
            return None
        seconds = ((at if at.tzinfo else at.replace(tzinfo=UTC)) - now).total_seconds()
    return min(max(0.0, seconds), MAX_RETRY_AFTER_S) if seconds == seconds else None


def quota(headers: Mapping[str, str], limits: Limits, now: datetime) -> Quota | None:
    """What the headers say is left; None where they do not say it in the service's form."""
    try:
        remaining = int(float(headers[limits.remaining]))
        raw = headers[limits.reset]
        if limits.form == "iso":
            reset = datetime.fromisoformat(raw)
            reset = reset if reset.tzinfo else reset.replace(tzinfo=UTC)
        elif limits.form == "epoch":
            reset = datetime.fromtimestamp(float(raw), UTC)
        else:
            reset = now + timedelta(seconds=float(raw))
    except (KeyError, ValueError, OverflowError, OSError):
        return None
    return Quota(remaining=max(0, remaining), reset_at=reset)


def place(method: str, url: str) -> str:
    """`GET https://host/path` for messages: without the query, which may hold a key, and without a bot's token."""
    parts = urlsplit(url)
    path = re.sub(r"/bot[^/]+", "/bot***", parts.path)
    return f"{method} {parts.scheme}://{parts.hostname}{f':{parts.port}' if parts.port else ''}{path}"


_SECRETS: Final = re.compile(r"(?i)((?:token|key|secret|password|authorization)[\"' :=]+)[^\s\"'&,}]+")


def _said(body: bytes) -> str:
    """The service's own words about a failure, short, on one line, with what looks like a secret taken out."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return ""
    for _ in range(4):
        if isinstance(found, list) and found:
            found = found[0]
        elif isinstance(found, dict):
            keys = ("error_description", "detail", "message", "title", "error", "errors", "code", "description")
            found = next((found[key] for key in keys if found.get(key)), "")
        else:
            break
    text = " ".join(str(found).split())[:160] if isinstance(found, str | int) else ""
    return _SECRETS.sub(r"\1***", text)


def _plain(error: BaseException) -> str:
    """A connection failure in words, without the address that aiohttp puts into them."""
    cause = getattr(error, "os_error", None) or error
    return getattr(cause, "strerror", None) or type(error).__name__
