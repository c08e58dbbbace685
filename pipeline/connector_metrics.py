"""What each connector counts; the table of these metrics stands in pipeline.metrics."""

from __future__ import annotations

from typing import Any, Final

from prometheus_client import CollectorRegistry

from pipeline.metrics import CONNECTOR, make

STATES: Final = ("running", "backing_off", "waiting", "stopped")
"""`waiting`: another process drives it."""


class ConnectorMetrics:
    """The metrics of all connectors of one process. Labels are names from the settings: bounded.

    Without a registry they are shown nowhere.
    """

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        shown = registry or CollectorRegistry()
        self._made: dict[str, Any] = {one.name: make(one, shown) for one in CONNECTOR}

    def of(self, source: str, instance: str) -> OneConnector:
        """The metrics of one instance, which exist from now on."""
        return OneConnector(self._made, source, instance)


class OneConnector:
    """The metrics of one instance of a connector."""

    def __init__(self, made: dict[str, Any], source: str, instance: str) -> None:
        self._made = made
        self._names = (source, instance)
        self.state = "waiting"
        for name in ("items", "skipped", "gaps", "throttled", "signature_failures"):
            self._metric(f"{name}_total")
        self.show("waiting")

    def show(self, state: str) -> None:
        """Show what it is doing."""
        self.state = state
        for one in STATES:
            self._metric("state", one).set(float(one == state))

    def count(self, name: str, number: float = 1.0, *labels: str) -> None:
        """Count in `feedback_connector_<name>_total`."""
        if number:
            self._metric(f"{name}_total", *labels).inc(number)

    def set(self, name: str, value: float) -> None:
        """Set the gauge `feedback_connector_<name>`."""
        self._metric(name).set(value)

    def _metric(self, name: str, *labels: str) -> Any:
        return self._made[f"feedback_connector_{name}"].labels(*self._names, *labels)
