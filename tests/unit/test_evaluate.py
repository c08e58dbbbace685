import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from models import evaluate, scores
from models.classifier import TOPICS, ModelError, Prediction
from models.corpus import Row


class Oracle:
    """Reads the answer out of the text: `2 price`."""

    model = "oracle@000000000000"

    def classify(self, texts: Sequence[str], languages: Sequence[str | None] = ()) -> list[Prediction]:
        return [
            Prediction(
                sentiment=tuple(0.8 if i == int(text[0]) else 0.1 for i in range(3)),  # type: ignore[arg-type]
                topics={topic: 0.9 if topic == text.split()[1] else 0.1 for topic in TOPICS},
                language="en",
                model=self.model,
                urgency=0.2,
            )
            for text in texts
        ]


def row(text: str, sentiment: int, topic: str, source: str = "a") -> Row:
    return Row(
        text=text, language="en", source=source, sentiment=sentiment, topics=frozenset({topic, "app"}), urgent=False
    )


def test_scores_count_what_was_right() -> None:
    rows = [row("2 price", 2, "price"), row("0 refund", 0, "refund"), row("2 other", 0, "price")]
    report = evaluate.evaluate(rows, [Oracle()])
    by = {(s.task, s.group): s for s in report.scores}
    assert by["sentiment", "all"].accuracy == pytest.approx(2 / 3)
    assert by["topic", "en"].accuracy == pytest.approx(2 / 3)
    assert by["urgency", "all"].accuracy == 1
    assert report.confusion["sentiment"] == [[1, 0, 1], [0, 0, 0], [0, 0, 1]]
    assert {m.text for m in report.worst} == {"2 other"}
    assert report.language_accuracy == {"en": 1.0}
    assert "| oracle@000000000000 | sentiment | all | 3 | 0.667 |" in report.to_markdown()
    assert json.loads(report.to_json())["worst"][0]["truth"]


def test_sources_are_told_apart_where_there_are_several() -> None:
    report = evaluate.evaluate([row("2 price", 2, "price"), row("0 app", 0, "app", "b")], [Oracle()])
    assert {s.group for s in report.scores} == {"all", "en", "a/en", "b/en"}


def test_macro_f1_against_hand_counted() -> None:
    assert scores.macro_f1(np.array([0, 0, 1, 2]), np.array([0, 1, 1, 2])) == pytest.approx((2 / 3 + 2 / 3 + 1) / 3)
    assert scores.macro_f1(np.array([], int), np.array([], int)) == 0


def test_calibration_error_is_the_gap() -> None:
    bins = scores.reliability(np.array([0.95, 0.95, 0.95, 0.95]), np.array([True, True, False, False]))
    assert scores.calibration_error(bins) == pytest.approx(0.45)
    assert scores.calibration_error([]) == 0


def test_interval_holds_the_score_and_repeats() -> None:
    truth = np.arange(90) % 3
    said = np.where(np.arange(90) % 5 == 0, 0, truth)
    low, high = scores.interval(truth, said)
    assert low < scores.macro_f1(truth, said) < high
    assert scores.interval(truth, said) == (low, high)


def test_nothing_to_read_is_said(tmp_path: Path) -> None:
    path = tmp_path / "empty.jsonl"
    path.write_text("")
    with pytest.raises(ModelError, match="no labelled texts"):
        evaluate.read(path)


def test_reads_jsonl(tmp_path: Path) -> None:
    path = tmp_path / "some.jsonl"
    lines = [
        {"text": "Great!", "lang": "en", "source": "x", "sentiment": "positive"},
        {"text": "пул", "lang": "uzc", "source": "x", "topic": "refund"},
        {"text": "?", "lang": "hi", "source": "x", "sentiment": "neutral"},
    ]
    path.write_text("\n".join(json.dumps(line) for line in lines))
    first, second = evaluate.read(path)
    assert (first.sentiment, first.topics) == (2, None)
    assert (second.language, second.topics) == ("uz-Cyrl", {"refund"})
