"""A change of a series → the `Alert` that people read: labels, words, numbers, quotes."""

from __future__ import annotations

import json
import re
from datetime import datetime
from typing import Final
from urllib.parse import quote as escape

from alerts.alert import MAX_EVIDENCE, Alert, Labels, fingerprint, incident, moment
from alerts.hours import opens_at
from alerts.kinds import KINDS
from alerts.life import Life
from alerts.quotes import clean, harmless, pick
from alerts.rule import Rule
from alerts.series import Change

_PLAIN: Final = re.compile(r"[\w .+-]*")
SUSPECT_COPIES: Final = 10


def labels_of(rule: Rule, series: Labels) -> Labels:
    """What identifies the alert of a series, apart from rule and workspace; sorted."""
    labels = {**dict(rule.labels), **{name: _shown(value) for name, value in series}, "severity": rule.severity}
    if rule.team:
        labels["team"] = rule.team
    return tuple(sorted(labels.items()))


def _shown(value: str) -> str:
    """A label's value: as it is where it is a plain name, for routes match it; otherwise harmless."""
    return value if _PLAIN.fullmatch(value) else harmless(value)


def compose(
    rule: Rule,
    workspace: str,
    series: str,
    series_labels: Labels,
    change: Change,
    dashboard_url: str | None = None,
    prometheus_url: str | None = None,
) -> Alert:
    """The alert that tells of `change`. Raises ValueError when no incident is open in it."""
    life, labels = change.state.life, labels_of(rule, series_labels)
    if life.since_s is None:
        raise ValueError("no incident is open")
    starts_at = moment(life.since_s)
    return Alert(
        rule=rule.name,
        workspace=workspace,
        labels=labels,
        annotations=_annotations(rule, series_labels, change, dashboard_url, prometheus_url),
        state=change.status,
        starts_at=starts_at,
        ends_at=moment(max(change.at_s, life.since_s)) if change.status == "resolved" else None,
        evidence=pick(life.quotes, MAX_EVIDENCE),
        incident=incident(fingerprint(rule.name, workspace, labels), starts_at),
        series=series,
        not_before=_not_before(rule, change),
    )


def _not_before(rule: Rule, change: Change) -> datetime | None:
    life = change.state.life
    told_s = life.since_s if life.fired_s is None else life.fired_s
    if rule.hours is None or told_s is None:
        return None
    return opens_at(rule.hours, moment(told_s))


def _annotations(
    rule: Rule, series: Labels, change: Change, dashboard_url: str | None, prometheus_url: str | None
) -> dict[str, str]:
    state, life = change.state, change.state.life
    assert life.since_s is not None  # noqa: S101
    what = harmless(", ".join(f"{name} {value}" for name, value in series if value)) or "all feedback"
    told = KINDS[state.kind].explain(state.memory, rule, life)
    annotations = {
        "summary": f"{rule.summary or told.title}: {what}",
        "description": " ".join(filter(None, [told.description, _copies(life)])),
        **told.figures,
        "since": f"{moment(life.since_s if life.onset_s is None else life.onset_s):%Y-%m-%dT%H:%M:%SZ}",
        "raw_matched": str(life.matched + life.copies),
        "raw_total": str(life.total + life.copied),
        "model": clean(life.model, 120),
        "query": _query(series),
    }
    quotes = pick(life.quotes, MAX_EVIDENCE)
    if quotes:
        annotations["quotes"] = "\n".join(
            f"[{harmless(quote.source)}, {harmless(quote.language)}] {harmless(quote.text)}" for quote in quotes
        )
    if rule.runbook_url:
        annotations["runbook_url"] = rule.runbook_url
    if dashboard_url:
        annotations["dashboard_url"] = dashboard_url
    if prometheus_url:
        asked = escape(annotations["query"], safe="")
        annotations["query_url"] = f"{prometheus_url.rstrip('/')}/graph?g0.expr={asked}&g0.tab=0&g0.range_input=6h"
    return annotations


def _query(series: Labels) -> str:
    """The same series for Prometheus: the last hour's items by sentiment.

    Metrics know topic and source together, language and channel together, or the touchpoint; the customer never.
    """
    given = {name: f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in series if value}
    spoken = [given[name] for name in ("language", "channel") if name in given]
    heard = [given[name] for name in ("topic", "source") if name in given]
    hour = 'window="1h"'
    if spoken and not heard:
        return f"sum by (sentiment) (feedback_language_items{{{','.join([*spoken, hour])}}})"
    if "touchpoint" in given and not heard:
        return f"sum by (sentiment) (increase(feedback_touchpoint_scored_total{{{given['touchpoint']}}}[1h]))"
    return f"sum by (sentiment) (feedback_window_items{{{','.join([*heard, hour])}}})"


def _copies(life: Life) -> str:
    """What became of near-duplicates, where there were any."""
    if not life.copied:
        return ""
    said = f"{life.copied} more repeated one of these nearly word for word and do not count."
    return f"{said} Suspected brigade." if life.copies >= max(SUSPECT_COPIES, life.matched) else said
