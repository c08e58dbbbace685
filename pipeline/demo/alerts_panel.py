"""The alerts of the view: firing ones first, with what customers say; resolved ones in short. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

from rich.text import Text

from alerts.alert import Alert
from pipeline.demo.day import clock
from pipeline.demo.paint import BAD, DIM, GOOD, PLAIN, fit, one_line, rule

SHORT: Final = 8
"""Digits of an incident that a notice gives."""


def title(alerts: Sequence[Alert], width: int) -> Text:
    """The heading, with how many fire."""
    firing = sum(alert.state == "firing" for alert in alerts)
    return rule("Alerts", width, Text(f"{firing} firing", f"bold {BAD}") if firing else Text("all calm", GOOD))


def draw(
    alerts: Sequence[Alert], midnight: datetime, told: Mapping[tuple[str, bool], float], width: int, rows: int
) -> list[Text]:
    """At most `rows` lines."""
    firing = [alert for alert in alerts if alert.state == "firing"]
    resolved = [alert for alert in alerts if alert.state == "resolved"]
    if not alerts:
        return [Text("None so far: what is usual for each", DIM), Text("topic is being learned.", DIM)]
    ends = [fit(line, width) for alert in reversed(resolved) for line in _resolved(alert, midnight, told)]
    free = rows - min(len(ends), rows // 3 if firing else rows)
    lines: list[Text] = []
    for number, alert in enumerate(firing):
        share = (free - len(lines)) // (len(firing) - number)
        lines += [fit(line, width) for line in _firing(alert, midnight, told, share)]
    return [*lines, *ends][:rows]


def topic(alert: Alert) -> str:
    """What the alert is about."""
    return dict(alert.labels).get("topic", alert.rule)


def numbers(alert: Alert) -> str:
    """The alert's evidence in numbers, in short."""
    notes = alert.annotations
    if "baseline" not in notes:
        return notes["description"]
    return f"{notes['negative']} of {notes['total']} negative, usual {float(notes['baseline']):.0%}"


def _firing(alert: Alert, midnight: datetime, told: Mapping[tuple[str, bool], float], rows: int) -> list[Text]:
    since = clock((alert.starts_at - midnight).total_seconds())
    head = Text.assemble(("● ", f"bold {BAD}"), (topic(alert), f"bold {BAD}"), (f"  firing since {since}", BAD))
    seconds = told.get((alert.incident[:SHORT], False))
    head.append("  telling …" if seconds is None else f"  told in {seconds:.1f} s", DIM)
    counts = Text(f"  {numbers(alert)}", DIM)
    quotes = [Text(f"  “{one_line(quote.text)}”", f"italic {PLAIN}") for quote in alert.evidence]
    return [head, counts, *quotes][: max(rows, 1)]


def _resolved(alert: Alert, midnight: datetime, told: Mapping[tuple[str, bool], float]) -> list[Text]:
    start, end = (
        clock((at - midnight).total_seconds()) if at is not None else "…" for at in (alert.starts_at, alert.ends_at)
    )
    line = Text.assemble(("✓ ", f"bold {GOOD}"), (topic(alert), "bold"), (f"  resolved {start}–{end}", GOOD))
    return [line, Text(f"  {numbers(alert)}", DIM)]
