"""How sure a model may claim to be: temperatures, and the confidence below which it had better say `unsure`. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.artifact import Calibration
from models.classifier import UNKNOWN_LANGUAGE

LEAST_ACCURACY: Final = 0.55  # an answer that is right less often is little better than a coin
MOST_UNSURE: Final = 0.15
SHARES: Final = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)
_LEAST_TEXTS: Final = 150

Logits = NDArray[np.float32]
Labels = NDArray[np.int64]


def temperature(logits: Logits, labels: Labels, *, binary: bool) -> float:
    """The divisor of `logits` that makes `labels` most likely, to 2 % (0.3 to 5); see `fitted`."""
    return fitted(logits, labels, binary=binary)[0]


def fitted(logits: Logits, labels: Labels, *, binary: bool) -> tuple[float, float]:
    """`temperature`, and the mean negative log-likelihood with it.

    `binary`: logits [n, k] are k independent decisions with labels [n, k] of 0 and 1; else labels [n].
    """
    best, least = 1.0, float("inf")
    for divisor in np.geomspace(0.3, 5, 142):
        scaled = logits.astype(np.float64) / divisor
        if binary:
            loss = float(np.mean(np.logaddexp(0, scaled) - labels * scaled))
        else:
            top = scaled.max(axis=1, keepdims=True)
            norm = np.log(np.exp(scaled - top).sum(axis=1)) + top[:, 0]
            loss = float(np.mean(norm - scaled[np.arange(len(labels)), labels]))
        if loss < least:
            best, least = float(divisor), loss
    return round(best, 4), least


def calibrate(logits: Logits, labels: Labels, languages: Sequence[str], *, binary: bool) -> Calibration:
    """A temperature for all (`und`) and one for each language with enough texts to tell."""
    tags = np.array(languages)
    found = {UNKNOWN_LANGUAGE: temperature(logits, labels, binary=binary)}
    for language in sorted(set(languages)):
        chosen = tags == language
        if chosen.sum() >= _LEAST_TEXTS:
            found[language] = temperature(logits[chosen], labels[chosen], binary=binary)
    return Calibration(temperature=found)


def mixed(logits: Logits, others: Logits, shares: Logits) -> Logits:
    """Two opinions as one, of which `shares` [texts] is the part of the others."""
    part = shares[:, None]
    return (1 - part) * logits + part * others


def ngrams(
    logits: Logits, others: Logits, labels: Labels, languages: Sequence[str], *, binary: bool
) -> dict[str, float]:
    """What part the baseline's `others` should have in each language: that which makes the labels most likely at the
    best temperature; where there are too few texts to tell, that which does so for all languages together. Of an
    unknown language (`und`) the n-grams have mostly not been seen, so that it gets none of them.
    """
    tags = np.array(languages)

    def best(chosen: NDArray[np.bool_]) -> float:
        def loss(share: float) -> float:
            both = mixed(logits[chosen], others[chosen], np.full(chosen.sum(), share, np.float32))
            return fitted(both, labels[chosen], binary=binary)[1]

        return min(SHARES, key=loss)

    together = best(np.ones(len(tags), bool))
    found = {UNKNOWN_LANGUAGE: 0.0}
    for language in sorted(set(languages)):
        chosen = tags == language
        found[language] = best(chosen) if chosen.sum() >= _LEAST_TEXTS else together
    return found


def thresholds(
    confidence: NDArray[np.float64], right: NDArray[np.bool_], languages: Sequence[str], known: Sequence[str]
) -> dict[str, float]:
    """The confidence below which an answer counts as unsure, for each of the `known` languages and `und`.

    From held-out texts: the calibrated probability of each answer, whether it was right, and the text's
    language. A language with too few texts gets the threshold of all together. What is true of none of
    them cannot be measured for an unknown language, so `und` gets the strictest of all.
    """
    tags = np.array(languages)
    together = threshold(confidence, right)
    found = {}
    for language in known:
        chosen = tags == language
        enough = chosen.sum() >= _LEAST_TEXTS
        found[language] = threshold(confidence[chosen], right[chosen]) if enough else together
    return found | {UNKNOWN_LANGUAGE: max([together, *found.values()])}


def threshold(confidence: NDArray[np.float64], right: NDArray[np.bool_]) -> float:
    """Where answers begin to be right with LEAST_ACCURACY, but with MOST_UNSURE of them below it at most.

    How often an answer of some confidence is right is taken to rise with it: isotonic regression (pool
    adjacent violators; Ayer et al. 1955). Where even the least sure answers are right often enough, the
    threshold is the lowest confidence seen, since nothing is known of what lies below. 0 without answers.
    """
    if not len(confidence):
        return 0.0
    order = np.argsort(confidence, kind="stable")
    rising = isotonic(right[order].astype(np.float64))
    enough = np.flatnonzero(rising >= LEAST_ACCURACY)
    wanted = confidence[order[enough[0]]] if len(enough) else confidence.max()
    most = np.quantile(confidence, MOST_UNSURE, method="lower")
    return float(np.floor(min(wanted, most) * 1e4) / 1e4)


def isotonic(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The non-decreasing sequence nearest to `values` in squares."""
    blocks: list[list[float]] = []  # mean, size
    for value in values.tolist():
        blocks.append([value, 1.0])
        while len(blocks) > 1 and blocks[-2][0] >= blocks[-1][0]:
            mean, size = blocks.pop()
            before = blocks[-1]
            before[0] = (before[0] * before[1] + mean * size) / (before[1] + size)
            before[1] += size
    return np.repeat([mean for mean, _ in blocks], [int(size) for _, size in blocks])
