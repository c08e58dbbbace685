"""The wire bytes of schema version 1: what brokers hold today must be read for ever."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from connectors.feedback import Feedback, Survey
from models.classifier import Prediction
from pipeline import codec
from pipeline.records import DeadLetter, RawPosition, Scored

HERE = Path(__file__).parent
AT = datetime(2026, 1, 24, 9, 30, 0, 123456, tzinfo=UTC)
RAW = RawPosition(log="0198c1a2-life", partition=3, offset=41)
FEEDBACK = Feedback(
    source="shop", instance="uz", external_id="review-1017", version=7, backfill=True, channel="review",
    workspace="retail", text="Курьер опоздал 😡 o‘zbekcha", created_at=AT, received_at=AT, language="ru",
    rating=0.25, author_hash="ab" * 32, customer_id="c-9", touchpoint="checkout", url="https://example.com/r/1017",
)  # fmt: skip
DELETED = Feedback(source="shop", external_id="review-1", created_at=AT, received_at=AT, deleted=True)
SOLVED = Feedback(
    source="helpdesk", external_id="77-solved", channel="chat", created_at=AT, received_at=AT, rating=0.875,
    survey=Survey(kind="csat", value=4.5, low=1.0, high=5.0), conversation_id="77", turn="solved",
)  # fmt: skip
PREDICTION = Prediction(
    sentiment=(0.75, 0.125, 0.125), topics={"delivery": 0.875, "other": 0.0625}, urgency=0.5,
    language="ru", model="small@0123abcd",
)  # fmt: skip
SCORED = [
    Scored(feedback=FEEDBACK, prediction=PREDICTION, raw=RAW, scored_at=AT),
    Scored(feedback=DELETED, prediction=None, raw=RAW, scored_at=AT),
]
DEAD = DeadLetter(
    dead_id="0198c1a2-life:3:41", stage="classify", reason="json", detail="is not JSON", payload=b"\x00\xff{",
    failed_at=AT, origin="feedback.raw", key=b"shop::1", raw=RAW,
)  # fmt: skip


@pytest.mark.parametrize(
    ("name", "record", "encode", "decode"),
    [
        ("feedback.json", FEEDBACK, codec.encode_feedback, codec.decode_feedback),
        ("feedback_turn.json", SOLVED, codec.encode_feedback, codec.decode_feedback),
        ("scored.json", SCORED, codec.encode_scored, codec.decode_scored),
        ("dead.json", DEAD, codec.encode_dead, codec.decode_dead),
    ],
)
def test_records_are_written_and_read_as_ever(
    name: str, record: Any, encode: Callable[[Any], bytes], decode: Callable[[bytes], Any]
) -> None:
    wire = (HERE / name).read_bytes().removesuffix(b"\n")
    assert encode(record) == wire
    assert decode(wire) == record
