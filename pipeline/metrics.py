"""One table of every metric: name, kind, labels, help. The docs and the registry are made from it.

Numbers that live in the store are gauges read at scrape time and never seeded counters, so
that a rebalance or a restart cannot show an item twice. Label values are bounded: whatever lies beyond
the limits is shown as `other`, and no text, author or id ever becomes a label.
"""

from __future__ import annotations

import threading
from collections import Counter as Count
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from pipeline.settings import Labels
from pipeline.store.read import Snapshot
from pipeline.windows import SCORE_UNIT

OTHER: Final = "other"
DEAD_STAGES: Final = frozenset({"classify", "connector", "fold", "replay"})
DEAD_REASONS: Final = frozenset({"csv", "empty", "encoding", "json", "model", "schema", "schema_version", "too_long"})

MAX_LANGUAGES: Final = 40
LATENCY_BUCKETS: Final = (0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 2, 5, 10, 30, 60, 300)
INFERENCE_BUCKETS: Final = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)
SIZE_BUCKETS: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """One metric. `stored`: read from the store at scrape time."""

    name: str
    kind: str
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    stored: bool = False


def _stored(name: str, help: str, *labels: str) -> Definition:
    return Definition(name=name, kind="gauge", help=help, labels=labels, stored=True)


def _gauge(name: str, help: str, *labels: str) -> Definition:
    return Definition(name=name, kind="gauge", help=help, labels=labels)


def _counter(name: str, help: str, *labels: str) -> Definition:
    return Definition(name=name, kind="counter", help=help, labels=labels)


def _histogram(name: str, help: str, buckets: tuple[float, ...], *labels: str) -> Definition:
    return Definition(name=name, kind="histogram", help=help, labels=labels, buckets=buckets)


WORKER: Final = (
    _counter(
        "feedback_scored_total", "Items counted for the first time by this process since it started.",
        "source", "channel", "topic", "sentiment",
    ),
    _counter(
        "feedback_touchpoint_scored_total", "The same by touchpoint, as far as the source tells it.",
        "touchpoint", "sentiment",
    ),
    _stored(
        "feedback_items", "Live items within retention, exact; each worker shows the partitions it owns.",
        "source", "topic", "sentiment",
    ),
    _stored(
        "feedback_window_items", "Live items whose event time lies in the window that ends now.",
        "source", "topic", "sentiment", "window",
    ),
    _stored(
        "feedback_sentiment_score", "Mean score of the window's items, from -1 (negative) to 1 (positive).",
        "source", "topic", "window",
    ),
    _stored(
        "feedback_language_items", "Live items of the window by language and channel.",
        "language", "channel", "sentiment", "window",
    ),
    _stored(
        "feedback_window_missing_seconds", "How much of the window lies in gaps of a source.",
        "source", "window",
    ),
    _stored("feedback_alert_active", "Alerts firing now.", "rule", "topic", "severity"),
    _stored("feedback_source_last_event_timestamp_seconds", "Event time of the newest item.", "source"),
    _stored("feedback_source_last_success_timestamp_seconds", "When an item was last counted.", "source"),
    _gauge("feedback_unaccounted_items", "Raw records that were passed by without a known outcome."),
    _counter("feedback_repaired_items_total", "Raw records read again because their outcome was missing."),
    _counter("feedback_lost_items_total", "Raw records that the broker dropped before they had an outcome."),
    _counter("feedback_replaced_items_total", "Items replaced by a newer version."),
    _counter("feedback_retracted_items_total", "Items taken back by a deletion."),
    _counter("feedback_duplicate_items_total", "Versions that were known already and changed nothing."),
    _counter("feedback_expired_items_total", "Items that came in older than the retention and count nowhere."),
    _counter("feedback_silent_items_total", "Scores, replies and other events without a text: kept, counted nowhere."),
    _counter("feedback_pruned_items_total", "Items dropped at the end of their retention."),
    _counter("feedback_late_items_total", "Items counted behind the watermark.", "source"),
    _counter("feedback_dead_letters_total", "Records filed as dead letters.", "stage", "reason"),
    _histogram(
        "feedback_end_to_end_latency_seconds", "From receipt to committed count; backfill excluded.",
        LATENCY_BUCKETS,
    ),
    _histogram("feedback_model_inference_seconds", "Duration of one model batch.", INFERENCE_BUCKETS),
    _histogram("feedback_model_batch_items", "Items in one model batch.", SIZE_BUCKETS),
    _histogram("feedback_fold_seconds", "Duration of one fold transaction.", INFERENCE_BUCKETS),
    _gauge("feedback_queue_items", "Records taken from the broker and not yet done.", "stage"),
    _gauge("feedback_consumer_lag_records", "Records in the log that are not yet taken.", "topic", "partition"),
    _histogram(
        "feedback_event_loop_delay_seconds", "How late the event loop ran a timer.",
        (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1),
    ),
    _counter("feedback_store_retries_total", "Transactions tried again because the database was away."),
    _counter("feedback_broker_retries_total", "Sends tried again because the broker was away."),
    _counter("feedback_topic_restarts_total", "Times a topic was found to have begun a new life."),
    _counter("feedback_alert_transitions_total", "Alerts that came into a state.", "rule", "state"),
    _gauge("feedback_alert_rules_valid", "Whether the rule file as it stands is in force (1) or faulty (0)."),
    _counter("feedback_alert_rules_reloads_total", "Changes of the rule file: applied or refused.", "outcome"),
    _counter(
        "feedback_alert_notifications_total",
        "Notifications: sent, repeated after a worker's death, unknown (not repeated), retry (later), rejected (this "
        "one), refused (all, until a restart).",
        "receiver",
        "outcome",
    ),
    _counter("feedback_label_overflow_total", "Label values shown as other.", "label"),
    _gauge("feedback_worker_info", "Constant 1: what this worker runs.", "version", "stage", "model"),
)  # fmt: skip

CONNECTOR: Final = (
    _gauge("feedback_connector_state", "1 for the one that it is: running, backing_off, waiting, stopped.",
           "connector", "name", "state"),
    _gauge("feedback_connector_last_success_timestamp_seconds", "When the service last answered, or called.",
           "connector", "name"),
    _gauge("feedback_connector_last_event_timestamp_seconds", "Event time of the newest item taken.",
           "connector", "name"),
    _gauge("feedback_connector_lag_seconds", "From when the newest item of the last step was said to when the broker "
           "had it.", "connector", "name"),
    _gauge("feedback_connector_quota_remaining", "Requests left of the service's allowance, where it says so.",
           "connector", "name"),
    _counter("feedback_connector_requests_total", "Requests to the service, by status (2xx … 5xx, or failed).",
             "connector", "name", "outcome"),
    _counter("feedback_connector_verdicts_total", "Steps that ended early: retryable, expired, permanent, error.",
             "connector", "name", "verdict"),
    _counter("feedback_connector_throttled_total", "Answers with status 429.", "connector", "name"),
    _counter("feedback_connector_deliveries_total", "Webhook requests: stored, repeated, handshake, late, failed.",
             "connector", "name", "outcome"),
    _counter("feedback_connector_refused_total", "Webhook requests that were not believed, by reason.",
             "connector", "name", "reason"),
    _counter("feedback_connector_signature_failures_total", "Webhook requests without the right signature or secret.",
             "connector", "name"),
    _counter("feedback_connector_gaps_total", "Gaps that no later request can close.", "connector", "name"),
    _counter("feedback_connector_items_total", "Items that the broker acknowledged.", "connector", "name"),
    _counter("feedback_connector_skipped_total", "Parts of answers that could not be read: dead letters.",
             "connector", "name"),
)  # fmt: skip
"""The intake shows these, one series an instance of a [[connector]] table."""


class Bound:
    """Keeps a label within its limit: the first `limit` values keep their name, the rest become `other`."""

    def __init__(self, limit: int, overflow: Callable[[], None]) -> None:
        self._limit = limit
        self._overflow = overflow
        self._seen: set[str] = set()
        self._lock = threading.Lock()

    def __call__(self, value: str) -> str:
        if value in self._seen or value == OTHER:
            return value
        with self._lock:
            if len(self._seen) < self._limit:
                self._seen.add(value)
                return value
        self._overflow()
        return OTHER


class WorkerMetrics:
    """The metrics of one worker, in a registry of its own.

    `snapshot` reads the stored numbers; it is called at every scrape, off the event loop, and gives
    None while the store is away: the stored gauges are absent then, not zero.
    """

    def __init__(self, labels: Labels, snapshot: Callable[[], Snapshot | None] = lambda: None) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        self._made: dict[str, Any] = {}
        for definition in WORKER:
            if not definition.stored:
                self._made[definition.name] = make(definition, self.registry)
        overflow = self._made["feedback_label_overflow_total"]
        self.source = Bound(labels.max_sources, overflow.labels("source").inc)
        self.topic = Bound(labels.max_topics, overflow.labels("topic").inc)
        self._touchpoint = Bound(labels.max_touchpoints, overflow.labels("touchpoint").inc)
        language = Bound(MAX_LANGUAGES, overflow.labels("language").inc)
        self.registry.register(_Stored(snapshot, self.source, self.topic, language))

    def __getitem__(self, name: str) -> Any:
        """The metric of this name from the table."""
        return self._made[name]

    def counted(self, items: Iterable[tuple[str, str, str, str]]) -> None:
        """Count newly counted items by (source, channel, topic, sentiment)."""
        for (source, channel, topic, sentiment), count in Count(items).items():
            labels = (self.source(source), channel, self.topic(topic), sentiment)
            self["feedback_scored_total"].labels(*labels).inc(count)

    def met(self, items: Iterable[tuple[str, str]]) -> None:
        """Count newly counted items by (touchpoint, sentiment); those without a touchpoint are left out."""
        for (touchpoint, sentiment), count in Count(items).items():
            if touchpoint:
                labels = (self._touchpoint(touchpoint), sentiment)
                self["feedback_touchpoint_scored_total"].labels(*labels).inc(count)

    def turned(self, transitions: Iterable[tuple[str, str]]) -> None:
        """Count alerts that came into a state, by (rule, state)."""
        for (rule, state), count in Count(transitions).items():
            self["feedback_alert_transitions_total"].labels(rule, state).inc(count)

    def buried(self, stage: str, reason: str) -> None:
        """Count a dead letter. What it says of itself comes from the wire: unknown words are shown as other."""
        labels = (stage if stage in DEAD_STAGES else OTHER, reason if reason in DEAD_REASONS else OTHER)
        self["feedback_dead_letters_total"].labels(*labels).inc()


class _Stored(Collector):
    def __init__(
        self,
        snapshot: Callable[[], Snapshot | None],
        source: Callable[[str], str],
        topic: Callable[[str], str],
        language: Callable[[str], str],
    ) -> None:
        self._snapshot = snapshot
        self._language = language
        self._source = source
        self._topic = topic

    def describe(self) -> Iterable[Metric]:
        return [_family(definition) for definition in WORKER if definition.stored]

    def collect(self) -> Iterator[Metric]:
        shown = self._snapshot()
        if shown is None:
            return
        families = {definition.name: _family(definition) for definition in WORKER if definition.stored}

        def emit(name: str, values: Mapping[tuple[str, ...], float]) -> None:
            for labels, value in sorted(values.items()):
                families[name].add_metric(labels, value)

        items: Count[tuple[str, ...]] = Count()
        for (source, topic, sentiment), count in shown.totals.items():
            items[self._source(source), self._topic(topic), sentiment] += count
        emit("feedback_items", items)
        in_window: Count[tuple[str, ...]] = Count()
        sums: Count[tuple[str, ...]] = Count()
        for (source, topic, window), entry in shown.windows.items():
            for sentiment, count in entry.count.items():
                in_window[self._source(source), self._topic(topic), sentiment, window] += count
                sums[self._source(source), self._topic(topic), window, "count"] += count
            sums[self._source(source), self._topic(topic), window, "score"] += entry.score_e6
        emit("feedback_window_items", in_window)
        scores = {
            key[:3]: sums[(*key[:3], "score")] / SCORE_UNIT / count
            for key, count in sums.items()
            if key[3] == "count" and count
        }
        emit("feedback_sentiment_score", scores)
        spoken: Count[tuple[str, ...]] = Count()
        for (language, *rest), count in shown.spoken.items():
            if count:
                spoken[self._language(language), *rest] += count
        emit("feedback_language_items", spoken)
        missing: dict[tuple[str, ...], float] = {}
        for (source, window), missing_s in shown.missing_s.items():
            named = (self._source(source), window)
            missing[named] = max(missing_s, missing.get(named, 0.0))
        emit("feedback_window_missing_seconds", missing)
        active: Count[tuple[str, ...]] = Count()
        for alert in shown.firing:
            labels = dict(alert.labels)
            active[alert.rule, self._topic(labels.get("topic", "")), labels.get("severity", "")] += 1
        emit("feedback_alert_active", active)
        for name, times in (("event", shown.last_event), ("success", shown.last_success)):
            latest: dict[tuple[str, ...], float] = {}
            for source, at in times.items():
                key = (self._source(source),)
                latest[key] = max(latest.get(key, 0.0), at.timestamp())
            emit(f"feedback_source_last_{name}_timestamp_seconds", latest)
        yield from families.values()


def _family(definition: Definition) -> GaugeMetricFamily:
    return GaugeMetricFamily(definition.name, definition.help, labels=definition.labels)


def make(definition: Definition, registry: CollectorRegistry) -> Any:
    """The metric of a definition, in a registry."""
    if definition.kind == "counter":
        return Counter(definition.name, definition.help, definition.labels, registry=registry)
    if definition.kind == "gauge":
        return Gauge(definition.name, definition.help, definition.labels, registry=registry)
    return Histogram(definition.name, definition.help, definition.labels, buckets=definition.buckets, registry=registry)


def document(definitions: Iterable[Definition] = WORKER) -> str:
    """A table of metrics as Markdown, for docs/metrics.md."""
    lines = ["| metric | kind | labels | meaning |", "|---|---|---|---|"]
    for one in definitions:
        labels = ", ".join(f"`{label}`" for label in one.labels) or "–"
        lines.append(f"| `{one.name}` | {one.kind} | {labels} | {one.help} |")
    return "\n".join(lines) + "\n"
