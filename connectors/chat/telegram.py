"""Telegram: what people write to a bot, in its groups or to a connected business account."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from connectors import hook, signature
from connectors.connector import Cursor, Delivery, Gap, Item, Page, Permanent, Request, Retryable, Skipped
from connectors.fields import Fields, Unreadable, each, need
from connectors.option import Secret, option
from connectors.registry import Context, connector
from connectors.timestamp import micros
from connectors.transport import retry_after

PAGE: Final = 100
WAIT_S: Final = 50
KEPT: Final = timedelta(hours=24)
ASKED_S: Final = 600
_UPDATES: Final = (
    "message", "edited_message", "business_message", "edited_business_message", "deleted_business_messages",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Telegram:
    """Settings."""

    token: Secret = option("token of the bot, from @BotFather", example="env:TELEGRAM_TOKEN")
    hook_secret: Secret | None = option(
        "secret_token that you gave to setWebhook; only for the webhook", example="env:TELEGRAM_HOOK", default=None
    )
    staff: tuple[str, ...] = option(
        "numeric ids of your own people: what they write in groups is a reply and not feedback",
        example=["777000"],
        default=(),
    )
    base_url: str = option("address of the Bot API", default="https://api.telegram.org")


@connector(
    name="telegram",
    title="Telegram bot",
    kind="chat",
    channel="chat",
    modes=("poll", "stream", "webhook"),
    cursor="Number of the last update. Telegram forgets updates once the next ones are asked for, and after a day.",
    limits=(
        "Updates older than 24 hours are gone: after a longer outage there is a gap, which is recorded. There is no "
        "history.",
        "Reading works only while no webhook is set. To use the webhook, call setWebhook once with url, secret_token "
        f"and allowed_updates {list(_UPDATES)}.",
        "In groups a bot sees only commands and replies to it, unless its privacy mode is off.",
        "A chat's number is the customer's: ids are digests keyed with the token, so a new token begins new ones.",
        "Telegram tells of deletions in business chats only. Posts of channels are left out.",
    ),
    source="https://core.telegram.org/bots/api",
    config=Telegram,
    every_s=2.0,
    repeats_s=86_400.0,
)
class TelegramConnector:
    """See the declaration."""

    def __init__(self, config: Telegram, context: Context) -> None:
        self._config = config
        self._http = context.http
        self._now = context.now

    async def pages(self, cursor: Cursor | None, *, follow: bool) -> AsyncIterator[Page]:
        """See `Reader.pages`. Asking with an offset makes Telegram forget what is below it."""
        last = int(cursor["update_id"]) if cursor else None
        gaps = _forgotten(cursor, self._now())
        wait_s = 0
        while True:
            listed = await self._updates(last, wait_s)
            # The first look does not wait, so that a service that is away is found out at once.
            wait_s = WAIT_S if follow else 0
            items, skipped = self._parse({"result": listed}, self._now())
            before = -1 if last is None else last
            last = max((entry["update_id"] for entry in listed if _number(entry)), default=before)
            if listed and last <= before:
                raise Retryable("Telegram gave updates again that were asked to be forgotten")
            yield Page(items=items, skipped=skipped, gaps=gaps, cursor={"update_id": last, "at": self._asked_at()})
            gaps = ()
            if len(listed) < PAGE and not follow:
                return

    def since(self, moment: datetime) -> Cursor:
        """See `Reader.since`."""
        raise Permanent("Telegram has no history: a bot sees what is written from now on, and the last 24 hours")

    def _asked_at(self) -> int:
        """When Telegram was last asked: to the last ten minutes, or a quiet bot would save a cursor at each look."""
        return int(self._now().timestamp()) // ASKED_S * ASKED_S

    def _parse(self, answer: Any, now: datetime) -> tuple[tuple[Item, ...], tuple[Skipped, ...]]:
        return parse(answer, now, staff=self._config.staff, key=self._config.token.reveal())

    async def _updates(self, last: int | None, wait_s: int) -> list[Any]:
        asked: dict[str, Any] = {"limit": PAGE, "timeout": wait_s, "allowed_updates": list(_UPDATES)}
        if last is not None and last >= 0:
            asked["offset"] = last + 1
        answer = await self._http.post(
            f"{self._config.base_url}/bot{self._config.token.reveal()}/getUpdates",
            body=asked,
            expect=(429,),
            timeout_s=self._http.timeout_s + wait_s,
        )
        if answer.status == 429:
            told = retry_after(answer.headers, self._now())
            try:
                after = Fields(answer.table()).number("parameters.retry_after")
            except (Unreadable, Retryable):
                after = None
            raise Retryable(f"{answer.where} answered 429: too many requests", told if after is None else after)
        try:
            listed = Fields(answer.table(), "the answer").items("result")
        except Unreadable as error:
            raise Retryable(f"{answer.where}: {error}") from None
        if listed and not any(map(_number, listed)):
            raise Retryable(f"{answer.where} gave updates without numbers")
        return listed

    async def receive(self, request: Request) -> Delivery:
        """See `Receiver.receive`."""
        hook.posted(request)
        secret = hook.needed(self._config.hook_secret, "hook_secret")
        signature.check(request, "x-telegram-bot-api-secret-token", secret)
        told = hook.table(request)
        number = hook.understood(lambda body: body.key("update_id"), told)
        items, skipped = self._parse({"result": [hook.body(request)]}, request.received_at)
        return Delivery(items=items, skipped=skipped, delivery_id=number)


def _forgotten(cursor: Cursor | None, now: datetime) -> tuple[Gap, ...]:
    """What Telegram no longer keeps of the time since it was last asked."""
    edge = now - KEPT
    since = datetime.fromtimestamp(int((cursor or {}).get("at", now.timestamp())), UTC)
    return (Gap(since=since, until=edge, reason="Telegram keeps updates for 24 hours"),) if since < edge else ()


def parse(
    answer: Any, now: datetime, *, staff: Collection[str] = (), key: str = "-"
) -> tuple[tuple[Item, ...], tuple[Skipped, ...]]:
    """An answer of getUpdates → (items, what could not be read). Raises Unreadable where it is none.

    A chat's number is its customer's: with `key` it becomes a digest.
    """
    known = frozenset(staff)
    return each(Fields(answer, "the answer").items("result"), lambda one: _items(one, now, known, key), "result")


def _digest(key: str, *parts: str) -> str:
    return signature.digest(key, ":".join(parts).encode("utf-8", "replace"))[:32]


def _items(update: Fields, now: datetime, staff: frozenset[str], secret: str) -> Iterator[Item]:
    number = need(update.number("update_id"), "update_id")
    if gone := update.inside("deleted_business_messages"):
        for message in gone.items("message_ids"):
            if isinstance(message, bool) or not isinstance(message, int):
                raise Unreadable("message_ids holds what is no number")
            # Telegram does not say when: the moment it told is later than any version.
            key = _digest(secret, gone.key("chat.id"), str(message))
            yield Item(external_id=key, created_at=now, version=micros(now), deleted=True)
        return
    business = update.inside("business_message") or update.inside("edited_business_message")
    message = update.inside("message") or update.inside("edited_message") or business
    if message is None or message.flag("from.is_bot"):
        return
    text, edited = message.text("text") or message.text("caption") or "", message.epoch("edit_date")
    if not text and edited is None:
        return
    created = need(message.epoch("date"), "date")
    chat, sender = message.key("chat.id"), message.key("from.id")
    reply = sender in staff or (business is not None and sender != chat)
    yield Item(
        external_id=_digest(secret, chat, message.key("message_id")),
        created_at=created,
        # Edits are dated to the second; the number of the update tells two of one second apart.
        version=micros(edited or created) + int(number) % 1_000_000,
        text="" if reply else text,
        author=None if reply else sender,
        conversation_id=_digest(secret, chat, str(message.get("message_thread_id") or "")),
        turn="agent_reply" if reply else "customer_message",
    )


def _number(entry: object) -> bool:
    return isinstance(entry, dict) and isinstance(entry.get("update_id"), int) and entry["update_id"] >= 0
