"""Fit a topic head on embeddings that are there already, and say how well it tells its topics apart. Pure.

The user's topics become linear functions of the embedding. They are trained against everything that is to
stay: our own labelled sentences are the examples of the model's topics and no examples of the user's, and
the model's logits take part, unchanged, in a softmax with the new ones, so that a new topic wins where its
examples are and nowhere else. The loss is convex, and nothing in it is drawn at random.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.classifier import ModelError
from models.topics import OTHER, Topic, Wanted

FOLDS: Final = 5
TOLD_APART: Final = 0.7
_ONE_IN_TWENTY: Final = 1.645  # of a normal distribution, in standard deviations
_DIRECTIONS: Final = 192  # more add nothing but time
_DECAY: Final = 0.05
_STEPS: Final = 80
_INCLUDED_WEIGHT: Final = 5.0

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Encoded:
    """Texts as the model sees them: `embedding` [n, width]; `logits` [n, known], calibrated."""

    embedding: Floats
    logits: Floats

    def __len__(self) -> int:
        return len(self.embedding)

    def of(self, rows: Flags) -> Encoded:
        """Some of the texts."""
        return Encoded(self.embedding[rows], self.logits[rows])


@dataclass(frozen=True, slots=True)
class Labelled:
    """Texts and the model's own topics that each is about."""

    texts: Encoded
    topics: Sequence[frozenset[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicScore:
    """F1 of a topic `before` (None: the model has no such topic) and `after`; `examples` and held-out texts of it."""

    topic: str
    texts: int
    before: float | None
    after: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Confusion:
    """Two topics that look the same: of `texts` that belong to one of them, `mistaken` fit the other better."""

    one: str
    other: str
    mistaken: int
    texts: int
    example: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """The weights of `own` topics, and the scores. `accuracy`: share of texts whose best topic is one of theirs."""

    topics: tuple[str, ...]
    own: tuple[str, ...]
    weights: Floats
    bias: Floats
    scores: tuple[TopicScore, ...]
    accuracy_before: float
    accuracy_after: float
    texts: int
    confused: tuple[Confusion, ...]


def fit(
    wanted: Wanted,
    known: Sequence[str],
    *,
    ours: Labelled,
    held: Labelled,
    examples: Sequence[Encoded],
    descriptions: Encoded,
) -> Fitted:
    """Cross-validate and fit. `ours`: what the model's topics are learned from, `held`: what they are judged by.

    `examples`: of each wanted topic. `descriptions`: one a topic; each is one more example, and never judged.
    The user's examples are judged by heads that have not seen them, in FOLDS parts; `held` by the final head.
    """
    problem = _Problem(wanted, known, ours, descriptions)
    parts = min(FOLDS, *(len(part) for part in examples))
    found = [np.zeros((len(part), len(problem.topics))) for part in examples]
    for fold in range(parts):
        seen = [np.arange(len(part)) % parts != fold for part in examples]
        weights, bias = problem.solve([part.of(shown) for part, shown in zip(examples, seen, strict=True)])
        for logits, part, shown in zip(found, examples, seen, strict=True):
            logits[~shown] = problem.joined(part.of(~shown), weights, bias)
    weights, bias = problem.solve(examples)
    logits = np.concatenate([*found, problem.joined(held.texts, weights, bias)])
    truth = [frozenset((topic.name,)) for topic in wanted.topics for _ in topic.examples]
    truth += [problem.renamed(topics) for topics in held.topics]
    said = [problem.topics[i] for i in logits.argmax(axis=1)]
    before = [known[i] for i in np.concatenate([*(part.logits for part in examples), held.texts.logits]).argmax(axis=1)]
    was = [frozenset((t.name, *t.includes)) for t in wanted.topics for _ in t.examples] + list(held.topics)
    texts = [text for topic in wanted.topics for text in topic.examples] + [""] * len(held.topics)
    return Fitted(
        topics=problem.topics,
        own=problem.own,
        weights=weights,
        bias=bias,
        scores=tuple(
            TopicScore(
                topic=topic,
                texts=sum(topic in labels for labels in truth),
                before=f1(topic, was, before) if topic in known else None,
                after=f1(topic, truth, said),
            )
            for topic in problem.topics
        ),
        accuracy_before=_share(before, was),
        accuracy_after=_share(said, truth),
        texts=len(truth),
        confused=tuple(confusions(problem.topics, [t.name for t in wanted.topics], logits, truth, texts)),
    )


def f1(topic: str, truth: Sequence[frozenset[str]], said: Sequence[str]) -> float:
    """F1 of one topic, where a text's single best topic counts as found when it is any of the text's own."""
    hits = sum(topic == best and topic in labels for labels, best in zip(truth, said, strict=True))
    false = sum(topic == best and topic not in labels for labels, best in zip(truth, said, strict=True))
    missed = sum(topic in labels and best not in labels for labels, best in zip(truth, said, strict=True))
    return 2 * hits / max(1, 2 * hits + false + missed)


def confusions(
    topics: Sequence[str], new: Sequence[str], logits: Floats, truth: Sequence[frozenset[str]], texts: Sequence[str]
) -> list[Confusion]:
    """Every pair with a new topic in it that cannot be told apart.

    Of texts that belong to one of the two, those whose logit is higher for their own are right. A pair is told
    apart when the share that is right, averaged over both sides, is TOLD_APART or more, and so far above 0.5 that
    chance would get there once in twenty times.
    """
    found = []
    for first in new:
        for second in topics:
            if second in (first, OTHER, *new[: new.index(first)]):
                continue
            margin = logits[:, topics.index(first)] - logits[:, topics.index(second)]
            sides = []
            for sign, mine, theirs in ((1, first, second), (-1, second, first)):
                rows = [i for i, labels in enumerate(truth) if mine in labels and theirs not in labels]
                sides.append([(i, sign * margin[i] > 0) for i in rows])
            shares = [float(np.mean([right for _, right in side])) if side else 1.0 for side in sides]
            chance = 0.5 + _ONE_IN_TWENTY * 0.25 * sum(1 / max(1, len(side)) for side in sides) ** 0.5
            if sum(shares) / 2 >= max(TOLD_APART, chance):
                continue
            wrong = [i for side in sides for i, right in side if not right]
            shown = next((texts[i] for i in wrong if texts[i]), "")
            count = sum(map(len, sides))
            found.append(Confusion(one=first, other=second, mistaken=len(wrong), texts=count, example=shown))
    return found


class _Problem:
    """What is fitted, over which rows that never change."""

    def __init__(self, wanted: Wanted, known: Sequence[str], ours: Labelled, descriptions: Encoded) -> None:
        self._owner = {model: topic.name for topic in wanted.topics for model in topic.includes}
        self._kept = [topic for topic in wanted.keep if topic != OTHER]
        dropped = [t for t in known if t != OTHER and t not in self._kept and t not in self._owner]
        names = [topic.name for topic in wanted.topics]
        # What OTHER means stays what it was only while no topic of the model goes without a successor.
        self.own = (*names, OTHER) if dropped or OTHER not in known else tuple(names)
        self.topics = (*self._kept, *names, OTHER)
        self._fixed = [known.index(t) for t in self.topics if t not in self.own]
        self._at = [self.topics.index(t) for t in self.own]
        self._wanted, self._descriptions = wanted.topics, descriptions
        # In the principal directions of our sentences; one scale for all, so that those of little weight stay so.
        self._mean = ours.texts.embedding.mean(axis=0)
        centred = ours.texts.embedding - self._mean
        _, axes = np.linalg.eigh(centred.T @ centred)
        self._axes = axes[:, ::-1][:, :_DIRECTIONS] / float(centred.std())
        self._ours = ours
        self._targets = self._flags([self.renamed(topics) for topics in ours.topics])
        self._weight = len(ours.topics) / max(1, len(known))

    def renamed(self, topics: frozenset[str]) -> frozenset[str]:
        """The labels of a text under the new set."""
        found = {self._owner.get(t, t if t in self._kept else OTHER) for t in topics}
        return frozenset(found - {OTHER} or {OTHER})

    def solve(self, examples: Sequence[Encoded]) -> tuple[Floats, Floats]:
        """Weights [own, width] and biases, in the units of the embeddings."""
        parts = [self._ours.texts, *examples, self._descriptions]
        x = (np.concatenate([part.embedding for part in parts]) - self._mean) @ self._axes
        fixed = np.concatenate([part.logits for part in parts])[:, self._fixed]
        names = [topic for topic, part in zip(self._wanted, examples, strict=True) for _ in range(len(part))]
        names += self._wanted
        targets = np.concatenate([self._targets, self._flags([frozenset((topic.name,)) for topic in names])])
        # The examples of a topic weigh together as much as our sentences of one, since it may be as frequent.
        sizes = {t.name: len(part) + 1 for t, part in zip(self._wanted, examples, strict=True)}
        own = [_INCLUDED_WEIGHT if t.includes else self._weight / sizes[t.name] for t in names]
        importance = np.concatenate([np.ones(len(self._targets)), own])
        solution = minimise(
            lambda flat: _loss(flat, x, fixed, targets, importance, self._at, len(self.topics)),
            np.zeros(len(self.own) * (x.shape[1] + 1)),
        ).reshape(len(self.own), -1)
        weights = solution[:, :-1] @ self._axes.T
        return weights, solution[:, -1] - weights @ self._mean

    def joined(self, texts: Encoded, weights: Floats, bias: Floats) -> Floats:
        """Logits of every topic of the new set."""
        found = np.empty((len(texts), len(self.topics)))
        found[:, [i for i in range(len(self.topics)) if i not in self._at]] = texts.logits[:, self._fixed]
        found[:, self._at] = texts.embedding @ weights.T + bias
        return found

    def _flags(self, rows: Sequence[frozenset[str]]) -> Flags:
        return np.array([[topic in labels for topic in self.topics] for labels in rows], bool).reshape(len(rows), -1)


def _loss(
    flat: Floats, x: Floats, fixed: Floats, targets: Flags, importance: Floats, at: Sequence[int], count: int
) -> tuple[float, Floats]:
    """Weighted mean of the binary cross-entropy of the own topics and the cross-entropy over all, and its gradient."""
    solution = flat.reshape(len(at), -1)
    own = x @ solution[:, :-1].T + solution[:, -1]
    every = np.empty((len(x), count))
    every[:, [i for i in range(count) if i not in at]] = fixed
    every[:, at] = own
    wanted = targets[:, at]
    total = importance.sum()
    top = every.max(axis=1, keepdims=True)
    powers = np.exp(every - top)
    sums = powers.sum(axis=1, keepdims=True)
    share = targets / targets.sum(axis=1, keepdims=True)
    ranked = (np.log(sums[:, 0]) + top[:, 0] - (share * every).sum(axis=1)) @ importance
    each = (np.logaddexp(0, own) - wanted * own).sum(axis=1) @ importance
    slope = 1 / (1 + np.exp(-own)) - wanted + (powers / sums)[:, at] - share[:, at]
    slope *= importance[:, None] / total
    gradient = np.concatenate([slope.T @ x + _DECAY * solution[:, :-1], slope.sum(axis=0)[:, None]], axis=1)
    return float((ranked + each) / total + _DECAY / 2 * (solution[:, :-1] ** 2).sum()), gradient.ravel()


def minimise(function: Callable[[Floats], tuple[float, Floats]], start: Floats) -> Floats:
    """L-BFGS with backtracking (Nocedal & Wright 2006, algorithm 7.4). ModelError where it cannot descend."""
    x = start
    value, gradient = function(x)
    pairs: list[tuple[Floats, Floats, float]] = []
    for _ in range(_STEPS):
        if np.abs(gradient).max() < 1e-5:
            break
        direction = -gradient
        kept = []
        for moved, turned, curve in reversed(pairs):
            part = (moved @ direction) / curve
            direction = direction - part * turned
            kept.append(part)
        if pairs:
            moved, turned, curve = pairs[-1]
            direction = direction * (curve / (turned @ turned))
        for (moved, turned, curve), part in zip(pairs, reversed(kept), strict=True):
            direction = direction + moved * (part - (turned @ direction) / curve)
        slope = gradient @ direction
        step = 1.0 if pairs else min(1.0, 1 / float(np.abs(gradient).sum()))
        for _ in range(40):
            at = x + step * direction
            found, turn = function(at)
            if found <= value + 1e-4 * step * slope:
                break
            step /= 2
        else:
            break
        if not np.isfinite(found):
            raise ModelError("the topics cannot be fitted: the embeddings hold no finite numbers")
        if (at - x) @ (turn - gradient) > 1e-12:
            pairs = [*pairs[-9:], (at - x, turn - gradient, float((at - x) @ (turn - gradient)))]
        x, value, gradient = at, found, turn
    return x


def _share(said: Sequence[str], truth: Sequence[frozenset[str]]) -> float:
    return sum(best in labels for best, labels in zip(said, truth, strict=True)) / max(1, len(truth))


def describe(confusion: Confusion, topics: Sequence[Topic], known: Sequence[str]) -> str:
    """What is wrong and what to do about it, in a line."""
    shown = f', such as "{confusion.example[:80]}"' if confusion.example else ""
    text = (
        f"{confusion.one} and {confusion.other} cannot be told apart: {confusion.mistaken} of {confusion.texts} texts "
        f"fit the other one better{shown}"
    )
    if confusion.other in known and confusion.other not in {topic.name for topic in topics}:
        return (
            f"{text}; if {confusion.one} is to take the place of the model's own {confusion.other}, "
            f'write includes = ["{confusion.other}"], else give examples that differ from it'
        )
    return f"{text}; make one topic of them, or give examples that differ"
