"""Reading untrusted answers field by field: what is missing is None, what has the wrong type is named. Pure."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

from connectors.connector import Item, Skipped

T = TypeVar("T")


class Unreadable(ValueError):
    """A part of an answer that cannot become an Item; the message names the field."""


class Fields:
    """One object of an answer. Every getter raises Unreadable when the value is there and of the wrong type.

    Paths go down by dots: `text("user.name")`.
    """

    def __init__(self, value: object, where: str = "item") -> None:
        if type(value) is not dict and not isinstance(value, Mapping):
            raise Unreadable(f"{where} is {_kind(value)}, expected an object")
        self._value: Mapping[str, Any] = value
        self._where = where

    @property
    def whole(self) -> Mapping[str, Any]:
        """The object itself."""
        return self._value

    def get(self, path: str) -> Any:
        """The value at the path, or None where any step of it is missing or null. A number steps into a list."""
        found: Any = self._value
        if "." not in path and type(found) is dict:
            return found.get(path)
        for step in path.split("."):
            if isinstance(found, list) and step.isascii() and step.isdigit():
                found = found[int(step[:9])] if int(step[:9]) < len(found) else None
                continue
            if not isinstance(found, Mapping):
                if found is None:
                    return None
                raise Unreadable(f"{path}: a step of it is {_kind(found)}, expected an object")
            found = found.get(step)
        return found

    def text(self, path: str) -> str | None:
        """A text, or None."""
        value = self.get(path)
        if value is not None and not isinstance(value, str):
            raise Unreadable(f"{path} is {_kind(value)}, expected a text")
        return value

    def key(self, path: str) -> str:
        """An identifier: a text or a whole number, and it must be there."""
        value = self.get(path)
        if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
            raise Unreadable(f"{path} is {'missing' if value in (None, '') else _kind(value)}, expected an id")
        return str(value)

    def number(self, path: str) -> float | None:
        """A finite number, or None."""
        value = self.get(path)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e18:
            raise Unreadable(f"{path} is {_kind(value)}, expected a number")
        return float(value)

    def language(self, path: str) -> str | None:
        """A BCP 47 tag (`en_GB` becomes `en-GB`), or None; what is none, such as `unknown language`, is None too."""
        tag = (self.text(path) or "").replace("_", "-")
        return tag if _LANGUAGE.fullmatch(tag) and tag.lower() not in ("und", "zxx", "mul") else None

    def link(self, path: str) -> str | None:
        """An address on the web, or None; what is none, such as `javascript:…`, is None too."""
        found = self.text(path) or ""
        return found if re.match(r"https?://[^\s/]", found) and len(found) <= MAX_LINK_CHARS else None

    def flag(self, path: str) -> bool:
        """True or false; missing is false."""
        value = self.get(path)
        if value is not None and not isinstance(value, bool):
            raise Unreadable(f"{path} is {_kind(value)}, expected true or false")
        return bool(value)

    def iso(self, path: str, *, zone: bool = True) -> datetime | None:
        """An ISO 8601 time in UTC; without a zone it is UTC where `zone` is False, else unreadable."""
        value = self.text(path)
        if value is None:
            return None
        # Nanoseconds are cut: a datetime holds microseconds.
        value = re.sub(r"(\.\d{6})\d+", r"\1", value.strip())
        try:
            at = datetime.fromisoformat(value)
        except ValueError:
            raise Unreadable(f"{path} is {value[:40]!r}, expected an ISO 8601 time") from None
        if at.tzinfo is None:
            if zone:
                raise Unreadable(f"{path} has no time zone")
            at = at.replace(tzinfo=UTC)
        try:
            return at.astimezone(UTC)
        except OverflowError:
            raise Unreadable(f"{path} lies outside the years 1 to 9999") from None

    def epoch(self, path: str, unit: float = 1.0) -> datetime | None:
        """A time in `unit` seconds since 1970 (number or text of one), in UTC."""
        value = self.get(path)
        if value is None:
            return None
        try:
            if isinstance(value, bool):
                raise ValueError
            return datetime.fromtimestamp(float(value) * unit, UTC)
        except (TypeError, ValueError, OverflowError, OSError):
            raise Unreadable(f"{path} is {str(value)[:40]!r}, expected a time since 1970") from None

    def items(self, path: str) -> list[Any]:
        """A list; missing is empty."""
        value = self.get(path)
        if value is None:
            return []
        if not isinstance(value, list):
            raise Unreadable(f"{path} is {_kind(value)}, expected a list")
        return value

    def inside(self, path: str) -> Fields | None:
        """The object at the path, or None."""
        value = self.get(path)
        return None if value is None else Fields(value, path)


def need(value: T | None, name: str) -> T:
    """The value, which must be there. Raises Unreadable."""
    if value is None:
        raise Unreadable(f"{name} is missing")
    return value


def each(
    entries: Iterable[object], convert: Callable[[Fields], Item | Iterable[Item] | None], where: str
) -> tuple[tuple[Item, ...], tuple[Skipped, ...]]:
    """Convert every entry by itself: (items, what could not be read). None means not feedback."""
    items: list[Item] = []
    skipped: list[Skipped] = []
    for number, entry in enumerate(entries):
        try:
            found = convert(Fields(entry, f"{where}[{number}]"))
            made = [found] if isinstance(found, Item) else list(found or ())
        except Unreadable as error:
            skipped.append(skip(str(error), f"{where}[{number}]", entry))
        else:
            items.extend(made)
    return tuple(items), tuple(skipped)


def skip(reason: str, where: str, payload: object) -> Skipped:
    """A part of an answer that could not be read, as it was."""
    raw = payload if isinstance(payload, bytes) else json.dumps(payload, ensure_ascii=False, default=str).encode(
        "utf-8", "replace"
    )  # fmt: skip
    return Skipped(reason=reason, where=where, payload=raw)


MAX_LINK_CHARS: Final = 2_048
_LANGUAGE: Final = re.compile(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{1,8})*")
# None of these looks further than the next bracket, so that hostile markup costs no more than its length.
_BREAK: Final = re.compile(r"<\s*(br|/p|/div|/li|/blockquote)\b[^<>]*>", re.IGNORECASE)
_CODE: Final = re.compile(r"<\s*(script|style)\b", re.IGNORECASE)
_CODE_END: Final = re.compile(r"<\s*/\s*(script|style)\s*>", re.IGNORECASE)
_TAG: Final = re.compile(r"<[^<>]*>")


def plain(markup: str) -> str:
    """HTML as the text that a reader sees: line breaks kept, tags dropped, entities decoded."""
    text = _TAG.sub("", _BREAK.sub("\n", _without_code(markup)))
    lines = (" ".join(line.split()) for line in html.unescape(text).split("\n"))
    return "\n".join(line for line in lines if line)


def _without_code(markup: str) -> str:
    """Without scripts and styles; one that does not end takes the rest with it, as in a browser."""
    kept: list[str] = []
    at = 0
    while begin := _CODE.search(markup, at):
        kept.append(markup[at : begin.start()])
        end = _CODE_END.search(markup, begin.end())
        if end is None:
            return "".join(kept)
        at = end.end()
    return "".join([*kept, markup[at:]])


def _kind(value: object) -> str:
    names = {type(None): "null", bool: "a boolean", int: "a number", float: "a number", str: "a text", list: "a list"}
    return names.get(type(value), "an object")
