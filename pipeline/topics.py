"""The wire on one page: topic names, keys, partitions, retention.

| topic | key | value | read by |
|---|---|---|---|
| `feedback.raw` | feedback id | one Feedback (codec.encode_feedback) | classify |
| `feedback.scored` | workspace | a batch of Scored of one workspace partition (codec.encode_scored) | fold |
| `feedback.dead` | dead id | one DeadLetter (codec.encode_dead) | fold |
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from pipeline.settings import Kafka


@dataclass(frozen=True, slots=True, kw_only=True)
class Topic:
    """One topic and the settings that it is created with."""

    name: str
    partitions: int
    replication: int
    retention_hours: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Topics:
    """The topics of one installation."""

    raw: Topic
    scored: Topic
    dead: Topic

    @classmethod
    def of(cls, kafka: Kafka) -> Topics:
        """The topics that these settings describe."""

        def topic(name: str, hours: int) -> Topic:
            return Topic(
                name=f"{kafka.prefix}.{name}",
                partitions=kafka.partitions,
                replication=kafka.replication,
                retention_hours=hours,
            )

        return cls(
            raw=topic("raw", kafka.raw_retention_hours),
            scored=topic("scored", kafka.scored_retention_hours),
            dead=topic("dead", kafka.dead_retention_hours),
        )

    def __iter__(self) -> Iterator[Topic]:
        return iter((self.raw, self.scored, self.dead))


def workspace_partition(workspace: str, partitions: int) -> int:
    """The partition of `feedback.scored` that holds everything of a workspace (CRC-32, stable)."""
    return zlib.crc32(workspace.encode()) % partitions
