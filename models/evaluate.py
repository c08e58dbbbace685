"""How good a classifier is on labelled texts, and where: as a record, as Markdown, as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import numpy as np

from models import corpus, scores
from models.classifier import SENTIMENTS, TOPICS, Classifier, ModelError, Prediction
from models.corpus import Row
from models.scores import Bin

URGENT: Final = 0.5
_WORST: Final = 15


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """One classifier, one task (sentiment, topic, urgency), one group of texts.

    `low`, `high`: 95 % bootstrap interval of `macro_f1`. A topic counts as right when it is one of the
    text's topics; its `macro_f1` takes the first of them where it is not.
    """

    model: str
    task: str
    group: str
    count: int
    accuracy: float
    macro_f1: float
    low: float
    high: float
    calibration_error: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Mistake:
    """A text that a classifier got wrong, and how sure it was."""

    text: str
    language: str
    task: str
    truth: str
    said: str
    confidence: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Scores of every classifier; the rest is about the first one only."""

    scores: tuple[Score, ...]
    reliability: dict[str, tuple[Bin, ...]]
    confusion: dict[str, list[list[int]]]
    worst: tuple[Mistake, ...]
    language_accuracy: dict[str, float]

    def to_json(self) -> str:
        """Every number, for programs."""
        return json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n"

    def to_markdown(self) -> str:
        """Every number, for people."""
        lines = ["| model | task | texts | n | accuracy | macro-F1 (95 %) | ECE |", "|---|---|---|--:|--:|--:|--:|"]
        lines += [
            f"| {s.model} | {s.task} | {s.group} | {s.count} | {s.accuracy:.3f} "
            f"| {s.macro_f1:.3f} ({s.low:.3f}–{s.high:.3f}) | {s.calibration_error:.3f} |"
            for s in self.scores
        ]
        lines += ["", "| language told apart | accuracy |", "|---|--:|"]
        lines += [f"| {tag} | {value:.3f} |" for tag, value in self.language_accuracy.items()]
        for task, bins in self.reliability.items():
            lines += ["", f"Reliability, {task}:", "", "| confidence | n | mean | right |", "|---|--:|--:|--:|"]
            lines += [f"| {b.low:.1f}–{b.high:.1f} | {b.count} | {b.confidence:.3f} | {b.accuracy:.3f} |" for b in bins]
        for task, table in self.confusion.items():
            names = SENTIMENTS if task == "sentiment" else TOPICS
            lines += ["", f"Confusion, {task} (rows: truth):", "", "| | " + " | ".join(names) + " |"]
            lines += ["|---" + "|--:" * len(names) + "|"]
            lines += [f"| {name} | " + " | ".join(map(str, row)) + " |" for name, row in zip(names, table, strict=True)]
        lines += ["", "Surest mistakes:", ""]
        lines += [
            f"- {m.task}: said {m.said} ({m.confidence:.2f}), is {m.truth} [{m.language}]: {m.text}" for m in self.worst
        ]
        return "\n".join(lines) + "\n"


def read(path: Path) -> list[Row]:
    """Labelled rows of a `.jsonl[.gz]` file, or of a folder of `.tsv` files as in `models/sentences`.

    ModelError when there is nothing to read.
    """
    rows = list(corpus.sentences(path) if path.is_dir() else corpus.read_jsonl(path))
    if not rows:
        raise ModelError(f"{path}: no labelled texts; expected .jsonl with text, lang, source, sentiment or topic")
    return rows


def evaluate(rows: Sequence[Row], classifiers: Sequence[Classifier]) -> Report:
    """Every classifier on every row; groups are all texts, each language, and each source and language."""
    found: list[Score] = []
    first: list[Prediction] = []
    for classifier in classifiers:
        predictions = classifier.classify([row.text for row in rows])
        first = first or predictions
        for task, view in _TASKS.items():
            found += _task(classifier.model, task, rows, predictions, view)
    reliability, confusion, worst = {}, {}, []
    for task, view in _TASKS.items():
        pairs = ((row, view(row, said)) for row, said in zip(rows, first, strict=True))
        seen = [(row, *answer) for row, answer in pairs if answer is not None]
        if not seen:
            continue
        truth = np.array([item[1] for item in seen])
        said = np.array([item[2] for item in seen])
        confidence = np.array([item[3] for item in seen])
        reliability[task] = tuple(scores.reliability(confidence, truth == said))
        if task != "urgency":
            names = SENTIMENTS if task == "sentiment" else TOPICS
            confusion[task] = scores.confusion(truth, said, len(names))
            worst += [
                Mistake(
                    text=row.text[:160],
                    language=row.language,
                    task=task,
                    truth=names[right],
                    said=names[wrong],
                    confidence=round(sure, 3),
                )
                for row, right, wrong, sure in seen
                if right != wrong
            ]
    languages = sorted({row.language for row in rows})
    told = np.array([row.language == p.language for row, p in zip(rows, first, strict=True)])
    tags = np.array([row.language for row in rows])
    return Report(
        scores=tuple(found),
        reliability=reliability,
        confusion=confusion,
        worst=tuple(sorted(worst, key=lambda m: -m.confidence)[:_WORST]),
        language_accuracy={tag: float(told[tags == tag].mean()) for tag in languages},
    )


_View = Callable[[Row, Prediction], "tuple[int, int, float] | None"]


def _sentiment(row: Row, said: Prediction) -> tuple[int, int, float] | None:
    if row.sentiment is None:
        return None
    return row.sentiment, SENTIMENTS.index(said.leaning), max(said.sentiment)


def _topic(row: Row, said: Prediction) -> tuple[int, int, float] | None:
    if row.topics is None:
        return None
    best = said.topic
    truth = best if best in row.topics else sorted(row.topics, key=TOPICS.index)[0]
    return TOPICS.index(truth), TOPICS.index(best), min(1.0, said.topics[best])


def _urgency(row: Row, said: Prediction) -> tuple[int, int, float] | None:
    if row.urgent is None or said.urgency is None:
        return None
    return int(row.urgent), int(said.urgency > URGENT), max(said.urgency, 1 - said.urgency)


_TASKS: Final[dict[str, _View]] = {"sentiment": _sentiment, "topic": _topic, "urgency": _urgency}


def _task(model: str, task: str, rows: Sequence[Row], predictions: Sequence[Prediction], view: _View) -> list[Score]:
    mixed = len({row.source for row in rows}) > 1
    groups: dict[str, list[tuple[int, int, float]]] = {}
    for row, prediction in zip(rows, predictions, strict=True):
        seen = view(row, prediction)
        if seen is not None:
            for group in {"all", row.language, f"{row.source}/{row.language}" if mixed else "all"}:
                groups.setdefault(group, []).append(seen)
    found = []
    for group, items in sorted(groups.items()):
        truth, said = np.array([item[0] for item in items]), np.array([item[1] for item in items])
        low, high = scores.interval(truth, said)
        bins = scores.reliability(np.array([item[2] for item in items]), truth == said)
        found.append(
            Score(
                model=model,
                task=task,
                group=group,
                count=len(items),
                accuracy=float((truth == said).mean()),
                macro_f1=scores.macro_f1(truth, said),
                low=low,
                high=high,
                calibration_error=scores.calibration_error(bins),
            )
        )
    return found
