"""WhatsApp Cloud API: what customers write to a business number, by webhook."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any, Final

from connectors import hook, signature
from connectors.connector import Delivery, Item, Refused, Request, Skipped
from connectors.fields import Fields, Unreadable, each, need, skip
from connectors.option import Secret, option
from connectors.registry import Context, connector
from connectors.timestamp import micros


@dataclass(frozen=True, slots=True, kw_only=True)
class WhatsApp:
    """Settings."""

    app_secret: Secret = option("app secret of the Meta app", example="env:WHATSAPP_APP_SECRET")
    verify_token: Secret = option(
        "the token that you also enter as the webhook's verify token", example="env:WHATSAPP_VERIFY_TOKEN"
    )
    phone_number_ids: tuple[str, ...] = option(
        "ids of the business numbers that count; without it all", example=["106540352242922"], default=()
    )


@connector(
    name="whatsapp",
    title="WhatsApp Cloud API",
    kind="chat",
    channel="chat",
    modes=("webhook",),
    cursor="None: there is no way to read messages afterwards. What Meta cannot deliver is gone.",
    limits=(
        "A message that Meta gave up delivering is lost for good. Meta tries for up to seven days, as other people's "
        "pages say; its own could not be read.",
        "Meta tells nothing about messages that customers delete or edit.",
        "A message's id holds the customer's number: a digest of it is kept instead. The conversation's id is "
        "keyed with the app secret, so a new app secret begins new conversations.",
        "Any message that the business sends counts as a reply, automatic ones too.",
    ),
    source="https://developers.facebook.com/docs/whatsapp/cloud-api/webhooks",
    config=WhatsApp,
    repeats_s=7 * 86_400.0,
)
class WhatsAppConnector:
    """See the declaration."""

    def __init__(self, config: WhatsApp, context: Context) -> None:
        self._config = config

    async def receive(self, request: Request) -> Delivery:
        """See `Receiver.receive`."""
        if request.method == "GET":
            return self._subscribed(request)
        hook.posted(request, "GET")
        secret = self._config.app_secret.reveal()
        signature.check(request, "x-hub-signature-256", f"sha256={signature.digest(secret, request.body)}")
        items, skipped = hook.understood(
            lambda found: parse(found, key=secret, numbers=self._config.phone_number_ids), hook.body(request)
        )
        return Delivery(items=items, skipped=skipped)

    def _subscribed(self, request: Request) -> Delivery:
        """The handshake at registration: whoever knows the token gets the challenge back."""
        if request.query.get("hub.mode") != "subscribe":
            raise Refused(400, "handshake", "hub.mode is not subscribe")
        if not signature.same(request.query.get("hub.verify_token"), self._config.verify_token.reveal()):
            raise Refused(403, "token", "hub.verify_token is not the one in the settings")
        return Delivery(answer=request.query.get("hub.challenge", "").encode())


def parse(
    answer: Any, *, key: str = "", numbers: Collection[str] = ()
) -> tuple[tuple[Item, ...], tuple[Skipped, ...]]:
    """A notification → (items, what could not be read). `key` makes the ids of conversations.

    Raises Unreadable where it is none.
    """
    items: list[Item] = []
    skipped: list[Skipped] = []
    for place, entry in enumerate(Fields(answer, "the notification").items("entry")):
        where = f"entry[{place}]"
        try:
            changes = Fields(entry, where).items("changes")
            values = [need(Fields(change, where).inside("value"), "value") for change in changes]
            for value in values:
                _value(value, where, key, frozenset(numbers), items, skipped)
        except Unreadable as error:
            skipped.append(skip(str(error), where, entry))
    return tuple(items), tuple(skipped)


def _value(
    value: Fields, where: str, key: str, numbers: frozenset[str], items: list[Item], skipped: list[Skipped]
) -> None:
    messages, statuses = value.items("messages"), value.items("statuses")
    if not messages and not statuses:
        return
    number = value.key("metadata.phone_number_id")
    if numbers and number not in numbers:
        return
    for got, bad in (
        each(messages, lambda message: _message(message, number, key), f"{where}.messages"),
        each(statuses, lambda status: _status(status, number, key), f"{where}.statuses"),
    ):
        items.extend(got)
        skipped.extend(bad)


def _message(message: Fields, number: str, key: str) -> Iterator[Item]:
    text = _words(message)
    if not text:
        return
    at, sender = need(message.epoch("timestamp"), "timestamp"), message.key("from")
    yield Item(
        external_id=_digest(message.key("id")),
        created_at=at,
        version=micros(at),
        text=text,
        author=sender,
        conversation_id=_conversation(number, sender, key),
        turn="customer_message",
    )


# By type of message: where it keeps what the customer wrote or chose.
_WORDS: Final = {
    "text": ("text.body",),
    "button": ("button.text",),
    "interactive": ("interactive.button_reply.title", "interactive.list_reply.title"),
    "image": ("image.caption",),
    "video": ("video.caption",),
    "document": ("document.caption",),
}


def _words(message: Fields) -> str:
    found = (message.text(path) for path in _WORDS.get(message.text("type") or "", ()))
    return next((text.strip() for text in found if text), "")


def _status(status: Fields, number: str, key: str) -> Iterator[Item]:
    if status.text("status") != "sent":
        return
    at = need(status.epoch("timestamp"), "timestamp")
    yield Item(
        external_id=_digest(status.key("id")),
        created_at=at,
        version=micros(at),
        conversation_id=_conversation(number, status.key("recipient_id"), key),
        turn="agent_reply",
    )


def _digest(wamid: str) -> str:
    return hashlib.sha256(wamid.encode("utf-8", "replace")).hexdigest()[:32]


def _conversation(number: str, customer: str, key: str) -> str:
    return signature.digest(key or "-", f"{number}:{customer}".encode("utf-8", "replace"))[:32]
