"""`Classifier`: what every engine promises, and `Prediction`, the record that leaves this package."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

SENTIMENTS: Final = ("negative", "neutral", "positive")
UNSURE: Final = "unsure"
LABELS: Final = (*SENTIMENTS, UNSURE)
TOPICS: Final = (
    "delivery",
    "billing",
    "refund",
    "quality",
    "app",
    "account",
    "service",
    "price",
    "availability",
    "other",
)
UNKNOWN_LANGUAGE: Final = "und"


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """What a model says of one text.

    `sentiment`: probabilities of SENTIMENTS, in that order, summing to 1. `topics`: independent
    probabilities by topic id. `urgency` 0..1, None where the model has no such head. `language`:
    BCP 47 (`und` when unknown). `model`: `name@hash` of the weights that said so. `unsure`: the most
    probable sentiment is too improbable to count as one.
    """

    sentiment: tuple[float, float, float]
    topics: Mapping[str, float]
    language: str
    model: str
    urgency: float | None = None
    unsure: bool = False

    @property
    def score(self) -> float:
        """P(positive) − P(negative), −1..1."""
        return self.sentiment[2] - self.sentiment[0]

    @property
    def label(self) -> str:
        """What this item counts as, one of LABELS."""
        return UNSURE if self.unsure else self.leaning

    @property
    def leaning(self) -> str:
        """The most probable sentiment, however little so."""
        return SENTIMENTS[max(range(3), key=self.sentiment.__getitem__)]

    @property
    def topic(self) -> str:
        """The most probable topic: the one cell that this item counts in."""
        return max(self.topics, key=self.topics.__getitem__)


class ModelError(RuntimeError):
    """The model cannot be loaded or cannot be trusted (missing, corrupt, wrong hash); says what to do."""


class Classifier(Protocol):
    """One engine. Not thread-safe: one caller at a time."""

    @property
    def model(self) -> str:
        """`name@hash` of the loaded weights."""
        ...

    def classify(self, texts: Sequence[str], languages: Sequence[str | None] = ()) -> list[Prediction]:
        """One prediction a text, in order; any text gives an answer, none raises.

        `languages`: what the source says of each text's language, where it says anything; else empty.
        """
        ...
