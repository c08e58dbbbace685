"""`parse` on anything JSON can say, and on things shaped like feedback."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.feedback import FIELDS, MAX_TEXT_CHARS, Faulty, instant, parse
from pipeline.codec import decode_feedback, encode_feedback
from pipeline.intake_body import Refused, read_body, unzip
from pipeline.redact import Redactor
from pipeline.settings import Privacy

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
REDACTOR = Redactor(Privacy(), b"k" * 32)
CHARACTERS = st.text(st.characters(exclude_categories=()), max_size=40)
SCALARS = (
    st.none() | st.booleans() | st.integers() | st.just(10**400) | st.floats() | CHARACTERS
    | st.datetimes().map(datetime.isoformat) | st.datetimes(timezones=st.timezones()).map(datetime.isoformat)
)  # fmt: skip
JSON = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(CHARACTERS, inner, max_size=4))
RATINGS = st.dictionaries(st.sampled_from(["value", "min", "max", "x"]), SCALARS, max_size=4)
LIKE_FEEDBACK = st.dictionaries(st.sampled_from(sorted(FIELDS)) | CHARACTERS, JSON | RATINGS) | st.fixed_dictionaries(
    {"source": st.from_regex(r"[a-z0-9][a-z0-9_.-]{0,62}", fullmatch=True), "id": CHARACTERS},
    optional={name: JSON | RATINGS for name in sorted(FIELDS - {"source", "id"})},
)


@settings(max_examples=400, deadline=None)
@given(JSON | LIKE_FEEDBACK)
def test_parse_gives_feedback_that_travels_or_says_what_is_wrong(item: object) -> None:
    try:
        feedback = parse(item, now=NOW)
    except Faulty as error:
        assert error.faults and all(fault.reason for fault in error.faults)  # noqa: PT017
        "".join(fault.field + fault.reason for fault in error.faults).encode()
        return
    assert len(feedback.text) <= MAX_TEXT_CHARS
    assert feedback.created_at <= NOW
    assert feedback.rating is None or 0 <= feedback.rating <= 1
    assert decode_feedback(encode_feedback(feedback)) == feedback


@settings(max_examples=300, deadline=None)
@given(SCALARS)
def test_instant_is_a_time_in_utc_or_a_value_error(value: object) -> None:
    try:
        assert instant(value).utcoffset() == timedelta(0)
    except ValueError as error:
        assert str(error)  # noqa: PT017


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200), st.sampled_from(["json", "ndjson"]), st.booleans())
def test_any_body_is_sorted_out_or_refused(body: bytes, kind: str, gzip: bool) -> None:
    try:
        got = read_body(body, kind=kind, gzip=gzip, max_bytes=100, max_items=20, now=NOW, redactor=REDACTOR)
    except Refused as refused:
        assert refused.status in (400, 413) and refused.cause and refused.remedy  # noqa: PT017
    else:
        assert len(got.records) == len(got.accepted)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=400), st.integers(0, 500))
def test_decompression_never_makes_more_than_its_limit(content: bytes, limit: int) -> None:
    import gzip

    try:
        assert unzip(gzip.compress(content), limit) == content
        assert len(content) <= limit
    except Refused as refused:
        assert refused.status == 413 and len(content) > limit  # noqa: PT017
