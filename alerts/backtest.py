"""Rules × history → what would have fired, when and how long; against labelled incidents. Pure.

It is the worker's own engine that runs, in event time: the same items in the same order give the same
incidents as they gave live.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import islice
from statistics import median
from typing import Final

from alerts.alert import Alert, Sample
from alerts.duplicates import Recent
from alerts.engine import Engine, Evaluation, Key
from alerts.rule import Rule
from alerts.series import State

_BATCH: Final = 500
_NEW_AUTHOR: Final = timedelta(days=1)
_WEEK: Final = timedelta(weeks=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Labelled:
    """A true incident of the past. `labels` must all stand in an alert for it to have found this one."""

    name: str
    begin: datetime
    end: datetime
    labels: Mapping[str, str] = field(default_factory=dict)

    def concerns(self, alert: Alert) -> bool:
        """Whether an alert is about the same thing."""
        known = {**dict(alert.labels), "rule": alert.rule, "workspace": alert.workspace}
        return all(known.get(name) == value for name, value in self.labels.items())


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """What rules would have done: the alerts that fired, oldest first, and the time that was looked at."""

    alerts: tuple[Alert, ...]
    items: int
    begin: datetime | None
    end: datetime | None
    series: int

    @property
    def weeks(self) -> float:
        """Length of the history in weeks."""
        return 0.0 if self.begin is None or self.end is None else (self.end - self.begin) / _WEEK


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Alerts against labels. `delays`: from the beginning of each incident to its first alert; None: missed."""

    false: tuple[Alert, ...]
    delays: Mapping[str, timedelta | None]
    weeks: float

    @property
    def rate(self) -> float:
        """False alarms per week, of all series together."""
        return len(self.false) / self.weeks if self.weeks else math.nan

    @property
    def found(self) -> int:
        """How many incidents were found."""
        return sum(delay is not None for delay in self.delays.values())

    @property
    def delay(self) -> timedelta | None:
        """The median delay of those found."""
        delays = [delay for delay in self.delays.values() if delay is not None]
        return timedelta(seconds=median(delay.total_seconds() for delay in delays)) if delays else None


def replay(
    rules: Sequence[Rule],
    samples: Iterable[Sample],
    *,
    since: datetime | None = None,
    progress: Callable[[int], None] = lambda items: None,
) -> Replayed:
    """Run the rules over samples in the order of their arrival.

    Alerts that began before `since` are left out; what came before has taught what is usual. What still
    fires at the end is given as firing.
    """
    engine, states, open_ = Engine(rules), dict[Key, State](), dict[str, Alert]()
    alerts: dict[str, Alert] = {}
    items, begin, end = 0, None, None

    def take(evaluation: Evaluation) -> None:
        states.update(evaluation.states)
        for alert in evaluation.alerts:
            alerts[alert.incident] = alert
            if alert.state == "resolved":
                open_.pop(alert.incident, None)
            else:
                open_[alert.incident] = alert

    marked = _marked(samples)
    while batch := list(islice(marked, _BATCH)):
        newest = max(sample.at for sample in batch)
        take(engine.evaluate(batch, states, newest))
        end = newest if end is None else max(end, newest)
        begin = min(sample.at for sample in batch) if begin is None else begin
        due = {key: state for key, state in states.items() if state.open or _due(engine, key, state, end)}
        if due:
            take(engine.tick(due, tuple(open_.values()), end))
        items += len(batch)
        progress(items)
    if since is not None and begin is not None:
        begin = max(begin, since)
    fired = (
        alert for alert in alerts.values() if alert.state != "pending" and (since is None or alert.starts_at >= since)
    )
    return Replayed(
        alerts=tuple(sorted(fired, key=lambda alert: (alert.starts_at, alert.rule, alert.labels))),
        items=items,
        begin=begin,
        end=end,
        series=len(states),
    )


def judge(replayed: Replayed, labelled: Sequence[Labelled]) -> Verdict:
    """Which alerts were false, and when each labelled incident was found.

    An alert has found an incident that it concerns when it began while that lasted, or was firing when it began. An
    alert that overlaps with an incident it concerns, or with its hour after, is none of the false ones.
    """
    delays: dict[str, timedelta | None] = {}
    for incident in labelled:
        begun = [
            max(alert.starts_at - incident.begin, timedelta(0))
            for alert in replayed.alerts
            if incident.concerns(alert)
            and alert.starts_at <= incident.end
            and (alert.ends_at is None or alert.ends_at > incident.begin)
        ]
        delays[incident.name] = min(begun, default=None)
    grace = timedelta(hours=1)
    false = tuple(
        alert
        for alert in replayed.alerts
        if not any(
            incident.concerns(alert)
            and alert.starts_at <= incident.end + grace
            and (alert.ends_at is None or alert.ends_at >= incident.begin)
            for incident in labelled
        )
    )
    return Verdict(false=false, delays=delays, weeks=replayed.weeks)


def _due(engine: Engine, key: Key, state: State, now: datetime) -> bool:
    due_s = engine.due_s(key, state)
    return due_s is not None and due_s <= now.timestamp()


def _marked(samples: Iterable[Sample]) -> Iterator[Sample]:
    """Near-duplicates and new authors marked, as the store does."""
    recent: dict[str, Recent] = {}
    first: dict[tuple[str, str], datetime] = {}
    for sample in samples:
        index = recent.setdefault(sample.workspace, Recent())
        marked = index.mark(sample)
        index.take_new()
        if sample.author:
            known = first.setdefault((sample.workspace, sample.author), sample.at)
            if marked.copy_of and known >= sample.at - _NEW_AUTHOR:
                marked = replace(marked, new_author=True)
        yield marked
