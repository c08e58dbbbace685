"""The past as samples for a backtest: files, scored on the way or already, and what the broker keeps."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Final

from alerts.alert import Sample
from connectors.feedback import Feedback
from models.classifier import Classifier, Prediction
from pipeline.bus import admin, read_offsets
from pipeline.codec import decode_scored
from pipeline.records import Scored
from pipeline.redact import Redactor
from pipeline.replay_item import Shape, feedback_of
from pipeline.replay_source import Unreadable, items, opened
from pipeline.settings import Kafka
from pipeline.topics import Topics

BATCH: Final = 64
SENTIMENTS: Final = frozenset({"negative", "neutral", "positive", "unsure"})
_CLOCK: Final = re.compile(r"\d{1,2}:\d{2}(:\d{2})?\Z")


@dataclass(slots=True)
class Read:
    """What was read so far, and what could not be."""

    lines: int = 0
    unreadable: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)


def sample_of(feedback: Feedback, prediction: Prediction) -> Sample:
    """A scored item as the rules see it."""
    return Sample(
        feedback_id=feedback.feedback_id,
        workspace=feedback.workspace,
        source=feedback.source,
        channel=feedback.channel,
        topic=prediction.topic,
        language=prediction.language,
        sentiment=prediction.label,
        score=prediction.score,
        at=feedback.created_at,
        text=feedback.text,
        model=prediction.model,
        certainty=prediction.topics[prediction.topic],
        urgency=prediction.urgency,
        author=feedback.author_hash or "",
        customer=feedback.customer_id or "",
        touchpoint=feedback.touchpoint or "",
    )


def from_files(
    files: Sequence[Path],
    shape: Shape,
    redactor: Redactor,
    classifier: Callable[[], Classifier],
    read: Read,
    *,
    day: date | None = None,
) -> list[Sample]:
    """The items of files (JSONL or CSV, plain or gzip), sorted by event time; of an item the first version.

    A line with `sentiment` (one of SENTIMENTS) and `topic` is taken as scored, any other is classified. `day`
    is that of times that are a clock's only, such as 13:05. Raises SourceError for a damaged file.
    """
    ready: list[Sample] = []
    waiting: list[Feedback] = []
    seen: set[str] = set()
    now = datetime.now(UTC)
    for file in files:
        with file.open("rb") as raw:
            for line in items(opened(raw)):
                read.lines += 1
                if isinstance(line, Unreadable):
                    read.unreadable[line.reason] += 1
                    continue
                value, scores = _scores(line.value)
                try:
                    feedback = feedback_of(
                        _dated(value, shape, day), line.payload, shape, now=now, redactor=redactor,
                        left_out=read.left_out,
                    )  # fmt: skip
                except ValueError as fault:
                    read.unreadable[str(fault)[:80]] += 1
                    continue
                if not feedback.speaks or feedback.feedback_id in seen:
                    continue
                seen.add(feedback.feedback_id)
                if scores is None:
                    waiting.append(feedback)
                else:
                    ready.append(_scored(feedback, *scores))
    if waiting:
        model = classifier()
        for start in range(0, len(waiting), BATCH):
            some = waiting[start : start + BATCH]
            predictions = model.classify([one.text for one in some], [one.language for one in some])
            ready += map(sample_of, some, predictions)
    return sorted(ready, key=lambda sample: sample.at)


def from_scored(items_: Iterable[Scored], begin: datetime | None, end: datetime | None) -> Iterator[Sample]:
    """The samples of scored items, as they stand in the broker's topic; each item once."""
    seen: set[tuple[str, str]] = set()
    for item in items_:
        feedback = item.feedback
        mark = (feedback.workspace, feedback.feedback_id)
        if item.prediction is None or feedback.backfill or mark in seen:
            continue
        if (begin is None or feedback.created_at >= begin) and (end is None or feedback.created_at < end):
            seen.add(mark)
            yield sample_of(feedback, item.prediction)


def _scores(value: Any) -> tuple[Any, tuple[str, str, float, str] | None]:
    """A line without its scores, and (sentiment, topic, score, model) if it has them."""
    if not isinstance(value, dict) or value.get("sentiment") not in SENTIMENTS or not value.get("topic"):
        return value, None
    sentiment = str(value["sentiment"])
    score = value.get("score", {"negative": -1.0, "positive": 1.0}.get(sentiment, 0.0))
    try:
        number = min(max(float(score), -1.0), 1.0)
    except (TypeError, ValueError):
        number = 0.0
    rest = {name: one for name, one in value.items() if name not in ("sentiment", "topic", "score", "model")}
    return rest, (sentiment, str(value["topic"])[:64], number, str(value.get("model") or "as given"))


def _scored(feedback: Feedback, sentiment: str, topic: str, score: float, model: str) -> Sample:
    return Sample(
        feedback_id=feedback.feedback_id, workspace=feedback.workspace, source=feedback.source,
        channel=feedback.channel, topic=topic, language=feedback.language or "und", sentiment=sentiment, score=score,
        at=feedback.created_at, text=feedback.text, model=model, author=feedback.author_hash or "",
        customer=feedback.customer_id or "", touchpoint=feedback.touchpoint or "",
    )  # fmt: skip


def _dated(value: Any, shape: Shape, day: date | None) -> Any:
    column = shape.mapping.get("created_at", "created_at")
    if day is None or not isinstance(value, dict) or not _CLOCK.match(str(value.get(column, ""))):
        return value
    return {**value, column: f"{day.isoformat()}T{str(value[column]).zfill(5)}Z"}


def scored_in(kafka: Kafka) -> Iterator[Scored]:
    """What the broker's topic of scored items still holds, oldest scores first. Raises BrokerAway, DecodeError."""
    topic = Topics.of(kafka).scored.name
    with admin(kafka) as broker:
        ends = broker.ends(topic)
    found: list[Scored] = []
    for partition, (first, end) in sorted(ends.items()):
        if first < end:
            for _, _, value in read_offsets(kafka, topic, partition, [(first, end)]):
                found += decode_scored(value)
    yield from sorted(found, key=lambda item: item.scored_at)
