"""*Alert desk*: what fires about customers and about the pipeline, since when, and whether anybody was told."""

from __future__ import annotations

from typing import Final

from grafana_foundation_sdk.builders.dashboard import Dashboard

from deploy.grafana.panels import bars, board, lines, number, rows, runbook_link, section, values_variable

UID: Final = "alert-desk"


def dashboard() -> Dashboard:
    """See the module."""
    made = board("Alert desk", UID, "What fires, since when, and whether anybody was told.", since="now-24h")
    made.with_variable(values_variable("severity", "Severity", "label_values(feedback_alert_active, severity)"))
    picked = 'severity=~"$severity"'
    told = "sum by (receiver, outcome) (increase(feedback_alert_notifications_total[24h]))"
    section(
        made, "About customers",
        number("Firing", "Alerts about customers that fire now.", "short",
               f"sum(feedback_alert_active{{{picked}}}) or vector(0)", alarm=1),
        number("Critical", "Of these, those that page somebody.", "short",
               'sum(feedback_alert_active{severity="critical"}) or vector(0)', alarm=1),
        number("Notifications in 24 hours", "Told to receivers, renewals included.", "short",
               'sum(increase(feedback_alert_notifications_total{outcome=~"sent|repeated"}[24h])) or vector(0)')
        .decimals(0),
        number("Not delivered in 24 hours", "Attempts that failed; they are repeated until they succeed.", "short",
               'sum(increase(feedback_alert_notifications_total{outcome!~"sent|repeated"}[24h])) or vector(0)', alarm=1)
        .decimals(0),
        rows("Firing now", "By rule, topic and severity; counts, quotes and links stand in the notification.", "none",
             f"sum by (rule, topic, severity) (feedback_alert_active{{{picked}}}) > 0", ("Time",)),
        lines("Firing over time", "How many alerts of each rule and topic fired.", "short",
              (f"sum by (rule, topic) (feedback_alert_active{{{picked}}})", "{{rule}} · {{topic}}"), stacked=True),
        rows("Told", "Notifications of 24 hours by receiver and outcome.", "short", told, ("Time",)).decimals(0),
        lines("Notifications by outcome", "A second.", "cps",
              ("sum by (receiver, outcome) (rate(feedback_alert_notifications_total[$__rate_interval]))",
               "{{receiver}} · {{outcome}}")),
    )  # fmt: skip

    pipeline = 'ALERTS{component="pipeline", alertname!="OvozWatchdog"}'
    section(
        made, "About the pipeline",
        number("Watchdog", "1 while the dead-man's switch fires: Prometheus evaluates and the way out works.", "none",
               'count(ALERTS{alertname="OvozWatchdog", alertstate="firing"}) or vector(0)', alarm=1, below=True)
        .span(12),
        number("Pipeline alerts", "Firing now; each has a runbook.", "short",
               f'count({pipeline[:-1]}, alertstate="firing"}}) or vector(0)', alarm=1).span(12),
        rows("Pipeline alerts now", "Pending and firing; each links to what to do.", "none",
             f"sum by (alertname, severity, alertstate) ({pipeline}) or "
             'sum by (alertname, severity, alertstate) (ALERTS{alertname="OvozWatchdog"})', ("Time", "Value"))
        .data_links([runbook_link()]),
        bars("Longest without a word from a source", "A rule of the kind silence says which are too long.", "s",
             ("topk(10, time() - max by (source) (feedback_source_last_event_timestamp_seconds))", "{{source}}")),
    )  # fmt: skip
    return made
