"""Record ↔ bytes: JSON with a schema version, read strictly.

A record of an unknown schema version, or one that breaks a field's bounds, is a DecodeError, which
carries the reason that its dead letter is filed under.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

import orjson

from connectors.feedback import (
    CHANNELS,
    MAX_ID_CHARS,
    MAX_TEXT_CHARS,
    MAX_VERSION,
    SURVEYS,
    TURNS,
    Feedback,
    Survey,
)
from models.classifier import Prediction
from pipeline.records import DeadLetter, RawPosition, Scored
from pipeline.windows import micros, moment

SCHEMA_VERSION: Final = 1
MAX_NAME_CHARS: Final = 200
MAX_DEAD_ID_CHARS: Final = 600
LATEST: Final = datetime(2262, 4, 11, tzinfo=UTC)
LATEST_US: Final = micros(LATEST)


class DecodeError(ValueError):
    """These bytes are no record: `reason` is a bounded word for metrics, the message says the rest."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


def encode_feedback(feedback: Feedback) -> bytes:
    """Feedback as the value of a `feedback.raw` record."""
    return orjson.dumps({"v": SCHEMA_VERSION, **_feedback_fields(feedback)})


def decode_feedback(value: bytes | None) -> Feedback:
    """The Feedback of a raw record. Raises DecodeError."""
    return _feedback(_object(value))


def encode_scored(scored: Iterable[Scored]) -> bytes:
    """Scored items of one workspace partition as the value of one `feedback.scored` record."""
    return orjson.dumps({"v": SCHEMA_VERSION, "items": [_scored_fields(item) for item in scored]})


def decode_scored(value: bytes | None) -> list[Scored]:
    """The items of a scored record. Raises DecodeError."""
    items = _object(value).get("items")
    if not isinstance(items, list):
        raise DecodeError("schema", "items: must be an array")
    return [_scored(item) for item in items]


def encode_dead(letter: DeadLetter) -> bytes:
    """A dead letter as the value of a `feedback.dead` record; payload and key travel as base64."""
    return orjson.dumps(
        {
            "v": SCHEMA_VERSION,
            "dead_id": letter.dead_id,
            "stage": letter.stage,
            "reason": letter.reason,
            "detail": letter.detail,
            "payload": base64.b64encode(letter.payload).decode(),
            "key": None if letter.key is None else base64.b64encode(letter.key).decode(),
            "failed_at": micros(letter.failed_at),
            "origin": letter.origin,
            "raw": None if letter.raw is None else _raw_fields(letter.raw),
        }
    )


def decode_dead(value: bytes | None) -> DeadLetter:
    """The dead letter of a record. Raises DecodeError."""
    fields = _object(value)
    try:
        return DeadLetter(
            dead_id=_string(fields, "dead_id", MAX_DEAD_ID_CHARS),
            stage=_string(fields, "stage"),
            reason=_string(fields, "reason"),
            detail=_string(fields, "detail"),
            payload=base64.b64decode(_string(fields, "payload"), validate=True),
            key=None if fields.get("key") is None else base64.b64decode(_string(fields, "key"), validate=True),
            failed_at=_time(fields, "failed_at"),
            origin=_string(fields, "origin"),
            raw=None if fields.get("raw") is None else _raw(fields["raw"]),
        )
    except binascii.Error as error:
        raise DecodeError("schema", f"payload: {error}") from None


def _object(value: bytes | None) -> dict[str, Any]:
    if not value:
        raise DecodeError("empty", "the record has no value")
    try:
        fields = orjson.loads(value)
    except (orjson.JSONDecodeError, RecursionError) as error:
        raise DecodeError("json", f"is not JSON: {error}") from None
    if not isinstance(fields, dict):
        raise DecodeError("schema", "is not a JSON object")
    if fields.get("v") != SCHEMA_VERSION:
        raise DecodeError("schema_version", f"has schema version {fields.get('v')!r:.40}, not {SCHEMA_VERSION}")
    return fields


def _feedback_fields(feedback: Feedback) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "source": feedback.source,
        "id": feedback.external_id,
        "version": feedback.version,
        "created_at": micros(feedback.created_at),
        "received_at": micros(feedback.received_at),
        "channel": feedback.channel,
        "workspace": feedback.workspace,
        "text": feedback.text,
    }
    survey = feedback.survey
    optional = {
        "instance": feedback.instance or None,
        "deleted": feedback.deleted or None,
        "backfill": feedback.backfill or None,
        "language": feedback.language,
        "rating": feedback.rating,
        "author_hash": feedback.author_hash,
        "customer_id": feedback.customer_id,
        "touchpoint": feedback.touchpoint,
        "url": feedback.url,
        "survey": None if survey is None else [survey.kind, survey.value, survey.low, survey.high],
        "conversation_id": feedback.conversation_id,
        "turn": feedback.turn,
    }
    fields.update({key: value for key, value in optional.items() if value is not None})
    return fields


def _feedback(fields: Mapping[str, Any]) -> Feedback:
    version = fields.get("version")
    if isinstance(version, bool) or not isinstance(version, int) or not 0 <= version <= MAX_VERSION:
        raise DecodeError("schema", "version: must be a whole number from 0 to 2^63-1")
    channel = _string(fields, "channel")
    if channel not in CHANNELS:
        raise DecodeError("schema", f"channel: {channel!r:.40} is none of {', '.join(CHANNELS)}")
    rating = fields.get("rating")
    if rating is not None and (isinstance(rating, bool) or not isinstance(rating, int | float) or not 0 <= rating <= 1):
        raise DecodeError("schema", "rating: must be a number from 0 to 1")
    turn = fields.get("turn")
    if turn is not None and turn not in TURNS:
        raise DecodeError("schema", f"turn: {turn!r:.40} is none of {', '.join(TURNS)}")
    source, external_id = _string(fields, "source", 63), _string(fields, "id", MAX_ID_CHARS)
    if not source or not external_id:
        raise DecodeError("schema", "source, id: must not be empty")
    return Feedback(
        source=source,
        instance=_optional(fields, "instance", 63) or "",
        external_id=external_id,
        version=version,
        deleted=_flag(fields, "deleted"),
        backfill=_flag(fields, "backfill"),
        channel=channel,
        workspace=_string(fields, "workspace", 63),
        text=_string(fields, "text", MAX_TEXT_CHARS),
        created_at=_time(fields, "created_at"),
        received_at=_time(fields, "received_at"),
        language=_optional(fields, "language", 35),
        rating=None if rating is None else float(rating),
        author_hash=_optional(fields, "author_hash", 128),
        customer_id=_optional(fields, "customer_id", MAX_ID_CHARS),
        touchpoint=_optional(fields, "touchpoint", 64),
        url=_optional(fields, "url", 2048),
        survey=_survey(fields.get("survey")),
        conversation_id=_optional(fields, "conversation_id", MAX_ID_CHARS),
        turn=turn,
    )


def _survey(value: object) -> Survey | None:
    match value:
        case None:
            return None
        case [str(kind), int() | float() as got, int() | float() as low, int() | float() as high]:
            if kind in SURVEYS and -1e9 <= low <= got <= high <= 1e9 and low < high:
                return Survey(kind=kind, value=float(got), low=float(low), high=float(high))
    raise DecodeError("schema", "survey: must be [kind, value, low, high]")


def _scored_fields(scored: Scored) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "feedback": _feedback_fields(scored.feedback),
        "raw": _raw_fields(scored.raw),
        "scored_at": micros(scored.scored_at),
    }
    if scored.prediction is not None:
        fields["prediction"] = {
            "sentiment": scored.prediction.sentiment,
            "topics": dict(scored.prediction.topics),
            "urgency": scored.prediction.urgency,
            "language": scored.prediction.language,
            "model": scored.prediction.model,
        }
        if scored.prediction.unsure:
            fields["prediction"]["unsure"] = True
    return fields


def _scored(item: object) -> Scored:
    if not isinstance(item, dict) or not isinstance(item.get("feedback"), dict):
        raise DecodeError("schema", "items: each must be an object with feedback")
    prediction = None
    if item.get("prediction") is not None:
        got = item["prediction"]
        try:
            negative, neutral, positive = map(_probability, got["sentiment"])
            topics = {_short(name): _probability(p) for name, p in got["topics"].items()}
            if not topics:
                raise ValueError("topics must not be empty")
            prediction = Prediction(
                sentiment=(negative, neutral, positive),
                topics=topics,
                urgency=None if got.get("urgency") is None else _probability(got["urgency"]),
                language=_string(got, "language", 35),
                model=_string(got, "model", 200),
                unsure=_flag(got, "unsure"),
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise DecodeError("schema", f"prediction: {error}") from None
    feedback = _feedback(item["feedback"])
    if prediction is None and feedback.speaks:
        raise DecodeError("schema", "prediction: missing, although there are words to judge")
    return Scored(
        feedback=feedback, prediction=prediction, raw=_raw(item.get("raw")), scored_at=_time(item, "scored_at")
    )


def _raw_fields(raw: RawPosition) -> list[str | int]:
    return [raw.log, raw.partition, raw.offset]


def _raw(value: object) -> RawPosition:
    match value:
        case [str(log), int(partition), int(offset)] if 0 <= partition < 2**31 and 0 <= offset < 2**63 - 1:
            return RawPosition(log=_short(log), partition=int(partition), offset=int(offset))
    raise DecodeError("schema", "raw: must be [log, partition, offset]")


def _probability(value: object) -> float:
    if type(value) is float and 0 <= value <= 1:
        return value
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise DecodeError("schema", f"prediction: {value!r:.40} is no number from 0 to 1")
    return float(value)


def _short(name: str) -> str:
    if len(name) > MAX_NAME_CHARS or "\x00" in name:
        raise DecodeError("schema", f"{name!r:.40} is no name of at most {MAX_NAME_CHARS} characters")
    return name


def _string(fields: Mapping[str, Any], name: str, limit: int | None = None) -> str:
    value = fields.get(name)
    if not isinstance(value, str):
        raise DecodeError("schema", f"{name}: must be a string")
    if limit is not None and len(value) > limit:
        raise DecodeError("schema", f"{name}: has {len(value)} characters, at most {limit} are allowed")
    if "\x00" in value:
        raise DecodeError("schema", f"{name}: must not contain NUL")
    return value


def _flag(fields: Mapping[str, Any], name: str) -> bool:
    value = fields.get(name, False)
    if not isinstance(value, bool):
        raise DecodeError("schema", f"{name}: must be true or false")
    return value


def _optional(fields: Mapping[str, Any], name: str, limit: int) -> str | None:
    return None if fields.get(name) is None else _string(fields, name, limit)


def _time(fields: Mapping[str, Any], name: str) -> datetime:
    value = fields.get(name)
    if isinstance(value, bool) or not isinstance(value, int):
        raise DecodeError("schema", f"{name}: must be microseconds since 1970")
    if not 0 <= value <= LATEST_US:
        raise DecodeError("schema", f"{name}: must lie between 1970 and 2262")
    return moment(value)
