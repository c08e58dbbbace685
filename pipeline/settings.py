# ruff: noqa: RUF009  (`setting` makes a dataclass field; the paths given to it are immutable)
"""Settings: the only reader of configuration files and `OVOZ_*` environment variables.

Each key stands here once, with its default, what it may be and its help: `ovoz init`, `ovoz check` and
docs/configuration.md are made from these classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from pipeline import settings_kinds as kinds
from pipeline.settings_kinds import setting

HOOK_BODY_BYTES: Final = 1_048_576


@dataclass(frozen=True, slots=True, kw_only=True)
class Kafka:
    """The broker and the topics."""

    bootstrap: str = setting("127.0.0.1:9092", kinds.brokers(), "Kafka's bootstrap servers.")
    prefix: str = setting("feedback", kinds.name("a prefix", "feedback"), "Starts the name of every topic.")
    partitions: int = setting(
        4, kinds.whole(1, 10_000), "Partitions of each topic: the most workers that can share the load."
    )
    replication: int = setting(1, kinds.whole(1, 100), "Brokers that keep a copy; at least 3 in production.")
    raw_retention_hours: int = setting(
        168, kinds.whole(1, 87_600), "How long raw feedback can be read again, in hours."
    )
    scored_retention_hours: int = setting(72, kinds.whole(1, 87_600), "The same for scored feedback, in hours.")
    dead_retention_hours: int = setting(720, kinds.whole(1, 87_600), "The same for dead letters, in hours.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """The database of items, counts, alerts and dead letters."""

    url: str = setting(
        "sqlite:///ovoz-data/ovoz.db",
        kinds.store_url(),
        "sqlite:///FILE for one machine, or postgresql://USER:PASSWORD@HOST/DATABASE "
        "(needs `pip install 'ovoz[postgres]'`).",
    )
    retention_days: int = setting(
        90, kinds.whole(1, 3650), "How long items and their counts are kept, in days of event time."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """One bearer token of the intake: the SHA-256 (hex) of the secret, never the secret."""

    name: str
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ingest:
    """The HTTP intake. Without tokens it answers on loopback addresses only."""

    host: str = setting("127.0.0.1", kinds.host(), "Address to listen on; another than loopback needs a token.")
    port: int = setting(8080, kinds.whole(0, 65_535), "Port to listen on; 0 takes a free one.")
    max_body_bytes: int = setting(
        1_048_576, kinds.whole(1024, 1 << 30), "Largest request body, in bytes, after decompression too."
    )
    max_in_flight_items: int = setting(
        20_000, kinds.whole(1, 10_000_000), "Items waiting for the broker beyond which the answer is 429."
    )
    data_dir: Path = setting(Path("ovoz-data"), kinds.folder("ovoz-data"), "Folder of the intake's own files.")
    author_key_file: Path | None = setting(
        None,
        kinds.existing_file("the key that author names are hashed with", "/run/secrets/author.key"),
        "Key that author names are hashed with, at least 16 bytes; the same for every intake and replay. "
        "Without it author.key in data_dir is used, and made on first use.",
        example="/run/secrets/author.key",
    )
    public_url: str | None = setting(
        None, kinds.web_url(),
        "Address under which services reach the webhooks, as their signatures may cover it; without it the one "
        "that they call.", example="https://hooks.example.com",
    )  # fmt: skip
    lease_s: float = setting(
        15.0, kinds.number(1, 3600, "seconds"),
        "How long a connector stays with a process that died before another takes it over, in seconds.",
    )  # fmt: skip
    tokens: tuple[Token, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Privacy:
    """Personal data, before anything is written to Kafka. `hash` keeps the same person recognisable, not known."""

    emails: str = setting("redact", kinds.choice("redact", "hash", "keep"), "E-mail addresses in texts.")
    phones: str = setting("redact", kinds.choice("redact", "hash", "keep"), "Phone numbers in texts.")
    cards: str = setting("redact", kinds.choice("redact", "hash", "keep"), "Numbers of payment cards in texts.")
    handles: str = setting(
        "redact", kinds.choice("redact", "hash", "keep"), "Names of accounts in texts, such as @name and t.me/name."
    )
    phone_regions: tuple[str, ...] = setting(
        ("UZ", "RU", "KZ"), kinds.regions(), "Countries whose phone numbers are known without a country code."
    )
    authors: str = setting("hash", kinds.choice("hash", "drop"), "Names of authors; they are never kept.")
    customer_ids: str = setting(
        "hash", kinds.choice("hash", "keep", "drop"), "Ids of customers. Keep them to look customers up elsewhere."
    )
    urls: str = setting(
        "redact", kinds.choice("redact", "keep", "drop"), "Addresses of items; redact drops those that name a person."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """What classifies."""

    engine: str = setting(
        "onnx", kinds.choice("onnx", "transformer", "lexicon"),
        "onnx (fast), transformer (any Hugging Face checkpoint) or lexicon (word lists, for tests).",
    )
    path: str | None = setting(
        None, kinds.model_path(), "Folder of another model; without it the shipped one is used.",
        example="models/mine",
    )  # fmt: skip
    topics: Path | None = setting(
        None, kinds.existing_file("a file of topics that `ovoz topics fit` wrote", "topics.npz"),
        "Topics of your own for the engine onnx; `ovoz topics fit` writes the file.", example="topics.npz",
    )  # fmt: skip
    sentiment_labels: tuple[tuple[str, str], ...] = setting(
        (), kinds.mapping("negative", "neutral", "positive"),
        "What the labels of a Hugging Face checkpoint mean, where they do not say so themselves; for a zero-shot "
        "checkpoint, what it is asked.",
        example={"LABEL_0": "negative", "LABEL_1": "neutral", "LABEL_2": "positive"},
    )  # fmt: skip
    topic_labels: tuple[tuple[str, str], ...] = setting(
        (), kinds.mapping(), "The same for topics; several labels may mean the same topic.",
        example={"LABEL_3": "delivery", "This is about a parcel.": "delivery"},
    )  # fmt: skip
    unsure_below: float = setting(
        0.0, kinds.number(0, 1),
        "Probability of a checkpoint's sentiment below which an item counts as unsure; other models bring their own.",
    )  # fmt: skip
    threads: int = setting(2, kinds.whole(1, 1024), "Processor cores that one worker's model uses.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """A worker: classifies and counts. Times in seconds."""

    group: str = setting("ovoz", kinds.name("a group", "ovoz"), "Consumer group: workers of one group share.")
    data_dir: Path = setting(
        Path("ovoz-data/worker"), kinds.folder("ovoz-data/worker"), "Folder of the worker's own files."
    )
    host: str = setting("127.0.0.1", kinds.host(), "Address of /metrics.")
    port: int = setting(9108, kinds.whole(0, 65_535), "Port of /metrics; 0 takes a free one.")
    quotes_token_sha256: str | None = setting(
        None, kinds.sha256(),
        "SHA-256 of the password of /quotes, the customers' own words beside /metrics (`ovoz token quotes` makes "
        "both); without it there is no such page.", example="0123456789abcdef" * 4,
    )  # fmt: skip
    classify_batch_items: int = setting(256, kinds.whole(1, 10_000), "Most items in one batch for the model.")
    classify_batch_wait_s: float = setting(
        0.02, kinds.number(0, 10, "seconds"), "Longest wait for such a batch to fill, in seconds."
    )
    fold_batch_items: int = setting(64, kinds.whole(1, 10_000), "Most scored records in one transaction.")
    fold_batch_wait_s: float = setting(
        0.05, kinds.number(0, 10, "seconds"), "Longest wait for such a batch to fill, in seconds."
    )
    session_timeout_s: float = setting(
        10.0, kinds.number(3, 300, "seconds"), "Silence after which a worker counts as dead, in seconds."
    )
    repair_after_s: float = setting(
        60.0, kinds.number(1, 86_400, "seconds"), "Age at which a missing item is read again, in seconds."
    )
    late_after_s: float = setting(
        300.0, kinds.number(0, 604_800, "seconds"), "Delay beyond which an item counts as late, in seconds."
    )
    dead_letter_fuse_share: float = setting(
        0.5, kinds.number(0.001, 1), "Share of dead letters at which the worker stops instead of going on."
    )
    dead_letter_fuse_items: int = setting(
        1000, kinds.whole(1, 10_000_000), "Over how many items that share is taken."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Alerts:
    """Where alerts go. An item older than `max_age_minutes` when it arrives is counted, but never pages."""

    rules: Path | None = setting(
        None, kinds.existing_file("a rule file", "rules.toml"),
        "Rule file; without it the rules that come with Ovoz are used.", example="rules.toml",
    )  # fmt: skip
    alertmanager: tuple[str, ...] = setting(
        (), kinds.alertmanager_urls(), "Base addresses of Alertmanager servers.",
        example=["http://127.0.0.1:9093"],
    )  # fmt: skip
    apprise: tuple[str, ...] = setting(
        (), kinds.notify_urls(), "Apprise URLs of chats, mail and others to notify.",
        example=["tgram://BOT_TOKEN/CHAT_ID"],
    )  # fmt: skip
    apprise_delivery: Literal["at-least-once", "once"] = setting(
        "at-least-once", kinds.choice("at-least-once", "once"),
        "A message that was being sent when a worker died: sent again and marked so, or not sent again.",
    )  # fmt: skip
    lease_s: float = setting(
        300.0, kinds.number(3, 86_400, "seconds"),
        "How long Alertmanager keeps an alert that is not sent again, in seconds.",
    )  # fmt: skip
    max_age_minutes: int = setting(
        360, kinds.whole(1, 525_600), "Age of an item beyond which it never pages, in minutes."
    )
    dashboard_url: str | None = setting(
        None, kinds.web_url(), "Dashboard that alerts link to.", example="https://grafana.example.com/d/ovoz"
    )
    prometheus_url: str | None = setting(
        None, kinds.web_url(), "Prometheus where an alert's query opens.", example="https://prometheus.example.com"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Labels:
    """Bounds of metric labels: what comes beyond these counts is shown as `other`."""

    max_sources: int = setting(50, kinds.whole(1, 10_000), "Sources with a label of their own.")
    max_topics: int = setting(50, kinds.whole(1, 10_000), "Topics with a label of their own.")
    max_touchpoints: int = setting(50, kinds.whole(1, 10_000), "Touchpoints with a label of their own.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Connector:
    """One [[connector]] table. `use` names a connector, or `package.module:name` of another package; `name` is
    this instance of it. `options` are the connector's own keys, read when it is built; `origins` says where each
    key stands.
    """

    use: str
    name: str
    workspace: str = "default"
    every_s: float | None = None
    repeats_s: float | None = None
    modes: tuple[str, ...] = ()
    max_body_bytes: int = HOOK_BODY_BYTES
    options: Mapping[str, Any] = field(default_factory=dict)
    origins: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything a process needs to know; the defaults run on one machine."""

    kafka: Kafka = field(default_factory=Kafka)
    store: Store = field(default_factory=Store)
    ingest: Ingest = field(default_factory=Ingest)
    privacy: Privacy = field(default_factory=Privacy)
    model: Model = field(default_factory=Model)
    worker: Worker = field(default_factory=Worker)
    alerts: Alerts = field(default_factory=Alerts)
    labels: Labels = field(default_factory=Labels)
    connector: tuple[Connector, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing that is wrong: `where` is `FILE:LINE` or the name of an environment variable."""

    where: str
    key: str
    found: str
    expected: str
    instead: str

    def __str__(self) -> str:
        key = f"{self.key}: " if self.key and self.key != self.where else ""
        return f"{self.where}: {key}found {self.found}, expected {self.expected}; write instead: {self.instead}"


class SettingsError(ValueError):
    """The settings cannot be used; `faults` names everything that is wrong with them."""

    def __init__(self, faults: list[Fault]) -> None:
        super().__init__("\n".join(map(str, faults)))
        self.faults = faults


def load(path: Path | None, environ: Mapping[str, str]) -> Settings:
    """Read the settings file, let `OVOZ_<SECTION>_<KEY>` variables override it, and check everything.

    The file is `path`, or else what OVOZ_CONFIG names, or else `ovoz.toml` in the current folder if it is
    there. An empty variable counts as not set. Raises SettingsError with every fault.
    """
    from pipeline.settings_file import read

    return read(path, environ).settings
