"""Labelled texts → the file of the TF-IDF baseline. Needs scikit-learn."""

from __future__ import annotations

import warnings
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from models import corpus, tfidf
from models.classifier import SENTIMENTS, TOPICS
from models.corpus import Row

_LEAST_TEXTS: Final = 2
_FOLDS: Final = 4
_FEW_ITERATIONS: Final = 60  # by then, the texts that it has not seen are told apart no better


def train_tfidf(rows: Sequence[Row], out: Path, seed: int = 0) -> None:
    """Fit on the rows that have a sentiment and on those that have topics, and write what `tfidf` reads.

    A row with several topics counts once for each. A task of which the rows show fewer than two classes
    keeps weights of zero: every class is as likely as another. A file made of the same rows is left as it is.
    """
    data = corpus.digest(rows)
    if out.exists() and _made_of(out) == data:
        return
    idf, table = _table(rows)
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


def opinions(rows: Sequence[Row], threads: int) -> NDArray[np.float32]:
    """What the baseline would say of the sentiment of each row, had it never seen that row: logits [rows, 3].

    Fitted once for each of _FOLDS parts of the rows, on the other parts; copies never part. NaN for rows without a
    sentiment, and for our own sentences: they are too few for it, and of another kind.
    """
    ours = (corpus.OWN, corpus.OWN_POST)
    felt = [(i, row.sentiment) for i, row in enumerate(rows) if row.sentiment is not None and row.source not in ours]
    fold = np.array([zlib.crc32(corpus.fingerprint(row.text).encode()) % _FOLDS for row in rows])
    _, table = _table(rows)
    found = np.full((len(rows), len(SENTIMENTS)), np.nan, np.float32)

    def judge(part: int) -> None:
        asked = [i for i, _ in felt if fold[i] == part]
        others = [(i, label) for i, label in felt if fold[i] != part]
        weights, bias = _fit(table, others, len(SENTIMENTS), 0, _FEW_ITERATIONS)
        found[asked] = table[asked] @ weights.T + bias

    with warnings.catch_warnings(), ThreadPoolExecutor(threads) as pool:
        warnings.simplefilter("ignore", ConvergenceWarning)
        list(pool.map(judge, range(_FOLDS)))
    return found


def _table(rows: Sequence[Row]) -> tuple[NDArray[np.float16], Any]:
    """The weight of each bucket, and the sparse matrix [rows, buckets] of the rows' vectors."""
    texts = [row.text for row in rows]
    frequency = np.bincount(tfidf.counts(texts)[1], minlength=tfidf.BUCKETS)
    known = frequency >= _LEAST_TEXTS
    idf = np.where(known, np.log((1 + len(rows)) / (1 + frequency)) + 1, 0).astype(np.float16)
    starts, buckets, values = tfidf.vectors(texts, idf.astype(np.float32))
    return idf, csr_matrix((values, buckets, starts), shape=(len(rows), tfidf.BUCKETS))


def _made_of(path: Path) -> str:
    with np.load(path, allow_pickle=False) as arrays:
        return str(arrays["data"]) if "data" in arrays else ""


def _fit(
    table: Any, labels: Sequence[tuple[int, int]], classes: int, seed: int, iterations: int = 300
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Weights [classes, buckets] and biases [classes]."""
    weights, bias = np.zeros((classes, tfidf.BUCKETS)), np.zeros(classes)
    found = sorted({label for _, label in labels})
    if len(found) < 2:
        return weights, bias
    bias[:] = -20
    rows, truth = [i for i, _ in labels], [label for _, label in labels]
    with threadpool_limits(1):  # more wait for each other
        fitted = LogisticRegression(C=4, max_iter=iterations, random_state=seed).fit(table[rows], truth)
    if len(found) == 2:  # one decision, for the second
        bias[found] = 0.0, fitted.intercept_[0]
        weights[found[1]] = fitted.coef_[0]
    else:
        bias[found], weights[found] = fitted.intercept_, fitted.coef_
    return weights, bias
