"""Slack: messages in channels, by the Events API."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from connectors import hook, signature
from connectors.connector import Delivery, Gap, Item, Refused, Request, Skipped
from connectors.fields import Fields, Unreadable, each, need
from connectors.option import Secret, option
from connectors.registry import Context, connector
from connectors.timestamp import moment

# Of the many subtypes these are messages that somebody wrote; the rest tells of joins, topics, pins.
_WRITTEN: Final = frozenset({None, "thread_broadcast", "file_share", "me_message"})
_LINK: Final = re.compile(r"<([^<>|]*)\|([^<>]*)>")
_BARE: Final = re.compile(r"<(?:([@!#])[^<>]*|([^<>]+))>")
_TS: Final = re.compile(r"(\d{1,12})\.(\d{6})\Z", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Slack:
    """Settings."""

    signing_secret: Secret = option("signing secret of the Slack app", example="env:SLACK_SIGNING_SECRET")
    channels: tuple[str, ...] = option(
        "ids of the channels that count; without it all that the app is in", example=["C024BE91L"], default=()
    )
    staff: tuple[str, ...] = option(
        "ids of users and workspaces that are yours: what they write is a reply and not feedback",
        example=["U2147483697", "T061EG9R6"],
        default=(),
    )


@connector(
    name="slack",
    title="Slack channels",
    kind="chat",
    channel="chat",
    modes=("webhook",),
    cursor="None: Slack tells each event once, and repeats it at most three times when it is not taken.",
    limits=(
        "Subscribe the app to message.channels (and message.groups) and make it a member of the channels.",
        "An event that is not taken in four attempts within about six minutes is lost (the schedule was read in "
        "other people's code, not in Slack's documentation).",
        "Above 30,000 events an hour Slack stops telling; each such minute is recorded as a gap.",
        "Messages of bots and apps are left out.",
    ),
    source="https://docs.slack.dev/apis/events-api",
    config=Slack,
    repeats_s=360.0,
)
class SlackConnector:
    """See the declaration."""

    def __init__(self, config: Slack, context: Context) -> None:
        self._config = config

    async def receive(self, request: Request) -> Delivery:
        """See `Receiver.receive`."""
        hook.posted(request)
        sent = request.headers.get("x-slack-request-timestamp", "")
        secret = self._config.signing_secret.reveal()
        signed = b"v0:" + signature.octets(sent) + b":" + request.body
        signature.check(request, "x-slack-signature", f"v0={signature.digest(secret, signed)}")
        signature.check_age(request, sent)
        told = hook.table(request)
        kind = told.get("type")
        if kind == "url_verification":
            challenge = hook.understood(lambda body: body.key("challenge"), told)
            return Delivery(answer=json.dumps({"challenge": challenge}).encode(), content_type="application/json")
        if kind == "app_rate_limited":
            return Delivery(gaps=(hook.understood(_untold, told),))
        if kind != "event_callback":
            raise Refused(400, "body", "the body is no event of Slack's Events API")
        items, skipped = hook.understood(
            lambda found: parse(found, staff=self._config.staff, channels=self._config.channels), told.whole
        )
        return Delivery(
            items=items,
            skipped=skipped,
            delivery_id=hook.understood(lambda body: f"{body.text('team_id')}:{body.key('event_id')}", told),
        )


def _untold(told: Fields) -> Gap:
    since = need(told.epoch("minute_rate_limited"), "minute_rate_limited")
    return Gap(since=since, until=since + timedelta(minutes=1), reason="Slack told more than 30,000 events an hour")


def parse(
    answer: Any, *, staff: Collection[str] = (), channels: Collection[str] = ()
) -> tuple[tuple[Item, ...], tuple[Skipped, ...]]:
    """An event as it is posted → (items, what could not be read). Raises Unreadable where it is none."""
    told = Fields(answer, "the event")
    return each([told.get("event")], lambda event: _items(event, frozenset(staff), frozenset(channels)), "event")


def _items(event: Fields, staff: frozenset[str], channels: frozenset[str]) -> Iterator[Item]:
    subtype, channel = event.text("subtype"), event.text("channel") or ""
    if event.text("type") != "message" or (channels and channel not in channels):
        return
    # A message with replies is not taken away when it is deleted: a tombstone takes its place.
    buried = subtype == "message_changed" and event.text("message.subtype") == "tombstone"
    if subtype == "message_deleted" or buried:
        before = event.inside("previous_message")
        at = event.key("message.ts" if buried else "deleted_ts")
        if before is None or not before.text("bot_id"):
            yield Item(
                external_id=f"{event.key('channel')}:{at}",
                created_at=moment(_micros(at)),
                version=_micros(event.text("event_ts") or event.key("ts")),
                deleted=True,
            )
        return
    if subtype == "message_changed":
        message = need(event.inside("message"), "message")
        # An unfurled link changes a message too, and nobody has said anything.
        if message.text("text") == event.text("previous_message.text"):
            return
        version = message.text("edited.ts") or event.text("event_ts") or event.key("ts")
    else:
        message, version = event, event.text("edited.ts") or event.key("ts")
    if message.text("subtype") not in _WRITTEN or message.text("bot_id"):
        return
    if not message.text("text") and message is event:
        return
    ts, user = message.key("ts"), message.text("user")
    reply = not staff.isdisjoint({user, message.text("user_team") or message.text("team")})
    yield Item(
        external_id=f"{event.key('channel')}:{ts}",
        created_at=moment(_micros(ts)),
        version=_micros(version),
        text="" if reply else _plain(message.text("text") or ""),
        author=None if reply else user,
        conversation_id=f"{channel}:{message.text('thread_ts') or ts}",
        turn="agent_reply" if reply else "customer_message",
    )


def _micros(ts: str) -> int:
    """Slack's time stamps are seconds and six digits that make them unique: kept whole."""
    match = _TS.match(ts)
    if match is None or len(match[1]) > 11:
        raise Unreadable(f"{ts[:40]!r} is no time stamp of Slack")
    return int(match[1]) * 1_000_000 + int(match[2])


def _plain(text: str) -> str:
    """Slack's markup as a reader sees it: links by their label, mentions without their ids."""
    named = _LINK.sub(r"\2", text)
    return html.unescape(_BARE.sub(lambda found: f"{found[1]}…" if found[1] else found[2], named)).strip()
