"""How good classifiers are on labelled texts, and where: as a record, as Markdown, as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Final, Protocol

import numpy as np

from models import scores
from models.classifier import SENTIMENTS, Classifier, Prediction
from models.corpus import Row
from models.scores import Bin

URGENT: Final = 0.5
_WORST: Final = 15
RELIABILITY: Final = "\nReliability"


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """One classifier, one task (sentiment, topic, urgency), one group of texts.

    `low`, `high`: 95 % bootstrap interval of `macro_f1`. A topic counts as right when it is one of the
    text's topics; its `macro_f1` takes the first of them where it is not. An unsure sentiment is judged by what
    it leans to; `unsure` is the share of such, `sure_accuracy` the accuracy of the others.
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
    unsure: float
    sure_accuracy: float


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
class Confusion:
    """`counts[truth][said]` over `names`."""

    names: tuple[str, ...]
    counts: list[list[int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Scores of every classifier; the rest is about the first one only."""

    scores: tuple[Score, ...]
    reliability: dict[str, tuple[Bin, ...]]
    confusion: dict[str, Confusion]
    worst: tuple[Mistake, ...]
    language_accuracy: dict[str, float]

    def to_json(self) -> str:
        """Every number, for programs."""
        return json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n"

    def to_markdown(self) -> str:
        """Every number, for people: one table a task, with the first classifier in full and the others beside it."""
        lines: list[str] = []
        models = list(dict.fromkeys(score.model for score in self.scores))
        for task in dict.fromkeys(score.task for score in self.scores):
            lines += [*self._table(task, models), ""]
        if self.language_accuracy:
            lines += ["| language told apart | accuracy |", "|---|--:|"]
            lines += [f"| {tag} | {value:.3f} |" for tag, value in self.language_accuracy.items()]
        for task, bins in self.reliability.items():
            lines += [f"{RELIABILITY}, {task}:", "", "| confidence | n | mean | right |", "|---|--:|--:|--:|"]
            lines += [f"| {b.low:.1f}–{b.high:.1f} | {b.count} | {b.confidence:.3f} | {b.accuracy:.3f} |" for b in bins]
        for task, table in self.confusion.items():
            lines += ["", f"Confusion, {task} (rows: truth):", "", "| | " + " | ".join(table.names) + " |"]
            lines += ["|---" + "|--:" * len(table.names) + "|"]
            rows = zip(table.names, table.counts, strict=True)
            lines += [f"| {name} | " + " | ".join(map(str, row)) + " |" for name, row in rows]
        lines += ["", "Surest mistakes:", ""]
        lines += [
            f"- {m.task}: said {m.said} ({m.confidence:.2f}), is {m.truth} [{m.language}]: {m.text}" for m in self.worst
        ]
        return "\n".join(lines) + "\n"

    def _table(self, task: str, models: Sequence[str]) -> list[str]:
        by = {(s.model, s.group): s for s in self.scores if s.task == task}
        first, *others = [model for model in models if any(key[0] == model for key in by)]
        sentiment = task == "sentiment"
        head = ["texts", "n", "accuracy", "macro-F1 (95 %)", "ECE", *(["unsure", "accuracy of the rest"] * sentiment)]
        head += [f"macro-F1 of {model}" for model in others]
        lines = [f"### {task}: {first}", "", "| " + " | ".join(head) + " |", "|---" + "|--:" * (len(head) - 1) + "|"]
        for group in dict.fromkeys(group for _, group in by):
            s = by[first, group]
            row = [group, str(s.count), f"{s.accuracy:.3f}", f"{s.macro_f1:.3f} ({s.low:.3f}–{s.high:.3f})"]
            row += [f"{s.calibration_error:.3f}", *([f"{s.unsure:.1%}", f"{s.sure_accuracy:.3f}"] * sentiment)]
            row += [f"{by[model, group].macro_f1:.3f}" for model in others]
            lines.append("| " + " | ".join(row) + " |")
        return lines


@dataclass(frozen=True, slots=True)
class _Answer:
    """One text as a task sees it: indices into the task's names, and how sure the classifier was."""

    truth: int
    said: int
    confidence: float
    unsure: bool = False


def evaluate(
    rows: Sequence[Row], classifiers: Sequence[Classifier], report: Callable[[str], None] = lambda _: None
) -> Report:
    """Every classifier on every row; groups are all texts, each language, and each source and language.

    `report` hears of each classifier before it begins.
    """
    every: dict[str, list[Prediction]] = {}
    for classifier in classifiers:
        report(classifier.model)
        every[classifier.model] = classifier.classify([row.text for row in rows])
    first = next(iter(every.values()), [])
    tasks: list[_Task] = [_Sentiment(), _Topic(rows, every.values()), _Urgency()]
    found = [
        score
        for model, predictions in every.items()
        for task in tasks
        for score in _scores(model, task, rows, list(map(task.view, rows, predictions)))
    ]
    reliability, confusion, worst = {}, {}, []
    for task in tasks:
        pairs = ((row, task.view(row, said)) for row, said in zip(rows, first, strict=True))
        seen = [(row, answer) for row, answer in pairs if answer is not None]
        if not seen:
            continue
        truth = np.array([answer.truth for _, answer in seen])
        said = np.array([answer.said for _, answer in seen])
        confidence = np.array([answer.confidence for _, answer in seen])
        reliability[task.name] = tuple(scores.reliability(confidence, truth == said))
        confusion[task.name] = Confusion(names=task.names, counts=scores.confusion(truth, said, len(task.names)))
        worst += [
            Mistake(
                text=row.text[:160],
                language=row.language,
                task=task.name,
                truth=task.names[answer.truth],
                said=task.names[answer.said],
                confidence=round(answer.confidence, 3),
            )
            for row, answer in seen
            if answer.truth != answer.said
        ]
    told = [(row.language, row.language == p.language) for row, p in zip(rows, first, strict=True)]
    stated = sorted({tag for tag, _ in told})
    return Report(
        scores=tuple(found),
        reliability=reliability,
        confusion=confusion,
        worst=tuple(sorted(worst, key=lambda m: -m.confidence)[:_WORST]),
        language_accuracy={tag: float(np.mean([right for other, right in told if other == tag])) for tag in stated},
    )


class _Task(Protocol):
    """One thing that is judged: its labels, and what a prediction says of a row; None where the row has no label."""

    name: str
    names: tuple[str, ...]

    def view(self, row: Row, said: Prediction) -> _Answer | None: ...


class _Sentiment:
    name: str = "sentiment"
    names: tuple[str, ...] = SENTIMENTS

    def view(self, row: Row, said: Prediction) -> _Answer | None:
        if row.sentiment is None:
            return None
        return _Answer(row.sentiment, SENTIMENTS.index(said.leaning), max(said.sentiment), said.unsure)


class _Topic:
    name: str = "topic"

    def __init__(self, rows: Sequence[Row], every: Iterable[Sequence[Prediction]]) -> None:
        """The labels are those of the classifiers, the first one's first, and what only the rows name."""
        said = dict.fromkeys(topic for predictions in every for said in predictions[:1] for topic in said.topics)
        self.names: tuple[str, ...] = tuple(said | dict.fromkeys(sorted({t for row in rows for t in row.topics or ()})))

    def view(self, row: Row, said: Prediction) -> _Answer | None:
        if not row.topics:
            return None
        best = said.topic
        truth = best if best in row.topics else min(row.topics, key=self.names.index)
        return _Answer(self.names.index(truth), self.names.index(best), min(1.0, said.topics[best]))


class _Urgency:
    name: str = "urgency"
    names: tuple[str, ...] = ("not urgent", "urgent")

    def view(self, row: Row, said: Prediction) -> _Answer | None:
        if row.urgent is None or said.urgency is None:
            return None
        return _Answer(int(row.urgent), int(said.urgency > URGENT), max(said.urgency, 1 - said.urgency))


def _scores(model: str, task: _Task, rows: Sequence[Row], answers: Sequence[_Answer | None]) -> list[Score]:
    mixed = len({row.source for row in rows}) > 1
    groups: dict[str, list[_Answer]] = {}
    for row, answer in zip(rows, answers, strict=True):
        if answer is not None:
            for group in {"all", row.language, f"{row.source}/{row.language}" if mixed else "all"}:
                groups.setdefault(group, []).append(answer)
    found = []
    for group, items in sorted(groups.items(), key=lambda entry: (entry[0] != "all", "/" in entry[0], entry[0])):
        truth, said = np.array([item.truth for item in items]), np.array([item.said for item in items])
        sure = np.array([not item.unsure for item in items])
        low, high = scores.interval(truth, said)
        bins = scores.reliability(np.array([item.confidence for item in items]), truth == said)
        found.append(
            Score(
                model=model,
                task=task.name,
                group=group,
                count=len(items),
                accuracy=float((truth == said).mean()),
                macro_f1=scores.macro_f1(truth, said),
                low=low,
                high=high,
                calibration_error=scores.calibration_error(bins),
                unsure=float(1 - sure.mean()),
                sure_accuracy=float((truth == said)[sure].mean()) if sure.any() else 0.0,
            )
        )
    return found
