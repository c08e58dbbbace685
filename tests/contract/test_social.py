"""What single social services do beyond the contract: feeds, threads, anchors that are gone, listings that end."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from connectors.connector import MAX_CURSOR_BYTES, Item, Page, Permanent, Reader, Refused, Request, Retryable
from connectors.fakes.fake import Fault, Limited, Said
from connectors.fakes.reddit import FakeReddit
from connectors.fakes.rss import FakeRss
from connectors.fakes.x import FakeX
from connectors.fakes.youtube import FakeYoutube
from connectors.fields import Fields, plain
from connectors.option import Misconfigured, read
from connectors.registry import declaration
from connectors.social.mastodon import events, parse_event
from connectors.social.rss import parse
from connectors.social.x import parse_line
from tests.connectors import NOW, Bench, bench, items, read_all


async def poll(at: Bench, cursor: object) -> list[Page]:
    return await read_all(at.rebuilt(), json.loads(json.dumps(cursor)))


async def test_a_feed_that_has_not_changed_is_not_read_again() -> None:
    async with bench("rss") as at:
        at.say(3)
        (page,) = await poll(at, None)
        assert page.cursor["etag"]
        (again,) = await poll(at, page.cursor)
        assert again.items == () and again.cursor == page.cursor


async def test_a_feed_that_shows_nothing_known_any_more_leaves_a_gap() -> None:
    async with bench("rss") as at:
        fake = at.service.fake
        assert isinstance(fake, FakeRss)
        fake.shown = 10
        at.say(10)
        (page,) = await poll(at, None)
        at.say(5, start=10)
        (page,) = await poll(at, page.cursor)
        assert len(page.items) == 5 and not page.gaps
        at.say(30, start=15)
        (page,) = await poll(at, page.cursor)
        (gap,) = page.gaps
        assert len(page.items) == 10
        assert (gap.since, gap.until) == (NOW - timedelta(hours=2, seconds=-14), NOW - timedelta(hours=2, seconds=-35))


async def test_history_that_a_feed_does_not_show_is_a_gap() -> None:
    async with bench("rss") as at:
        at.say(3)
        assert not isinstance(at.connector.since(NOW), Item)  # type: ignore[union-attr]
        (page,) = await poll(at, at.connector.since(NOW - timedelta(days=30)))  # type: ignore[union-attr]
        assert len(page.items) == 3
        assert [gap.since for gap in page.gaps] == [NOW - timedelta(days=30, seconds=1)]


@pytest.mark.parametrize(("path", "followed"), [("/old.rss", True), ("/away.rss", False)])
async def test_a_feed_is_followed_on_its_own_host_only(path: str, followed: bool) -> None:
    async with bench("rss") as at:
        at.say(1)
        at.table["url"] = at.service.url + path
        if followed:
            assert len(items(await poll(at, None))) == 1
        else:
            with pytest.raises(Permanent, match="302"):
                await poll(at, None)


async def test_an_entry_without_a_time_comes_once_and_again_when_its_text_changes() -> None:
    async with bench("rss") as at:
        feed = "<?xml version='1.0'?><rss version='2.0'><channel><title>t</title><item><guid>1</guid><title>%s</title></item></channel></rss>"  # noqa: E501
        seen = []
        cursor = None
        for text in ("slow", "slow", "slower"):
            at.service.faults.append(Fault(status=200, body=(feed % text).encode()))
            (page,) = await poll(at, cursor)
            cursor = page.cursor
            seen += [(item.text, item.created_at, item.version) for item in page.items]
            at.clock.at += timedelta(minutes=10)
        assert [text for text, _, _ in seen] == ["slow", "slower"]
        assert seen[0][1] == NOW and seen[1][2] > seen[0][2]


@pytest.mark.parametrize(
    "body", [b"/etc/passwd", b"file:///etc/passwd", b"http://169.254.169.254/", b"", b"<html>no feed</html>"]
)
async def test_what_is_no_feed_is_neither_opened_nor_believed(body: bytes) -> None:
    async with bench("rss") as at:
        at.service.faults.append(Fault(status=200, body=body))
        with pytest.raises(Retryable, match="no RSS or Atom"):
            await poll(at, None)


def test_entities_neither_read_files_nor_grow_without_bound() -> None:
    layers = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 12))
    bomb = f'<?xml version="1.0"?><!DOCTYPE r [<!ENTITY l0 "lol"><!ENTITY f SYSTEM "file:///etc/passwd">{layers}]>'
    feed = f"{bomb}<rss version='2.0'><channel><title>t</title><item><title>&l11;&f;</title></item></channel></rss>"
    found, _ = parse(feed, NOW)
    assert all(len(item.text) < 10_000 and "root:" not in item.text for item in found)


@pytest.mark.parametrize("markup", ["<script", "<br", "<", "< ", "<style>x</style>", "<!--", "&"])
def test_hostile_markup_costs_no_more_than_its_length(markup: str) -> None:
    begun = time.process_time()
    plain(markup * 50_000)
    assert time.process_time() - begun < 2


def test_scripts_and_styles_are_no_words() -> None:
    assert plain("<p>a<SCRIPT src=x>evil()</script >b<style>p{}</style></p><p>c &amp; d</p><script>rest") == "ab\nc & d"


async def test_all_replies_of_a_new_thread_come_and_late_ones_as_far_as_the_thread_shows_them() -> None:
    async with bench("youtube") as at:
        fake = at.service.fake
        assert isinstance(fake, FakeYoutube)
        at.say(2)
        for n in range(130):
            fake.reply("000001", Said(id=f"r{n:03d}", text=f"me too {n}", at=NOW - timedelta(hours=1, seconds=-n)))
        pages = await poll(at, None)
        assert len({item.external_id for item in items(pages)}) == 132
        spent = fake.units
        fake.reply("000001", Said(id="late", text="still broken", at=NOW))
        fake.reply("000001", Said(id="own", text="Sorry, we fixed it", at=NOW, author="owner"))
        pages = await poll(at, pages[-1].cursor)
        late = {item.external_id: item for item in items(pages)}
        assert set(late) == {"late", "own"}
        assert (late["own"].turn, late["own"].text, late["own"].author) == ("agent_reply", "", None)
        assert late["late"].conversation_id == "000001"
        assert spent - fake.units == 1, "a known thread is not asked for its replies again"


async def test_youtubes_used_up_quota_passes_and_switched_off_comments_stay() -> None:
    async with bench("youtube") as at:
        fake = at.service.fake
        assert isinstance(fake, FakeYoutube)
        fake.units = 0
        with pytest.raises(Retryable, match="quota"):
            await poll(at, None)
        error = {"error": {"code": 403, "message": "comments are disabled", "errors": [{"reason": "commentsDisabled"}]}}
        at.service.faults.append(Fault(status=403, body=json.dumps(error).encode()))
        with pytest.raises(Permanent, match="comments are disabled"):
            await poll(at, None)


@pytest.mark.parametrize("target", ["UC1", "playlist/PL1", "video/", "video/a b", "channel/a/b"])
async def test_youtube_wants_a_channel_or_a_video(target: str) -> None:
    async with bench("youtube") as at:
        with pytest.raises(Misconfigured, match="form"):
            read(declaration("youtube").config, at.table | {"target": target}, at.secrets)


async def test_youtube_reads_one_video_too() -> None:
    async with bench("youtube") as at:
        at.say(2)
        at.table["target"] = "video/dQw4w9WgXcQ"
        assert len(items(await poll(at, None))) == 2
        at.table["target"] = "video/other"
        with pytest.raises(Permanent, match="404"):
            await poll(at, None)


async def test_reddit_wants_subreddits_or_a_query() -> None:
    async with bench("reddit") as at:
        with pytest.raises(Misconfigured, match="subreddits or a query"):
            read(declaration("reddit").config, at.table | {"subreddits": []}, at.secrets)


async def test_a_deleted_anchor_of_reddit_loses_nothing() -> None:
    async with bench("reddit") as at:
        fake = at.service.fake
        assert isinstance(fake, FakeReddit)
        said = at.say(5)
        pages = await poll(at, None)
        for one in said[2:]:
            fake.vanish(one.id)
        new = at.say(3, start=20)
        assert {item.text for item in items(await poll(at, pages[-1].cursor))} == {one.text for one in new}


async def test_reddits_listing_that_ends_before_anything_known_leaves_a_gap() -> None:
    async with bench("reddit") as at:
        at.say(3)
        pages = await poll(at, None)
        assert isinstance(at.service.fake, FakeReddit)
        at.service.fake.limits[0].requests = 1_000
        at.say(1_200, start=10)
        pages = await poll(at, pages[-1].cursor)
        (gap,) = [gap for page in pages for gap in page.gaps]
        assert gap.since == NOW - timedelta(hours=2, seconds=-2)
        assert gap.until == NOW - timedelta(hours=2, seconds=-210)
        assert len(items(pages)) == 1_000


async def test_reddits_posts_and_comments_are_read_each_from_its_own_place() -> None:
    async with bench("reddit") as at:
        fake = at.service.fake
        assert isinstance(fake, FakeReddit)
        at.say(2)
        fake.post(Said(id="p1", text="Two hours late", at=NOW - timedelta(hours=3)), "Delivery")
        pages = await poll(at, None)
        assert {item.external_id for item in items(pages)} == {"t1_000001", "t1_000002", "t3_p1"}
        fake.post(Said(id="p2", text="Again", at=NOW - timedelta(hours=1)), "Delivery")
        assert [item.external_id for item in items(await poll(at, pages[-1].cursor))] == ["t3_p2"]
        assert items(await poll(at, pages[0].cursor))[-1].external_id.startswith("t1_")


async def test_reddits_search_finds_posts_only() -> None:
    async with bench("reddit") as at:
        fake = at.service.fake
        assert isinstance(fake, FakeReddit)
        at.table["query"] = "courier"
        at.say(2)
        fake.post(Said(id="p1", text="The courier never came", at=NOW), "Delivery")
        fake.post(Said(id="p2", text="Fine", at=NOW), "Weather")
        assert [item.external_id for item in items(await poll(at, None))] == ["t3_p1"]


async def test_reddits_rate_is_told_and_a_refusal_says_when_to_come_again() -> None:
    async with bench("reddit") as at:
        fake = at.service.fake
        assert isinstance(fake, FakeReddit)
        at.say(1)
        pages = await poll(at, None)
        quota = pages[-1].quota
        assert quota is not None and (quota.remaining, quota.reset_at) == (98, NOW + timedelta(seconds=60))
        fake.limits[0].requests = 0
        with pytest.raises(Retryable) as refused:
            await poll(at, None)
        assert refused.value.retry_after_s == 60


@pytest.mark.parametrize("agent", ["ovoz", "Mozilla/5.0 (X11)", "server:x:1.0"])
async def test_reddits_user_agent_must_name_platform_app_version_and_user(agent: str) -> None:
    async with bench("reddit") as at:
        with pytest.raises(Misconfigured, match="user_agent"):
            read(declaration("reddit").config, at.table | {"user_agent": agent}, at.secrets)


async def test_posts_that_reach_a_mastodon_server_late_come_although_their_id_is_older() -> None:
    async with bench("mastodon") as at:
        at.say(3, start=100)
        pages = await poll(at, None)
        late = at.say(2, start=20)
        assert {item.text for item in items(await poll(at, pages[-1].cursor))} == {one.text for one in late}


async def test_a_mastodon_compatible_server_with_ids_of_its_own_is_read_to_the_end() -> None:
    async with bench("mastodon") as at:
        post = {"created_at": "2026-11-25T10:00:00Z", "content": "<p>x</p>"}
        for ids in (["01J9B"], ["01J9D", "01J9C"], ["01J9D"], []):
            at.service.faults.append(Fault(status=200, body=json.dumps([post | {"id": one} for one in ids]).encode()))
        pages = await poll(at, None)
        assert pages[-1].cursor["id"] == "01J9B"
        pages = await poll(at, pages[-1].cursor)
        assert {item.external_id for item in items(pages)} == {"01J9C", "01J9D"}
        assert pages[-1].cursor["id"] == "01J9D"


async def test_mastodons_rate_is_told_and_a_refusal_says_when_to_come_again() -> None:
    async with bench("mastodon") as at:
        at.say(1)
        (page,) = await poll(at, None)
        assert page.quota is not None and page.quota.remaining == 299
        at.service.fake.limits[0].requests = 0  # type: ignore[attr-defined]
        with pytest.raises(Retryable) as refused:
            await poll(at, None)
        assert refused.value.retry_after_s == 300


async def test_server_sent_events_are_read_as_the_standard_says() -> None:
    async def lines() -> AsyncIterator[bytes]:
        for line in (b":thump", b"event: update", b"data: {", b"data:}", b"", b"", b"data: x", b"", b"event: e"):
            yield line

    assert [told async for told in events(lines())] == [
        {"event": "update", "data": "{\n}"},
        {"event": "message", "data": "x"},
    ]


async def test_x_searches_seven_days_and_tells_the_rest_as_a_gap() -> None:
    async with bench("x") as at:
        at.say(2)
        cursor = (await poll(at, None))[-1].cursor
        at.clock.at += timedelta(days=10)
        new = at.say(2, start=1, at=at.clock.at - timedelta(hours=1))
        pages = await poll(at, cursor)
        assert {item.text for item in items(pages)} == {one.text for one in new}
        (gap,) = [gap for page in pages for gap in page.gaps]
        assert gap.since == NOW and gap.until == at.clock.at - timedelta(days=7, minutes=-1)


async def test_x_without_backfill_reads_nothing_again_and_tells_each_absence_as_a_gap() -> None:
    async with bench("x") as at:
        at.table["backfill"] = False
        (first,) = await poll(at, None)
        assert not first.gaps
        at.clock.at += timedelta(minutes=7)
        at.say(2)
        (page,) = await poll(at, first.cursor)
        assert not page.items
        assert [(gap.since, gap.until) for gap in page.gaps] == [(NOW, NOW + timedelta(minutes=7))]
        assert not any("recent" in path for path in at.service.seen)


async def test_what_xs_search_does_not_show_yet_is_searched_for_once_more() -> None:
    async with bench("x", timeout_s=10) as at:
        fake = at.service.fake
        assert isinstance(fake, FakeX)
        fake.hidden = timedelta(seconds=30)
        cursor = (await poll(at, None))[-1].cursor
        missed = at.say(1, start=NOW.second, at=NOW - timedelta(seconds=10))
        connector = at.rebuilt()
        assert isinstance(connector, Reader)
        found: list[str] = []
        async with asyncio.timeout(20):
            async for page in connector.pages(cursor, follow=True):
                found += [item.text for item in page.items]
                if found:
                    break
                at.clock.at = NOW + timedelta(seconds=61)
        assert found == [missed[0].text]


async def test_xs_rules_become_those_of_the_settings_and_those_of_others_stay() -> None:
    async with bench("x", timeout_s=10) as at:
        fake = at.service.fake
        assert isinstance(fake, FakeX)
        fake.rules = {
            "1": {"id": "1", "value": "old words", "tag": "ovoz"},
            "2": {"id": "2", "value": "their words", "tag": "marketing"},
        }
        connector = at.rebuilt()
        assert isinstance(connector, Reader)
        async for _ in connector.pages(None, follow=True):
            break
        assert sorted((rule["value"], rule["tag"]) for rule in fake.rules.values()) == [
            ("courier -is:retweet", "ovoz"),
            ("their words", "marketing"),
        ]


async def test_a_rule_that_x_does_not_take_is_named() -> None:
    async with bench("x", timeout_s=10) as at:
        at.table["rules"] = ["(courier"]
        connector = at.rebuilt()
        assert isinstance(connector, Reader)
        with pytest.raises(Permanent, match=r"Invalid Rule \(courier"):
            async for _ in connector.pages(None, follow=True):
                pass


@pytest.mark.parametrize(
    ("line", "ends"),
    [
        (b'{"errors": [{"title": "operational-disconnect", "detail": "This stream has been disconnected"}]}', True),
        (b'{"data": null, "errors": [{}]}', True),
        (b'{"meta": {}}', False),
        (b"{", False),
        (b"[" * 100_000, False),
        (b"\xff", False),
        (b"7", False),
    ],
)
def test_a_line_of_xs_stream_is_a_post_a_farewell_or_put_aside(line: bytes, ends: bool) -> None:
    if ends:
        with pytest.raises(Retryable, match="X ends the stream"):
            parse_line(line)
    else:
        found, skipped = parse_line(line)
        assert not found and len(skipped) == (line != b'{"meta": {}}')


@pytest.mark.parametrize("token", ["", "a" * 300, '{"data": {"id": "1"}}', "a b", "é"])
async def test_xs_challenge_signs_nothing_that_could_be_a_delivery(token: str) -> None:
    async with bench("x") as at:
        request = Request(method="GET", url="u", headers={}, query={"crc_token": token}, body=b"", received_at=NOW)
        with pytest.raises(Refused):
            await at.connector.receive(request)  # type: ignore[union-attr]


@pytest.mark.parametrize("name", ["rss", "reddit", "youtube", "mastodon", "x", "google_business", "trustpilot"])
async def test_a_cursor_fits_into_its_place_however_much_was_said(name: str) -> None:
    async with bench(name, timeout_s=20) as at:
        if isinstance(at.service.fake, Limited):
            at.service.fake.limits[0].requests = 10_000
        at.say(950)
        assert isinstance(at.connector, Reader)
        pages = await read_all(at.connector, at.connector.since(NOW - timedelta(days=1)))
        assert len({item.external_id for item in items(pages)}) == 950
        assert max(len(json.dumps(page.cursor).encode()) for page in pages) <= MAX_CURSOR_BYTES
        assert not items(await poll(at, pages[-1].cursor))


async def test_a_stream_whose_event_does_not_end_is_left() -> None:
    async def lines() -> AsyncIterator[bytes]:
        while True:
            yield b"data: " + b"x" * 100_000

    with pytest.raises(Retryable, match="does not end"):
        async for _ in events(lines()):
            pass


@pytest.mark.parametrize("key", ["²", "٣", "9" * 5_000, "-1", "1e9", " 7"])
def test_ids_that_look_like_numbers_and_are_none_break_nothing(key: str) -> None:
    found, _ = parse_line(json.dumps({"data": {"id": key, "text": "x", "created_at": "2026-11-20T08:00:00Z"}}).encode())
    assert [item.external_id for item in found] == [key]
    found, _ = parse_event({"event": "delete", "data": key}, NOW)
    assert all(item.deleted for item in found)


LONG = "https://" + "a" * 2_050


@pytest.mark.parametrize("link", ["javascript:alert(1)", "data:text/html,x", "https://", "//x", LONG])
def test_a_link_that_is_no_address_on_the_web_is_left_out(link: str) -> None:
    assert Fields({"url": link}).link("url") is None


async def test_an_outage_longer_than_telegram_keeps_updates_is_a_gap_once() -> None:
    async with bench("telegram") as at:
        at.say(1)
        pages = await read_all(at.connector, None)
        assert not [gap for page in pages for gap in page.gaps]
        at.clock.at += timedelta(hours=23)
        pages = await read_all(at.rebuilt(), pages[-1].cursor)
        assert not [gap for page in pages for gap in page.gaps]
        since = at.clock.at
        at.clock.at += timedelta(hours=72)
        pages = await read_all(at.rebuilt(), pages[-1].cursor)
        (gap,) = [gap for page in pages for gap in page.gaps]
        assert gap.until == at.clock.at - timedelta(hours=24)
        assert timedelta(0) <= since - gap.since <= timedelta(minutes=10)
        pages = await read_all(at.rebuilt(), pages[-1].cursor)
        assert not [gap for page in pages for gap in page.gaps], "it is told once"
