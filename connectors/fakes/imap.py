"""An IMAP4rev1 server (RFC 3501) with IDLE (RFC 2177): login, one mailbox, UIDs that only grow, and nothing else."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from email.message import EmailMessage
from email.utils import format_datetime
from typing import Any

from aiohttp import web

from connectors.fakes.fake import Said, Verb

USER, PASSWORD = "support@acme.example", "app-password"
CAPABILITIES = "IMAP4rev1 IDLE"
MAX_LINE = 8_192


@dataclass(frozen=True, slots=True)
class Mail:
    """A message in the mailbox."""

    uid: int
    arrived: datetime
    raw: bytes


class FakeImap:
    """See `fake.Fake` and `fake.Serving`. `heartbeats`: how many clients have begun to IDLE."""

    can: frozenset[Verb] = frozenset({"expire", "since"})
    live = True

    def __init__(self) -> None:
        self.heartbeats = 0
        self.validity = 1_700_000_001
        self._mails: list[Mail] = []
        self._server: asyncio.Server | None = None
        self._sessions: set[asyncio.Task[None]] = set()
        self._idle: set[asyncio.Event] = set()

    @property
    def environment(self) -> Mapping[str, str]:
        """Its secret."""
        return {"IMAP_PASSWORD": PASSWORD}

    def table(self, url: str) -> dict[str, Any]:
        """Settings for this fake."""
        port = self._server.sockets[0].getsockname()[1] if self._server else 1
        return {
            "host": "127.0.0.1", "port": port, "user": USER, "password": "env:IMAP_PASSWORD", "security": "none",
        }  # fmt: skip

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        """None: mail is no web service."""
        return []

    async def open(self) -> None:
        """Listen on a free port of 127.0.0.1."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, limit=MAX_LINE)

    async def close(self) -> None:
        """End every session."""
        if self._server is not None:
            self._server.close()
        for session in self._sessions:
            session.cancel()
        await asyncio.gather(*self._sessions, return_exceptions=True)

    def say(self, said: Said) -> None:
        """A customer writes."""
        mail = EmailMessage()
        mail["From"] = f"{said.author} <{said.author.lower()}@customer.example>"
        mail["To"] = USER
        mail["Date"] = format_datetime(said.at)
        mail["Message-ID"] = f"<{said.id}@customer.example>"
        mail.set_content(said.text)
        uid = self._mails[-1].uid + 1 if self._mails else 1
        self._mails.append(Mail(uid, said.at, mail.as_bytes()))
        for waiting in self._idle:
            waiting.set()

    def edit(self, id: str, text: str, at: datetime) -> None:
        """A message that was sent stays as it is."""

    def delete(self, id: str, at: datetime) -> None:
        """Moving or deleting a message at the server is nothing that the customer said."""

    def expire(self) -> None:
        """The server renumbers its mailbox: UIDs of before mean nothing any more."""
        self.validity += 1
        self._mails = [Mail(number, mail.arrived, mail.raw) for number, mail in enumerate(self._mails, start=1)]

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - it runs in one
        self._sessions.add(task)
        try:
            # Cancelled: the mailbox is closed; asyncio's own callback cannot bear a connection that ends so.
            with suppress(ConnectionError, asyncio.IncompleteReadError, ValueError, asyncio.CancelledError):
                await _Session(self, reader, writer).run()
        finally:
            self._sessions.discard(task)
            writer.close()

    def matching(self, words: str) -> list[int]:
        """UIDs that a search asks for: `UID n:*` (which always finds the last one) or `SINCE 25-Nov-2026`."""
        last = self._mails[-1].uid if self._mails else 0
        if found := re.fullmatch(r"UID (\d+):\*", words, re.IGNORECASE):
            first = min(int(found[1]), last)
            return [mail.uid for mail in self._mails if mail.uid >= first]
        if found := re.fullmatch(r'SINCE "?(\d{1,2}-\w{3}-\d{4})"?', words, re.IGNORECASE):
            day = datetime.strptime(found[1], "%d-%b-%Y").date()  # noqa: DTZ007 - a day, as RFC 3501 has it
            return [mail.uid for mail in self._mails if mail.arrived.date() >= day]
        raise ValueError(words)

    def mail(self, uid: int) -> tuple[int, Mail] | None:
        """A message and its number in the mailbox."""
        return next(((n, mail) for n, mail in enumerate(self._mails, start=1) if mail.uid == uid), None)


class _Session:
    def __init__(self, box: FakeImap, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._box = box
        self._reader = reader
        self._writer = writer
        self._state = "stranger"

    async def run(self) -> None:
        """Answer commands until the client goes."""
        await self._send("* OK IMAP4rev1 ready")
        while line := (await self._reader.readline()).decode("utf-8", "replace").strip():
            tag, _, rest = line.partition(" ")
            name, _, words = rest.partition(" ")
            name = name.upper()
            if name == "UID":
                verb, _, words = words.partition(" ")
                name = f"UID {verb.upper()}"
            handler = getattr(self, f"_{name.lower().replace(' ', '_')}", None)
            needed = {"capability": "", "noop": "", "logout": "", "login": "", "examine": "in", "select": "in"}
            want = needed.get(name.lower(), "selected")
            if handler is None:
                await self._send(f"{tag} BAD no such command")
            elif (want == "in" and self._state == "stranger") or (want == "selected" and self._state != "selected"):
                await self._send(f"{tag} BAD not in this state: log in, then select")
            else:
                try:
                    await self._send(f"{tag} {await handler(words)}")
                except ValueError:
                    await self._send(f"{tag} BAD this server does not know what is asked")
                if name == "LOGOUT":
                    return

    async def _capability(self, words: str) -> str:
        await self._send(f"* CAPABILITY {CAPABILITIES}")
        return "OK done"

    async def _noop(self, words: str) -> str:
        if self._state == "selected":
            await self._send(f"* {len(self._box._mails)} EXISTS")
        return "OK done"

    async def _logout(self, words: str) -> str:
        await self._send("* BYE")
        return "OK done"

    async def _login(self, words: str) -> str:
        given = re.findall(r'"((?:[^"\\]|\\.)*)"|(\S+)', words)
        user, password = [quoted or plain for quoted, plain in given] if len(given) == 2 else ("", "")
        if (user, password) != (USER, PASSWORD):
            return "NO [AUTHENTICATIONFAILED] wrong user or password"
        self._state = "in"
        return "OK logged in"

    async def _select(self, words: str) -> str:
        return await self._examine(words, "READ-WRITE")

    async def _examine(self, words: str, access: str = "READ-ONLY") -> str:
        if words.strip('"').upper() != "INBOX":
            self._state = "in"
            return "NO [NONEXISTENT] the mailbox does not exist"
        box = self._box
        following = box._mails[-1].uid + 1 if box._mails else 1
        numbers = (f"OK [UIDVALIDITY {box.validity}] valid", f"OK [UIDNEXT {following}] next")
        for line in (f"{len(box._mails)} EXISTS", "0 RECENT", "FLAGS (\\Seen)", *numbers):
            await self._send(f"* {line}")
        self._state = "selected"
        return f"OK [{access}] done"

    async def _uid_search(self, words: str) -> str:
        found = self._box.matching(words)
        await self._send(" ".join(["* SEARCH", *map(str, found)]))
        return "OK done"

    async def _uid_fetch(self, words: str) -> str:
        found = re.fullmatch(r"([\d,]+) \(INTERNALDATE BODY\.PEEK\[\]<0\.(\d+)>\)", words)
        if found is None:
            raise ValueError(words)
        for uid in map(int, found[1].split(",")):
            if (there := self._box.mail(uid)) is not None:
                number, mail = there
                part = mail.raw[: int(found[2])]
                date = mail.arrived.strftime("%d-%b-%Y %H:%M:%S +0000")
                head = f'* {number} FETCH (UID {uid} INTERNALDATE "{date}" BODY[]<0> {{{len(part)}}}\r\n'
                self._writer.write(head.encode() + part + b")\r\n")
        return "OK done"

    async def _idle(self, words: str) -> str:
        told = asyncio.Event()
        self._box._idle.add(told)
        await self._send("+ idling")
        self._box.heartbeats += 1
        done = asyncio.ensure_future(self._reader.readline())
        try:
            while not done.done():
                waiting = asyncio.ensure_future(told.wait())
                await asyncio.wait([done, waiting], return_when=asyncio.FIRST_COMPLETED)
                waiting.cancel()
                if told.is_set():
                    told.clear()
                    await self._send(f"* {len(self._box._mails)} EXISTS")
        finally:
            done.cancel()
            self._box._idle.discard(told)
        if done.result().strip().upper() != b"DONE":
            return "BAD expected DONE"
        return "OK done"

    async def _send(self, line: str) -> None:
        self._writer.write(f"{line}\r\n".encode())
        await self._writer.drain()

