"""Fakes and parsers judged by libraries that nobody here wrote: clients read our fakes, we read feeds of generators."""

from __future__ import annotations

import asyncio
import threading
from datetime import timedelta

import feedgenerator
import mastodon
import praw
import pytest

from connectors.fakes.fake import Running, Said
from connectors.fakes.mastodon import FakeMastodon
from connectors.fakes.reddit import AGENT, CLIENT, SECRET, SUBREDDIT, FakeReddit
from connectors.social.rss import parse
from tests.connectors import NOW

BEGUN = NOW - timedelta(hours=1)
SAID = [Said(id=f"{n:06d}", text=f"The courier never came, {n}", at=BEGUN + timedelta(seconds=n)) for n in range(7)]


async def test_praw_reads_the_fake_of_reddit() -> None:
    fake = FakeReddit()
    for said in SAID:
        fake.say(said)
    fake.post(Said(id="p1", text="Two hours late", at=NOW), "Delivery")
    fake.edit("000002", "It came", NOW)
    async with Running(fake) as service:

        def read() -> None:
            reddit = praw.Reddit(
                client_id=CLIENT, client_secret=SECRET, user_agent=AGENT, reddit_url=service.url, oauth_url=service.url,
                check_for_updates=False,
            )  # fmt: skip
            comments = list(reddit.subreddit(SUBREDDIT).comments(limit=None))
            assert [comment.fullname for comment in comments] == [f"t1_{said.id}" for said in SAID[::-1]]
            assert comments[4].body == "It came" and comments[4].edited == NOW.timestamp()
            assert [post.title for post in reddit.subreddit(SUBREDDIT).new()] == ["Delivery"]

        await asyncio.to_thread(read)


async def test_mastodon_py_reads_and_streams_the_fake_of_mastodon() -> None:
    fake = FakeMastodon()
    for said in SAID:
        fake.say(said)
    async with Running(fake) as service:
        told: list[tuple[str, object]] = []
        done, opened = threading.Event(), threading.Event()

        class Listener(mastodon.StreamListener):  # type: ignore[misc]
            def on_update(self, status: dict[str, object]) -> None:
                told.append(("update", status["content"]))

            def on_status_update(self, status: dict[str, object]) -> None:
                told.append(("edit", status["content"]))

            def on_delete(self, status_id: object) -> None:
                told.append(("delete", str(status_id)))
                done.set()

            def handle_heartbeat(self) -> None:
                opened.set()

        def client() -> mastodon.Mastodon:
            return mastodon.Mastodon(
                access_token="user-token", api_base_url=service.url, version_check_mode="none", ratelimit_method="throw"
            )

        def read() -> list[str]:
            page = client().timeline_hashtag("ovoz", limit=40, min_id=1)
            return [status["content"] for status in page]

        assert await asyncio.to_thread(read) == [f"<p>{said.text}</p>" for said in SAID[::-1]]
        handle = await asyncio.to_thread(lambda: client().stream_hashtag("ovoz", Listener(), run_async=True))
        try:
            assert await asyncio.to_thread(opened.wait, 20)
            fake.say(Said(id="000050", text="New", at=NOW))
            fake.edit("000050", "Newer", NOW)
            fake.delete("000050", NOW)
            assert await asyncio.to_thread(done.wait, 20)
        finally:
            await asyncio.to_thread(handle.close)
        assert [kind for kind, _ in told] == ["update", "edit", "delete"]
        assert [what for _, what in told[:2]] == ["<p>New</p>", "<p>Newer</p>"]


KINDS = [feedgenerator.Rss201rev2Feed, feedgenerator.RssUserland091Feed, feedgenerator.Atom1Feed]


@pytest.mark.parametrize("kind", KINDS)
def test_feeds_of_djangos_generator_are_read(kind: type[feedgenerator.SyndicationFeed]) -> None:
    feed = kind(title="Форум", link="https://forum.example/", description="x", language="ru")
    for number, said in enumerate(SAID):
        feed.add_item(
            title=f"Заказ №{number} & доставка", link=f"https://forum.example/t/{number}",
            description=f"<p>Курьер <b>не приехал</b> &amp; никто не ответил, {number} 😡</p>", pubdate=said.at,
            updateddate=said.at + timedelta(minutes=5), author_name="Дильноза", unique_id=f"post-{number}",
        )  # fmt: skip
    items, skipped = parse(feed.writeString("utf-8"), NOW)
    assert not skipped and len(items) == len(SAID)
    by_text = {item.text: item for item in items}
    for number, said in enumerate(SAID):
        item = by_text[f"Заказ №{number} & доставка\nКурьер не приехал & никто не ответил, {number} 😡"]
        assert item.url == f"https://forum.example/t/{number}" and item.language == "ru"
        if kind is not feedgenerator.RssUserland091Feed:  # RSS 0.91 has neither times nor ids.
            assert item.created_at == said.at and item.external_id == f"post-{number}"
            assert item.author == "Дильноза"
