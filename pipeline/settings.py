"""Settings: the only reader of configuration files and `OVOZ_*` environment variables."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Kafka:
    """The broker and the topics. Retention in hours; `prefix` starts every topic name."""

    bootstrap: str = "127.0.0.1:9092"
    prefix: str = "feedback"
    partitions: int = 4
    replication: int = 1
    raw_retention_hours: int = 168
    scored_retention_hours: int = 72
    dead_retention_hours: int = 720


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """The database and how long items and their counts are kept."""

    url: str = "sqlite:///ovoz-data/ovoz.db"
    retention_days: int = 90


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """One bearer token of the intake: the SHA-256 (hex) of the secret, never the secret."""

    name: str
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ingest:
    """The HTTP intake. Without tokens it answers on loopback addresses only."""

    host: str = "127.0.0.1"
    port: int = 8080
    max_body_bytes: int = 1_048_576
    max_in_flight_items: int = 20_000
    data_dir: Path = Path("ovoz-data")
    author_key_file: Path | None = None
    tokens: tuple[Token, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """Which engine classifies: `onnx` (the shipped model, or another folder) or `transformer`."""

    engine: str = "onnx"
    path: str | None = None
    threads: int = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """A Faust worker. Times in seconds."""

    group: str = "ovoz"
    data_dir: Path = Path("ovoz-data/worker")
    host: str = "127.0.0.1"
    port: int = 9108
    classify_batch_items: int = 256
    classify_batch_wait_s: float = 0.02
    fold_batch_items: int = 64
    fold_batch_wait_s: float = 0.02
    session_timeout_s: float = 10.0
    repair_after_s: float = 60.0
    late_after_s: float = 300.0
    dead_letter_fuse_share: float = 0.5
    dead_letter_fuse_items: int = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Alerts:
    """Where alerts go. An item older than `max_age_minutes` when it arrives is counted, but never pages."""

    rules: Path | None = None
    alertmanager: tuple[str, ...] = ()
    apprise: tuple[str, ...] = ()
    lease_s: float = 300.0
    max_age_minutes: int = 360
    dashboard_url: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Labels:
    """Bounds of metric labels: what comes beyond these counts is shown as `other`."""

    max_sources: int = 50
    max_topics: int = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything a process needs to know; the defaults run on one machine."""

    kafka: Kafka = field(default_factory=Kafka)
    store: Store = field(default_factory=Store)
    ingest: Ingest = field(default_factory=Ingest)
    model: Model = field(default_factory=Model)
    worker: Worker = field(default_factory=Worker)
    alerts: Alerts = field(default_factory=Alerts)
    labels: Labels = field(default_factory=Labels)
