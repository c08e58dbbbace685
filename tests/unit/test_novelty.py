"""The kind `new_topic`: a subject that no topic knows, told with its words."""

from __future__ import annotations

import random
from dataclasses import replace

from alerts.alert import Sample
from alerts.engine import Engine
from alerts.rule import Rule
from tests import feed

RULE = Rule(name="n", kind="new_topic", group_by=(), window_s=6 * 3600, min_items=8, resolve_after_s=3600)
DICE = random.Random(7)
VOCABULARY = ["".join(DICE.choices("abcdefghiklmnoprstuv", k=DICE.randint(4, 9))) for _ in range(600)]
SUBJECT = (
    "loyalty points vanished",
    "my loyalty points are gone",
    "where did loyalty points go",
    "points of loyalty lost",
)


def chatter(count: int, seed: int, *, begin: float = 0.0, topic: str = "other") -> list[Sample]:
    dice = random.Random(seed)
    weights = [1 / (rank + 1) for rank in range(len(VOCABULARY))]
    return [
        replace(
            feed.sample(seed * 100_000 + i, begin + 2 * i, negative=i % 3 == 0, topic=topic),
            text=" ".join(dice.choices(VOCABULARY, weights, k=10)),
            author=f"a{seed}-{i}",
        )
        for i in range(count)
    ]


def subject(count: int, begin: float, *, authors: int = 99, certainty: float = 0.2) -> list[Sample]:
    filler = chatter(count, 3, begin=begin, topic="delivery")
    return [
        replace(item, text=f"{SUBJECT[i % 4]} {item.text}", certainty=certainty, author=f"s{i % authors}")
        for i, item in enumerate(filler)
    ]


def alerts(samples: list[Sample]) -> list[dict[str, str]]:
    samples = sorted(samples, key=lambda item: item.at)
    return [alert.annotations for alert in Engine([RULE]).evaluate(samples, {}, samples[-1].at).alerts]


def test_a_new_subject_is_found_with_its_words_and_quotes() -> None:
    (notes,) = alerts([*chatter(900, 1), *subject(20, 1700)])
    assert {"loyalty", "points"} <= set(notes["terms"].split(", "))
    assert "loyalty" in notes["quotes"]
    assert float(notes["expected"]) < 3


def test_chatter_alone_says_nothing() -> None:
    for seed in range(4):
        assert alerts(chatter(2500, 10 + seed)) == []


def test_what_was_said_all_along_is_told_once_at_the_most() -> None:
    mixed = sorted([*chatter(900, 1), *subject(900, 5)], key=lambda item: item.at)
    assert len(alerts(mixed)) <= 1


def test_one_loud_author_is_no_subject() -> None:
    assert alerts([*chatter(900, 1), *subject(20, 1700, authors=1)]) == []


def test_items_that_fit_a_topic_are_not_looked_at() -> None:
    assert alerts([*chatter(900, 1), *subject(20, 1700, certainty=0.9)]) == []


def test_nothing_is_said_before_anything_was_learned() -> None:
    assert alerts(subject(30, 10)) == []
