"""Following one connector, on a real store: what is safe when, what is a gap, who drives."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from connectors.connector import (
    Cursor,
    CursorExpired,
    Gap,
    Item,
    Page,
    Permanent,
    Quota,
    Rating,
    Retryable,
    Skipped,
    Verdict,
)
from connectors.registry import Declaration, declaration
from pipeline.connector_build import Built
from pipeline.connector_metrics import ConnectorMetrics
from pipeline.conversion import Converted, Origin
from pipeline.follow import Follower, Means
from pipeline.redact import Redactor
from pipeline.settings import Connector, Privacy
from pipeline.store.connectors import LIVE, ConnectorStore, Run, gaps, progress
from pipeline.store.engine import connect, prepare
from pipeline.store.read import reading

AT = datetime(2026, 11, 25, 12, tzinfo=UTC)
RUN = Run(source="trustpilot", instance="shop")


def item(number: int, **fields: Any) -> Item:
    return Item(**{"external_id": f"i{number}", "created_at": AT, "text": f"late {number}", **fields})


@dataclass
class Script:
    """A Reader that plays steps: a page is given, a verdict raised; afterwards it has nothing new."""

    steps: list[Page | Verdict] = field(default_factory=list)
    asked: list[Cursor | None] = field(default_factory=list)

    async def pages(self, cursor: Cursor | None, *, follow: bool) -> AsyncIterator[Page]:
        self.asked.append(cursor)
        while self.steps:
            step = self.steps.pop(0)
            if isinstance(step, Verdict):
                raise step
            yield step

    def since(self, moment: datetime) -> Cursor:
        return {"since": moment.isoformat()}


@dataclass
class Kept:
    """A sink that keeps what it is given; `refuse` is called first."""

    items: list[str] = field(default_factory=list)
    letters: list[Any] = field(default_factory=list)
    before: Callable[[], None] = lambda: None

    async def put(self, converted: Converted) -> None:
        self.before()
        self.items += [one.external_id for one in converted.feedback]
        self.letters += converted.letters


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[sa.Engine]:
    made = connect(f"sqlite:///{tmp_path}/ovoz.db")
    prepare(made)
    yield made
    made.dispose()


@asynccontextmanager
async def following(
    engine: sa.Engine, script: Script, sink: Kept | None = None, holder: str = "me", **options: Any
) -> AsyncIterator[tuple[Follower, Kept, asyncio.Task[str]]]:
    kept = sink or Kept()

    async def keep(call: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        return call(*arguments, **named)

    means = Means(
        sink=kept,  # type: ignore[arg-type]
        store=ConnectorStore(engine, holder=holder, lease=timedelta(seconds=15)),
        keep=keep,
        redactor=Redactor(Privacy(), b"k" * 32),
        now=lambda: datetime.now(UTC),
        chance=lambda: 0.001,
        fuse_share=0.5,
        fuse_items=4,
    )
    declared: Declaration = declaration("trustpilot")
    built = Built(
        table=Connector(use="trustpilot", name="shop", every_s=0.01),
        declaration=declared,
        origin=Origin(source="trustpilot", instance="shop", channel="review", workspace="default"),
        reader=script,
        receiver=None,
    )
    follower = Follower(built, means, ConnectorMetrics().of("trustpilot", "shop"), **options)
    task = asyncio.create_task(follower.run())
    try:
        yield follower, kept, task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while True:
            if holds():
                return
            await asyncio.sleep(0.005)


def held(engine: sa.Engine) -> Any:
    with reading(engine) as connection:
        return next(iter(progress(connection)), None)


async def test_the_cursor_is_saved_only_after_the_broker_has_the_items(engine: sa.Engine) -> None:
    seen: list[Any] = []
    sink = Kept(before=lambda: seen.append(held(engine).cursor))
    script = Script([Page(items=(item(1),), cursor={"n": 1}), Page(items=(item(2),), cursor={"n": 2})])
    async with following(engine, script, sink):
        await until(lambda: held(engine) is not None and held(engine).cursor == {"n": 2})
    assert sink.items == ["i1", "i2"] and seen == [None, {"n": 1}]
    assert held(engine).items == 2


async def test_a_break_between_pages_goes_on_from_the_last_that_is_safe(engine: sa.Engine) -> None:
    script = Script([Page(items=(item(1),), cursor={"n": 1}), Retryable("away"), Page(cursor={"n": 2})])
    async with following(engine, script):
        await until(lambda: held(engine) is not None and held(engine).cursor == {"n": 2})
    assert script.asked[:2] == [None, {"n": 1}]


async def test_an_expired_cursor_is_a_gap_and_a_fresh_start(engine: sa.Engine) -> None:
    script = Script([Page(items=(item(1),), cursor={"n": 1}), CursorExpired("too old"), Page(cursor={"n": 9})])
    async with following(engine, script):
        await until(lambda: held(engine) is not None and held(engine).cursor == {"n": 9})
    assert script.asked[:2] == [None, None]
    with reading(engine) as connection:
        (gap,) = gaps(connection, "default", since=AT - timedelta(days=9000), until=AT + timedelta(days=9000))
    assert gap.reason == "too old" and gap.since <= gap.until


async def test_a_service_that_expires_every_cursor_is_not_asked_in_a_circle(engine: sa.Engine) -> None:
    script = Script([CursorExpired("too old") for _ in range(3)])
    async with following(engine, script):
        await until(lambda: not script.steps)
    with reading(engine) as connection:
        found = gaps(connection, "default", since=AT - timedelta(days=9000), until=AT + timedelta(days=9000))
    assert found == []


async def test_a_gap_on_a_page_is_saved_with_its_cursor(engine: sa.Engine) -> None:
    hole = Gap(since=AT, until=AT + timedelta(minutes=5), reason="the buffer was full")
    async with following(engine, Script([Page(cursor={"n": 1}, gaps=(hole,))])):
        await until(lambda: held(engine) is not None and held(engine).cursor == {"n": 1})
    with reading(engine) as connection:
        (gap,) = gaps(connection, "default", since=AT, until=AT)
    assert (gap.since, gap.until) == (hole.since, hole.until)


async def test_a_permanent_refusal_ends_it_and_says_why_once(
    engine: sa.Engine, caplog: pytest.LogCaptureFixture
) -> None:
    async with following(engine, Script([Permanent("GET /reviews answered 401: bad key")])) as (_, _, task):
        assert await task == "stopped"
    assert held(engine).state == "stopped" and "401" in held(engine).message
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


async def test_a_connector_that_reads_almost_nothing_stops_and_keeps_what_it_was_given(engine: sa.Engine) -> None:
    broken = tuple(Skipped(reason="x", where=f"reviews[{n}]", payload=b"%d" % n) for n in range(4))
    async with following(engine, Script([Page(cursor={"n": 1}, skipped=broken)])) as (_, kept, task):
        assert await task == "stopped"
    assert len(kept.letters) == 4 and held(engine).cursor == {"n": 1}


async def test_an_error_in_a_connector_tells_no_secret_and_is_tried_again(
    engine: sa.Engine, caplog: pytest.LogCaptureFixture
) -> None:
    script = Script()
    plain, secret = script.pages, "".join(["s3", "cr3t"])

    async def pages(cursor: Cursor | None, *, follow: bool) -> AsyncIterator[Page]:
        if len(script.asked) == 0:
            script.asked.append(cursor)
            raise ValueError(f"https://api.example/?token={secret}")
        async for page in plain(cursor, follow=follow):
            yield page

    script.pages = pages  # type: ignore[method-assign]
    script.steps = [Page(items=(item(1),), cursor={"n": 1})]
    async with following(engine, script) as (_, kept, _task):
        await until(lambda: kept.items == ["i1"])
    assert "ValueError" in caplog.text and "s3cr3t" not in caplog.text
    assert "s3cr3t" not in held(engine).message


async def test_a_second_process_waits_and_takes_over(engine: sa.Engine) -> None:
    async with following(engine, Script([Page(items=(item(1),), cursor={"n": 1})])):
        await until(lambda: held(engine) is not None and held(engine).cursor == {"n": 1})
        other = Script([Page(items=(item(2),), cursor={"n": 2})])
        async with following(engine, other, holder="other") as (_, kept, _task):
            await asyncio.sleep(0)
            assert other.asked == [] and kept.items == []
            ConnectorStore(engine, holder="me", lease=timedelta(0)).release()
            await until(lambda: kept.items == ["i2"])
    assert other.asked[0] == {"n": 1}


async def test_a_backfill_begins_where_it_is_told_and_ends(engine: sa.Engine) -> None:
    script = Script([Page(items=(item(1),), cursor={"n": 1}, quota=Quota(remaining=99, reset_at=AT))])
    told: list[Converted] = []
    async with following(engine, script, purpose="since 2026", start={"n": 0}, told=told.append) as (_, _, task):
        assert await task == "done"
    assert script.asked == [{"n": 0}] and all(one.backfill for one in told[0].feedback)
    async with following(engine, script, purpose="since 2026", start={"n": 0}) as (_, _, task):
        assert await task == "done"
    assert script.asked == [{"n": 0}]


async def test_what_a_service_adds_that_we_cannot_use_is_left_out_and_the_words_are_kept(engine: sa.Engine) -> None:
    odd = item(
        1, language="en_US", url="javascript:alert(1)", touchpoint="x" * 200, author="A\nB", turn="solved",
        rating=Rating(value=7, low=1, high=5),
    )  # fmt: skip
    told: list[Converted] = []
    async with following(engine, Script([Page(items=(odd, item(2, external_id="")), cursor={"n": 1})]),
                         told=told.append):  # fmt: skip
        await until(lambda: bool(told))
    (one,), (letter,) = told[0].feedback, told[0].letters
    assert (one.language, one.url, one.rating, one.turn, one.text) == ("en-US", None, None, None, "late 1")
    assert "id" in letter.detail


def test_the_live_purpose_is_the_default() -> None:
    assert RUN.purpose == LIVE


async def test_a_backfill_that_is_broken_off_goes_on_where_it_was(engine: sa.Engine) -> None:
    script = Script([Page(items=(item(1),), cursor={"n": 1}), Retryable("away", retry_after_s=3_600)])
    async with following(engine, script, purpose="since 2026", start={"n": 0}) as (_, _, task):
        await until(lambda: held(engine) is not None and held(engine).state == "backing_off")
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    ConnectorStore(engine, holder="me", lease=timedelta(0)).release()
    rest = Script([Page(items=(item(2),), cursor={"n": 2})])
    async with following(engine, rest, purpose="since 2026", start={"n": 0}, holder="later") as (_, kept, task):
        assert await task == "done"
    assert rest.asked == [{"n": 1}] and kept.items == ["i2"]


async def test_a_quota_that_ends_is_waited_for(engine: sa.Engine) -> None:
    soon = datetime.now(UTC) + timedelta(seconds=0.3)
    script = Script([Page(cursor={"n": 1}, quota=Quota(remaining=0, reset_at=soon)), Page(cursor={"n": 2})])
    async with following(engine, script):
        await until(lambda: held(engine) is not None and held(engine).cursor == {"n": 2})
    assert datetime.now(UTC) >= soon
