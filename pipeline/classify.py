"""Raw records → scored items and dead letters. Stateless; runs in an executor, never on the event loop."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from math import isfinite
from typing import Final

from connectors.feedback import Feedback
from models.classifier import Classifier, Prediction
from pipeline.codec import DecodeError, decode_feedback, encode_scored
from pipeline.records import DeadLetter, RawPosition, Scored
from pipeline.topics import workspace_partition

MAX_SCORED_BYTES: Final = 500_000
MAX_DEAD_PAYLOAD: Final = 4_000_000
MODEL_FAILED: Final = "model"


@dataclass(frozen=True, slots=True, kw_only=True)
class RawRecord:
    """One record of `feedback.raw`, as bytes."""

    partition: int
    offset: int
    key: bytes | None
    value: bytes | None


@dataclass(slots=True)
class Outcome:
    """What became of a batch: scored items by partition of `feedback.scored`, and dead letters."""

    scored: dict[int, list[Scored]] = field(default_factory=lambda: defaultdict(list))
    dead: list[DeadLetter] = field(default_factory=list)
    inference_s: float = 0.0

    @property
    def size(self) -> int:
        """How many raw records have an outcome here."""
        return sum(map(len, self.scored.values())) + len(self.dead)


def classify(
    records: Sequence[RawRecord],
    *,
    log: str,
    classifier: Classifier,
    partitions: int,
    clock: Callable[[], float],
    now: datetime,
) -> Outcome:
    """Decode and score a batch in one pass of the model; what cannot be read becomes a dead letter.

    `log`: the life of the raw topic that the offsets belong to. `clock` gives seconds, for timing only.
    """
    outcome = Outcome()
    readable: list[tuple[Feedback, RawPosition, RawRecord]] = []
    for record in records:
        raw = RawPosition(log=log, partition=record.partition, offset=record.offset)
        try:
            readable.append((decode_feedback(record.value), raw, record))
        except DecodeError as error:
            outcome.dead.append(_dead(record, raw, error.reason, str(error), now))
    texts = [feedback for feedback, _, _ in readable if feedback.speaks]
    answers: Iterator[Prediction | Exception] = iter(())
    if texts:
        started = clock()
        answers = iter(_predict(classifier, texts))
        outcome.inference_s = clock() - started
    for feedback, raw, record in readable:
        prediction = next(answers) if feedback.speaks else None
        if isinstance(prediction, Exception):
            outcome.dead.append(_dead(record, raw, MODEL_FAILED, repr(prediction), now))
            continue
        partition = workspace_partition(feedback.workspace, partitions)
        outcome.scored[partition].append(Scored(feedback=feedback, prediction=prediction, raw=raw, scored_at=now))
    return outcome


def _predict(classifier: Classifier, texts: Sequence[Feedback]) -> list[Prediction | Exception]:
    """One answer a text. A model that fails on a batch is asked again with halves of it, so that only the text
    that it cannot take is lost to it, and not its neighbours.
    """
    try:
        answers = classifier.classify([one.text for one in texts], [one.language for one in texts])
        return [answer if isfinite(sum(answer.sentiment)) else ValueError("not a number") for answer in answers]
    except Exception as error:
        if len(texts) == 1:
            return [error]
        middle = len(texts) // 2
        return [*_predict(classifier, texts[:middle]), *_predict(classifier, texts[middle:])]


def scored_values(items: Sequence[Scored]) -> Iterable[bytes]:
    """Scored items as values of as few `feedback.scored` records as their size allows, in order."""
    value = encode_scored(items)
    if len(value) <= MAX_SCORED_BYTES or len(items) == 1:
        return [value]
    middle = len(items) // 2
    return [*scored_values(items[:middle]), *scored_values(items[middle:])]


def _dead(record: RawRecord, raw: RawPosition, reason: str, detail: str, now: datetime) -> DeadLetter:
    payload = record.value or b""
    if len(payload) > MAX_DEAD_PAYLOAD:
        detail += f"; of {len(payload)} bytes the first {MAX_DEAD_PAYLOAD} are kept"
        payload = payload[:MAX_DEAD_PAYLOAD]
    return DeadLetter(
        dead_id=f"{raw.log}/{raw.partition}/{raw.offset}",
        stage="classify",
        reason=reason,
        detail=detail,
        payload=payload,
        key=record.key,
        failed_at=now,
        origin=f"raw:{raw.partition}:{raw.offset}",
        raw=raw,
    )
