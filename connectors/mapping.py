"""Records of any shape → items, by a table that says where each field stands. Pure.

One mapping serves files, Kafka topics and signed webhooks: `{"text": "body", "id": "review.id"}`. Paths go
down by dots. What the table does not name is looked for under its own name.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from connectors.connector import Item, Rating, Survey
from connectors.feedback import Fault, instant
from connectors.fields import Fields, Unreadable
from connectors.option import Misconfigured
from connectors.timestamp import micros

TARGETS: Final = (
    "id", "text", "created_at", "updated_at", "version", "deleted", "author", "customer_id", "rating",
    "language", "touchpoint", "url", "conversation_id",
)  # fmt: skip
_TRUE: Final = frozenset({"true", "1", "yes"})
_FALSE: Final = frozenset({"false", "0", "no", ""})


def faults(fields: Mapping[str, str]) -> list[Fault]:
    """Names in a mapping's table that no item has."""
    known = f"is no field of an item; known: {', '.join(TARGETS)}"
    return [Fault(field=f"fields.{name}", reason=known) for name in sorted(set(fields) - set(TARGETS))]


def check(fields: Mapping[str, str]) -> None:
    """Raises Misconfigured when the table names what no item has."""
    if found := faults(fields):
        raise Misconfigured(found)


def item(
    record: object,
    fields: Mapping[str, str],
    *,
    default_id: str | None = None,
    default_at: datetime | None = None,
    scale: tuple[float, float] = (1.0, 5.0),
    survey: Survey | None = None,
) -> Item:
    """An item from one record. `default_id`, `default_at`: where the record has no id or time of its own.

    Times are RFC 3339, ISO 8601 without a zone (taken as UTC) or seconds since 1970; numbers may be texts,
    as CSV has them. Raises fields.Unreadable.
    """
    found = Fields(record, "record")

    def value(name: str) -> Any:
        got = found.get(fields.get(name, name))
        return None if got == "" and name != "text" else got

    def text(name: str) -> str | None:
        got = value(name)
        if got is None or isinstance(got, str):
            return got
        if isinstance(got, int | float) and not isinstance(got, bool) and name != "text":
            return str(got)
        raise Unreadable(f"{fields.get(name, name)} is no text")

    def moment(name: str) -> datetime | None:
        got = value(name)
        return None if got is None else _moment(got, fields.get(name, name))

    external_id = text("id") or default_id
    created = moment("created_at") or default_at
    if not external_id:
        raise Unreadable(f"{fields.get('id', 'id')} is missing, and it is the identity of the item")
    if created is None:
        raise Unreadable(f"{fields.get('created_at', 'created_at')} is missing")
    rating = value("rating")
    return Item(
        external_id=external_id,
        created_at=created,
        version=_version(value("version"), moment("updated_at")),
        text=text("text") or "",
        deleted=_flag(value("deleted")),
        author=text("author"),
        customer_id=text("customer_id"),
        rating=None if rating is None else Rating(value=_number(rating), low=scale[0], high=scale[1], survey=survey),
        language=text("language"),
        touchpoint=text("touchpoint"),
        url=text("url"),
        conversation_id=text("conversation_id"),
    )


def _moment(value: object, name: str) -> datetime:
    try:
        if isinstance(value, datetime):
            return (value if value.tzinfo else value.replace(tzinfo=UTC)).astimezone(UTC)
        if isinstance(value, str):
            if value.replace(".", "", 1).isdigit() and len(value) > 8:
                return instant(float(value))
            at = datetime.fromisoformat(value.strip())
            return (at if at.tzinfo else at.replace(tzinfo=UTC)).astimezone(UTC)
        return instant(value)
    except (ValueError, OverflowError) as error:
        raise Unreadable(f"{name}: {str(value)[:40]!r} is no time ({error})") from None


def _version(version: object, updated: datetime | None) -> int:
    if version is None:
        return 0 if updated is None else max(0, micros(updated))
    if isinstance(version, str) and version.isdigit():
        version = int(version)
    if isinstance(version, bool) or not isinstance(version, int) or not 0 <= version < 2**63:
        raise Unreadable("version is no whole number from 0 to 2^63-1")
    return version


def _flag(value: object) -> bool:
    if value is None or isinstance(value, bool):
        return bool(value)
    word = str(value).strip().lower()
    if word not in _TRUE | _FALSE:
        raise Unreadable(f"deleted is {word[:20]!r}, expected true or false")
    return word in _TRUE


def _number(value: object) -> float:
    try:
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise ValueError
        number = float(value)
    except ValueError:
        raise Unreadable(f"rating is {str(value)[:20]!r}, expected a number") from None
    if not abs(number) < 1e9:
        raise Unreadable("rating lies outside ±1e9")
    return number
