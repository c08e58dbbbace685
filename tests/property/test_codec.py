"""Records survive the wire; any other bytes are a DecodeError and nothing else."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.feedback import CHANNELS, EARLIEST, MAX_VERSION, SURVEYS, TURNS, Feedback, Survey
from models.classifier import Prediction
from pipeline.codec import (
    DecodeError,
    decode_dead,
    decode_feedback,
    decode_scored,
    encode_dead,
    encode_feedback,
    encode_scored,
)
from pipeline.records import DeadLetter, RawPosition, Scored
from tests.hostile import BODIES

TEXT = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\x00"), max_size=60)
NAME = st.from_regex(r"[a-z0-9][a-z0-9_.-]{0,20}", fullmatch=True)
TIMES = st.integers(0, 9 * 10**15).map(lambda us: EARLIEST + timedelta(microseconds=us))
RAW = st.builds(
    RawPosition, log=NAME, partition=st.integers(0, 2**31 - 1), offset=st.integers(0, MAX_VERSION - 1)
)  # fmt: skip
SURVEY = st.builds(
    lambda kind, low, size, part: Survey(kind=kind, value=low + part * size, low=low, high=low + size),
    st.sampled_from(sorted(SURVEYS)), st.integers(-5, 5).map(float), st.integers(1, 100).map(float), st.floats(0, 1),
)  # fmt: skip
FEEDBACK = st.builds(
    Feedback,
    source=NAME,
    external_id=TEXT.filter(bool),
    created_at=TIMES,
    received_at=TIMES,
    instance=NAME | st.just(""),
    version=st.integers(0, MAX_VERSION),
    deleted=st.booleans(),
    backfill=st.booleans(),
    channel=st.sampled_from(CHANNELS),
    workspace=NAME,
    text=TEXT,
    language=st.none() | st.just("uz-Cyrl"),
    rating=st.none() | st.floats(0, 1),
    author_hash=st.none() | st.just("ab" * 32),
    customer_id=st.none() | TEXT,
    touchpoint=st.none() | TEXT,
    url=st.none() | TEXT,
    survey=st.none() | SURVEY,
    conversation_id=st.none() | TEXT,
    turn=st.none() | st.sampled_from(TURNS),
)
SHARE = st.floats(0, 1)
PREDICTIONS = st.builds(
    Prediction,
    sentiment=SHARE.map(lambda p: (p, 1 - p, 0.0)),
    unsure=st.booleans(),
    topics=st.dictionaries(NAME, SHARE, min_size=1, max_size=4),
    urgency=st.none() | SHARE,
    language=st.just("en"),
    model=NAME,
)
SCORED = st.builds(Scored, feedback=FEEDBACK, prediction=PREDICTIONS, raw=RAW, scored_at=TIMES)
DEAD = st.builds(
    DeadLetter,
    dead_id=TEXT, stage=NAME, reason=NAME, detail=TEXT, payload=st.binary(max_size=60), failed_at=TIMES,
    origin=TEXT, key=st.none() | st.binary(max_size=20), raw=st.none() | RAW,
)  # fmt: skip
DECODERS = (decode_feedback, decode_scored, decode_dead)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
)


@settings(max_examples=200, deadline=None)
@given(FEEDBACK)
def test_feedback_survives(feedback: Feedback) -> None:
    assert decode_feedback(encode_feedback(feedback)) == feedback


@settings(max_examples=100, deadline=None)
@given(st.lists(SCORED, max_size=3))
def test_scored_survives(scored: list[Scored]) -> None:
    assert decode_scored(encode_scored(scored)) == scored


@settings(max_examples=100, deadline=None)
@given(DEAD)
def test_dead_letters_survive(letter: DeadLetter) -> None:
    assert decode_dead(encode_dead(letter)) == letter


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_are_a_record_or_a_decode_error(value: bytes) -> None:
    for decode in DECODERS:
        refuses_or_reads(decode, value)


@settings(max_examples=300, deadline=None)
@given(FEEDBACK, SCORED, DEAD, st.data())
def test_a_record_with_one_member_replaced_is_a_record_or_a_decode_error(
    feedback: Feedback, scored: Scored, letter: DeadLetter, data: st.DataObject
) -> None:
    encoded = (encode_feedback(feedback), encode_scored([scored]), encode_dead(letter))
    for decode, value in zip(DECODERS, encoded, strict=True):
        fields: Any = orjson.loads(value)
        target = fields
        while data.draw(st.booleans()):
            inner = [
                v for v in (target.values() if isinstance(target, dict) else target) if v and isinstance(v, dict | list)
            ]
            if not inner:
                break
            target = data.draw(st.sampled_from(inner))
        place = data.draw(st.sampled_from(sorted(target) if isinstance(target, dict) else range(len(target))))
        target[place] = data.draw(JSON)
        refuses_or_reads(decode, orjson.dumps(fields))


@pytest.mark.parametrize("name", sorted(BODIES))
def test_hostile_bytes_are_a_decode_error(name: str) -> None:
    for decode in DECODERS:
        with pytest.raises(DecodeError):
            decode(BODIES[name])


def refuses_or_reads(decode: Any, value: bytes) -> None:
    try:
        decode(value)
    except DecodeError as error:
        assert error.reason in ("empty", "json", "schema", "schema_version")  # noqa: PT017
