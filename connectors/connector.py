"""What every connector promises: pages of items after a cursor, or deliveries to a webhook.

A connector asks one outside service and says what is new. It knows nothing of Kafka, never waits to try
again and never swallows a failure: it gives a verdict, and its driver (pipeline.drive) acts on it.

    Verdict (Exception)
    ├── Retryable      ask again later: a quota, an outage, a broken answer
    ├── CursorExpired  the service no longer knows the cursor: what lies between is a gap
    └── Permanent      asking again is useless until somebody changes something
    Refused            a webhook request that is not to be believed; answered, counted, nothing stored
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Literal, Protocol, runtime_checkable

Mode = Literal["poll", "stream", "webhook"]
Kind = Literal["reviews", "chat", "social", "mail", "surveys", "crm", "files"]
Survey = Literal["nps", "csat", "ces"]
Turn = Literal["customer_message", "agent_reply", "solved", "reopened", "deleted"]
Cursor = Mapping[str, Any]
"""Where a connector has got to: JSON of at most MAX_CURSOR_BYTES that only its maker reads."""

MAX_CURSOR_BYTES: Final = 4_096


@dataclass(frozen=True, slots=True, kw_only=True)
class Rating:
    """A score on its own scale, `low` (worst) to `high` (best). `survey`: what was asked, if it was one."""

    value: float
    low: float
    high: float
    survey: Survey | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One thing that a service reported, at one version, before personal data is taken out of it.

    `external_id` is the service's own and never changes; of two versions the greater counts. `version` is
    in microseconds since 1970 where it is a time. `created_at` is when the customer spoke, not when the
    service told. `conversation_id` and `turn` tell what happened in a conversation: with no text of a
    customer (an agent's reply, a ticket solved) it is an event, which is kept but not scored. The turn `deleted` takes
    back the whole conversation, whatever of it came before or comes later (see `taken_back`).
    `author` is the customer's name or handle, in clear; the driver hashes it.
    """

    external_id: str
    created_at: datetime
    version: int = 0
    text: str = ""
    deleted: bool = False
    author: str | None = None
    customer_id: str | None = None
    rating: Rating | None = None
    language: str | None = None
    touchpoint: str | None = None
    url: str | None = None
    conversation_id: str | None = None
    turn: Turn | None = None


def taken_back(conversation_id: str, at: datetime, version: int) -> Item:
    """A whole conversation was deleted at the service, and its messages can no longer be named one by one."""
    return Item(
        external_id=f"{conversation_id}:deleted", created_at=at, version=version, conversation_id=conversation_id,
        turn="deleted",
    )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Skipped:
    """Something in an answer that could not be read: kept as a dead letter, the rest goes in.

    `payload`: what it was, as bytes; `where`: a stable place in the answer, such as `reviews[3]` or an id.
    """

    reason: str
    where: str
    payload: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """What was said between these moments may be missing, and no later request can bring it."""

    since: datetime
    until: datetime
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota:
    """What is left of a service's allowance: `remaining` requests until `reset_at` (UTC)."""

    remaining: int
    reset_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """One step: what is new, and the cursor to save once the broker has it."""

    items: tuple[Item, ...] = ()
    cursor: Cursor = field(default_factory=dict)
    skipped: tuple[Skipped, ...] = ()
    gaps: tuple[Gap, ...] = ()
    quota: Quota | None = None


class Verdict(Exception):
    """Why a connector cannot go on. The message names cause, place and remedy, and never a secret."""


class Retryable(Verdict):
    """Ask again, after `retry_after_s` seconds where the service said so; else the driver backs off."""

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class CursorExpired(Verdict):
    """The service does not know the cursor any more; begin anew and count the time between as a gap."""


class Permanent(Verdict):
    """This connector stops: wrong credentials, a thing that is not there, a setting the service refuses."""


class Refused(Exception):
    """A webhook request that is not believed. `status` for the sender, `reason` a short word for metrics; `allow`:
    the methods that are taken, where another was used.
    """

    def __init__(self, status: int, reason: str, message: str, *, allow: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.allow = allow


@runtime_checkable
class Reader(Protocol):
    """A connector that asks."""

    def pages(self, cursor: Cursor | None, *, follow: bool) -> AsyncIterator[Page]:
        """Everything after `cursor`, oldest first where the service allows it, a page at a time.

        `None`: from now on, or as far back as one request shows. A polled service ends when it has
        nothing more. A stream closes what it missed since the cursor, then goes on for as long as the
        connection lives with `follow`, and ends once it has caught up without. Each page's cursor stands
        for that page and all before it, so a crash between any two loses nothing; items may come again.
        The driver asks for the next page only once the broker has this one and its cursor is saved: some
        services forget what lies before the place from which they are asked.
        Raises Verdict. Closing the iterator ends the request under way.
        """
        ...

    def since(self, moment: datetime) -> Cursor:
        """A cursor from which `pages` brings what was said since then. Raises Permanent where history is
        not to be had."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What came in at a webhook. `url` is the public one, which some signatures cover; header names are in
    lower case."""

    method: str
    url: str
    headers: Mapping[str, str]
    query: Mapping[str, str]
    body: bytes
    received_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """A believed request: what it brought, and the answer due once the broker has it.

    `delivery_id`: the vendor's identity of this delivery, where it has one; a repetition of one that was
    stored is answered and not stored again.
    """

    items: tuple[Item, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    gaps: tuple[Gap, ...] = ()
    delivery_id: str | None = None
    status: int = 200
    answer: bytes = b""
    content_type: str = "text/plain"


@runtime_checkable
class Receiver(Protocol):
    """A connector that is told."""

    async def receive(self, request: Request) -> Delivery:
        """Believe or refuse; a registration handshake is a Delivery with an answer and no items.

        Raises Refused; Verdict where the webhook names only ids and fetching them fails.
        """
        ...


Connector = Reader | Receiver
"""Many are both; the driver runs whichever sides the settings ask for."""

Clock = Callable[[], datetime]
