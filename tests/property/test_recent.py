"""What changed is read whole, whatever the order, the lag of the index and the moment of a crash."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from connectors.connector import MAX_CURSOR_BYTES, Item, Page
from connectors.fields import Fields, need
from connectors.recent import KEEP, Changed, Recent, changes, sift
from connectors.timestamp import micros, moment

T0 = datetime(2026, 11, 25, tzinfo=UTC)
LAG = timedelta(seconds=60)


class Service:
    """Things that change at a second and are shown up to LAG later."""

    def __init__(self, told: list[tuple[int, int, int]]) -> None:
        self.told = [(f"k{key}", T0 + timedelta(seconds=at), min(late, 60)) for key, at, late in told]

    def shown(self, now: datetime, start: datetime) -> list[tuple[str, int]]:
        newest: dict[str, datetime] = {}
        for key, at, late in self.told:
            if at + timedelta(seconds=late) <= now:
                newest[key] = max(at, newest.get(key, at))
        return [(key, micros(at)) for key, at in newest.items() if at >= start]


def reader(service: Service, now: datetime, recent: Recent, size: int, ordered: bool) -> AsyncIterator[Page]:
    async def fetch(start: datetime, known: Recent, after: str | None) -> Changed:
        listed = sorted(service.shown(now, start), key=lambda one: one[1] if ordered else (-one[1], one[0]))
        at = int(after or 0)
        page = tuple(listed[at : at + size])
        fresh = tuple(
            Item(external_id=key, created_at=moment(version), version=version)
            for key, version in page
            if known.fresh(key, version)
        )
        return Changed(changes=page, items=fresh, after=str(at + size) if at + size < len(listed) else None)

    return changes(fetch, recent, lambda: now, LAG, ordered=ordered)


@given(
    told=st.lists(st.tuples(st.integers(0, 12), st.integers(0, 600), st.integers(0, 60)), max_size=40),
    polls=st.lists(st.tuples(st.integers(1, 120), st.none() | st.integers(1, 4)), min_size=1, max_size=12),
    size=st.integers(1, 7),
    ordered=st.booleans(),
)
async def test_every_newest_change_is_read_though_it_shows_late_and_passes_break_off(
    told: list[tuple[int, int, int]], polls: list[tuple[int, int | None]], size: int, ordered: bool
) -> None:
    service, now, got = Service(told), T0, []
    cursor = Recent.since(T0).cursor()
    for wait, pages in [*polls, (700, None)]:
        now += timedelta(seconds=wait)
        seen = 0
        async for page in reader(service, now, Recent.of(json.loads(json.dumps(cursor)), now), size, ordered):
            got += [(item.external_id, item.version) for item in page.items]
            cursor = page.cursor
            seen += 1
            if seen == pages:
                break  # killed here, the page's cursor was saved
    last = {key: version for key, version in sorted(service.shown(now, T0), key=lambda one: one[1])}
    assert set(last.items()) <= set(got)
    assert len(got) == len(set(got)), "nothing came twice, as long as all of it can be remembered"


@given(st.lists(st.integers(0, 2**45), max_size=2 * KEEP))
def test_a_cursor_stays_small_and_means_the_same_after_a_restart(versions: list[int]) -> None:
    recent = Recent.since(T0 - timedelta(days=20_000)).note(((f"id-{v}", v * 100) for v in versions), T0)
    recent = recent.settle(LAG, complete=False)
    text = json.dumps(recent.cursor())
    assert len(text) <= MAX_CURSOR_BYTES
    assert Recent.of(json.loads(text), T0) == recent


def test_an_entry_that_cannot_be_read_is_told_of_once() -> None:
    def identify(entry: Fields) -> tuple[str, int]:
        return entry.key("id"), micros(need(entry.iso("at"), "at"))

    good = {"id": "a", "at": (T0 + timedelta(seconds=1)).isoformat()}
    listed = [good, "rubbish", {"id": "b", "at": "never"}]
    recent = Recent.since(T0)
    for expected in (listed, [], []):
        found, fresh = sift(recent, listed, identify)
        assert fresh == expected
        recent = recent.note(found, T0 + timedelta(seconds=9)).settle(LAG, complete=True)


def test_a_change_dated_in_the_future_hides_nothing_before_it() -> None:
    recent = Recent.since(T0).note([("odd", micros(T0 + timedelta(days=4_000)))], T0).settle(LAG, complete=True)
    assert recent.fresh("next", micros(T0 + timedelta(seconds=5)))
