"""A mailbox over IMAP4rev1 (RFC 3501), with IDLE (RFC 2177)."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar

from imapclient import IMAPClient
from imapclient.exceptions import CapabilityError, IMAPClientError, LoginError

from connectors.connector import Cursor, Item, Page, Permanent, Retryable, Skipped
from connectors.feedback import Fault
from connectors.fields import skip
from connectors.mail import message
from connectors.option import Misconfigured, Secret, option
from connectors.registry import Context, connector

T = TypeVar("T")
PAGE_MESSAGES: Final = 50
MAX_MESSAGE: Final = 262_144
"""Bytes of a message that are fetched: text comes before attachments, and a mailbox may hold anything."""
IDLE_S: Final = 540.0
"""Renewed well before the 29 minutes of RFC 2177: home routers forget connections that are silent for ten."""
TIMEOUT_S: Final = 30.0
OVERLAP: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Imap:
    """Settings."""

    host: str = option("the mail server", example="imap.example.com")
    user: str = option("the mailbox's user", example="support@example.com")
    password: Secret | None = option("its password, or an app password", example="env:IMAP_PASSWORD", default=None)
    token: Secret | None = option(
        "an OAuth 2 access token (XOAUTH2) instead of it", example="env:IMAP_TOKEN", default=None, instead_of="password"
    )
    folder: str = option("the folder to read; nothing in it is changed", default="INBOX")
    port: int = option("port", default=993, least=1, greatest=65_535)
    security: str = option("tls, starttls, or none (loopback only)", default="tls", choices=("tls", "starttls", "none"))


@connector(
    name="imap",
    title="E-mail over IMAP",
    kind="mail",
    channel="email",
    modes=("stream",),
    cursor="UIDVALIDITY and the last UID. When the server renumbers, the last day before it is read again.",
    limits=(
        "Quoted replies and signatures are cut by rules in our ten languages; an unusual mail program may leave some.",
        "Auto-replies, bounces and mailing lists are left out. Moving or deleting a message retracts nothing.",
        f"The first {MAX_MESSAGE // 1024} KiB of a message are read.",
    ),
    source="https://www.rfc-editor.org/rfc/rfc3501",
    config=Imap,
)
class ImapConnector:
    """See the declaration."""

    def __init__(self, config: Imap, context: Context) -> None:
        faults = []
        if config.security == "none" and config.host not in ("127.0.0.1", "::1", "localhost"):
            reason = "must be tls or starttls: without TLS the password would cross the network"
            faults.append(Fault(field="security", reason=reason))
        if (config.password is None) == (config.token is None):
            faults.append(Fault(field="password", reason="must be set, or token, and not both"))
        if faults:
            raise Misconfigured(faults)
        self._config = config
        self._now = context.now

    async def pages(self, cursor: Cursor | None, *, follow: bool) -> AsyncIterator[Page]:
        """See `Reader.pages`. Without a cursor it begins with the next message, and says so by an empty page."""
        async with self._mailbox() as mailbox:
            validity, following = await mailbox.select(self._config.folder)
            found: list[int] = []
            if cursor is None or "since" in cursor:
                last = following - 1
                found = await mailbox.since(_moment(cursor["since"])) if cursor else []
            elif int(cursor["validity"]) != validity:
                last = following - 1
                found = await mailbox.since(_moment(cursor["at"]) - OVERLAP)
            else:
                last = int(cursor["uid"])
                found = await mailbox.after(last)
            # Their UIDs are below `following`; what comes meanwhile is read after them.
            yield Page(cursor=self._cursor(validity, min(found) - 1 if found else last))
            while True:
                for start in range(0, len(found), PAGE_MESSAGES):
                    some = found[start : start + PAGE_MESSAGES]
                    items, skipped = await mailbox.fetch(some, validity)
                    last = max(last, some[-1]) if start + PAGE_MESSAGES >= len(found) else some[-1]
                    yield Page(items=items, skipped=skipped, cursor=self._cursor(validity, last))
                found = await mailbox.after(last)
                if not found and not follow:
                    return
                if not found:
                    await mailbox.idle()
                    found = await mailbox.after(last)

    def since(self, moment: datetime) -> Cursor:
        """See `Reader.since`: by the day on which the server got a message."""
        return {"since": int(moment.timestamp())}

    def _cursor(self, validity: int, uid: int) -> Cursor:
        return {"validity": validity, "uid": uid, "at": int(self._now().timestamp())}

    @asynccontextmanager
    async def _mailbox(self) -> AsyncIterator[_Mailbox]:
        config, where = self._config, f"IMAP {self._config.user} at {self._config.host}:{self._config.port}"
        mailbox = _Mailbox()
        try:
            await mailbox.call(lambda: mailbox.open(config))
            yield mailbox
        except LoginError as error:
            raise Permanent(f"{where}: the login is refused ({_said(error)}): check user and password") from None
        except CapabilityError as error:
            raise Permanent(f"{where}: the server cannot do what is set ({_said(error)})") from None
        except ssl.SSLCertVerificationError as error:
            raise Permanent(f"{where}: its certificate is not trusted: {error.verify_message}") from None
        except (IMAPClientError, OSError, ValueError) as error:
            raise Retryable(f"{where}: {_said(error)}") from None
        finally:
            mailbox.close()


class _Mailbox:
    """A connection on a thread of its own: IMAPClient waits, the event loop must not."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="imap")
        self._client: IMAPClient | None = None

    async def call(self, work: Callable[[], T]) -> T:
        """Run it on the thread; when the caller is cancelled the connection is cut, which ends the work too."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except asyncio.CancelledError:
            self.close()
            raise

    def open(self, config: Imap) -> None:
        trusted = ssl.create_default_context() if config.security != "none" else None
        self._client = client = IMAPClient(
            config.host, port=config.port, ssl=config.security == "tls", ssl_context=trusted, timeout=TIMEOUT_S
        )
        if config.security == "starttls":
            client.starttls(trusted)
        if config.token is not None:
            client.oauth2_login(config.user, config.token.reveal())
        elif config.password is not None:
            client.login(config.user, config.password.reveal())

    @property
    def _open(self) -> IMAPClient:
        if self._client is None:
            raise OSError("the connection is closed")
        return self._client

    async def select(self, folder: str) -> tuple[int, int]:
        """(UIDVALIDITY, the UID that the next message will get)."""

        def work() -> tuple[int, int]:
            try:
                found = self._open.select_folder(folder, readonly=True)
            except IMAPClientError as error:
                if "exist" in str(error).lower() or "unknown" in str(error).lower():
                    raise Permanent(f"folder: the mailbox has no {folder!r} ({_said(error)})") from None
                raise
            return int(found[b"UIDVALIDITY"]), int(found.get(b"UIDNEXT", 1))

        return await self.call(work)

    async def after(self, uid: int) -> list[int]:
        """UIDs above `uid`: the range `n:*` always holds the newest message, so it is filtered."""
        # A mailbox that is selected answers from what it knew; NOOP lets it look again.
        await self.call(lambda: self._open.noop())
        found = await self.call(lambda: self._open.search([b"UID", f"{uid + 1}:*".encode()]))
        return sorted(int(one) for one in found if int(one) > uid)

    async def since(self, moment: datetime) -> list[int]:
        """UIDs of messages that the server got on that day or later."""
        found = await self.call(lambda: self._open.search([b"SINCE", moment.date()]))
        return sorted(int(one) for one in found)

    async def fetch(self, uids: list[int], validity: int) -> tuple[tuple[Item, ...], tuple[Skipped, ...]]:
        """Messages as items, in order, without marking them as read."""
        what = [b"INTERNALDATE", f"BODY.PEEK[]<0.{MAX_MESSAGE}>".encode()]
        got: dict[int, dict[bytes, Any]] = await self.call(lambda: self._open.fetch(uids, what))
        items: list[Item] = []
        skipped: list[Skipped] = []
        for uid in uids:
            answer = got.get(uid)
            if answer is None:
                continue  # moved away since it was listed
            raw = answer.get(b"BODY[]<0>", answer.get(b"BODY[]", b"")) or b""
            arrived = answer.get(b"INTERNALDATE") or datetime.now(UTC)
            # IMAPClient gives local time without a zone.
            arrived = arrived.astimezone(UTC)
            try:
                items.append(message.item(raw, fallback_id=f"{validity}.{uid}", arrived=arrived))
            except message.NotFeedback:
                continue
            except Exception as error:  # the standard library's parser has surprises for hostile mail
                skipped.append(skip(f"cannot be read: {type(error).__name__}: {error}", f"{validity}.{uid}", raw))
        return tuple(items), tuple(skipped)

    async def idle(self) -> None:
        """Return when the server says that something happened, or after IDLE_S."""

        def work() -> None:
            client = self._open
            if not client.has_capability("IDLE"):
                client.socket().settimeout(TIMEOUT_S)
                return
            client.idle()
            try:
                client.idle_check(timeout=IDLE_S)
            finally:
                client.idle_done()

        await self.call(work)
        if self._client is not None and not self._client.has_capability("IDLE"):
            await asyncio.sleep(TIMEOUT_S)

    def close(self) -> None:
        """Cut the connection; the mailbox was opened read-only, so there is nothing to say goodbye for."""
        client, self._client = self._client, None
        if client is not None:
            with suppress(OSError):
                client.socket().shutdown(socket.SHUT_RDWR)
            with suppress(Exception):
                client.shutdown()
        self._thread.shutdown(wait=False, cancel_futures=True)


def _moment(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _said(error: BaseException) -> str:
    return " ".join(str(error).split())[:160] or type(error).__name__
