"""`Rule`: what a support lead writes into `rules.toml`, and every fault in such a file."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import urlsplit

DEFAULT_FILE: Final = Path(__file__).with_name("rules.toml")
KINDS: Final = ("spike",)
GROUPS: Final = ("topic", "source", "language", "channel", "touchpoint", "customer")
SEVERITIES: Final = ("info", "warning", "critical")
RESERVED: Final = frozenset({"alertname", "workspace", "severity", "team", *GROUPS})

_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,62}\Z")
_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]{0,62}\Z")
_DURATION = re.compile(r"([1-9][0-9]{0,5})(s|m|h|d)\Z")
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}

Place = tuple[str | int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One rule. Empty filters take everything; `languages` takes `uz-Cyrl` for `uz`.

    The condition must hold for `for_s` before anybody is told, and be gone for `keep_firing_for_s` before
    the alert ends.

    `margin`, `odds_ratio`, `half_life_s`, `min_items` and `false_alarms_per_week` (per series) are those
    of alerts.detector. `labels` are sorted pairs.
    """

    name: str
    kind: Literal["spike"] = "spike"
    group_by: tuple[str, ...] = ("topic",)
    workspaces: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()
    topics: tuple[str, ...] = ()
    languages: tuple[str, ...] = ()
    touchpoints: tuple[str, ...] = ()
    customers: tuple[str, ...] = ()
    false_alarms_per_week: float = 0.2
    margin: float = 1.5
    odds_ratio: float = 2.0
    min_items: int = 30
    half_life_s: float = 3 * 86400.0
    for_s: float = 0.0
    keep_firing_for_s: float = 0.0
    resolve_after_s: float = 1800.0
    severity: str = "warning"
    team: str = ""
    labels: tuple[tuple[str, str], ...] = ()
    summary: str = ""
    runbook_url: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleFault:
    """One thing that is wrong in a rule file: where it stands, and what would be right."""

    source: str
    line: int
    key: str
    reason: str

    def __str__(self) -> str:
        return f"{self.source}:{self.line}: {self.key}: {self.reason}"


class _Wrong(ValueError):
    """What a value should have been."""


def parse(
    source: str,
    data: dict[str, Any],
    line_of: Callable[[Place], int],
    *,
    topics: Collection[str] = (),
) -> tuple[tuple[Rule, ...], tuple[RuleFault, ...]]:
    """The rules of a decoded TOML file and every fault in it; a faulty rule is left out.

    `line_of` gives the line of a key, such as `("rule", 2, "severity")`, or of the third `[[rule]]` itself
    (`("rule", 2)`). `topics`: what the model can say, where known, so that a misspelt topic is found.
    """
    faults: list[RuleFault] = []
    rules: list[Rule] = []

    def fault(place: Place, reason: str) -> None:
        key = ".".join(str(part) for part in place if isinstance(part, str)) or "rule"
        faults.append(RuleFault(source=source, line=line_of(place), key=key, reason=reason))

    for unknown in data.keys() - {"rule"}:
        fault((unknown,), "is not known here; rules start with [[rule]]")
    tables = data.get("rule", [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        fault(("rule",), "must be a list of tables: write [[rule]] with two brackets")
        tables = []
    names: dict[str, int] = {}
    for index, table in enumerate(tables):
        found = len(faults)
        for unknown in table.keys() - _READERS.keys():
            near = get_close_matches(unknown, _READERS, n=1)
            known = f"did you mean {near[0]}?" if near else "known are " + ", ".join(_READERS)
            fault(("rule", index, unknown), f"is not a setting of a rule; {known}")
        settings: dict[str, Any] = {}
        for key, value in table.items():
            if key not in _READERS:
                continue
            field, read = _READERS[key]
            try:
                settings[field] = read(value)
            except _Wrong as wrong:
                fault(("rule", index, key), str(wrong))
        if "name" not in table:
            fault(("rule", index), 'needs a name, such as name = "negative-spike"')
        name = settings.get("name")
        if name in names:
            fault(("rule", index, "name"), f"{name} is already the name of the rule in line {names[name]}")
        elif name is not None:
            names[name] = line_of(("rule", index, "name"))
        for topic in settings.get("topics", ()):
            if topics and topic not in topics:
                near = get_close_matches(topic, topics, n=1)
                known = f"did you mean {near[0]}?" if near else "known are " + ", ".join(sorted(topics))
                fault(("rule", index, "topics"), f"{topic} is not a topic of the model; {known}")
        if len(faults) == found:
            rules.append(Rule(**settings))
    return tuple(rules), tuple(sorted(faults, key=lambda f: (f.line, f.key, f.reason)))


def _string(value: object, limit: int = 200) -> str:
    if not isinstance(value, str) or len(value) > limit or not value.isprintable():
        raise _Wrong(f"must be a line of text of at most {limit} characters, in quotes; is {_shown(value)}")
    return value


def _name(value: object) -> str:
    if not isinstance(value, str) or not _NAME.match(value):
        raise _Wrong(
            "must be 1-63 characters of a-z 0-9 _ . -, starting with a letter or digit, "
            f'such as "negative-spike"; is {_shown(value)}'
        )
    return value


def _one_of(known: tuple[str, ...]) -> Callable[[object], str]:
    def read(value: object) -> str:
        if value not in known:
            near = get_close_matches(value, known, n=1) if isinstance(value, str) else []
            hint = f"; did you mean {near[0]}?" if near else ""
            raise _Wrong(f"must be one of {', '.join(known)}; is {_shown(value)}{hint}")
        return str(value)

    return read


def _list(read: Callable[[object], str]) -> Callable[[object], tuple[str, ...]]:
    def read_all(value: object) -> tuple[str, ...]:
        if not isinstance(value, list):
            raise _Wrong(f'must be a list, such as ["delivery", "billing"]; is {_shown(value)}')
        items = tuple(read(item) for item in value)
        if len(set(items)) < len(items):
            raise _Wrong("names the same thing twice")
        return items

    return read_all


def _number(low: float, high: float) -> Callable[[object], float]:
    def read(value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise _Wrong(f"must be a number from {low:g} to {high:g}; is {_shown(value)}")
        return float(value)

    return read


def _whole(low: int, high: int) -> Callable[[object], int]:
    def read(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise _Wrong(f"must be a whole number from {low} to {high}; is {_shown(value)}")
        return value

    return read


def _duration(low: str, high: str) -> Callable[[object], float]:
    def seconds(text: str) -> float:
        return int(text[:-1]) * _SECONDS[text[-1]]

    def read(value: object) -> float:
        if (
            not isinstance(value, str)
            or not _DURATION.match(value)
            or not seconds(low) <= seconds(value) <= seconds(high)
        ):
            raise _Wrong(f'must be a time from {low} to {high}, such as "30m", "2h" or "3d"; is {_shown(value)}')
        return float(seconds(value))

    return read


def _url(value: object) -> str:
    text = _string(value, 2048)
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.netloc or " " in text:
        raise _Wrong(f"must be a link that starts with https:// or http://; is {_shown(value)}")
    return text


def _labels(value: object) -> tuple[tuple[str, str], ...]:
    if not isinstance(value, dict):
        raise _Wrong(f'must be a table, such as {{ product = "courier" }}; is {_shown(value)}')
    for name, text in value.items():
        if not _LABEL.match(name):
            raise _Wrong(f"{_shown(name)} cannot be a label: use letters, digits and _, no digit first")
        if name in RESERVED:
            raise _Wrong(f"{name} is set by Ovoz; choose another name")
        if not isinstance(text, str) or not text or len(text) > 120 or not text.isprintable():
            raise _Wrong(f"{name} must be text of 1-120 characters, in quotes; is {_shown(text)}")
    return tuple(sorted(value.items()))


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:39] + "…"


# key in the file → field of Rule, reader
_READERS: Final[dict[str, tuple[str, Callable[[object], object]]]] = {
    "name": ("name", _name),
    "kind": ("kind", _one_of(KINDS)),
    "summary": ("summary", _string),
    "group_by": ("group_by", _list(_one_of(GROUPS))),
    "workspaces": ("workspaces", _list(_name)),
    "sources": ("sources", _list(_name)),
    "channels": ("channels", _list(_name)),
    "topics": ("topics", _list(_name)),
    "languages": ("languages", _list(_string)),
    "touchpoints": ("touchpoints", _list(_string)),
    "customers": ("customers", _list(_string)),
    "false_alarms_per_week": ("false_alarms_per_week", _number(0.001, 5)),
    "margin": ("margin", _number(1, 3)),
    "odds_ratio": ("odds_ratio", _number(1.2, 10)),
    "min_items": ("min_items", _whole(1, 100_000)),
    "half_life": ("half_life_s", _duration("1h", "60d")),
    "for": ("for_s", _duration("1s", "7d")),
    "keep_firing_for": ("keep_firing_for_s", _duration("1s", "7d")),
    "resolve_after": ("resolve_after_s", _duration("1m", "7d")),
    "severity": ("severity", _one_of(SEVERITIES)),
    "team": ("team", _string),
    "labels": ("labels", _labels),
    "runbook_url": ("runbook_url", _url),
}
