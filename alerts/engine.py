"""Samples × rules → the states and alerts that changed. Pure: the caller loads, stores and sends.

In one transaction with its counts, the caller loads the states of the keys that a batch touches
(`series_keys`), calls `evaluate`, and stores what comes back, each state with the time at which it is due
again (`due_s`); from time to time it does the same with `tick` for the states that are due. The result
depends on the order of the samples alone: cut into batches in any way, ticked as often as one likes, the
same samples leave the same states and the same alerts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from operator import attrgetter
from typing import Final, NamedTuple
from urllib.parse import quote as escape
from urllib.parse import unquote

from alerts import census
from alerts.alert import Alert, Labels, Sample, Status, fingerprint
from alerts.quotes import clean
from alerts.rule import Rule
from alerts.series import Change, State, due_s, rest, start, step, tick
from alerts.wording import compose, labels_of

_MAX_CACHED_ROUTES: Final = 50_000
_FILTERS: Final = ("workspaces", "topics", "sources", "languages", "channels", "touchpoints", "customers")


class Key(NamedTuple):
    """One series of one rule in one workspace; `series` such as `topic=delivery`, `` when not grouped."""

    workspace: str
    rule: str
    series: str


class _Way(NamedTuple):
    """A series that a sample counts in; `census`: of those it shares the rule's allowance with."""

    rule: Rule
    key: Key
    census: Key | None


class _Routes:
    """Where samples go by the rules that look at the same of their fields: nearly always somewhere known already."""

    def __init__(self, fields: tuple[str, ...], rules: Sequence[Rule]) -> None:
        self.rules = rules
        self._mark = attrgetter(*fields)
        self._known: dict[object, tuple[_Way | None, ...]] = {}

    def of(self, sample: Sample) -> tuple[_Way | None, ...]:
        """By rule; None where it does not take the sample."""
        mark = self._mark(sample)
        ways = self._known.get(mark)
        if ways is None:
            if len(self._known) >= _MAX_CACHED_ROUTES:
                self._known.clear()
            ways = self._known[mark] = tuple(
                _way(rule, sample) if _takes(rule, sample) else None for rule in self.rules
            )
        return ways


class Transition(NamedTuple):
    """An alert came into a status. Every one is told, also those that a later one overtook in the batch."""

    rule: str
    status: Status


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """What changed: states by key, and the newest form of each incident that began, went on or ended.

    An incident that began and ended within one batch comes once, as resolved.
    """

    states: dict[Key, State]
    alerts: tuple[Alert, ...]
    transitions: tuple[Transition, ...] = ()


class Engine:
    """The rules at work. It keeps nothing between calls but a cache of which rules take which samples."""

    def __init__(
        self, rules: Sequence[Rule], *, dashboard_url: str | None = None, prometheus_url: str | None = None
    ) -> None:
        """`dashboard_url` and `prometheus_url`: what alerts link to."""
        self.rules: Final = tuple(rules)
        self._rules = {rule.name: rule for rule in rules}
        self._links = dashboard_url, prometheus_url
        by_fields: dict[tuple[str, ...], list[Rule]] = {}
        for rule in rules:
            by_fields.setdefault(_fields(rule), []).append(rule)
        self._routes = [_Routes(fields, some) for fields, some in by_fields.items()]
        self._shares: dict[tuple[str, int], Rule] = {}

    def series_keys(self, sample: Sample) -> list[Key]:
        """The series that a sample counts in, at most one for each rule, and what counts these (alerts.census)."""
        return [
            key for routes in self._routes for way in routes.of(sample) if way is not None
            for key in way[1:] if key is not None
        ]  # fmt: skip

    def evaluate(self, samples: Iterable[Sample], states: Mapping[Key, State], now: datetime) -> Evaluation:
        """Take `samples` in the order of their arrival; a key without a state starts afresh.

        No sample counts as later than `now` (the caller's clock), so that one wrong clock cannot put a
        series ahead of its time.
        """
        now_s = now.timestamp()
        new: dict[Key, State] = {}
        told = _Told()
        timed = [(min(sample.at.timestamp(), now_s), sample) for sample in samples]
        # Rule by rule: no rule knows of another, and what one needs stays at hand.
        for routes in self._routes:
            known = [(at_s, sample, routes.of(sample)) for at_s, sample in timed]
            for place in range(len(routes.rules)):
                self._follow(place, known, states, new, told)
        return Evaluation(states=new, alerts=self._compose(told), transitions=tuple(told.transitions))

    def tick(
        self, states: Mapping[Key, State], alerts: Iterable[Alert], now: datetime, *, behind: bool = False
    ) -> Evaluation:
        """Let time pass until `now` (stream time), for the states that are due.

        `alerts`: all open alerts of the workspaces; `states` holds those of their series too. An alert whose
        rule is gone, or has other labels by now, is resolved; an open series whose alert is missing gets
        it. `behind`: items older than `now` may still be on their way.
        """
        new: dict[Key, State] = {}
        told = _Told()
        marks = {alert.fingerprint: alert for alert in alerts}
        live = set()
        for key, held in states.items():
            rule = self._rules.get(key.rule)
            if rule is None or not self._fits(rule, key):
                if held.open:
                    new[key] = rest(held)
                continue
            state = self._held(rule, held)
            mark = self._fingerprint(rule, key)
            if state.open:
                live.add(mark)
            after, changes = tick(state, rule, now.timestamp(), behind=behind)
            if not changes and after.open and mark not in marks:
                status: Status = "firing" if after.firing else "pending"
                changes = [Change(status=status, state=after, at_s=after.life.last_s, turn=False)]
            if after is not held:
                new[key] = after
            if changes:
                told.take(rule, key, changes)
        orphans = tuple(
            replace(alert, state="resolved", ends_at=max(now, alert.starts_at))
            for mark, alert in marks.items()
            if mark not in live and alert.state != "resolved"
        )
        told.transitions += [Transition(alert.rule, "resolved") for alert in orphans]
        return Evaluation(
            states=new, alerts=self._compose(told) + orphans, transitions=tuple(told.transitions)
        )

    def due_s(self, key: Key, state: State) -> float | None:
        """The event time at which `tick` can matter to this state next; None: not before its next item."""
        rule = self._rules.get(key.rule)
        return None if rule is None else due_s(state, rule)

    def fingerprint(self, key: Key) -> str | None:
        """The fingerprint of the alert of a series, None where no rule of that name and grouping exists."""
        rule = self._rules.get(key.rule)
        return self._fingerprint(rule, key) if rule is not None and self._fits(rule, key) else None

    def _follow(
        self,
        place: int,
        timed: Sequence[tuple[float, Sample, tuple[_Way | None, ...]]],
        states: Mapping[Key, State],
        new: dict[Key, State],
        told: _Told,
    ) -> None:
        """Take the samples by one rule, the one at this place of their ways."""
        parts: dict[Key, Rule] = {}
        for at_s, sample, ways in timed:
            way = ways[place]
            if way is None:
                continue
            rule, key, shared = way
            state = new.get(key) or self._held(rule, states.get(key))
            own = rule
            if shared is not None:
                # Only a series that speaks for the first time in a week changes what each one has.
                if shared not in parts or census.week_of(at_s) > census.week_of(state.life.last_s):
                    parts[shared] = self._part(rule, shared, state, at_s, new, states)
                own = parts[shared]
            after, changes = step(state, own, sample, at_s)
            if after is not state:
                new[key] = after
            if changes:
                told.take(rule, key, changes)

    def _part(
        self, rule: Rule, shared: Key, state: State, at_s: float, new: dict[Key, State], states: Mapping[Key, State]
    ) -> Rule:
        """The rule with the part of its allowance that one series has; one that has not spoken this week is counted."""
        held = new.get(shared) or states.get(shared) or State(kind=census.KIND, memory=census.Count())
        week = census.week_of(at_s)
        if week > census.week_of(state.life.last_s):
            held = new[shared] = held._replace(memory=held.memory.seen(week))
        number = held.memory.number
        own = self._shares.get((rule.name, number))
        if own is None:
            allowed = rule.false_alarms_per_week / number
            own = self._shares[rule.name, number] = replace(rule, false_alarms_per_week=allowed)
        return own

    def _compose(self, told: _Told) -> tuple[Alert, ...]:
        return tuple(
            compose(rule, key.workspace, key.series, series_labels(key.series), change, *self._links)
            for (key, _), (rule, change) in told.newest.items()
        )

    @staticmethod
    def _held(rule: Rule, state: State | None) -> State:
        """The state of a series; a rule that became another kind starts afresh."""
        return state if state is not None and state.kind == rule.kind else start(rule)

    @staticmethod
    def _fits(rule: Rule, key: Key) -> bool:
        return tuple(name for name, _ in series_labels(key.series)) == rule.group_by

    @staticmethod
    def _fingerprint(rule: Rule, key: Key) -> str:
        return fingerprint(rule.name, key.workspace, labels_of(rule, series_labels(key.series)))


class _Told:
    """The newest change of each incident, and every transition."""

    def __init__(self) -> None:
        self.newest: dict[tuple[Key, float | None], tuple[Rule, Change]] = {}
        self.transitions: list[Transition] = []

    def take(self, rule: Rule, key: Key, changes: Iterable[Change]) -> None:
        for change in changes:
            self.newest[key, change.state.life.since_s] = (rule, change)
            if change.turn:
                self.transitions.append(Transition(rule.name, change.status))


def series_labels(series: str) -> Labels:
    """The labels of a series: `topic=delivery,source=app` → (("topic", "delivery"), ("source", "app"))."""
    pairs = (part.partition("=") for part in series.split(",") if part)
    return tuple((name, unquote(value)) for name, _, value in pairs)


def _fields(rule: Rule) -> tuple[str, ...]:
    """What of a sample decides where it goes by this rule; the workspace always does."""
    filtered = {name.removesuffix("s") for name in _FILTERS if getattr(rule, name)}
    return ("workspace", *sorted({*filtered, *rule.group_by} - {"workspace"}))


def _way(rule: Rule, sample: Sample) -> _Way:
    shared = rule.group_by and rule.kind in census.SHARED
    key = Key(sample.workspace, rule.name, _series(rule, sample))
    return _Way(rule, key, Key(sample.workspace, rule.name, census.SERIES) if shared else None)


def _series(rule: Rule, sample: Sample) -> str:
    return ",".join(f"{name}={escape(clean(getattr(sample, name), 120), safe='')}" for name in rule.group_by)


def _takes(rule: Rule, sample: Sample) -> bool:
    return (
        (not rule.workspaces or sample.workspace in rule.workspaces)
        and (not rule.sources or sample.source in rule.sources)
        and (not rule.channels or sample.channel in rule.channels)
        and (not rule.topics or sample.topic in rule.topics)
        and (not rule.touchpoints or sample.touchpoint in rule.touchpoints)
        and (not rule.customers or sample.customer in rule.customers)
        and (
            not rule.languages
            or any(sample.language == tag or sample.language.startswith(f"{tag}-") for tag in rule.languages)
        )
    )
