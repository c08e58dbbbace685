"""Records ↔ rows."""

from __future__ import annotations

from typing import Any, Final

import orjson

from pipeline.fold import Held
from pipeline.records import DeadLetter, Scored
from pipeline.windows import Cell, micros

# PostgreSQL's text holds no NUL; whatever reaches a row from bytes that nobody checked loses it.
_NUL: Final = "\x00"


def item_row(scored: Scored, held: Held, expires_minute: int) -> dict[str, Any]:
    """The row of an item's newest version; what does not count anywhere keeps no text."""
    feedback, prediction, cell = scored.feedback, scored.prediction, held.cell
    counts = cell is not None and prediction is not None
    kept = counts or held.silent
    survey = feedback.survey if kept else None
    return {
        "workspace": feedback.workspace,
        "feedback_id": feedback.feedback_id,
        "version": feedback.version,
        "minute": cell.minute if cell else None,
        "source": feedback.source,
        "channel": feedback.channel,
        "topic": cell.topic if cell else None,
        "language": cell.language if cell else None,
        "sentiment": cell.sentiment if cell else None,
        "score_e6": held.score_e6,
        "topics": orjson.dumps({k: round(v, 4) for k, v in prediction.topics.items()}).decode()
        if counts and prediction
        else None,
        "urgency": prediction.urgency if counts and prediction else None,
        "model": prediction.model if counts and prediction else None,
        "text": feedback.text if counts else None,
        "rating": feedback.rating if kept else None,
        "author_hash": feedback.author_hash if kept else None,
        "customer_id": feedback.customer_id if kept else None,
        "touchpoint": feedback.touchpoint if kept else None,
        "url": feedback.url if kept else None,
        "survey": survey.kind if survey else None,
        "survey_value": survey.value if survey else None,
        "survey_low": survey.low if survey else None,
        "survey_high": survey.high if survey else None,
        "conversation_id": feedback.conversation_id if kept else None,
        "turn": feedback.turn if kept else None,
        "silent": held.silent,
        "created_us": micros(feedback.created_at),
        "received_us": micros(feedback.received_at),
        "scored_us": micros(scored.scored_at),
        "expires_minute": expires_minute,
        "raw_log": scored.raw.log,
        "raw_partition": scored.raw.partition,
        "raw_offset": scored.raw.offset,
    }


# The columns of `item_row` of what counts nowhere.
NOTHING_COUNTED: Final = {
    **dict.fromkeys(("minute", "topic", "language", "sentiment", "topics", "urgency", "model", "text")),
    **dict.fromkeys(("rating", "author_hash", "customer_id", "touchpoint", "url", "survey", "survey_value")),
    **dict.fromkeys(("survey_low", "survey_high", "conversation_id", "turn")),
    "score_e6": 0,
}


def held(row: Any) -> Held:
    """What the store holds of an item, from the columns of `item` that `transaction` reads."""
    if row.minute is None:
        return Held(row.version, None, 0, row.silent)
    cell = Cell(row.workspace, row.minute, row.source, row.channel, row.topic, row.language, row.sentiment)
    return Held(row.version, cell, row.score_e6)


def dead_row(letter: DeadLetter) -> dict[str, Any]:
    """The row of a dead letter."""
    return {
        "dead_id": letter.dead_id.replace(_NUL, ""),
        "stage": letter.stage.replace(_NUL, ""),
        "reason": letter.reason.replace(_NUL, ""),
        "detail": letter.detail.replace(_NUL, "")[:2000],
        "origin": letter.origin.replace(_NUL, ""),
        "key": letter.key,
        "payload": letter.payload,
        "failed_us": micros(letter.failed_at),
        "requeued_us": None,
    }
