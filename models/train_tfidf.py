"""Labelled texts → the file of the TF-IDF baseline. Needs scikit-learn."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from models import tfidf
from models.classifier import SENTIMENTS, TOPICS
from models.corpus import Row

_LEAST_TEXTS: Final = 2


def train_tfidf(rows: Sequence[Row], out: Path, seed: int = 0) -> None:
    """Fit on the rows that have a sentiment and on those that have topics, and write what `tfidf` reads.

    A row with several topics counts once for each. A task of which the rows show fewer than two classes
    keeps weights of zero: every class is as likely as another. A file made of the same rows is left as it is.
    """
    data = hashlib.sha256("\n".join(map(repr, rows)).encode()).hexdigest()
    if out.exists() and _made_of(out) == data:
        return
    every = [tfidf.counts(row.text) for row in rows]
    frequency = np.zeros(tfidf.BUCKETS, np.int64)
    for buckets, _ in every:
        frequency[buckets] += 1
    known = frequency >= _LEAST_TEXTS
    idf = np.where(known, np.log((1 + len(rows)) / (1 + frequency)) + 1, 0).astype(np.float16)
    vectors = [tfidf.vector(row.text, idf.astype(np.float32)) for row in rows]
    starts = np.concatenate(([0], np.cumsum([len(buckets) for buckets, _ in vectors])))
    table: Any = csr_matrix(
        (np.concatenate([v for _, v in vectors]), np.concatenate([b for b, _ in vectors]), starts),
        shape=(len(rows), tfidf.BUCKETS),
    )
    felt = [(i, row.sentiment) for i, row in enumerate(rows) if row.sentiment is not None]
    about = [(i, TOPICS.index(topic)) for i, row in enumerate(rows) for topic in sorted(row.topics or ())]
    parts = [_fit(table, felt, len(SENTIMENTS), seed), _fit(table, about, len(TOPICS), seed)]
    weights = np.concatenate([part[0] for part in parts])
    scale = np.maximum(np.abs(weights).max(axis=1), 1e-9) / 127
    np.savez_compressed(
        out,
        idf=idf,
        weights=np.rint(weights / scale[:, None]).astype(np.int8).T.copy(),
        scale=scale.astype(np.float32),
        bias=np.concatenate([part[1] for part in parts]).astype(np.float32),
        topics=np.array(TOPICS),
        data=np.array(data),
    )


def _made_of(path: Path) -> str:
    with np.load(path, allow_pickle=False) as arrays:
        return str(arrays["data"]) if "data" in arrays else ""


def _fit(
    table: Any, labels: Sequence[tuple[int, int]], classes: int, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Weights [classes, buckets] and biases [classes]."""
    weights, bias = np.zeros((classes, tfidf.BUCKETS)), np.zeros(classes)
    found = sorted({label for _, label in labels})
    if len(found) < 2:
        return weights, bias
    bias[:] = -20
    rows, truth = [i for i, _ in labels], [label for _, label in labels]
    with threadpool_limits(1):  # more wait for each other
        fitted = LogisticRegression(C=4, max_iter=300, random_state=seed).fit(table[rows], truth)
    if len(found) == 2:  # one decision, for the second
        bias[found] = 0.0, fitted.intercept_[0]
        weights[found[1]] = fitted.coef_[0]
    else:
        bias[found], weights[found] = fitted.intercept_, fitted.coef_
    return weights, bias
