"""The limits that services document: their fakes keep them, and we stay under them by ourselves."""

from __future__ import annotations

import asyncio
from collections import deque
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors import registry
from connectors.connector import Reader, Retryable
from connectors.fakes.fake import Limited, Said, fake_of
from connectors.fakes.limit import Limit
from connectors.pace import Rate, Throttle
from connectors.registry import declaration
from pipeline.connector_build import Built
from pipeline.connector_metrics import ConnectorMetrics
from pipeline.conversion import Converted, Origin
from pipeline.follow import Follower, Means
from pipeline.redact import Redactor
from pipeline.settings import Connector, Privacy
from pipeline.store.connectors import ConnectorStore
from pipeline.store.engine import connect, prepare
from tests.connectors import NOW, Bench, bench, read_all

LIMITED = [name for name in registry.names() if isinstance(fake_of(name), Limited)]
KEPT = [name for name in LIMITED if declaration(name).at_most]
TOLD = ["app_store", "intercom", "mastodon", "reddit", "surveymonkey", "x", "yelp"]
"""Those that say in their answers what is left."""


def limits(at: Bench) -> list[Limit]:
    assert isinstance(at.service.fake, Limited)
    return list(at.service.fake.limits)


async def ask(at: Bench, cursor: Any) -> Any:
    """A pass; where the service is asked too early, time passes as the verdict says."""
    try:
        pages = await read_all(at.connector, cursor)
    except Retryable as verdict:
        at.clock.at += timedelta(seconds=verdict.retry_after_s or 0)
        return cursor
    return pages[-1].cursor if pages else cursor


@pytest.mark.parametrize("name", LIMITED)
async def test_beyond_its_limit_a_fake_refuses_and_that_passes(name: str) -> None:
    async with bench(name) as at:
        at.say(1)
        for limit in limits(at):
            limit.requests = 0
        with pytest.raises(Retryable) as refused:
            await read_all(at.rebuilt(), at.start())
        # Apple says how many requests are left and not until when.
        if any(limit.told for limit in limits(at)) or (name in TOLD and name != "app_store"):
            assert (refused.value.retry_after_s or 0) > 0, "the service says when to come again"


@pytest.mark.parametrize("name", KEPT)
async def test_asked_as_fast_as_it_goes_a_documented_rate_is_kept(name: str) -> None:
    async with bench(name) as at:
        (rate,) = declaration(name).at_most
        limit = next(one for one in limits(at) if one.window_s == rate.seconds)
        assert rate.requests <= limit.requests
        if rate.requests > 1_000:
            pytest.skip("so many that the test would take minutes; see the property of the throttle below")
        at.say(3)
        for other in limits(at):
            if other is not limit:
                other.requests = 10**6
        cursor, asked = at.start(), 0
        while asked < 2.5 * limit.requests:
            before = len(at.service.seen)
            cursor = await ask(at, cursor)
            asked += sum(limit.path in path for path in at.service.seen[before:])
        assert limit.refused == 0
        assert at.clock.at - NOW >= timedelta(seconds=limit.window_s), "time had to pass"


@pytest.mark.parametrize("name", TOLD)
async def test_a_driver_makes_what_is_left_last_until_it_is_renewed(name: str, tmp_path: Path) -> None:
    """Two windows of the service's time, asked every second; the pauses of the driver move the clock."""
    engine = connect(f"sqlite:///{tmp_path}/ovoz.db")
    prepare(engine)
    taken: list[str] = []

    class Sink:
        async def put(self, converted: Converted) -> None:
            taken.extend(one.text for one in converted.feedback)

    async def keep(call: Any, *arguments: Any, **named: Any) -> Any:
        return call(*arguments, **named)

    async with bench(name) as at:
        limit = max(limits(at), key=lambda one: one.window_s if one.requests < 10**6 else 0)
        limit.requests = most = min(limit.requests, 60)
        said, waited = deque(range(1, 10_000)), timedelta()

        async def sleep(seconds: float) -> None:
            nonlocal waited
            at.clock.at += timedelta(seconds=seconds)
            waited += timedelta(seconds=seconds)
            number = said.popleft()
            at.service.fake.say(Said(id=f"{number:06d}", text=f"The courier never came, {number}", at=at.clock.at))
            if waited > timedelta(seconds=2 * limit.window_s) or number > 600:
                raise asyncio.CancelledError
            await asyncio.sleep(0)

        means = Means(
            sink=Sink(), store=ConnectorStore(engine, holder="me", lease=timedelta(days=9)), keep=keep,  # type: ignore[arg-type]
            redactor=Redactor(Privacy(), b"k" * 32), now=at.clock, chance=lambda: 0.5, fuse_share=0.5, fuse_items=9,
            sleep=sleep,
        )  # fmt: skip
        assert isinstance(at.connector, Reader)
        built = Built(
            table=Connector(use=name, name="x", every_s=1.0, modes=("poll",)), declaration=declaration(name),
            origin=Origin(source=name, instance="x", channel="review", workspace="default"), reader=at.connector,
            receiver=None,
        )  # fmt: skip
        at.say(1)
        with pytest.raises(asyncio.CancelledError):
            await Follower(built, means, ConnectorMetrics().of(name, "x")).run()
        assert [one.refused for one in limits(at)] == [0] * len(limits(at))
        assert len([path for path in at.service.seen if limit.path in path]) >= most * 0.6, "it used what it may"
        assert taken
    engine.dispose()


@given(st.integers(1, 6), st.floats(0.5, 30), st.lists(st.floats(0, 10), max_size=60))
def test_in_no_window_leave_more_requests_than_a_rate_allows(most: int, seconds: float, pauses: list[float]) -> None:
    throttle, now, left = Throttle(Rate(most, seconds)), NOW, []
    for pause in pauses:
        now += timedelta(seconds=pause)
        left.append(now + timedelta(seconds=throttle.take(now)))
    assert left == sorted(left)
    for first, beyond in zip(left, left[most:], strict=False):
        assert (beyond - first).total_seconds() > seconds


def test_a_clock_that_is_set_back_holds_nothing_up_for_long() -> None:
    throttle = Throttle(Rate(2, 60))
    for _ in range(2):
        assert throttle.take(NOW) == 0
    assert throttle.take(NOW - timedelta(days=1)) <= 63
