"""`Feedback`: one thing a customer said, and the only way to make it from an untrusted mapping.

Everything that enters Ovoz passes `parse`: the HTTP intake, `ovoz replay` and the connectors.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

SURVEYS: Final = {"nps": (0.0, 10.0), "csat": (1.0, 5.0), "ces": (1.0, 7.0)}
"""Kinds of survey, each with the scale it has where none is stated."""
DELETED: Final = "deleted"
"""The turn that takes back a whole conversation: what was said in it until then, also what comes in later."""
TURNS: Final = ("customer_message", "agent_reply", "solved", "reopened", DELETED)
CHANNELS: Final = ("review", "chat", "social", "email", "survey", "crm", "other")
MAX_TEXT_CHARS: Final = 10_000
MAX_ID_CHARS: Final = 512
MAX_VERSION: Final = 2**63 - 1
EARLIEST: Final = datetime(1970, 1, 1, tzinfo=UTC)
CLOCK_SKEW: Final = timedelta(hours=24)
MAX_UNKNOWN_NAMED: Final = 5

_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,62}\Z")
_LANGUAGE = re.compile(r"[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*\Z")
# Kept: tab, newline, carriage return, and joiners (U+200C, U+200D), which emoji and several scripts need.
_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")
_SURROGATE = re.compile("[\ud800-\udfff]")
# Identifiers stand on one line: neither of those, and no tab, newline or carriage return either.
_NOT_IN_IDENTIFIERS = re.compile(f"[\t\n\r]|{_UNPRINTABLE.pattern}|{_SURROGATE.pattern}")
_RFC_3339 = re.compile(
    r"(\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d(?::\d\d(?:\.\d{1,9})?)?)([Zz]|[+-]\d\d:?\d\d)?\Z", re.ASCII
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """One answer to a survey question of a `kind` (nps, csat, ces), on its own scale from `low` to `high`."""

    kind: str
    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Feedback:
    """One thing a customer said, at one version.

    `feedback_id` = source:instance:external_id is its identity; of two versions of one identity the
    greater `version` counts. `created_at` is the event time (when the customer spoke, UTC),
    `received_at` when Ovoz took it in. `rating` is scaled to 0..1. `turn` says what happened in the
    conversation `conversation_id` (one of TURNS; `deleted` takes the whole conversation back).
    """

    source: str
    external_id: str
    created_at: datetime
    received_at: datetime
    instance: str = ""
    version: int = 0
    deleted: bool = False
    backfill: bool = False
    channel: str = "other"
    workspace: str = "default"
    text: str = ""
    language: str | None = None
    rating: float | None = None
    author_hash: str | None = None
    customer_id: str | None = None
    touchpoint: str | None = None
    url: str | None = None
    survey: Survey | None = None
    conversation_id: str | None = None
    turn: str | None = None

    @property
    def speaks(self) -> bool:
        """Whether there are a customer's words to judge.

        A score without a comment, an agent's reply, a ticket that was solved: none of them is a neutral text.
        They are kept, and counted as no item.
        """
        return not self.deleted and self.turn in (None, "customer_message") and bool(self.text.strip())

    @property
    def conversation(self) -> tuple[str, str, str] | None:
        """Identity of the conversation: workspace, `source:instance:` and the service's id of it."""
        if self.conversation_id is None:
            return None
        return self.workspace, f"{self.source}:{self.instance}:", self.conversation_id

    @property
    def feedback_id(self) -> str:
        """Identity over all versions: `source:instance:external_id`."""
        return f"{self.source}:{self.instance}:{self.external_id}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What is wrong with one field, and what would be right."""

    field: str
    reason: str


class Faulty(ValueError):
    """Raised by `parse`: the item cannot be taken; `faults` names every field that is wrong."""

    def __init__(self, faults: list[Fault]) -> None:
        super().__init__("; ".join(f"{fault.field}: {fault.reason}" for fault in faults))
        self.faults = faults


FIELDS: Final = frozenset(
    {
        "source", "id", "instance", "text", "created_at", "version", "updated_at", "deleted", "channel",
        "workspace", "language", "rating", "author", "customer_id", "touchpoint", "url", "backfill", "survey",
        "conversation_id", "turn",
    }
)  # fmt: skip


def parse(item: object, *, now: datetime, author_hash: str | None = None) -> Feedback:
    """Build `Feedback` from a decoded JSON object, or say everything that is wrong with it.

    `now` (UTC) becomes `received_at`, and `created_at` where the item has none. A `created_at` up to
    24 h ahead of `now` is a wrong clock and is set to `now`; further ahead is refused. Text over
    10,000 characters is cut. `author_hash` is the keyed hash of the item's `author`, which itself
    never leaves the caller. Raises Faulty.
    """
    if not isinstance(item, Mapping):
        raise Faulty([Fault(field="", reason=f"must be a JSON object, not {_kind(item)}")])
    faults: list[Fault] = []

    def fault(field: str, reason: str) -> None:
        faults.append(Fault(field=field, reason=reason))

    def name(field: str, default: str | None) -> str:
        value = item.get(field)
        if value is None and default is not None:
            return default
        if value is None:
            fault(field, "is required")
        elif not isinstance(value, str):
            fault(field, f"must be a string, not {_kind(value)}")
        elif not _NAME.match(value):
            fault(field, "must be 1-63 characters of a-z 0-9 _ . -, starting with a letter or digit")
        else:
            return value
        return ""

    def string(field: str, limit: int) -> str | None:
        value = item.get(field)
        if value is None:
            return None
        if not isinstance(value, str):
            fault(field, f"must be a string, not {_kind(value)}")
        elif len(value) > limit:
            fault(field, f"must have at most {limit} characters, has {len(value)}")
        elif _NOT_IN_IDENTIFIERS.search(value):
            fault(field, "must be one line without control characters or lone surrogates")
        else:
            return value
        return None

    def moment(field: str) -> datetime | None:
        value = item.get(field)
        if value is None:
            return None
        try:
            at = instant(value)
        except ValueError as error:
            fault(field, str(error))
            return None
        if at < EARLIEST:
            fault(field, "lies before 1970")
        elif at > now + CLOCK_SKEW:
            fault(field, f"lies more than 24 hours in the future (the time here is {now:%Y-%m-%dT%H:%M:%SZ})")
        else:
            return at
        return None

    def flag(field: str) -> bool:
        value = item.get(field)
        if value is None:
            return False
        if not isinstance(value, bool):
            fault(field, f"must be true or false, not {_kind(value)}")
            return False
        return value

    unknown = sorted(set(map(str, item)) - FIELDS)
    # Bounded, or else a body of tiny keys would earn an answer many times its size.
    for field in unknown[:MAX_UNKNOWN_NAMED]:
        fault(printable(field[:64]), "is not a field of feedback")
    if len(unknown) > MAX_UNKNOWN_NAMED:
        fault("", f"has {len(unknown) - MAX_UNKNOWN_NAMED} more members that are not fields of feedback")
    source = name("source", None)
    instance = item.get("instance", "")
    instance = name("instance", None) if instance not in ("", None) else ""
    workspace = name("workspace", "default")
    if item.get("id") is None:
        fault("id", "is required")
    external_id = string("id", MAX_ID_CHARS) or ""
    if item.get("id") == "":
        fault("id", "must not be empty")
    channel = item.get("channel")
    if channel is None:
        channel = "other"
    if channel not in CHANNELS:
        fault("channel", f"must be one of {', '.join(CHANNELS)}")
    text = item.get("text")
    if text is None:
        text = ""
    if not isinstance(text, str):
        fault("text", f"must be a string, not {_kind(text)}")
        text = ""
    language = string("language", 35)
    if language is not None and not _LANGUAGE.match(language):
        fault("language", "must be a BCP 47 tag, such as en or uz-Cyrl")
    created_at = moment("created_at")
    updated_at = moment("updated_at")
    version = item.get("version")
    if version is None:
        version = _microseconds(updated_at) if updated_at is not None else 0
    elif isinstance(version, bool) or not isinstance(version, int) or not 0 <= version <= MAX_VERSION:
        fault("version", "must be a whole number from 0 to 2^63-1")
    deleted, backfill = flag("deleted"), flag("backfill")
    rating = None
    if item.get("rating") is not None:
        try:
            rating = _rating(item["rating"])
        except ValueError as error:
            fault("rating", str(error))
    survey = None
    if item.get("survey") is not None:
        try:
            survey = _survey(item["survey"])
        except ValueError as error:
            fault("survey", str(error))
    if rating is None and survey is not None:
        rating = (survey.value - survey.low) / (survey.high - survey.low)
    conversation_id, turn = string("conversation_id", MAX_ID_CHARS), item.get("turn")
    if turn is not None and turn not in TURNS:
        fault("turn", f"must be one of {', '.join(TURNS)}")
    elif turn is not None and not item.get("conversation_id"):
        fault("conversation_id", "is required where there is a turn")
    string("author", MAX_ID_CHARS)
    customer_id, touchpoint = string("customer_id", MAX_ID_CHARS), string("touchpoint", 64)
    url = string("url", 2048)
    if url is not None and not url.startswith(("https://", "http://")):
        fault("url", "must start with https:// or http://")
    if faults:
        raise Faulty(faults)
    return Feedback(
        source=source,
        instance=instance,
        external_id=external_id,
        version=version,
        deleted=deleted,
        backfill=backfill,
        channel=channel,
        workspace=workspace,
        # What an agent says is no voice of a customer.
        text="" if turn not in (None, "customer_message") else printable(text),
        created_at=min(created_at or now, now),
        received_at=now,
        language=language,
        rating=rating,
        author_hash=author_hash,
        customer_id=customer_id,
        touchpoint=touchpoint,
        url=url,
        survey=survey,
        conversation_id=conversation_id or None,
        turn=turn,
    )


def printable(text: str) -> str:
    """Text without control characters and lone surrogates, cut to MAX_TEXT_CHARS."""
    return _SURROGATE.sub("\ufffd", _UNPRINTABLE.sub(" ", text[:MAX_TEXT_CHARS]))


def instant(value: object) -> datetime:
    """A moment in UTC from RFC 3339 text with a zone, epoch seconds, or a datetime. Raises ValueError."""
    if isinstance(value, datetime):
        at = value
        if at.tzinfo is None:
            raise ValueError("has no time zone")
    elif isinstance(value, str):
        # datetime.fromisoformat takes much more, such as week dates and any character before the hour.
        matches = _RFC_3339.match(value) is not None
        try:
            if not matches:
                raise ValueError
            at = datetime.fromisoformat(value.upper())
        except ValueError:
            raise ValueError("must be an RFC 3339 time, such as 2026-11-24T09:30:00Z") from None
        if at.tzinfo is None:
            raise ValueError("has no time zone: add Z or an offset such as +05:00")
    elif isinstance(value, int | float) and not isinstance(value, bool):
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError("must be a finite number of seconds since 1970")
        try:
            at = datetime.fromtimestamp(value, UTC)
        except (OverflowError, OSError, ValueError):
            raise ValueError("must be seconds since 1970, between the years 1 and 9999") from None
    else:
        raise ValueError(f"must be an RFC 3339 time or epoch seconds, not {_kind(value)}")
    try:
        return at.astimezone(UTC)
    except OverflowError:
        raise ValueError("lies outside the years 1 to 9999") from None


def _rating(value: object) -> float:
    if not isinstance(value, Mapping) or not {"value", "max"} <= set(value) <= {"value", "min", "max"}:
        raise ValueError('must state its scale: {"value": 4, "min": 1, "max": 5}')
    low, high, got = _scaled(value["value"], value.get("min", 0), value["max"])
    return float((got - low) / (high - low))


def _survey(value: object) -> Survey:
    if not isinstance(value, Mapping) or not {"kind", "value"} <= set(value) <= {"kind", "value", "min", "max"}:
        raise ValueError('must state kind and value: {"kind": "nps", "value": 9, "min": 0, "max": 10}')
    kind = value["kind"]
    if not isinstance(kind, str) or kind not in SURVEYS:
        raise ValueError(f"kind must be one of {', '.join(SURVEYS)}")
    usual = SURVEYS[kind]
    low, high, got = _scaled(value["value"], value.get("min", usual[0]), value.get("max", usual[1]))
    return Survey(kind=kind, value=got, low=low, high=high)


def _scaled(got: Any, low: Any, high: Any) -> tuple[float, float, float]:
    for number in (low, high, got):
        if isinstance(number, bool) or not isinstance(number, int | float):
            raise ValueError("value, min and max must be numbers")
        # Written so that NaN fails too, and an integer of any size is never turned into a float.
        if not -1e9 <= number <= 1e9:
            raise ValueError("value, min and max must lie within ±1e9")
    if not low < high:
        raise ValueError("min must be less than max")
    if not low <= got <= high:
        raise ValueError(f"value must lie between min ({low}) and max ({high})")
    return float(low), float(high), float(got)


def _microseconds(at: datetime) -> int:
    return (at - EARLIEST) // timedelta(microseconds=1)


def _kind(value: object) -> str:
    names = {type(None): "null", bool: "a boolean", int: "a number", float: "a number", str: "a string"}
    return names.get(type(value), "an array" if isinstance(value, list | tuple) else "an object")
