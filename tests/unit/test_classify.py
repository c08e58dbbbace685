"""Raw records to outcomes: each has exactly one, whatever the model does with its text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from benchmarks.keyword import KeywordClassifier
from models.classifier import Prediction
from pipeline.classify import Outcome, RawRecord, classify
from pipeline.codec import encode_feedback
from tests.store import NOW, feedback


class Choosy(KeywordClassifier):
    """Fails on a batch that holds a certain word, as an engine may; or says nonsense of it."""

    def __init__(self, *, nonsense: bool = False) -> None:
        super().__init__()
        self._nonsense = nonsense
        self.asked = 0

    def classify(self, texts: Sequence[str], languages: Sequence[str | None] = ()) -> list[Prediction]:
        self.asked += 1
        if self._nonsense:
            wrong = (float("nan"),) * 3
            said = zip(texts, super().classify(texts), strict=True)
            return [replace(one, sentiment=wrong) if "cursed" in text else one for text, one in said]
        if any("cursed" in text for text in texts):
            raise RuntimeError("tensor of the wrong shape")
        return super().classify(texts)


def outcome_of(values: Sequence[bytes | None], model: KeywordClassifier) -> Outcome:
    records = [RawRecord(partition=0, offset=i, key=b"k", value=value) for i, value in enumerate(values)]
    return classify(records, log="life", classifier=model, partitions=3, clock=lambda: 0.0, now=NOW)


@pytest.mark.parametrize("nonsense", [False, True])
def test_a_text_that_the_model_cannot_take_costs_its_neighbours_nothing(nonsense: bool) -> None:
    texts = ["cursed" if i in (3, 77) else "great" for i in range(100)]
    values = [encode_feedback(feedback(f"{i}", text=text)) for i, text in enumerate(texts)]
    model = Choosy(nonsense=nonsense)
    outcome = outcome_of(values, model)
    scored = [item for items in outcome.scored.values() for item in items]
    assert sorted(item.raw.offset for item in scored) == [i for i in range(100) if i not in (3, 77)]
    assert all(item.prediction is not None and item.prediction.label == "positive" for item in scored)
    assert sorted(letter.dead_id for letter in outcome.dead) == ["life/0/3", "life/0/77"]
    assert {(letter.stage, letter.reason, letter.payload) for letter in outcome.dead} == {
        ("classify", "model", values[3]), ("classify", "model", values[77]),
    }  # fmt: skip
    assert model.asked < 40


def test_deletions_need_no_model_and_unreadable_records_no_neighbours() -> None:
    gone = encode_feedback(feedback("1", deleted=True, text="cursed"))
    outcome = outcome_of([None, gone, b"{", encode_feedback(feedback("2", text="cursed"))], Choosy())
    ((item,),) = outcome.scored.values()
    assert item.prediction is None and item.raw.offset == 1
    assert [(letter.raw.offset, letter.reason) for letter in outcome.dead if letter.raw] == [
        (0, "empty"), (2, "json"), (3, "model"),
    ]  # fmt: skip
    assert outcome.size == 4
