"""What the intake counts, in a registry of its own; every name starts with `feedback_intake_`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from connectors.feedback import FIELDS

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
PUBLISH_BUCKETS_S: Final = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class IntakeMetrics:
    """Counters of one intake process. Labels are bounded: HTTP statuses, and names of feedback fields."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "feedback_intake_requests",
            "Requests by HTTP status of the answer",
            ["status"],
            registry=self.registry,
        )
        self.accepted = Counter(
            "feedback_intake_accepted_items", "Items that the broker acknowledged", registry=self.registry
        )
        self._rejected = Counter(
            "feedback_intake_rejected_items",
            "Faults of refused items by field; `item`: the item as a whole, `other`: unknown fields",
            ["field"],
            registry=self.registry,
        )
        self.body_bytes = Counter(
            "feedback_intake_body_bytes", "Bytes of request bodies as received", registry=self.registry
        )
        self.publish_s = Histogram(
            "feedback_intake_publish_seconds",
            "Seconds from handing a batch to the broker's client to its acknowledgement",
            buckets=PUBLISH_BUCKETS_S,
            registry=self.registry,
        )

    def gauge(self, name: str, text: str, read: Callable[[], float]) -> None:
        """Show `read()` as the gauge `feedback_intake_<name>` on each scrape."""
        Gauge(f"feedback_intake_{name}", text, registry=self.registry).set_function(read)

    def answered(self, status: int) -> None:
        """Count one answer."""
        self._requests.labels(str(status)).inc()

    def refused(self, fields: Iterable[str]) -> None:
        """Count faults by field."""
        for name in fields:
            label = name if name in FIELDS else "other" if name else "item"
            self._rejected.labels(label).inc()

    def render(self) -> bytes:
        """The exposition text. Takes milliseconds: call it off the event loop."""
        return generate_latest(self.registry)
