"""Listings that show the newest first: nothing is lost and nothing comes twice, whatever the order things appear in."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.connector import MAX_CURSOR_BYTES, Cursor, Item, Page, Permanent, Retryable
from connectors.listing import KEEP, Listed, Seen, newest_first, next_link

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
PAGE, REMEMBERED = 4, 8


def item(key: str, second: int) -> Item:
    at = datetime.fromtimestamp(second, UTC)
    return Item(external_id=key, created_at=at, version=second * 1_000_000)


class World:
    """A listing of items, `PAGE` a page."""

    def __init__(self) -> None:
        self.items: list[Item] = []

    async def fetch(self, after: str | None) -> Listed:
        start = int(after or 0)
        order = sorted(self.items, key=lambda one: (one.version, one.external_id), reverse=True)
        more = start + PAGE < len(order)
        return Listed(items=tuple(order[start : start + PAGE]), after=str(start + PAGE) if more else None)


async def poll(
    fetch: Callable[[str | None], object], cursor: Cursor | None, *, stop_after: int = 10**6, now: datetime = NOW,
    reach: timedelta | None = None, most: int | None = None,
) -> tuple[list[Page], Cursor | None]:  # fmt: skip
    pages: list[Page] = []
    async for page in newest_first(
        fetch, Seen.of(cursor), lambda: now, first=cursor is None, keep=REMEMBERED, reach=reach, most=most,  # type: ignore[arg-type]
    ):  # fmt: skip
        pages.append(page)
        cursor = json.loads(json.dumps(page.cursor))
        if len(pages) >= stop_after:
            break
    return pages, cursor


ROUND = st.tuples(st.integers(0, 11), st.booleans(), st.integers(1, 4))


@given(rounds=st.lists(ROUND, min_size=1, max_size=8), future=st.booleans(), late_at=st.integers(1, PAGE - 1))
@settings(max_examples=150, deadline=None)
async def test_every_item_comes_once_over_passes_that_break_off_late_items_and_wrong_clocks(
    rounds: list[tuple[int, bool, int]], future: bool, late_at: int
) -> None:
    world, second, got = World(), 1_000, []
    _, cursor = await poll(world.fetch, None)
    if future:
        world.items.append(item("future", 10**9))
    for number, (new, late, stop) in enumerate(rounds):
        for one in range(new):
            second += 10
            world.items.append(item(f"{number}-{one}", second))
        pages, broken = await poll(world.fetch, cursor, stop_after=stop)
        got += [one for page in pages for one in page.items]
        # A pass that broke off has not moved the cursor: what it brought comes again, and that is allowed.
        again = broken == cursor
        pages, cursor = await poll(world.fetch, broken)
        got += [one for page in pages for one in page.items if not again or one not in got]
        if late and len(world.items) > PAGE:
            order = sorted(world.items, key=lambda one: one.version, reverse=True)
            world.items.append(item(f"late-{number}", order[late_at].version // 1_000_000 + 1 + number % 8))
            pages, cursor = await poll(world.fetch, cursor)
            got += [one for page in pages for one in page.items]
    assert sorted(one.external_id for one in got) == sorted(one.external_id for one in world.items)


@given(st.integers(1, 60), st.integers(1, 12), st.integers(0, 9), st.sampled_from(["kept", "refused", "empty"]))
@settings(max_examples=150, deadline=None)
async def test_history_that_breaks_off_goes_on_where_it_was_or_starts_over(
    count: int, stop: int, new: int, then: str
) -> None:
    world = World()
    world.items = [item(str(n), 1_000 + n) for n in range(count)]
    start = Seen.since(datetime.fromtimestamp(900, UTC)).cursor()
    pages, cursor = await poll(world.fetch, start, stop_after=stop)
    got = {one.external_id for page in pages for one in page.items}
    broke_off = len(got) < count
    world.items += [item(f"new-{n}", 5_000 + n) for n in range(new)]
    asked: list[str | None] = []

    async def fetch(after: str | None) -> Listed:
        asked.append(after)
        if len(asked) == 1 and after is not None and then != "kept":
            if then == "refused":
                raise Permanent("400: no such token")
            return Listed(items=())
        return await world.fetch(after)

    pages, cursor = await poll(fetch, cursor)
    rest = [one.external_id for page in pages for one in page.items]
    if broke_off and then == "kept":
        assert asked[0] is not None and len(rest) <= count - len(got) + new, "it does not begin again"
    pages, _ = await poll(world.fetch, cursor)
    rest += [one.external_id for page in pages for one in page.items]
    assert got | set(rest) == {one.external_id for one in world.items}


async def test_a_service_that_refuses_from_the_beginning_is_believed() -> None:
    async def fetch(after: str | None) -> Listed:
        raise Permanent("401")

    with pytest.raises(Permanent):
        await poll(fetch, {"floor": 1, "seen": "", "checked": 0, "after": "x", "noted": ""})


async def test_an_item_at_a_newer_version_comes_again() -> None:
    world = World()
    world.items = [item("a", 1_000), item("b", 1_010)]
    _, cursor = await poll(world.fetch, None)
    world.items[0] = item("a", 1_020)
    pages, _ = await poll(world.fetch, cursor)
    assert [one.external_id for page in pages for one in page.items] == ["a"]


async def test_the_first_time_one_page_is_shown_and_what_lies_behind_it_never_comes() -> None:
    world = World()
    world.items = [item(str(n), 1_000 + n) for n in range(20)]
    pages, cursor = await poll(world.fetch, None)
    assert len(pages) == 1 and len(pages[0].items) == PAGE
    world.items.append(item("new", 2_000))
    pages, _ = await poll(world.fetch, cursor)
    assert [one.external_id for page in pages for one in page.items] == ["new"]


async def test_a_pause_longer_than_the_service_reaches_back_is_a_gap_and_a_quiet_week_is_none() -> None:
    world = World()
    world.items = [item("a", int(NOW.timestamp()))]
    _, cursor = await poll(world.fetch, None)
    for day in (3, 6, 9, 12):  # Nothing new, but asked in time.
        pages, cursor = await poll(world.fetch, cursor, now=NOW + timedelta(days=day), reach=timedelta(days=7))
        assert not pages[-1].gaps
    pages, _ = await poll(world.fetch, cursor, now=NOW + timedelta(days=22), reach=timedelta(days=7))
    (gap,) = pages[-1].gaps
    assert (gap.since, gap.until) == (NOW + timedelta(days=12), NOW + timedelta(days=15))


async def test_a_listing_that_is_cut_off_before_anything_known_leaves_a_gap() -> None:
    world = World()
    world.items = [item("known", 1_000)]
    _, cursor = await poll(world.fetch, {"floor": 900, "seen": "", "checked": 0})
    world.items = [item(str(n), 5_000 + n) for n in range(10)]
    pages, _ = await poll(world.fetch, cursor, most=10)
    (gap,) = pages[-1].gaps
    assert (gap.since.timestamp(), gap.until.timestamp()) == (1_000, 5_000)


async def test_a_service_that_names_the_same_page_for_ever_is_left() -> None:
    async def circle(after: str | None) -> Listed:
        return Listed(items=(item(f"x{after}", 2_000),), after="again")

    with pytest.raises(Retryable, match="circles"):
        await poll(circle, {"floor": 1, "seen": "", "checked": 0})


@given(seconds=st.lists(st.integers(0, 36**6 + 5), max_size=KEEP + 40, unique=True))
@settings(deadline=None, max_examples=50)
def test_what_is_remembered_survives_a_cursor_and_fits_into_one(seconds: list[int]) -> None:
    noted = {f"{n:06d}": min(second, 36**6 - 1) for n, second in enumerate(seconds)}
    seen = Seen(entries={}).add(noted, NOW)
    text = json.dumps(seen.cursor())
    assert len(text) <= MAX_CURSOR_BYTES
    assert Seen.of(json.loads(text)) == seen


@pytest.mark.parametrize(
    ("link", "followed"),
    [
        ("https://api.example/v1/x?cursor=2", "https://api.example/v1/x?cursor=2"),
        ("/v1/x?cursor=2", "https://api.example/v1/x?cursor=2"),
        (None, None),
        ("", None),
        ("https://evil.example/v1/x", Permanent),
        ("http://api.example/v1/x", Permanent),
        ("//evil.example/x", Permanent),
        ("https://api.example@evil.example/", Permanent),
        ("https://api.example:444/", Permanent),
        ("https://[", Permanent),
        ("file:///etc/passwd", Permanent),
    ],
)
def test_a_link_is_followed_only_to_the_server_that_gave_it(link: str | None, followed: object) -> None:
    if followed is Permanent:
        with pytest.raises(Permanent):
            next_link("https://api.example/v1/x", link)
    else:
        assert next_link("https://api.example/v1/x", link) == followed
