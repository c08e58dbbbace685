"""`Rule`: what a support lead writes into `rules.toml`, and every fault in such a file."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

from alerts import rule_values as values
from alerts.hours import DAYS, Hours
from alerts.rule_values import Wrong

DEFAULT_FILE: Final = Path(__file__).with_name("rules.toml")
GROUPS: Final = ("topic", "source", "language", "channel", "touchpoint", "customer")
SEVERITIES: Final = ("info", "warning", "critical")
MEASURES: Final = ("negative_share", "score")
CONCERNS: Final = ("safety", "legal", "data_loss", "leaving")
RESERVED: Final = frozenset({"alertname", "workspace", "severity", "team", "test", *GROUPS})

Place = tuple[str | int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One rule. Empty filters take everything; `languages` takes `uz-Cyrl` for `uz`.

    The condition must hold for `for_s` before anybody is told, and be gone for `keep_firing_for_s` before
    the alert ends. `labels` are sorted pairs. `hours`: when people may be told; None: at any time. What
    the other settings mean stands in the module of the kind; a kind ignores those of other kinds.
    """

    name: str
    kind: str = "spike"
    group_by: tuple[str, ...] = ("topic",)
    workspaces: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()
    topics: tuple[str, ...] = ()
    languages: tuple[str, ...] = ()
    touchpoints: tuple[str, ...] = ()
    customers: tuple[str, ...] = ()
    false_alarms_per_week: float = 0.2
    odds_ratio: float = 2.0
    ratio: float = 2.0
    min_items: int = 30
    half_life_s: float = 3 * 86400.0
    window_s: float = 900.0
    baseline_s: float = 28 * 86400.0
    share_above: float | None = None
    count_above: int | None = None
    rise: float = 0.05
    urgency: float | None = None
    concerns: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    require: str = "any"
    certainty_below: float = 0.5
    min_authors: int = 3
    new_authors: float = 0.5
    min_silence_s: float = 600.0
    measure: str = "negative_share"
    target: float = 0.0
    by: date = date.max
    for_s: float = 0.0
    keep_firing_for_s: float = 0.0
    resolve_after_s: float = 1800.0
    severity: str = "warning"
    hours: Hours | None = None
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """What a rule of one kind may say beyond what all may, its own defaults, and what it must say.

    `whole_days`: settings that are whole days, and so many at the least.
    """

    keys: tuple[str, ...]
    defaults: Mapping[str, Any]
    needs: tuple[tuple[str, ...], ...] = ()
    whole_days: Mapping[str, int] = field(default_factory=dict)


def parse(
    source: str,
    data: dict[str, Any],
    line_of: Callable[[Place], int],
    *,
    topics: Collection[str] = (),
    channels: Collection[str] = (),
) -> tuple[tuple[Rule, ...], tuple[RuleFault, ...]]:
    """The rules of a decoded TOML file and every fault in it; a faulty rule is left out.

    `line_of` gives the line of a key, such as `("rule", 2, "severity")`, or of the third `[[rule]]` itself
    (`("rule", 2)`). `topics` and `channels`: all that there are, where known, so that a misspelt
    one is found.
    """
    return _Parser(source, line_of, {"topics": topics, "channels": channels}).parse(data)


class _Parser:
    def __init__(
        self, source: str, line_of: Callable[[Place], int], known: Mapping[str, Collection[str]]
    ) -> None:
        self._source = source
        self._line_of = line_of
        self._known = known
        self._faults: list[RuleFault] = []

    def parse(self, data: dict[str, Any]) -> tuple[tuple[Rule, ...], tuple[RuleFault, ...]]:
        for unknown in data.keys() - {"rule", "hours"}:
            near = get_close_matches(unknown, ("rule", "hours"), n=1)
            hint = f"; did you mean {near[0]}?" if near else "; rules start with [[rule]]"
            self._fault((unknown,), f"is not known here{hint}")
        hours = self._hours(data.get("hours", {}))
        tables = data.get("rule", [])
        if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
            self._fault(("rule",), "must be a list of tables: write [[rule]] with two brackets")
            tables = []
        names: dict[str, int] = {}
        rules = []
        for index, table in enumerate(tables):
            found = len(self._faults)
            rule = self._rule(index, table, names)
            if rule is not None and len(self._faults) == found:
                rules.append(replace(rule, hours=hours.get(rule.severity)))
        return tuple(rules), tuple(sorted(self._faults, key=lambda f: (f.line, f.key, f.reason)))

    def _fault(self, place: Place, reason: str) -> None:
        key = ".".join(str(part) for part in place if isinstance(part, str)) or "rule"
        self._faults.append(RuleFault(source=self._source, line=self._line_of(place), key=key, reason=reason))

    def _hours(self, tables: object) -> dict[str, Hours]:
        if not isinstance(tables, dict):
            self._fault(("hours",), 'must be tables, such as [hours.warning] with from = "09:00"')
            return {}
        found = {}
        for severity, table in tables.items():
            place = ("hours", severity)
            if severity not in SEVERITIES:
                near = get_close_matches(severity, SEVERITIES, n=1)
                hint = f"did you mean {near[0]}?" if near else "known are " + ", ".join(SEVERITIES)
                self._fault(place, f"is not a severity; {hint}")
            elif not isinstance(table, dict):
                self._fault(place, f'must be a table: write [hours.{severity}], below it from = "09:00"')
            else:
                found[severity] = Hours(**self._read(place, table, _HOURS, "working hours"))
        return found

    def _rule(self, index: int, table: dict[str, Any], names: dict[str, int]) -> Rule | None:
        place: Place = ("rule", index)
        settings = self._read(place, table, _READERS, "a rule")
        if "name" not in table:
            self._fault(place, 'needs a name, such as name = "negative-spike"')
        name = settings.get("name")
        if name in names:
            self._fault((*place, "name"), f"{name} is already the name of the rule in line {names[name]}")
        elif name is not None:
            names[name] = self._line_of((*place, "name"))
        for key, known in self._known.items():
            for wanted in settings.get(key, ()):
                if known and wanted not in known:
                    near = get_close_matches(wanted, known, n=1)
                    hint = f"did you mean {near[0]}?" if near else "known are " + ", ".join(sorted(known))
                    what = "topic of the model" if key == "topics" else "channel"
                    self._fault((*place, key), f"{wanted} is not a {what}; {hint}")
        if settings.get("measure", "negative_share") == "negative_share" and settings.get("target", 0) < 0:
            self._fault((*place, "target"), "is a share, 0 to 1; a mean score needs measure = \"score\"")
        if "kind" in table and "kind" not in settings:
            return None
        kind = settings.setdefault("kind", "spike")
        spec = KINDS[kind]
        for key in table:
            owners = [other for other, one in KINDS.items() if key in one.keys]
            if owners and kind not in owners:
                self._fault((*place, key), f"has no meaning for kind {kind}; it belongs to {', '.join(owners)}")
        for alternatives in spec.needs:
            if not any(key in table for key in alternatives):
                self._fault(place, f"of kind {kind} needs {' or '.join(alternatives)}")
        for key, least in spec.whole_days.items():
            seconds = settings.get(_READERS[key][0], 0.0)
            if key in table and seconds and (seconds % _DAY_S or seconds < least * _DAY_S):
                self._fault((*place, key), f"of kind {kind} must be whole days, {least} at the least")
        if name is None:
            return None
        return Rule(**{**spec.defaults, **settings})

    def _read(self, place: Place, table: dict[str, Any], readers: _Readers, what: str) -> dict[str, Any]:
        settings: dict[str, Any] = {}
        for key, value in table.items():
            if key not in readers:
                near = get_close_matches(key, readers, n=1)
                known = f"did you mean {near[0]}?" if near else "known are " + ", ".join(readers)
                self._fault((*place, key), f"is not a setting of {what}; {known}")
                continue
            field, read = readers[key]
            try:
                settings[field] = read(value)
            except Wrong as wrong:
                self._fault((*place, key), str(wrong))
        return settings


_DAY_S: Final = 86400.0
KINDS: Final[Mapping[str, Kind]] = {
    "spike": Kind(
        keys=("false_alarms_per_week", "odds_ratio", "min_items", "half_life", "resolve_after"),
        defaults={"false_alarms_per_week": 1.0},
    ),
    "volume": Kind(
        keys=("false_alarms_per_week", "ratio", "min_items", "half_life", "resolve_after"),
        defaults={"false_alarms_per_week": 1.0},
    ),
    "threshold": Kind(
        keys=("window", "min_items", "share_above", "count_above"),
        defaults={"min_items": 10},
        needs=(("share_above", "count_above"),),
    ),
    "severe": Kind(
        keys=("urgency", "concerns", "words", "require", "resolve_after"),
        defaults={"resolve_after_s": 4 * 3600.0, "severity": "critical"},
        needs=(("urgency", "concerns", "words", "customers"),),
    ),
    "brigade": Kind(
        keys=("window", "min_items", "min_authors", "new_authors", "resolve_after"),
        defaults={"group_by": (), "window_s": 3600.0, "min_items": 10, "resolve_after_s": 7200.0, "severity": "info"},
    ),
    "silence": Kind(
        keys=("false_alarms_per_week", "baseline", "min_items", "min_silence"),
        defaults={"group_by": ("source",), "baseline_s": 7 * _DAY_S},
    ),
    "trend": Kind(
        keys=("false_alarms_per_week", "window", "baseline", "min_items", "rise"),
        defaults={"window_s": 7 * _DAY_S, "min_items": 100, "severity": "info"},
        whole_days={"window": 1, "baseline": 7},
    ),
    "goal": Kind(
        keys=("measure", "target", "by", "window", "min_items"),
        defaults={"group_by": (), "window_s": 14 * _DAY_S, "min_items": 100, "severity": "info"},
        needs=(("target",), ("by",)),
        whole_days={"window": 7},
    ),
    "new_topic": Kind(
        keys=("false_alarms_per_week", "window", "min_items", "min_authors", "certainty_below", "resolve_after"),
        defaults={"group_by": (), "window_s": 6 * 3600.0, "min_items": 8, "resolve_after_s": 6 * 3600.0},
    ),
}

_Readers = Mapping[str, tuple[str, Callable[[object], object]]]

# key in the file → field of Rule, reader
_READERS: Final[_Readers] = {
    "name": ("name", values.name),
    "kind": ("kind", values.one_of(tuple(KINDS))),
    "summary": ("summary", values.string),
    "group_by": ("group_by", values.listed(values.one_of(GROUPS))),
    "workspaces": ("workspaces", values.listed(values.name)),
    "sources": ("sources", values.listed(values.name)),
    "channels": ("channels", values.listed(values.name)),
    "topics": ("topics", values.listed(values.name)),
    "languages": ("languages", values.listed(values.string)),
    "touchpoints": ("touchpoints", values.listed(values.string)),
    "customers": ("customers", values.listed(values.string)),
    "false_alarms_per_week": ("false_alarms_per_week", values.number(0.001, 100)),
    "odds_ratio": ("odds_ratio", values.number(1.2, 10)),
    "ratio": ("ratio", values.number(1.2, 10)),
    "min_items": ("min_items", values.whole(1, 100_000)),
    "half_life": ("half_life_s", values.duration("1h", "60d")),
    "window": ("window_s", values.duration("1m", "60d")),
    "baseline": ("baseline_s", values.duration("1d", "120d")),
    "min_silence": ("min_silence_s", values.duration("1m", "7d")),
    "rise": ("rise", values.number(0.001, 1)),
    "measure": ("measure", values.one_of(MEASURES)),
    "target": ("target", values.number(-1, 1)),
    "by": ("by", values.day),
    "certainty_below": ("certainty_below", values.number(0, 1)),
    "share_above": ("share_above", values.number(0, 1)),
    "count_above": ("count_above", values.whole(0, 1_000_000)),
    "urgency": ("urgency", values.number(0, 1)),
    "concerns": ("concerns", values.listed(values.one_of(CONCERNS))),
    "words": ("words", values.listed(values.word)),
    "min_authors": ("min_authors", values.whole(1, 50)),
    "new_authors": ("new_authors", values.number(0, 1)),
    "require": ("require", values.one_of(("any", "all"))),
    "for": ("for_s", values.duration("1s", "7d")),
    "keep_firing_for": ("keep_firing_for_s", values.duration("1s", "7d")),
    "resolve_after": ("resolve_after_s", values.duration("1m", "7d")),
    "severity": ("severity", values.one_of(SEVERITIES)),
    "team": ("team", values.string),
    "labels": ("labels", lambda value: values.labels(value, RESERVED)),
    "runbook_url": ("runbook_url", values.url),
}

_HOURS: Final[_Readers] = {
    "zone": ("zone", values.zone),
    "days": ("days", lambda value: values.weekdays(value, DAYS)),
    "from": ("begin", values.hour),
    "to": ("end", values.hour),
}
