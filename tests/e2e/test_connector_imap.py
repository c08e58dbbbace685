"""The mailbox connector on Dovecot: IDLE, renumbering, odd mail."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from email.utils import format_datetime
from typing import Any

import pytest
from imapclient import IMAPClient

from connectors.connector import Page, Permanent, Retryable
from connectors.mail.imap import Imap, ImapConnector
from connectors.option import Misconfigured, Secret
from connectors.registry import Context
from tests.connectors import items, read_all
from tests.servers.dovecot import PASSWORD, Dovecot

pytestmark = pytest.mark.servers


@pytest.fixture(scope="module")
def dovecot(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dovecot]:
    server = Dovecot(tmp_path_factory.mktemp("dovecot"))
    yield server
    server.stop()


@pytest.fixture
def user() -> str:
    return f"u{uuid.uuid4().hex[:10]}"


def connector(dovecot: Dovecot, user: str, **settings: Any) -> ImapConnector:
    table = {"host": "127.0.0.1", "port": dovecot.imap_port, "security": "none", "password": Secret(PASSWORD)}
    context = Context(http=None, now=lambda: datetime.now(UTC))  # type: ignore[arg-type]
    return ImapConnector(Imap(user=f"{user}@example.com", **table | settings), context)


def mail(number: int, text: str = "", **headers: str) -> bytes:
    made = EmailMessage()
    made["From"] = f"Dilnoza <dilnoza{number}@example.com>"
    made["To"] = "support@example.com"
    made["Message-ID"] = f"<m{number}@example.com>"
    made["Date"] = format_datetime(datetime.now(UTC) - timedelta(minutes=5))
    for name, value in headers.items():
        made[name.replace("_", "-")] = value
    made.set_content(text or f"The courier never came, {number}")
    return bytes(made)


def raw(headers: str, body: bytes) -> bytes:
    return headers.replace("\n", "\r\n").encode() + b"\r\n" + body


def numbers(pages: list[Page]) -> list[int]:
    return [int(item.external_id.strip("<m>").split("@")[0]) for item in items(pages)]


async def test_it_begins_with_the_next_message_and_goes_on_from_any_cursor(dovecot: Dovecot, user: str) -> None:
    dovecot.deliver(user, mail(0))
    start = await read_all(connector(dovecot, user), None)
    assert numbers(start) == []
    dovecot.deliver(user, *(mail(n) for n in range(1, 121)))
    pages = await read_all(connector(dovecot, user), start[-1].cursor)
    assert numbers(pages) == list(range(1, 121)) and len(pages) > 2
    for stop in range(len(pages)):
        rest = await read_all(connector(dovecot, user), json.loads(json.dumps(pages[stop].cursor)))
        assert numbers(pages[: stop + 1] + rest) == list(range(1, 121))
    assert not items(await read_all(connector(dovecot, user), pages[-1].cursor))


async def test_reading_marks_nothing_as_read(dovecot: Dovecot, user: str) -> None:
    dovecot.deliver(user, mail(1))
    asked = connector(dovecot, user)
    assert numbers(await read_all(asked, asked.since(datetime.now(UTC)))) == [1]
    with IMAPClient("127.0.0.1", dovecot.imap_port, ssl=False) as client:
        client.login(f"{user}@example.com", PASSWORD)
        client.select_folder("INBOX", readonly=True)
        assert client.search("UNSEEN") == [1]


async def test_by_idle_a_message_comes_at_once_and_closing_ends_the_wait(dovecot: Dovecot, user: str) -> None:
    stream = connector(dovecot, user).pages(None, follow=True)
    async with asyncio.timeout(20):
        assert not (await anext(stream)).items
        coming = asyncio.ensure_future(anext(stream))
        for n in (1, 2):
            dovecot.deliver(user, mail(n))
            began = time.monotonic()
            page = await coming
            assert numbers([page]) == [n] and time.monotonic() - began < 10
            coming = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0.2)  # let it wait in IDLE
        coming.cancel()
        with pytest.raises(asyncio.CancelledError):
            await coming


async def test_when_the_server_renumbers_nothing_is_lost(dovecot: Dovecot, user: str) -> None:
    with IMAPClient("127.0.0.1", dovecot.imap_port, ssl=False) as client:
        client.login(f"{user}@example.com", PASSWORD)
        client.create_folder("Support")
        for n in range(1, 4):
            client.append("Support", mail(n))
        asked = connector(dovecot, user, folder="Support")
        pages = await read_all(asked, asked.since(datetime.now(UTC) - timedelta(days=1)))
        assert numbers(pages) == [1, 2, 3]
        await asyncio.sleep(1.1)  # UIDVALIDITY is a time in seconds
        client.delete_folder("Support")
        client.create_folder("Support")
        for n in range(2, 6):
            client.append("Support", mail(n))
    after = await read_all(connector(dovecot, user, folder="Support"), pages[-1].cursor)
    assert after[-1].cursor["validity"] != pages[-1].cursor["validity"]
    assert set(numbers(after)) >= {4, 5}
    assert not items(await read_all(connector(dovecot, user, folder="Support"), after[-1].cursor))


async def test_odd_mail_gives_the_customers_own_words(dovecot: Dovecot, user: str) -> None:
    head = "From: =?koi8-r?B?6dfBzg==?= <ivan@example.com>\nMessage-ID: <{}@example.com>\n"
    html = (
        "<html><style>p{}</style><body><p>Buyurtma kelmadi</p><div class='gmail_quote'>On Monday you wrote:"
        "<blockquote>old</blockquote></div></body></html>"
    )
    with_file = EmailMessage()
    with_file["From"], with_file["Message-ID"] = "a@example.com", "<file@example.com>"
    with_file["Subject"] = "Re: Fwd: Отзыв"
    with_file.set_content(
        "See the picture.\n\nOn Tue, 24 Nov 2026, Support <s@example.com> wrote:\n> We are sorry\n> about it\n\n"
        "-- \nAziz, director"
    )
    with_file.add_attachment(b"\x00" * 400_000, maintype="image", subtype="png", filename="photo.png")
    with_file.add_attachment("not the customer's words", filename="log.txt")
    dovecot.deliver(
        user,
        raw(head.format("koi8") + "Content-Type: text/plain; charset=koi8-r\n", "Курьер не приехал".encode("koi8-r")),
        raw(head.format("undeclared") + "Content-Type: text/plain\n", "Деньги списали дважды".encode("cp1251")),
        raw(head.format("unknown") + "Content-Type: text/plain; charset=x-martian\n", "Всё плохо".encode()),
        raw(head.format("html") + "Content-Type: text/html; charset=utf-8\n", html.encode()),
        bytes(with_file),
        mail(7, Auto_Submitted="auto-replied"),
        mail(8, List_Id="<news.example.com>"),
        raw("From: x\nContent-Type: multipart/report; report-type=delivery-status; boundary=x\n", b"--x--\r\n"),
        raw("Content-Type: multipart/mixed; boundary=\n\tx\nDate: never\nMessage-ID: <broken@x>\n", b"\xff text"),
    )  # fmt: skip
    asked = connector(dovecot, user)
    pages = await read_all(asked, asked.since(datetime.now(UTC) - timedelta(days=1)))
    said = {item.external_id.strip("<>").split("@")[0]: item for item in items(pages)}
    assert said["koi8"].text == "Курьер не приехал" and said["koi8"].author == "ivan@example.com"
    assert said["undeclared"].text == "Деньги списали дважды"
    assert said["unknown"].text == "Всё плохо"
    assert said["html"].text == "Buyurtma kelmadi"
    assert said["file"].text == "Отзыв\nSee the picture."
    assert set(said) == {"koi8", "undeclared", "unknown", "html", "file", "broken"}
    assert abs(said["broken"].created_at - datetime.now(UTC)) < timedelta(minutes=5)
    assert not [skipped for page in pages for skipped in page.skipped]


async def test_a_wrong_password_or_folder_is_permanent_and_a_server_that_is_away_is_retryable(
    dovecot: Dovecot, user: str
) -> None:
    with pytest.raises(Permanent) as refused:
        await read_all(connector(dovecot, user, password=Secret("not-the-password")), None)
    assert "not-the-password" not in str(refused.value)
    with pytest.raises(Permanent, match="Nowhere"):
        await read_all(connector(dovecot, user, folder="Nowhere"), None)
    with pytest.raises(Retryable):
        await read_all(connector(dovecot, user, port=1), None)
    with pytest.raises(Misconfigured, match="TLS"):
        connector(dovecot, user, host="mail.example.com")
