"""The worst quotes: which ones, for whom, and harmless; on SQLite and PostgreSQL."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from html.parser import HTMLParser
from typing import Any

import aiohttp
import pytest
import sqlalchemy as sa

from pipeline.cli.root import run
from pipeline.exporter import Exporter
from pipeline.metrics import WorkerMetrics
from pipeline.quotes_page import QuotesPage, allowed
from pipeline.settings import Labels
from pipeline.store.quotes import worst, worst_lately
from pipeline.store.read import reading
from tests.store import NOW, arrival, opened, scored, store_on

SECRET = "ovoz_secret"
DIGEST = hashlib.sha256(SECRET.encode()).hexdigest()
EVIL = "<script>alert(1)</script> <img src=x onerror=alert(1)> \u202egnp.exe \x07 \"'> +998 90 123 45 67 a@b.example"


@pytest.fixture
def engine(store_url: str) -> Iterator[sa.Engine]:
    with opened(store_url) as made:
        yield made


def texts(engine: sa.Engine, minutes: float = 60, limit: int = 10, **picked: str) -> list[str]:
    with reading(engine) as connection:
        found = worst(connection, picked, since=NOW - timedelta(minutes=minutes), until=NOW, limit=limit)
    return [one.text for one in found]


def test_negative_items_of_the_window_come_worst_first_and_alike_ones_once(engine: sa.Engine) -> None:
    store = store_on(engine)
    items = [
        scored("a", text="the courier never came", touchpoint="checkout"),
        scored("b", text="The courier never came!!", minutes_ago=7),
        scored("c", text="charged twice", topic="payments", language="ru", minutes_ago=8),
        scored("d", text="lovely", mood="positive"),
        scored("e", text="who knows", mood="unsure"),
        scored("f", text="old wrong", minutes_ago=90),
        scored("g", text="elsewhere bad", workspace="other", source="mail", minutes_ago=6),
    ]
    store.fold([arrival(0, *items)], now=NOW)
    assert texts(engine) == ["the courier never came", "elsewhere bad", "charged twice"]
    assert texts(engine, limit=1) == ["the courier never came"]
    assert texts(engine, topic="payments") == ["charged twice"]
    assert texts(engine, workspace="other") == texts(engine, source="mail") == ["elsewhere bad"]
    assert texts(engine, touchpoint="checkout") == ["the courier never came"]
    assert texts(engine, 1440, workspace="default")[-1] == "old wrong"
    store.fold([arrival(1, scored("c", 2, deleted=True, text=""))], now=NOW)
    assert texts(engine, topic="payments") == [], "what was taken back is not quoted"


class Page(HTMLParser):
    def __init__(self, said: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.words = ""
        self.feed(said)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.add(tag)

    def handle_data(self, data: str) -> None:
        self.words += data


@pytest.mark.parametrize(
    ("header", "known"),
    [
        (None, False), ("", False), ("Bearer", False), (f"Bearer {SECRET}", True), ("Bearer wrong", False),
        (f"Basic {base64.b64encode(f'anyone:{SECRET}'.encode()).decode()}", True), ("Basic !", False),
        (f"Basic {base64.b64encode(SECRET.encode()).decode()}", False), (f"Digest {SECRET}", False),
        ("Bearer \udcff", False), (f"Bearer {DIGEST}", False),
    ],
)  # fmt: skip
def test_only_the_secret_opens_the_page(header: str | None, known: bool) -> None:
    assert allowed(header, DIGEST) is known


async def test_the_page_shows_words_to_who_has_the_token_and_to_nobody_else(engine: sa.Engine) -> None:
    now = datetime.now(UTC)
    store_on(engine).fold([arrival(0, scored("a", text=EVIL, created_at=now - timedelta(minutes=2)))], now=now)
    metrics = WorkerMetrics(Labels())
    for pages in (None, QuotesPage(partial(worst_lately, engine, limit=50), DIGEST)):
        exporter = Exporter(metrics, lambda: None, pages)
        url = (await exporter.start("127.0.0.1", 0)).replace("/metrics", "/quotes")
        headers = {"Authorization": f"Bearer {SECRET}"}
        async with aiohttp.ClientSession() as session:
            if pages is None:
                async with session.get(url, headers=headers) as answer:
                    assert answer.status == 404
            else:
                async with session.get(url) as answer:
                    assert answer.status == 401 and "Basic" in answer.headers["WWW-Authenticate"]
                    assert "script" not in await answer.text()
                for query, status in (("window=1y", 400), ("color=red", 400), ("topic=delivery&source=", 200)):
                    async with session.get(f"{url}?{query}", headers=headers) as answer:
                        assert answer.status == status
                        assert answer.headers["Cache-Control"] == "no-store"
                async with session.get(f"{url}?topic=%3Cb%3Ex", headers=headers) as answer:
                    assert "<b>" not in await answer.text()
                async with session.get(url, headers=headers) as answer:
                    said = await answer.text()
                    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
                page = Page(said)
                assert page.tags <= {"html", "head", "meta", "title", "style", "body", "h1", "p", "ol", "li", "small",
                                     "blockquote"}  # fmt: skip
                assert "<script>alert(1)</script>" in page.words and "\u202e" not in page.words
                assert "123 45 67" not in page.words and "a@b.example" not in page.words
                async with session.get(url, headers={**headers, "Accept": "application/json"}) as answer:
                    (one,) = await answer.json()
                    assert one["topic"] == "delivery" and one["score"] == pytest.approx(-0.6)
        await exporter.stop()


def test_the_command_prints_the_same(engine: sa.Engine, store_url: str, tmp_path: Any, capsys: Any) -> None:
    now = datetime.now(UTC)
    items = [scored("a", text="charged\ntwice", created_at=now), scored("b", topic="app", text="no", created_at=now)]
    store_on(engine).fold([arrival(0, *items)], now=now)
    config = tmp_path / "ovoz.toml"
    config.write_text(f'[store]\nurl = "{store_url.replace("postgresql+psycopg", "postgresql")}"\n')
    assert run(["quotes", "--topic", "delivery", "--config", str(config)]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert "-0.60  shop  delivery  en  charged twice" in line
    assert run(["quotes", "--topic", "none", "--json", "--config", str(config)]) == 0
    assert capsys.readouterr().out == ""
