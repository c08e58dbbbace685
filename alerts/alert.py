"""`Sample` in, `Alert` out: the records of this package, and what makes two alerts the same one."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal

NEGATIVE: Final = "negative"
MAX_EVIDENCE: Final = 5

Labels = tuple[tuple[str, str], ...]
Status = Literal["pending", "firing", "resolved"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One scored item as the rules see it.

    `at` is event time (UTC). `sentiment` is the label; an `unsure` item is an item that is not negative.
    `score` is P(positive) − P(negative), −1..1.
    `model` is `name@hash` of the weights that scored it. `certainty` is the probability of `topic`,
    `urgency` 0..1 where the model says it. `author` is the keyed hash, `""` where there is none, as with
    `customer` and `touchpoint`; `new_author`: first heard of within the day before. `copy_of`: the id of the
    item that it nearly repeats (alerts.duplicates), `""` for what nothing like was seen before.
    """

    feedback_id: str
    workspace: str
    source: str
    channel: str
    topic: str
    language: str
    sentiment: str
    score: float
    at: datetime
    text: str
    model: str
    certainty: float = 1.0
    urgency: float | None = None
    author: str = ""
    customer: str = ""
    touchpoint: str = ""
    new_author: bool = False
    copy_of: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quote:
    """What one customer said, fit to be shown: at most 280 characters, none of them a control character."""

    feedback_id: str
    source: str
    language: str
    at: datetime
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """One incident of one series of one rule, as it stands now.

    `labels` are sorted pairs and hold only what stays the same over the alert's life; counts and quotes
    live in `annotations` and `evidence`. `starts_at` is the event time at which the rule's condition began
    to hold, `ends_at` is set once resolved. `incident` names one life of the alert: it stays the same from
    pending through every refresh to resolved, and the next life of the same alert has another. `series` is
    that of alerts.engine.Key. `revision` counts the changes of an incident in the store; 0 outside it. Nobody
    is told of it before `not_before`, the next working hour.
    """

    rule: str
    workspace: str
    labels: Labels
    annotations: dict[str, str]
    state: Status
    starts_at: datetime
    ends_at: datetime | None
    evidence: tuple[Quote, ...]
    incident: str
    series: str = ""
    revision: int = 0
    not_before: datetime | None = None

    @property
    def fingerprint(self) -> str:
        """What makes two alerts the same one: rule, workspace and labels."""
        return fingerprint(self.rule, self.workspace, self.labels)

    def to_json(self) -> str:
        """The alert as JSON, for the store; `from_json` reads it back equal."""
        return json.dumps(
            {
                "rule": self.rule,
                "workspace": self.workspace,
                "labels": self.labels,
                "annotations": self.annotations,
                "state": self.state,
                "starts_at": self.starts_at.isoformat(),
                "ends_at": self.ends_at and self.ends_at.isoformat(),
                "evidence": [quote_to_data(quote) for quote in self.evidence],
                "incident": self.incident,
                "series": self.series,
                "revision": self.revision,
                "not_before": self.not_before and self.not_before.isoformat(),
            },
            ensure_ascii=False,
            separators=(",", ":"),
        )

    @classmethod
    def from_json(cls, text: str) -> Alert:
        """Raises ValueError, KeyError or TypeError for what `to_json` did not write."""
        data = json.loads(text)
        return cls(
            rule=data["rule"],
            workspace=data["workspace"],
            labels=tuple((name, value) for name, value in data["labels"]),
            annotations=data["annotations"],
            state=data["state"],
            starts_at=datetime.fromisoformat(data["starts_at"]),
            ends_at=data["ends_at"] and datetime.fromisoformat(data["ends_at"]),
            evidence=tuple(quote_from_data(quote) for quote in data["evidence"]),
            incident=data["incident"],
            series=data.get("series", ""),
            revision=data.get("revision", 0),
            not_before=datetime.fromisoformat(data["not_before"]) if data.get("not_before") else None,
        )


def fingerprint(rule: str, workspace: str, labels: Labels) -> str:
    """32 hexadecimal digits; the same on every machine and in every release."""
    return _digest([rule, workspace, sorted(labels)])


def incident(fingerprint: str, starts_at: datetime) -> str:
    """The identity of the life of `fingerprint` that began at `starts_at`."""
    return _digest([fingerprint, starts_at.isoformat()])


def moment(at_s: float) -> datetime:
    """Epoch seconds as a time in UTC."""
    return datetime.fromtimestamp(at_s, UTC)


def quote_to_data(quote: Quote) -> list[Any]:
    """A quote as a JSON array."""
    return [quote.feedback_id, quote.source, quote.language, quote.at.isoformat(), quote.text]


def quote_from_data(data: list[Any]) -> Quote:
    """The quote that `quote_to_data` wrote."""
    feedback_id, source, language, at, text = data
    return Quote(feedback_id=feedback_id, source=source, language=language, at=datetime.fromisoformat(at), text=text)


def _digest(value: list[Any]) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:32]
