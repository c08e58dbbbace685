"""A change of a series → the `Alert` that people read: labels, words, numbers, quotes."""

from __future__ import annotations

from typing import Final

from alerts.alert import MAX_EVIDENCE, Alert, Labels, fingerprint, incident
from alerts.detector import Change, State, moment, weeks_by_chance
from alerts.quotes import clean, harmless
from alerts.rule import Rule

_LONG_WEEKS: Final = 520


def labels_of(rule: Rule, series: Labels) -> Labels:
    """What identifies the alert of a series, apart from rule and workspace; sorted."""
    labels = {**dict(rule.labels), **dict(series), "severity": rule.severity}
    if rule.team:
        labels["team"] = rule.team
    return tuple(sorted(labels.items()))


def compose(rule: Rule, workspace: str, series: Labels, change: Change, dashboard_url: str | None) -> Alert:
    """The alert that tells of `change`."""
    state, labels = change.state, labels_of(rule, series)
    if state.started_s is None:
        raise ValueError("no incident is open")
    starts_at = moment(state.started_s)
    return Alert(
        rule=rule.name,
        workspace=workspace,
        labels=labels,
        annotations=_annotations(rule, series, change, dashboard_url),
        state=change.status,
        starts_at=starts_at,
        ends_at=moment(change.at_s) if change.status == "resolved" else None,
        evidence=state.quotes[: -MAX_EVIDENCE - 1 : -1],
        incident=incident(fingerprint(rule.name, workspace, labels), starts_at),
    )


def _annotations(rule: Rule, series: Labels, change: Change, dashboard_url: str | None) -> dict[str, str]:
    state = change.state
    what = harmless(", ".join(f"{name} {value}" for name, value in series)) or "all feedback"
    observed = state.negative / max(state.total, 1)
    since = moment(state.onset_s if state.onset_s is not None else change.at_s)
    annotations = {
        "summary": f"{rule.summary or 'More negative feedback than usual'}: {what}",
        "description": (
            f"{state.negative} of {state.total} items were negative ({observed:.0%}) since "
            f"{since:%Y-%m-%d %H:%M} UTC; usual are {state.usual:.0%}. {_chance(state, rule)}"
        ),
        "negative": str(state.negative),
        "total": str(state.total),
        "share": f"{observed:.3f}",
        "baseline": f"{state.usual:.3f}",
        "model": clean(state.model, 120),
    }
    quotes = state.quotes[: -MAX_EVIDENCE - 1 : -1]
    if quotes:
        annotations["quotes"] = "\n".join(
            f"[{harmless(quote.source)}, {harmless(quote.language)}] {harmless(quote.text)}" for quote in quotes
        )
    if rule.runbook_url:
        annotations["runbook_url"] = rule.runbook_url
    if dashboard_url:
        annotations["dashboard_url"] = dashboard_url
    return annotations


def _chance(state: State, rule: Rule) -> str:
    weeks = weeks_by_chance(state, rule)
    if weeks >= _LONG_WEEKS:
        return "By chance alone this happens less than once in ten years."
    if weeks >= 2:
        return f"By chance alone this happens at most once in {weeks:.0f} weeks."
    return f"By chance alone this happens at most {max(1 / weeks, 0.1):.1f} times a week."
