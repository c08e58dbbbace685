"""The wire on one page: topic names, keys, partitions, retention.

| topic | key | value | read by |
|---|---|---|---|
| `feedback.raw` | feedback id | one Feedback (codec.encode_feedback) | classify |
| `feedback.scored` | workspace | a batch of Scored of one workspace partition (codec.encode_scored) | fold |
| `feedback.dead` | dead id | one DeadLetter (codec.encode_dead) | fold |
| `feedback.alerts` | fingerprint | the newest state of an Alert (receivers.encode); compacted | others |
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from pipeline.settings import Kafka


@dataclass(frozen=True, slots=True, kw_only=True)
class Topic:
    """One topic and the settings that it is created with. Of a compacted one the newest value of each key stays,
    for as long as it is retained."""

    name: str
    partitions: int
    replication: int
    retention_hours: int
    compacted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Topics:
    """The topics of one installation."""

    raw: Topic
    scored: Topic
    dead: Topic
    alerts: Topic

    @classmethod
    def of(cls, kafka: Kafka) -> Topics:
        """The topics that these settings describe."""

        def topic(name: str, hours: int, *, compacted: bool = False) -> Topic:
            return Topic(
                name=f"{kafka.prefix}.{name}",
                partitions=kafka.partitions,
                replication=kafka.replication,
                retention_hours=hours,
                compacted=compacted,
            )

        return cls(
            raw=topic("raw", kafka.raw_retention_hours),
            scored=topic("scored", kafka.scored_retention_hours),
            dead=topic("dead", kafka.dead_retention_hours),
            alerts=topic("alerts", kafka.dead_retention_hours, compacted=True),
        )

    def __iter__(self) -> Iterator[Topic]:
        return iter((self.raw, self.scored, self.dead, self.alerts))


def workspace_partition(workspace: str, partitions: int) -> int:
    """The partition of `feedback.scored` that holds everything of a workspace (CRC-32, stable)."""
    return zlib.crc32(workspace.encode()) % partitions
