"""What may stand in a rule file, value by value: each reader takes what TOML gave, or says what is right."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date, time
from difflib import get_close_matches
from typing import Final
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

NAME: Final = re.compile(r"[a-z0-9][a-z0-9_.-]{0,62}\Z")
_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]{0,62}\Z")
_DURATION = re.compile(r"([1-9][0-9]{0,5})(s|m|h|d)\Z")
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class Wrong(ValueError):
    """What a value should have been."""


def string(value: object, limit: int = 200) -> str:
    """A line of text."""
    if not isinstance(value, str) or len(value) > limit or not value.isprintable():
        raise Wrong(f"must be a line of text of at most {limit} characters, in quotes; is {shown(value)}")
    return value


def name(value: object) -> str:
    """A name as in topics, sources and workspaces."""
    if not isinstance(value, str) or not NAME.match(value):
        raise Wrong(
            "must be 1-63 characters of a-z 0-9 _ . -, starting with a letter or digit, "
            f'such as "negative-spike"; is {shown(value)}'
        )
    return value


def word(value: object) -> str:
    """A word, the beginning of one, or several in a row."""
    text = string(value, 100)
    if not any(character.isalnum() for character in text):
        raise Wrong(f"must hold a letter or a digit; is {shown(value)}")
    return text


def one_of(known: tuple[str, ...]) -> Callable[[object], str]:
    """One of some words."""

    def read(value: object) -> str:
        if value not in known:
            near = get_close_matches(value, known, n=1) if isinstance(value, str) else []
            hint = f"; did you mean {near[0]}?" if near else ""
            raise Wrong(f"must be one of {', '.join(known)}; is {shown(value)}{hint}")
        return str(value)

    return read


def listed(read: Callable[[object], str]) -> Callable[[object], tuple[str, ...]]:
    """A list without repetition."""

    def read_all(value: object) -> tuple[str, ...]:
        if not isinstance(value, list):
            raise Wrong(f'must be a list, such as ["delivery", "billing"]; is {shown(value)}')
        items = tuple(read(item) for item in value)
        if len(set(items)) < len(items):
            raise Wrong("names the same thing twice")
        return items

    return read_all


def number(low: float, high: float) -> Callable[[object], float]:
    """A number within bounds."""

    def read(value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise Wrong(f"must be a number from {low:g} to {high:g}; is {shown(value)}")
        return float(value)

    return read


def whole(low: int, high: int) -> Callable[[object], int]:
    """A whole number within bounds."""

    def read(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise Wrong(f"must be a whole number from {low} to {high}; is {shown(value)}")
        return value

    return read


def duration(low: str, high: str) -> Callable[[object], float]:
    """A span of time in seconds, written such as `30m`."""

    def seconds(text: str) -> float:
        return int(text[:-1]) * _SECONDS[text[-1]]

    def read(value: object) -> float:
        if (
            not isinstance(value, str)
            or not _DURATION.match(value)
            or not seconds(low) <= seconds(value) <= seconds(high)
        ):
            raise Wrong(f'must be a time from {low} to {high}, such as "30m", "2h" or "3d"; is {shown(value)}')
        return float(seconds(value))

    return read


def url(value: object) -> str:
    """A link for a browser."""
    text = string(value, 2048)
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.netloc or " " in text:
        raise Wrong(f"must be a link that starts with https:// or http://; is {shown(value)}")
    return text


def labels(value: object, reserved: frozenset[str]) -> tuple[tuple[str, str], ...]:
    """Labels of an alert as sorted pairs; those in `reserved` are set by Ovoz."""
    if not isinstance(value, dict):
        raise Wrong(f'must be a table, such as {{ product = "courier" }}; is {shown(value)}')
    for name, text in value.items():
        if not _LABEL.match(name):
            raise Wrong(f"{shown(name)} cannot be a label: use letters, digits and _, no digit first")
        if name in reserved:
            raise Wrong(f"{name} is set by Ovoz; choose another name")
        if not isinstance(text, str) or not text or len(text) > 120 or not text.isprintable():
            raise Wrong(f"{name} must be text of 1-120 characters, in quotes; is {shown(text)}")
    return tuple(sorted(value.items()))


def shown(value: object) -> str:
    """A value as an error shows it."""
    text = repr(value)
    return text if len(text) <= 40 else text[:39] + "…"


def day(value: object) -> date:
    """A calendar day."""
    found: object = value
    if isinstance(value, str):
        try:
            found = date.fromisoformat(value)
        except ValueError:
            found = None
    if type(found) is not date:
        raise Wrong(f"must be a day, such as 2027-03-31; is {shown(value)}")
    return found


def hour(value: object) -> time:
    """A time of day, to the minute."""
    found: object = value
    if isinstance(value, str):
        try:
            found = time.fromisoformat(value) if re.fullmatch(r"\d\d:\d\d", value) else None
        except ValueError:
            found = None
    if not isinstance(found, time) or found.second or found.microsecond:
        raise Wrong(f'must be a time of day, such as "09:00"; is {shown(value)}')
    return found


def zone(value: object) -> str:
    """A time zone of the IANA database."""
    try:
        return ZoneInfo(string(value, 60)).key
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise Wrong(f'must be a time zone, such as "Asia/Tashkent" or "UTC"; is {shown(value)}') from None


def weekdays(value: object, known: tuple[str, ...]) -> tuple[int, ...]:
    """Days of the week by their names in `known`, as their sorted places in it."""
    names = listed(one_of(known))(value)
    if not names:
        raise Wrong("names no day")
    return tuple(sorted(known.index(one) for one in names))
