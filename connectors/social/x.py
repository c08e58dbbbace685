"""X: posts that match rules, by the filtered stream or its webhook; what was missed comes by recent search."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from connectors import hook, signature
from connectors.connector import Cursor, Delivery, Gap, Item, Page, Permanent, Refused, Request, Retryable, Skipped
from connectors.fields import Fields, Unreadable, need, skip
from connectors.listing import Seen, digest
from connectors.option import Secret, option
from connectors.registry import Context, connector
from connectors.timestamp import micros
from connectors.transport import Answer, Limits, quota

LIMITS: Final = Limits(remaining="x-rate-limit-remaining", reset="x-rate-limit-reset", form="epoch")
REACH: Final = timedelta(days=7) - timedelta(minutes=1)
SETTLED: Final = timedelta(seconds=60)
"""Recent search shows nothing of the last half minute, and streams are not in order."""
STILL: Final = timedelta(minutes=10)
"""How long a stream without posts may go before its cursor says that nothing was missed until now."""
TAG: Final = "ovoz"
FIELDS: Final = {
    "tweet.fields": "author_id,created_at,edit_history_tweet_ids,lang,note_tweet",
    "expansions": "author_id",
    "user.fields": "username",
}
EPOCH_MS: Final = 1_288_834_974_657


@dataclass(frozen=True, slots=True, kw_only=True)
class X:
    """Settings."""

    bearer_token: Secret = option("bearer token of an X app", example="env:X_BEARER")
    rules: tuple[str, ...] = option(
        "what to hear, in X's operators; each rule is a stream rule and a search",
        example=["ovoz (delivery OR courier) -is:retweet"],
        pattern=r"(?s).{1,1024}",
    )
    backfill: bool = option("search for what was missed while away (each post read is paid for)", default=True)
    consumer_secret: Secret | None = option(
        "API secret key of the app, for its webhooks (Enterprise)", example="env:X_CONSUMER_SECRET", default=None
    )
    silence_s: float = option("seconds without a keep-alive: the connection counts as dead", default=30.0, least=0.1)
    base_url: str = option("address of the API", default="https://api.x.com")


@connector(
    name="x",
    title="X posts",
    kind="social",
    channel="social",
    modes=("stream", "webhook"),
    cursor="The latest posts read. The stream cannot resume; recent search goes back seven days, the rest is a gap.",
    limits=(
        "Every post read is paid for, by the stream as by the search. With backfill = false each absence is a gap.",
        "One stream connection for an app; its rules with the tag `ovoz` are made from these settings.",
        "Deletions are told to Enterprise customers only. An edit is a newer version of the first post.",
        "X's terms demand that posts which are deleted there are deleted here.",
    ),
    source="https://docs.x.com/x-api/posts/filtered-stream/introduction",
    config=X,
    every_s=60.0,
)
class XConnector:
    """See the declaration."""

    def __init__(self, config: X, context: Context) -> None:
        self._config = config
        self._http = context.http
        self._now = context.now
        self._auth = {"Authorization": f"Bearer {config.bearer_token.reveal()}"}
        self._base = f"{config.base_url}/2/tweets/search"

    async def pages(self, cursor: Cursor | None, *, follow: bool) -> AsyncIterator[Page]:
        """See `Reader.pages`. The stream is open before what was missed is searched for."""
        if not follow:
            async with aclosing(self._missed(cursor)) as missed:
                async for page in missed:
                    yield page
            return
        await self._set_rules()
        async with self._http.lines(
            f"{self._base}/stream", params=FIELDS, headers=self._auth, silence_s=self._config.silence_s, limits=LIMITS
        ) as lines:
            last: Cursor = dict(cursor or {})
            due: datetime | None = self._now()
            from_: Cursor | None = cursor
            while True:
                if due is not None and self._now() >= due:
                    # Once now, and once when the search shows what was said around the beginning.
                    async with aclosing(self._missed(from_)) as missed:
                        async for page in missed:
                            yield page
                            last = page.cursor
                    due, from_ = (due + SETTLED if from_ is cursor else None), last
                line = await anext(lines)
                items, skipped = parse_line(line) if line.strip() else ((), ())
                quiet = self._now() - datetime.fromtimestamp(int(last.get("checked", 0)), UTC) > STILL
                if items or skipped or quiet:
                    last = Seen.of(last).add(dict(map(digest, items)), self._now()).cursor()
                    yield Page(items=items, skipped=skipped, cursor=last)

    def since(self, moment: datetime) -> Cursor:
        """See `Reader.since`: at most seven days; what lies before is told as a gap."""
        return Seen.since(moment).cursor()

    async def receive(self, request: Request) -> Delivery:
        """See `Receiver.receive`: the challenge that X repeats, and posts."""
        secret = hook.needed(self._config.consumer_secret, "consumer_secret")
        if request.method == "GET":
            token = request.query.get("crc_token", "")
            # We sign what is given: nothing that could be the body of a delivery.
            if not re.fullmatch(r"[A-Za-z0-9+/=_.:-]{1,256}", token):
                raise Refused(400, "challenge", "crc_token is missing or no token")
            answer = {"response_token": "sha256=" + signature.digest(secret, token.encode(), form="base64")}
            return Delivery(answer=json.dumps(answer).encode(), content_type="application/json")
        hook.posted(request, "GET")
        expected = "sha256=" + signature.digest(secret, request.body, form="base64")
        signature.check(request, "x-twitter-webhooks-signature", expected)
        items, skipped = hook.understood(parse_post, hook.body(request))
        return Delivery(items=items, skipped=skipped)

    async def _missed(self, cursor: Cursor | None) -> AsyncGenerator[Page, None]:
        now, seen = self._now(), Seen.of(cursor)
        known = min(max(seen.entries.values(), default=seen.floor), int(now.timestamp()))
        if not self._config.backfill:
            began = datetime.fromtimestamp(max(known, seen.checked), UTC)
            gap = Gap(since=began, until=now, reason="X was away, and backfill is switched off")
            yield Page(cursor=seen.add({}, now).cursor(), gaps=(gap,) if cursor and began < now else ())
            return
        edge = now - REACH
        since = edge
        gaps: tuple[Gap, ...] = ()
        if known:
            since = datetime.fromtimestamp(known, UTC) - SETTLED
            if since + SETTLED < edge:
                before = datetime.fromtimestamp(max(known, seen.checked), UTC)
                gaps = (Gap(since=before, until=edge, reason="X searches seven days"),) if before < edge else ()
        noted: dict[str, int] = {}
        start = None if cursor is None else min(max(since, edge), now - SETTLED)
        for rule in self._config.rules:
            after: str | None = None
            asked: set[str] = set()
            while True:
                answer = await self._search(rule, start, after)
                items, skipped = answer.read(parse)
                new = tuple(item for item in items if seen.fresh(item) and digest(item)[0] not in noted)
                noted.update(map(digest, items))
                yield Page(
                    items=new, skipped=skipped, cursor=seen.cursor(), quota=quota(answer.headers, LIMITS, self._now())
                )  # fmt: skip
                after = answer.read(lambda found: Fields(found).text("meta.next_token"))
                if after is None or cursor is None:
                    break
                if after in asked:
                    raise Retryable("X goes round in circles: a search names a page that was read")
                asked.add(after)
        done = seen.add(noted, now)
        if cursor is None and not done.entries:
            done = replace(done, floor=int((now - SETTLED).timestamp()))
        yield Page(cursor=done.cursor(), gaps=gaps)

    async def _search(self, rule: str, since: datetime | None, after: str | None) -> Answer:
        # The first time shows a few only: each is paid for.
        params: dict[str, str | int] = {"query": rule, "max_results": 10 if since is None else 100, **FIELDS}
        if since is not None:
            params["start_time"] = since.strftime("%Y-%m-%dT%H:%M:%SZ")
        if after:
            params["next_token"] = after
        return await self._http.get(f"{self._base}/recent", params=params, headers=self._auth, limits=LIMITS)

    async def _set_rules(self) -> None:
        url = f"{self._base}/stream/rules"
        answer = await self._http.get(url, headers=self._auth, limits=LIMITS)
        there = answer.read(_ours)
        if strange := [key for key, value in there.items() if value not in self._config.rules]:
            await self._http.post(url, body={"delete": {"ids": strange}}, headers=self._auth, limits=LIMITS)
        if missing := [rule for rule in self._config.rules if rule not in there.values()]:
            add = [{"value": rule, "tag": TAG} for rule in missing]
            made = await self._http.post(url, body={"add": add}, headers=self._auth, limits=LIMITS)
            if faults := made.read(_faults):
                raise Permanent(f"X does not take a rule: {faults}; change rules in the settings")


def parse(answer: Any) -> tuple[tuple[Item, ...], tuple[Skipped, ...]]:
    """An answer of recent search → (items, what could not be read)."""
    found = Fields(answer, "the answer")
    names = _names(found)
    items: list[Item] = []
    skipped: list[Skipped] = []
    for number, post in enumerate(found.items("data")):
        try:
            items.append(_item(Fields(post, f"data[{number}]"), names))
        except Unreadable as error:
            skipped.append(skip(str(error), f"data[{number}]", post))
    return tuple(items), tuple(skipped)


def parse_post(answer: Any) -> tuple[tuple[Item, ...], tuple[Skipped, ...]]:
    """One post of the stream or a webhook → (items, what could not be read). Rules of others bring nothing."""
    found = Fields(answer, "the message")
    rules = [Fields(rule).text("tag") for rule in found.items("matching_rules")]
    if found.get("data") is None or (rules and TAG not in rules):
        return (), ()
    try:
        return (_item(Fields(found.get("data"), "data"), _names(found)),), ()
    except Unreadable as error:
        return (), (skip(str(error), "data", answer),)


def parse_line(line: bytes) -> tuple[tuple[Item, ...], tuple[Skipped, ...]]:
    """A line of the stream. Raises Retryable where X says that it disconnects."""
    try:
        found = json.loads(line)
        told = Fields(found, "the line")
        if told.get("data") is None and told.items("errors"):
            error = Fields(told.items("errors")[0])
            said = error.text("detail") or error.text("title") or "an error"
            raise Retryable(f"X ends the stream: {' '.join(said.split())[:160]}")
        return parse_post(found)
    except (ValueError, RecursionError) as error:
        return (), (skip(f"a line of the stream cannot be read: {error}"[:300], "stream", line),)


def _item(post: Fields, names: Mapping[str, str]) -> Item:
    key = post.key("id")
    first = next((one for one in post.items("edit_history_tweet_ids") if isinstance(one, str) and one), key)
    at = post.iso("created_at") or _written(key)
    return Item(
        external_id=first,
        created_at=_written(first) or need(at, "created_at"),
        version=micros(need(_written(key) or at, "created_at")),
        text=post.text("note_tweet.text") or post.text("text") or "",
        author=names.get(post.text("author_id") or ""),
        language=post.language("lang"),
        url=f"https://x.com/i/status/{key}" if _decimal(key) else None,
    )


def _names(found: Fields) -> dict[str, str]:
    names: dict[str, str] = {}
    for user in found.items("includes.users"):
        try:
            who = Fields(user)
            names[who.key("id")] = who.text("username") or ""
        except Unreadable:
            continue
    return {key: name for key, name in names.items() if name}


def _written(key: str) -> datetime | None:
    """When a post was written: its id holds the milliseconds (for ids since November 2010)."""
    if not _decimal(key) or not 2**40 < int(key) < 2**63:
        return None
    return datetime.fromtimestamp(((int(key) >> 22) + EPOCH_MS) / 1_000, UTC)


def _decimal(key: str) -> bool:
    return key.isascii() and key.isdecimal() and len(key) < 20


def _ours(answer: Any) -> dict[str, str]:
    rules = [Fields(rule) for rule in Fields(answer, "the answer").items("data")]
    return {rule.key("id"): rule.text("value") or "" for rule in rules if rule.text("tag") == TAG}


def _faults(answer: Any) -> str:
    errors = [Fields(error) for error in Fields(answer, "the answer").items("errors")]
    told = [f"{error.text('title') or 'error'} {error.text('value') or ''}".strip() for error in errors]
    return "; ".join(told)[:300]
