"""Near-duplicates in the store: the same are folded after a restart, a failed transaction, a second writer."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from alerts.alert import Sample
from alerts.duplicates import oldest_kept
from alerts.engine import Engine
from pipeline.records import Scored
from pipeline.store import duplicates, incidents, schema
from pipeline.store.read import reading
from pipeline.store.transaction import Store
from tests.store import NOW, arrival, opened, scored, store_on

TEXT = "The courier threw my parcel over the fence and nobody wants to hear about it"


class Seen:
    """The samples that reach the detectors."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.copies: dict[str, str] = {}
        self.new: set[str] = set()
        observe = incidents.observe

        def watching(connection: sa.Connection, engine: Engine, memory: Any, samples: list[Sample]) -> Any:
            self.copies |= {sample.feedback_id: sample.copy_of for sample in samples}
            self.new |= {sample.feedback_id for sample in samples if sample.new_author}
            return observe(connection, engine, memory, samples)

        monkeypatch.setattr(incidents, "observe", watching)


@pytest.fixture
def engine(store_url: str) -> Iterator[sa.Engine]:
    with opened(store_url) as made:
        yield made


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Seen:
    return Seen(monkeypatch)


def copy(name: str, text: str = TEXT, author: str | None = None, **fields: Any) -> Scored:
    return scored(name, text=text, author_hash=author, **fields)


def test_a_copy_is_known_by_another_process(engine: sa.Engine, seen: Seen) -> None:
    store_on(engine).fold([arrival(0, copy("a"), copy("b"))], now=NOW)
    store_on(engine).fold([arrival(1, copy("c"))], now=NOW)
    assert seen.copies == {"shop::a": "", "shop::b": "shop::a", "shop::c": "shop::a"}


def test_a_failed_transaction_leaves_nothing_behind_in_memory(
    engine: sa.Engine, seen: Seen, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = store_on(engine)
    store.fold([arrival(0, copy("z", "something else that is long enough to be compared at all"))], now=NOW)
    with monkeypatch.context() as patch:
        patch.setattr("pipeline.store.transaction._account", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            store.fold([arrival(1, copy("a"))], now=NOW)
    store.fold([arrival(1, copy("a"))], now=NOW)
    assert seen.copies["shop::a"] == ""


def test_two_writers_in_turn_agree(engine: sa.Engine, seen: Seen) -> None:
    first, second = store_on(engine), store_on(engine)
    texts = [f"{chr(97 + i) * 9} {TEXT[i:]} {chr(98 + i) * 12} {chr(99 + i) * 15}" for i in range(6)]
    for offset in range(24):
        store: Store = (first, second)[offset % 3 == 0]
        store.fold([arrival(offset, copy(str(offset), texts[offset % 6] * 2))], now=NOW)
    assert sum(not original for original in seen.copies.values()) <= 6
    assert all(seen.copies[f"shop::{offset}"] for offset in range(6, 24))


def test_only_the_newest_two_generations_are_kept(
    engine: sa.Engine, seen: Seen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("alerts.duplicates.GENERATION", 60)
    store = store_on(engine)
    for offset in range(12):
        batch = (f"{offset}.{i}" for i in range(50))
        store.fold([arrival(offset, *(copy(name, f"{name} ".translate(LETTERS) * 9) for name in batch))], now=NOW)
    with reading(engine) as connection:
        kept = connection.execute(sa.select(schema.signature.c.number, schema.signature.c.last)).all()
        recent = duplicates.read(connection, "default")
    newest = max(last for _, last in kept)
    assert newest > 400
    assert min(last for _, last in kept) >= oldest_kept(newest)
    assert sum(last - number + 1 for number, last in kept) < 120 + 50
    assert len(recent) == newest - oldest_kept(newest) + 1
    again = store_on(engine)
    known, forgotten = (f"{name} ".translate(LETTERS) * 9 for name in ("11.7", "1.1"))
    again.fold([arrival(12, copy("x", known), copy("y", forgotten))], now=NOW)
    assert seen.copies["shop::x"] == "shop::11.7"
    assert seen.copies["shop::y"] == ""


LETTERS = str.maketrans("0123456789.", "abcdefghijk")


def test_an_author_is_new_on_the_first_day_only(engine: sa.Engine, seen: Seen) -> None:
    store = store_on(engine)
    old = copy("old", "I ordered something quite different then and was content with it", "anna")
    old = scored("old", text=old.feedback.text, author_hash="anna", created_at=NOW - timedelta(days=1, hours=3))
    store.fold([arrival(0, old, copy("a"), copy("b", author="anna"), copy("c", author="boris"))], now=NOW)
    assert seen.new == {"shop::c"}
