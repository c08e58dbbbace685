"""*Pipeline health*: whether all that is said is heard, counted, and in time."""

from __future__ import annotations

from typing import Final

from grafana_foundation_sdk.builders.dashboard import Dashboard

from deploy.grafana.panels import bars, board, lines, number, quantiles, rows, section

UID: Final = "pipeline-health"


def _rate(metric: str, by: str) -> str:
    return f"sum by ({by}) (rate({metric}[$__rate_interval]))"


def dashboard() -> Dashboard:
    """See the module."""
    made = board("Pipeline health", UID, "Whether all that is said is heard, counted, and in time.")
    section(
        made, "Exact",
        number("Workers", "Workers that answer.", "none", 'sum(up{job="ovoz-worker"})', alarm=1, below=True),
        number("Unaccounted items", "Raw records passed by without a known outcome; must be 0.", "short",
               "sum(feedback_unaccounted_items)", alarm=1),
        number("Lost items", "Raw records that Kafka dropped before they had an outcome, in 24 hours; must be 0.",
               "short", "sum(increase(feedback_lost_items_total[24h]))", alarm=1).decimals(0),
        number("Dead letters", "Records filed as unreadable by the workers that run now.", "short",
               "sum(feedback_dead_letters_total) or vector(0)", alarm=1),
        lines("Items by fate", "A second: replaced by edits, retracted, repeated, without words, too old.", "cps",
              *((f"sum(rate(feedback_{fate}_items_total[$__rate_interval]))", fate)
                for fate in ("replaced", "retracted", "duplicate", "silent", "expired", "repaired", "pruned"))),
        lines("Dead letters by reason", "Records filed as unreadable, a second.", "cps",
              (_rate("feedback_dead_letters_total", "stage, reason"), "{{stage}} · {{reason}}")),
    )  # fmt: skip

    objective = " or ".join(f"(job:feedback_slow_items:ratio_rate{window} / 0.01)" for window in ("1h", "6h"))
    section(
        made, "In time",
        lines("End-to-end latency", "From receipt to committed count, backfill excluded.", "s",
              *quantiles("feedback_end_to_end_latency_seconds", 0.5, 0.95, 0.99)),
        lines("Pace of the latency budget",
              "Share of items over 5 s, against the 1 % that are allowed: 1 spends the budget of thirty days in thirty "
              "days, 14.4 pages.", "none", (objective, "times the pace")),
        lines("Waiting in Kafka", "Records in the log that no worker has taken yet.", "short",
              ("sum by (topic) (max by (topic, partition) (feedback_consumer_lag_records))", "{{topic}}")),
        lines("Being worked on", "Records taken from the broker and not yet done.", "short",
              ("sum by (stage) (feedback_queue_items)", "{{stage}}")),
        lines("Model", "Duration of one batch of the model.", "s",
              *quantiles("feedback_model_inference_seconds", 0.5, 0.99)),
        lines("Texts a batch", "How many texts the model reads at once.", "short",
              ("sum(rate(feedback_model_batch_items_sum[$__rate_interval])) / "
               "sum(rate(feedback_model_batch_items_count[$__rate_interval]))", "texts")),
        lines("Store", "Duration of one fold transaction.", "s", *quantiles("feedback_fold_seconds", 0.5, 0.99)),
        lines("Event loop", "How late the event loop ran a timer; over 50 ms something blocks it.", "s",
              *quantiles("feedback_event_loop_delay_seconds", 0.5, 0.99)),
        lines("Retries", "Transactions and sends tried again, a second: database or broker were away.", "cps",
              ("sum(rate(feedback_store_retries_total[$__rate_interval]))", "database"),
              ("sum(rate(feedback_broker_retries_total[$__rate_interval]))", "broker")),
        rows("What runs", "Version, stage and model of each worker; scores carry the model's hash.", "none",
             "max by (instance, version, stage, model) (feedback_worker_info)", ("Time", "Value")),
    )  # fmt: skip

    connector = "connector, name"
    section(
        made, "Heard",
        lines("Intake by answer", "Requests a second, by HTTP status.", "cps",
              (_rate("feedback_intake_requests_total", "status"), "{{status}}"), stacked=True),
        lines("Items taken in", "Items that the broker acknowledged, a second.", "cps",
              ("sum(rate(feedback_intake_accepted_items_total[$__rate_interval]))", "HTTP"),
              (_rate("feedback_connector_items_total", connector), "{{connector}} {{name}}")),
        rows("Connectors", "What each does now: running, backing_off, waiting or stopped.", "none",
             "max by (connector, name, state) (feedback_connector_state) == 1", ("Time", "Value")),
        bars("Time since each connector's last answer", "One that hears nothing is blind there.", "s",
             (f"time() - max by ({connector}) (feedback_connector_last_success_timestamp_seconds)",
              "{{connector}} {{name}}")),
        lines("Requests of connectors", "A second, by outcome.", "cps",
              (_rate("feedback_connector_requests_total", "connector, outcome"), "{{connector}} · {{outcome}}")),
        lines("Refused webhook calls", "Requests that were not believed, a second, by reason.", "cps",
              (_rate("feedback_connector_refused_total", "connector, reason"),
               "{{connector}} · {{reason}}")),
        rows("Gaps", "What connectors can no longer get, in the life of the process.", "short",
             f"sum by ({connector}) (feedback_connector_gaps_total)", ("Time",)).span(24).height(5),
    )  # fmt: skip
    return made
