"""A Bluesky personal data server (@atproto/pds) with its directory, and its firehose in Jetstream's shape.

Every event comes from the real server's `com.atproto.sync.subscribeRepos`; what the relay adds is what
Jetstream adds: DAG-CBOR as JSON, a time or sequence number, replay from a cursor, CursorTooOld.
"""

from __future__ import annotations

import asyncio
import io
import json
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import cbor2
from aiohttp import web

from benchmarks.processes import end
from benchmarks.servers import free_port
from tests.servers import SERVERS, missing

POSTS = "app.bsky.feed.post"


@dataclass(frozen=True)
class Account:
    """Somebody who posts."""

    did: str
    token: str


class Pds:
    """The server; accounts are made with `account`."""

    def __init__(self, folder: Path) -> None:
        home, node = SERVERS / "pds", shutil.which("node")
        if node is None or not (home / "node_modules" / "@atproto" / "pds").exists():
            missing("the Bluesky PDS is not installed: make .venv/.servers (it needs Node.js 20 or newer)")
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        script = Path(__file__).with_name("bluesky.mjs")
        with (folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [node, str(script), str(home), str(folder), str(self.port), str(free_port())], stdout=log, stderr=log
            )
        deadline = time.monotonic() + 60
        while not self._healthy():
            if time.monotonic() > deadline or self._process.poll() is not None:
                raise RuntimeError(f"the PDS did not start: {(folder / 'log').read_text()[-2000:]}")
            time.sleep(0.1)

    def account(self, name: str) -> Account:
        """A new account."""
        body = {"handle": f"{name}.test", "email": f"{name}@example.com", "password": "password1"}
        made = self._call("com.atproto.server.createAccount", body)
        return Account(made["did"], made["accessJwt"])

    def post(self, account: Account, text: str, **more: Any) -> str:
        """The address of a new post."""
        now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        record = {"$type": POSTS, "text": text, "createdAt": now, "langs": ["uz"]} | more
        body = {"repo": account.did, "collection": POSTS, "record": record}
        return str(self._call("com.atproto.repo.createRecord", body, account)["uri"])

    def delete(self, account: Account, uri: str) -> None:
        """Take a post away."""
        body = {"repo": account.did, "collection": POSTS, "rkey": uri.rpartition("/")[2]}
        self._call("com.atproto.repo.deleteRecord", body, account)

    def deactivate(self, account: Account) -> None:
        """The account goes away."""
        self._call("com.atproto.server.deactivateAccount", {}, account)

    def stop(self) -> None:
        """End it."""
        end(self._process)

    def _call(self, method: str, body: dict[str, Any], account: Account | None = None) -> Any:
        headers = {"Content-Type": "application/json"}
        if account is not None:
            headers["Authorization"] = f"Bearer {account.token}"
        request = urllib.request.Request(f"{self.url}/xrpc/{method}", json.dumps(body).encode(), headers)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.loads(answer.read() or b"null")

    def _healthy(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/xrpc/_health", timeout=1):
                return True
        except (urllib.error.URLError, OSError):
            return False


class Relay:
    """The firehose of a PDS as Jetstream serves it, both dialects. `oldest`: sequence numbers below are too old."""

    def __init__(self, pds: Pds) -> None:
        self._pds = pds
        self._events: list[dict[str, Any]] = []
        self._more = asyncio.Condition()
        self.oldest = 0
        self.url = ""

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Relay]:
        """Serve, with everything since the server began."""
        app = web.Application()
        app.add_routes(
            [
                web.get("/subscribe", self._v1),
                web.get("/xrpc/network.bsky.jetstream.subscribeEvents", self._v2),
            ]
        )
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = f"ws://127.0.0.1:{runner.addresses[0][1]}"
        reading = asyncio.ensure_future(self._read())
        try:
            yield self
        finally:
            reading.cancel()
            with suppress(asyncio.CancelledError):
                await reading
            await runner.cleanup()

    async def wait_for(self, events: int) -> None:
        """Return once so many events have passed."""
        async with asyncio.timeout(20), self._more:
            await self._more.wait_for(lambda: len(self._events) >= events)

    @property
    def count(self) -> int:
        """How many events have passed."""
        return len(self._events)

    async def _read(self) -> None:
        url = f"ws{self._pds.url.removeprefix('http')}/xrpc/com.atproto.sync.subscribeRepos"
        async with aiohttp.ClientSession() as session, session.ws_connect(url, params={"cursor": "0"}) as socket:
            async for message in socket:
                source = io.BytesIO(message.data)
                header, body = cbor2.load(source), cbor2.load(source)
                found = list(_events(header.get("t"), body))
                async with self._more:
                    self._events.extend(found)
                    self._more.notify_all()

    async def _v1(self, request: web.Request) -> web.StreamResponse:
        if set(request.query) - {"wantedCollections", "wantedDids", "cursor"}:
            return web.Response(status=400)
        start = int(request.query.get("cursor", "0"))
        return await self._serve(request, lambda event: event["time_us"] >= start, lambda event: event)

    async def _v2(self, request: web.Request) -> web.StreamResponse:
        if set(request.query) - {"collections", "dids", "kinds", "cursor"}:
            return web.Response(status=400)
        start = int(request.query.get("cursor", "0"))
        if 0 < start < self.oldest:
            return web.json_response({"error": "CursorTooOld"}, status=400)
        by_time = start >= 10**15

        def reached(event: dict[str, Any]) -> bool:
            return bool((event["time_us"] if by_time else event["seq"]) >= start)

        def shaped(event: dict[str, Any]) -> dict[str, Any]:
            at = datetime.fromtimestamp(event["time_us"] / 1e6, UTC).isoformat().replace("+00:00", "Z")
            inner = event.get("commit") or event.get("account") or {}
            kind = f"network.bsky.jetstream.subscribeEvents#{event['kind']}"
            payload = {"$type": kind, "seq": event["seq"], "did": event["did"], "time": at, **inner}
            return {"$type": "message", "payload": payload}

        return await self._serve(request, reached, shaped)

    async def _serve(self, request: web.Request, reached: Any, shaped: Any) -> web.StreamResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        sent = 0 if "cursor" in request.query else len(self._events)
        while not socket.closed:
            async with self._more:
                while len(self._events) == sent:
                    await self._more.wait()
            some = self._events[sent:]
            sent += len(some)
            for event in some:
                if reached(event):
                    await socket.send_str(json.dumps(shaped(event)))
        return socket


def _events(kind: str | None, body: dict[str, Any]) -> list[dict[str, Any]]:
    at = datetime.fromisoformat(body["time"]) if "time" in body else datetime.now(UTC)
    plain = {"seq": body.get("seq", 0), "time_us": int(at.timestamp() * 1e6)}
    if kind == "#account":
        account = {"active": body["active"], "did": body["did"], "status": body.get("status")}
        return [plain | {"did": body["did"], "kind": "account", "account": account}]
    if kind != "#commit":
        return []
    blocks = _blocks(body["blocks"])
    made = []
    for operation in body["ops"]:
        collection, _, key = operation["path"].partition("/")
        commit = {"rev": body["rev"], "operation": operation["action"], "collection": collection, "rkey": key}
        if operation["cid"] is not None:
            commit["record"] = cbor2.loads(blocks[operation["cid"].value[1:]])
        made.append(plain | {"did": body["repo"], "kind": "commit", "commit": commit})
    return made


def _blocks(car: bytes) -> dict[bytes, bytes]:
    """The blocks of a CAR version 1 archive, by CID (36 bytes: version 1, DAG-CBOR, SHA-256)."""
    size, position = _varint(car, 0)
    position += size
    blocks = {}
    while position < len(car):
        size, position = _varint(car, position)
        blocks[car[position : position + 36]] = car[position + 36 : position + size]
        position += size
    return blocks


def _varint(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, position
        shift += 7
