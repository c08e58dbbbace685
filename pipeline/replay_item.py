"""From what stands in a file to what `connectors.feedback.parse` takes; pure."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, tzinfo
from typing import Any, Final

from connectors.feedback import FIELDS, Feedback
from pipeline.redact import Redactor

_TRUE: Final = frozenset({"true", "yes", "1", "t", "y"})
_FALSE: Final = frozenset({"false", "no", "0", "f", "n"})
_TIMES: Final = ("created_at", "updated_at")


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """How the fields of a file become the fields of feedback.

    `mapping`: field → column, or path with dots in nested objects. `zone` holds for times without one.
    `time_format`: a strptime pattern, `s` or `ms`. `rating_scale`: lowest and highest of plain ratings.
    `backfill` None leaves the item's own flag.
    """

    mapping: Mapping[str, str] = field(default_factory=dict)
    defaults: Mapping[str, str] = field(default_factory=dict)
    zone: tzinfo | None = None
    time_format: str | None = None
    rating_scale: tuple[float, float] | None = None
    backfill: bool | None = None
    strict: bool = False


def feedback_of(
    value: Any, payload: bytes, shape: Shape, *, now: datetime, redactor: Redactor, left_out: Counter[str]
) -> Feedback:
    """The feedback in one decoded line. Raises Faulty.

    An item without id gets one from a hash of the line, so that the same line twice is one item. Fields
    that feedback has not are counted in `left_out`, or are faults where the shape is strict.
    """
    if not isinstance(value, Mapping):
        return redactor.parse(value, now=now)
    item = mapped(value, shape, left_out)
    if item.get("id") is None:
        item["id"] = f"line-{hashlib.sha256(payload.strip()).hexdigest()[:32]}"
    return redactor.parse(item, now=now)


def mapped(value: Mapping[str, Any], shape: Shape, left_out: Counter[str]) -> dict[str, Any]:
    """The item under feedback's own names, with text turned into the types that they need."""
    item: dict[str, Any] = {}
    taken = {column if column in value else column.partition(".")[0] for column in shape.mapping.values()}
    for name, column in shape.mapping.items():
        found = _reach(value, column)
        if found is not None:
            item[name] = found
    for name, found in value.items():
        if name in taken or name in shape.mapping:
            continue
        if name in FIELDS or shape.strict:
            item[name] = found
        else:
            left_out[str(name)[:64] if len(left_out) < 100 else "…"] += 1
    for name, default in shape.defaults.items():
        if item.get(name) in (None, ""):
            item[name] = default
    for name in _TIMES:
        if item.get(name) is not None:
            item[name] = _moment(item[name], shape)
    for name in ("deleted", "backfill"):
        if isinstance(item.get(name), str):
            word = item[name].strip().lower()
            item[name] = True if word in _TRUE else False if word in _FALSE else item[name]
    if isinstance(item.get("version"), str):
        item["version"] = _whole(item["version"])
    if isinstance(item.get("id"), int) and not isinstance(item["id"], bool):
        item["id"] = str(item["id"])
    if shape.rating_scale is not None and item.get("rating") is not None:
        item["rating"] = _rating(item["rating"], *shape.rating_scale)
    if shape.backfill is not None:
        item["backfill"] = shape.backfill
    return item


def _reach(value: Mapping[str, Any], column: str) -> Any:
    if column in value:
        return value[column]
    found: Any = value
    for part in column.split("."):
        if not isinstance(found, Mapping):
            return None
        found = found.get(part)
    return found


def _moment(value: Any, shape: Shape) -> Any:
    """A time with its zone, or the value as it was for `parse` to refuse."""
    number = value if isinstance(value, int | float) else _number(value)
    if shape.time_format == "ms" and number is not None and not isinstance(value, bool):
        return number / 1000
    if shape.time_format in (None, "s", "ms"):
        if number is not None:
            return number
        if isinstance(value, str) and shape.zone is not None:
            try:
                at = datetime.fromisoformat(value.strip())
            except ValueError:
                return value
            return _utc(at.replace(tzinfo=shape.zone), value) if at.tzinfo is None else value
        return value
    try:
        at = datetime.strptime(str(value).strip(), shape.time_format)  # noqa: DTZ007
    except ValueError:
        return f"{str(value)[:40]} (not like {shape.time_format})"
    return _utc(at if at.tzinfo is not None else at.replace(tzinfo=shape.zone or UTC), value)


def _utc(at: datetime, value: Any) -> Any:
    try:
        return at.astimezone(UTC).isoformat().replace("+00:00", "Z")
    except OverflowError:
        return value


def _number(value: Any) -> float | None:
    try:
        return float(value) if isinstance(value, str) and not value.isalpha() else None
    except ValueError:
        return None


def _whole(text: str) -> Any:
    return int(text) if text.strip().isascii() and text.strip().isdigit() and len(text) < 40 else text


def _rating(value: Any, low: float, high: float) -> Any:
    if isinstance(value, Mapping | bool):
        return value
    number = value if isinstance(value, int | float) else _number(value)
    return value if number is None else {"value": number, "min": low, "max": high}
