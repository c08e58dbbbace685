"""A made-up stream of samples for the tests of alerts."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from alerts.alert import Sample

START = datetime(2026, 11, 2, tzinfo=UTC)
WORDS = ("late", "cold", "broken", "lost", "rude", "slow", "twice", "never", "again", "refund", "money", "week")


def babble(dice: random.Random, words: int = 8, letters: int = 6) -> str:
    """So many made-up words, which nobody else says."""
    return " ".join("".join(dice.choices("abcdefgh", k=letters)) for _ in range(words))


def sample(number: int, minute: float, *, negative: bool, topic: str = "delivery", text: str = "") -> Sample:
    """Item `number`, at `minute` after START."""
    words = random.Random(number)
    return Sample(
        feedback_id=f"shop::{number}",
        workspace="default",
        source="shop",
        channel="review",
        topic=topic,
        language="en",
        sentiment="negative" if negative else "positive",
        score=-0.8 if negative else 0.8,
        at=START + timedelta(minutes=minute),
        text=text or " ".join(words.sample(WORDS, 8)),
        model="lexicon@1",
    )


def stream(
    *,
    minutes: float,
    per_minute: float,
    share: float,
    seed: int,
    rise: tuple[float, float, float] | None = None,
    begin: float = 0.0,
) -> Iterator[Sample]:
    """Poisson arrivals; between the minutes `rise[0]` and `rise[1]` the negative share is `rise[2]`."""
    dice = random.Random(seed)
    minute, number = begin, seed * 10_000_000
    while (minute := minute + dice.expovariate(per_minute)) < begin + minutes:
        number += 1
        now = rise[2] if rise and rise[0] <= minute < rise[1] else share
        yield sample(number, minute, negative=dice.random() < now)
