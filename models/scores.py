"""Pure measures of a classifier's answers: accuracy, macro-F1 and its interval, calibration, confusion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Labels = NDArray[np.int64]
BINS: Final = 10
_RESAMPLES: Final = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Bin:
    """Answers whose confidence lies in (low, high]: how many, how sure on average, how often right."""

    low: float
    high: float
    count: int
    confidence: float
    accuracy: float


def macro_f1(truth: Labels, said: Labels) -> float:
    """Mean F1 over the classes that occur in `truth`; 0 without any text."""
    scores = []
    for label in np.unique(truth):
        hits = int(((truth == label) & (said == label)).sum())
        total = int((truth == label).sum() + (said == label).sum())
        scores.append(2 * hits / total)
    return float(np.mean(scores)) if scores else 0.0


def interval(truth: Labels, said: Labels, seed: int = 0) -> tuple[float, float]:
    """95 % bootstrap interval of macro-F1: what another sample of as many texts would give. (0, 0) without any.

    Drawing texts anew draws the cells of the confusion table, so it is those that are drawn.
    """
    if not len(truth):
        return 0.0, 0.0
    names, places = np.unique(np.concatenate([truth, said]), return_inverse=True)
    cells = places[: len(truth)] * len(names) + places[len(truth) :]
    shares = np.bincount(cells, minlength=len(names) ** 2) / len(truth)
    draws = np.random.default_rng(seed).multinomial(len(truth), shares, _RESAMPLES)
    tables = draws.reshape(_RESAMPLES, len(names), len(names))
    hits = np.diagonal(tables, axis1=1, axis2=2)
    occurs = tables.sum(axis=2)
    each = 2 * hits / np.maximum(1, occurs + tables.sum(axis=1))
    mean = (each * (occurs > 0)).sum(axis=1) / np.maximum(1, (occurs > 0).sum(axis=1))
    low, high = np.percentile(mean, [2.5, 97.5])
    return float(low), float(high)


def reliability(confidence: NDArray[np.float64], right: NDArray[np.bool_]) -> list[Bin]:
    """The answers in ten equal steps of confidence; empty steps are left out."""
    steps = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
    return [
        Bin(
            low=step / BINS,
            high=(step + 1) / BINS,
            count=int((steps == step).sum()),
            confidence=float(confidence[steps == step].mean()),
            accuracy=float(right[steps == step].mean()),
        )
        for step in range(BINS)
        if (steps == step).any()
    ]


def calibration_error(bins: Sequence[Bin]) -> float:
    """Expected calibration error: the gap between confidence and accuracy, weighted by count."""
    total = sum(entry.count for entry in bins)
    return sum(entry.count * abs(entry.confidence - entry.accuracy) for entry in bins) / max(1, total)


def confusion(truth: Labels, said: Labels, classes: int) -> list[list[int]]:
    """Counts [truth][said]."""
    table = np.zeros((classes, classes), np.int64)
    np.add.at(table, (truth, said), 1)
    rows: list[list[int]] = table.tolist()
    return rows
