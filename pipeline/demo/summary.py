"""What the run came to: the numbers, and the reasons why it did not go well, if any. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from alerts.alert import Alert
from pipeline.audit import Audit
from pipeline.demo.alerts_panel import SHORT, numbers, topic
from pipeline.demo.day import INCIDENT_S, WORKSPACE, clock
from pipeline.demo.reading import Reading


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """A notice that was received: `after_s` the message that decided it, `since_incident_s` in real seconds
    since the incident began; None where that cannot be said.
    """

    after_s: float | None
    since_incident_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A run at its end. `told` by incident (its first digits) and whether resolved; `audit` is None where the
    run ended before it could be made.
    """

    reading: Reading
    midnight: datetime
    sent: int
    messages: int
    expected_items: int
    took_s: float
    told: Mapping[tuple[str, bool], Told]
    audit: Audit | None

    @property
    def finished(self) -> bool:
        """Whether the whole day was sent."""
        return self.sent == self.messages


def faults(outcome: Outcome) -> list[str]:
    """Every reason why this run is not what it should be."""
    found: list[str] = []
    if outcome.audit is None:
        return found
    found += [f"audit: {difference}" for difference in outcome.audit.differences]
    counted = outcome.reading.replayed
    if counted != outcome.expected_items:
        found.append(f"{counted} items of the day count; by its file it must be {outcome.expected_items}")
    if not outcome.finished:
        return found
    heard = [incident for incident, resolved in outcome.told if not resolved]
    if not heard:
        found.append("the day is over and no alert was received")
    found += [f"incident {one} was never told to be resolved" for one in heard if (one, True) not in outcome.told]
    found += [
        f"the alert on {topic(alert)} is still firing"
        for alert in outcome.reading.alerts
        if alert.state == "firing" and alert.workspace == WORKSPACE
    ]
    return found


def rows(outcome: Outcome) -> list[tuple[str, str]]:
    """The summary: (what, how it is)."""
    reading, health = outcome.reading, outcome.reading.health
    day = "the whole day" if outcome.finished else "a part of the day"
    own = f", {reading.own} of your own" if reading.own else ""
    table = [
        ("sent", f"{outcome.sent} of {outcome.messages} messages, {day}, in {outcome.took_s:.0f} s{own}"),
        (
            "counted",
            f"{reading.replayed + reading.own} items; {health.replaced} edited, {health.retracted} deleted, "
            f"{health.repeated} sent twice, {health.dead} dead letters",
        ),
        ("languages", "  ".join(f"{name} {count}" for name, count in reading.languages.items())),
    ]
    table += [("alert", line) for alert in reading.alerts for line in _alert(alert, outcome)]
    if outcome.audit is None:
        table.append(("audit", "not made: the run was ended early"))
    elif outcome.audit.differences:
        table.append(("audit", f"{len(outcome.audit.differences)} differences"))
    else:
        facts = outcome.audit.facts
        table.append(
            (
                "audit",
                f"every record accounted for: {facts['of them accounted for']} of "
                f"{facts['raw records in the broker']} in the broker; {facts['items in cells']} items in "
                f"{facts['cells']} cells, equal to a recount",
            )
        )
    if health.p50_s is not None and health.p99_s is not None:
        table.append(
            ("latency", f"p50 {health.p50_s * 1000:.0f} ms, p99 {health.p99_s * 1000:.0f} ms from intake to counted")
        )
    return [*table, ("model", health.model)]


def _alert(alert: Alert, outcome: Outcome) -> list[str]:
    start_s = (alert.starts_at - outcome.midnight).total_seconds()
    mark = alert.incident[:SHORT]
    line = f"{topic(alert)}: fired {clock(start_s)}"
    told = outcome.told.get((mark, False))
    if alert.workspace == WORKSPACE and INCIDENT_S[0] <= start_s <= INCIDENT_S[1]:
        line += f", {(start_s - INCIDENT_S[0]) / 60:.0f} min into the incident"
        if told and told.since_incident_s is not None:
            line += f" ({told.since_incident_s:.1f} s here)"
    if told and told.after_s is not None:
        line += f", received {told.after_s:.1f} s after the message that decided it"
    if alert.ends_at is None:
        return [line, f"{topic(alert)}: still firing"]
    end = f"{topic(alert)}: resolved {clock((alert.ends_at - outcome.midnight).total_seconds())}"
    heard = "told" if (mark, True) in outcome.told else "not told"
    return [line, f"{end} ({heard}); {numbers(alert)}"]
