"""What a connector reports → feedback without personal data, as records; what cannot be read → dead letters. Pure."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, Final

from connectors.connector import Item, Skipped
from connectors.feedback import MAX_ID_CHARS, Faulty, Feedback
from pipeline.codec import encode_dead, encode_feedback
from pipeline.records import DeadLetter
from pipeline.redact import Redactor

Record = tuple[bytes, bytes]
MAX_PAYLOAD_BYTES: Final = 1_000_000
_LANGUAGE: Final = re.compile(r"[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*\Z")
_UNPRINTABLE: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff\ud800-\udfff]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where items come from: name of the connector, of its instance, channel and workspace."""

    source: str
    instance: str
    channel: str
    workspace: str


@dataclass(slots=True)
class Converted:
    """Records for the raw and the dead topic, and the event time of the newest item."""

    feedback: list[Feedback] = field(default_factory=list)
    letters: list[DeadLetter] = field(default_factory=list)

    @property
    def last_event(self) -> datetime | None:
        """Event time of the newest item."""
        return max((one.created_at for one in self.feedback), default=None)

    def raw(self) -> list[Record]:
        """As records of the raw topic."""
        return [(one.feedback_id.encode(), encode_feedback(one)) for one in self.feedback]

    def dead(self) -> list[Record]:
        """As records of the dead topic."""
        return [(letter.dead_id.encode(), encode_dead(letter)) for letter in self.letters]


def convert(
    items: Sequence[Item],
    skipped: Sequence[Skipped],
    origin: Origin,
    redactor: Redactor,
    *,
    now: datetime,
    backfill: bool = False,
) -> Converted:
    """Every item as feedback. What a service adds and we cannot use (a strange language tag, an address that
    is none) is left out; an item without a usable id or time becomes a dead letter, without personal data.
    """
    out = Converted()
    for item in items:
        try:
            feedback = redactor.parse(fields(item, origin, backfill=backfill), now=now)
        except Faulty as error:
            payload = json.dumps(asdict(item), ensure_ascii=False, default=str).encode("utf-8", "replace")
            where = item.external_id[:100]
            out.letters.append(_letter(origin, "schema", str(error), where, redactor.payload(payload), now))
        else:
            out.feedback.append(feedback)
    for one in skipped:
        payload = redactor.payload(one.payload[:MAX_PAYLOAD_BYTES])
        out.letters.append(_letter(origin, "schema", one.reason, one.where, payload, now))
    return out


def fields(item: Item, origin: Origin, *, backfill: bool = False) -> dict[str, Any]:
    """An item as `connectors.feedback.parse` takes it."""
    rating, found = item.rating, {
        "source": origin.source,
        "instance": origin.instance,
        "channel": origin.channel,
        "workspace": origin.workspace,
        "id": item.external_id,
        "version": max(0, item.version),
        "created_at": item.created_at,
        "text": item.text,
        "deleted": item.deleted,
        "backfill": backfill,
        "author": _line(item.author, MAX_ID_CHARS),
        "customer_id": _line(item.customer_id, MAX_ID_CHARS),
        "touchpoint": _line(item.touchpoint, 64),
        "conversation_id": _line(item.conversation_id, MAX_ID_CHARS),
        "turn": item.turn if item.conversation_id else None,
    }  # fmt: skip
    if rating is not None and rating.low < rating.high and rating.low <= rating.value <= rating.high:
        scale = {"value": rating.value, "min": rating.low, "max": rating.high}
        found["rating"] = scale
        if rating.survey is not None:
            found["survey"] = {"kind": rating.survey, **scale}
    language = (item.language or "").replace("_", "-")
    if _LANGUAGE.match(language) and len(language) <= 35:
        found["language"] = language
    url = _line(item.url, 10_000)
    if url is not None and len(url) <= 2048 and url.startswith(("https://", "http://")):
        found["url"] = url
    return found


def _line(value: str | None, limit: int) -> str | None:
    return (_UNPRINTABLE.sub(" ", value)[:limit].strip() or None) if value else None


def _letter(
    origin: Origin, reason: str, detail: str, where: str, payload: bytes, now: datetime
) -> DeadLetter:
    # By what it says and not by where it stood: a list moves on from poll to poll.
    identity = hashlib.sha256(f"{origin.source}\0{origin.instance}\0".encode() + payload).hexdigest()[:32]
    return DeadLetter(
        dead_id=f"connector-{identity}",
        stage="connector",
        reason=reason,
        detail=detail[:1000],
        payload=payload,
        failed_at=now,
        origin=f"connector:{origin.source}:{origin.instance}:{where[:200]}",
    )
