"""Samples × rules → the states and alerts that changed. Pure: the caller loads, stores and sends.

In one transaction with its counts, the caller loads the states of the keys that a batch touches
(`series_keys`), calls `evaluate`, and stores what comes back; from time to time it does the same with
`tick`. The result depends on the order of the samples alone: cut into batches in any way, the same samples
leave the same states and the same alerts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, NamedTuple
from urllib.parse import quote as escape
from urllib.parse import unquote

from alerts.alert import Alert, Labels, Sample, fingerprint
from alerts.detector import START, Change, State, quiet, rest, step
from alerts.quotes import clean
from alerts.rule import Rule
from alerts.wording import compose, labels_of

_MAX_CACHED_ROUTES: Final = 50_000


class Key(NamedTuple):
    """One series of one rule in one workspace; `series` such as `topic=delivery`, `` when not grouped."""

    workspace: str
    rule: str
    series: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """What changed: states by key, and the newest form of each incident that began, went on or ended.

    An incident that began and ended within one batch comes once, as resolved.
    """

    states: dict[Key, State]
    alerts: tuple[Alert, ...]


class Engine:
    """The rules at work. It keeps nothing between calls but a cache of which rules take which samples."""

    def __init__(self, rules: Sequence[Rule], *, dashboard_url: str | None = None) -> None:
        self.rules: Final = tuple(rules)
        self._rules = {rule.name: rule for rule in rules}
        self._dashboard_url = dashboard_url
        self._routes: dict[tuple[str, str, str, str, str], tuple[tuple[Rule, Key], ...]] = {}

    def series_keys(self, sample: Sample) -> list[Key]:
        """The series that a sample counts in: at most one for each rule."""
        return [key for _, key in self._route(sample)]

    def evaluate(self, samples: Iterable[Sample], states: Mapping[Key, State], now: datetime) -> Evaluation:
        """Take `samples` in the order of their arrival; a key without a state starts afresh.

        No sample counts as later than `now` (the caller's clock), so that one wrong clock cannot put a
        series ahead of its time.
        """
        now_s = now.timestamp()
        new: dict[Key, State] = {}
        changes: dict[tuple[Key, float | None], tuple[Rule, Change]] = {}
        for sample in samples:
            at_s = min(sample.at.timestamp(), now_s)
            for rule, key in self._route(sample):
                state = new.get(key) or states.get(key) or START
                new[key], change = step(state, rule, sample, at_s)
                if change is not None:
                    changes[key, change.state.started_s] = (rule, change)
        return Evaluation(states=new, alerts=self._compose(changes))

    def tick(self, states: Mapping[Key, State], alerts: Mapping[str, Alert], now: datetime) -> Evaluation:
        """Let time pass until `now` (stream time): incidents resolve when it stays quiet.

        `states`: those of all firing series at least; `alerts`: all firing alerts by fingerprint. An alert
        whose rule is gone, or has other labels by now, is resolved; a firing series whose alert is missing
        gets it.
        """
        new: dict[Key, State] = {}
        changes: dict[tuple[Key, float | None], tuple[Rule, Change]] = {}
        live = set()
        for key, state in states.items():
            if not state.firing:
                continue
            rule = self._rules.get(key.rule)
            if rule is None or not self._fits(rule, key):
                new[key] = rest(state)
                continue
            mark = self._fingerprint(rule, key)
            live.add(mark)
            after, change = quiet(state, rule, now.timestamp())
            if change is None and mark not in alerts:
                change = Change(status="firing", state=state, at_s=state.last_s)
            if after is not state:
                new[key] = after
            if change is not None:
                changes[key, change.state.started_s] = (rule, change)
        orphans = tuple(
            replace(alert, state="resolved", ends_at=max(now, alert.starts_at))
            for mark, alert in alerts.items()
            if mark not in live and alert.state == "firing"
        )
        return Evaluation(states=new, alerts=self._compose(changes) + orphans)

    def fingerprint(self, key: Key) -> str | None:
        """The fingerprint of the alert of a series, None where no rule of that name and grouping exists."""
        rule = self._rules.get(key.rule)
        return self._fingerprint(rule, key) if rule is not None and self._fits(rule, key) else None

    def _route(self, sample: Sample) -> tuple[tuple[Rule, Key], ...]:
        mark = (sample.workspace, sample.topic, sample.source, sample.language, sample.channel)
        route = self._routes.get(mark)
        if route is None:
            if len(self._routes) >= _MAX_CACHED_ROUTES:
                self._routes.clear()
            route = self._routes[mark] = tuple(
                (rule, Key(sample.workspace, rule.name, _series(rule, sample)))
                for rule in self.rules
                if _takes(rule, sample)
            )
        return route

    def _compose(self, changes: Mapping[tuple[Key, float | None], tuple[Rule, Change]]) -> tuple[Alert, ...]:
        return tuple(
            compose(rule, key.workspace, series_labels(key.series), change, self._dashboard_url)
            for (key, _), (rule, change) in changes.items()
        )

    @staticmethod
    def _fits(rule: Rule, key: Key) -> bool:
        return tuple(name for name, _ in series_labels(key.series)) == rule.group_by

    @staticmethod
    def _fingerprint(rule: Rule, key: Key) -> str:
        return fingerprint(rule.name, key.workspace, labels_of(rule, series_labels(key.series)))


def series_labels(series: str) -> Labels:
    """The labels of a series: `topic=delivery,source=app` → (("topic", "delivery"), ("source", "app"))."""
    pairs = (part.partition("=") for part in series.split(",") if part)
    return tuple((name, unquote(value)) for name, _, value in pairs)


def _series(rule: Rule, sample: Sample) -> str:
    return ",".join(f"{name}={escape(clean(getattr(sample, name), 120), safe='')}" for name in rule.group_by)


def _takes(rule: Rule, sample: Sample) -> bool:
    return (
        (not rule.workspaces or sample.workspace in rule.workspaces)
        and (not rule.sources or sample.source in rule.sources)
        and (not rule.channels or sample.channel in rule.channels)
        and (not rule.topics or sample.topic in rule.topics)
        and (
            not rule.languages
            or any(sample.language == tag or sample.language.startswith(f"{tag}-") for tag in rule.languages)
        )
    )
