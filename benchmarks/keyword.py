"""A classifier that looks for words: deterministic and fast, to see the stream alone."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

from models.classifier import TOPICS, Prediction

_NEGATIVE: Final = ("terrible", "awful", "broken", "worst", "hate")
_POSITIVE: Final = ("great", "excellent", "love", "thank", "perfect")
_TOPIC_OF: Final = {
    "delivery": "delivery",
    "payment": "billing",
    "refund": "refund",
    "app": "app",
    "password": "account",
    "price": "price",
}


class KeywordClassifier:
    """Counts words of two short lists; for proofs and measurements of the stream, not for use."""

    model = "keyword@000000000000"

    def __init__(self, delay_s: float = 0.0) -> None:
        """`delay_s`: how long each call takes at least, so that a backlog forms."""
        self._delay_s = delay_s

    def classify(self, texts: Sequence[str], languages: Sequence[str | None] = ()) -> list[Prediction]:
        """One prediction a text."""
        time.sleep(self._delay_s)
        return [self._one(text) for text in texts]

    def _one(self, text: str) -> Prediction:
        words = text.split()
        negative = 1 + 3 * sum(word in _NEGATIVE for word in words)
        positive = 1 + 3 * sum(word in _POSITIVE for word in words)
        whole = negative + positive + 1.5
        topic = next((_TOPIC_OF[word] for word in words if word in _TOPIC_OF), "other")
        return Prediction(
            sentiment=(negative / whole, 1.5 / whole, positive / whole),
            topics={name: 0.9 if name == topic else 0.01 for name in TOPICS},
            language="en",
            model=self.model,
        )
