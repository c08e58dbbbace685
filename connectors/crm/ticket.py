"""A ticket of any CRM → items: what the customer wrote, the first reply, whether it is solved. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from connectors.connector import Item, Rating
from connectors.feedback import Fault
from connectors.option import Misconfigured
from connectors.timestamp import micros

_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,79}\Z", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    """`version`: time of the last change. `text`: of the customer. `rating`: how content they were."""

    key: str
    created_at: datetime
    version: datetime
    text: str
    author: str | None = None
    customer_id: str | None = None
    touchpoint: str | None = None
    replied_at: datetime | None = None
    solved_at: datetime | None = None
    rating: Rating | None = None

    def items(self) -> Iterator[Item]:
        """Of a ticket that is open after a change, the solved event is withdrawn: it may have been reopened."""
        version = micros(max(self.version, self.created_at))
        yield Item(
            external_id=self.key,
            created_at=self.created_at,
            version=version,
            text=self.text,
            author=self.author,
            customer_id=self.customer_id,
            touchpoint=self.touchpoint,
            conversation_id=self.key,
            turn="customer_message",
        )
        if self.replied_at:
            yield Item(external_id=f"{self.key}:reply", created_at=self.replied_at, version=version,
                       conversation_id=self.key, turn="agent_reply")  # fmt: skip
        if self.solved_at:
            yield Item(external_id=f"{self.key}:solved", created_at=self.solved_at, version=version,
                       conversation_id=self.key, turn="solved")  # fmt: skip
        elif self.version > self.created_at:
            yield Item(external_id=f"{self.key}:solved", created_at=self.created_at, version=version, deleted=True)
        if self.rating:
            yield Item(external_id=f"{self.key}:rating", created_at=self.solved_at or self.version, version=version,
                       customer_id=self.customer_id, rating=self.rating, conversation_id=self.key)  # fmt: skip


def gone(key: str, at: datetime) -> Iterator[Item]:
    """The ticket was taken away at that time, and whatever it can have become with it."""
    for name in (key, f"{key}:reply", f"{key}:solved", f"{key}:rating"):
        yield Item(external_id=name, created_at=at, version=micros(at), deleted=True)


def check_names(field: str, names: Iterable[str]) -> None:
    """Names of fields and objects are letters, digits and underscores. Raises Misconfigured."""
    faults = [
        Fault(field=field, reason=f"{name[:40]!r} is no name: letters, digits and underscores only")
        for name in names
        if not _NAME.match(name)
    ]
    if faults:
        raise Misconfigured(faults)
