"""Answers of a questionnaire → items: which question is which score, on which scale. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, cast

from connectors.connector import Item, Rating, Survey
from connectors.feedback import Fault
from connectors.option import Misconfigured

SCALES: Final[Mapping[str, tuple[float, float]]] = {"nps": (0, 10), "csat": (1, 5), "ces": (1, 7)}
"""The usual scale of each kind, lowest and highest."""

HELP: Final = "question → nps, csat or ces; another scale than 0-10, 1-5 and 1-7 stands behind it, as in csat:1-3"
_SCALE: Final = re.compile(r"(nps|csat|ces)(?::(\d{1,3})-(\d{1,3}))?", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """What a question asks, and its lowest and highest answer."""

    survey: Survey
    low: float
    high: float

    @classmethod
    def read(cls, text: str) -> Scale:
        """From `csat` or `csat:1-3`. Raises ValueError."""
        match = _SCALE.fullmatch(text.strip().lower())
        if match is None:
            raise ValueError(f"{text!r} is none of nps, csat, ces, csat:1-3")
        low, high = (float(match[2]), float(match[3])) if match[2] else SCALES[match[1]]
        if not low < high:
            raise ValueError(f"{text!r}: the lowest answer must be less than the highest")
        return cls(survey=cast(Survey, match[1]), low=low, high=high)

    def rating(self, value: float) -> Rating | None:
        """The answer on this scale; None where it lies outside."""
        fits = self.low <= value <= self.high
        return Rating(value=value, low=self.low, high=self.high, survey=self.survey) if fits else None


def read_scales(scores: Mapping[str, str] | None) -> dict[str, Scale]:
    """The settings' table of questions. Raises Misconfigured."""
    found: dict[str, Scale] = {}
    faults: list[Fault] = []
    for question, text in (scores or {}).items():
        try:
            found[question] = Scale.read(text)
        except ValueError as error:
            faults.append(Fault(field=f"scores.{question}", reason=str(error)))
    if faults:
        raise Misconfigured(faults)
    return found


@dataclass(slots=True)
class Answered:
    """One filled-in questionnaire, as it is read question by question."""

    key: str
    created_at: datetime
    version: int
    author: str | None = None
    customer_id: str | None = None
    language: str | None = None
    texts: list[str] = field(default_factory=list)
    scores: list[tuple[str, Rating]] = field(default_factory=list)

    def items(self) -> Iterator[Item]:
        """What was written goes with the first score; each further score is an item of its own."""
        first = self.scores[0][1] if self.scores else None
        text = "\n".join(one for one in self.texts if one)
        if first is not None or text:
            yield self._item(self.key, first, text)
        for question, rating in self.scores[1:]:
            yield self._item(f"{self.key}:{question}", rating, "")

    def _item(self, key: str, rating: Rating | None, text: str) -> Item:
        return Item(
            external_id=key,
            created_at=self.created_at,
            version=self.version,
            text=text,
            author=self.author,
            customer_id=self.customer_id,
            rating=rating,
            language=self.language,
        )
