"""The baseline to beat: hashed character n-grams, TF-IDF and a linear layer in int8, in a file of under a megabyte.

It comes with every model, so that each evaluation shows what the transformer adds to counting letters. Its
n-grams are those of scikit-learn's `char_wb` (2-5 characters inside a word with the blanks around it), hashed
into BUCKETS, since a vocabulary would be larger than the weights. Needs numpy only; `train_tfidf` makes it.

What the smallness costs, macro-F1 over held-out texts of the training data (2026-11-25): sentiment .667 of 3,754
texts, topics .703 of 1,289, against .681 and .708 of scikit-learn's vectorizer with 200,000 n-grams in fp64.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Final
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from models import artifact, preprocess, reading
from models.classifier import SENTIMENTS, UNKNOWN_LANGUAGE, ModelError, Prediction

BUCKETS: Final = 1 << 16
LENGTHS: Final = (2, 3, 4, 5)
_MULTIPLIER: Final = np.uint32(0x01000193)
_SPACE: Final = ord(" ")

Floats = NDArray[np.float32]


class TfidfClassifier:
    """See `Classifier`. Languages are not told apart, urgency is not judged."""

    def __init__(self, path: Path) -> None:
        """ModelError when the file is missing or no such baseline."""
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                self._idf: Floats = arrays["idf"].astype(np.float32)
                self._weights: NDArray[np.int8] = arrays["weights"]
                self._scale: Floats = arrays["scale"]
                self._bias: Floats = arrays["bias"]
                self._topics = [str(topic) for topic in arrays["topics"]]
            if self._weights.shape != (BUCKETS, len(SENTIMENTS) + len(self._topics)):
                raise ValueError(f"weights of shape {self._weights.shape}")
        except (OSError, ValueError, KeyError, BadZipFile, zlib.error) as fault:
            remedy = "`ovoz train` writes one into a model's folder"
            raise ModelError(f"{path} is no TF-IDF baseline ({fault}); {remedy}") from None
        self._model = f"tfidf@{artifact.sha256(path)[:12]}"

    @property
    def model(self) -> str:
        """`name@hash` of the file."""
        return self._model

    def classify(self, texts: Sequence[str], languages: Sequence[str | None] = ()) -> list[Prediction]:
        """See `Classifier.classify`."""
        cleaned = [preprocess.clean(text) for text in texts]
        predictions = [reading.unread(self._topics, self._model, None)] * len(texts)
        wanted = [i for i, text in enumerate(cleaned) if preprocess.is_readable(text)]
        for index in wanted:
            buckets, values = vector(cleaned[index], self._idf)
            logits = values @ self._weights[buckets].astype(np.float32) * self._scale + self._bias
            feeling = _softmax(logits[: len(SENTIMENTS)])
            about = _softmax(logits[len(SENTIMENTS) :])
            predictions[index] = Prediction(
                sentiment=(feeling[0], feeling[1], feeling[2]),
                topics=dict(zip(self._topics, about, strict=True)),
                language=UNKNOWN_LANGUAGE,
                model=self._model,
            )
        return predictions


def counts(text: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The buckets of a cleaned text's n-grams, ascending, and how often each occurs."""
    points = np.frombuffer(f" {text.lower()} ".encode("utf-32-le"), np.uint32)
    blanks = np.concatenate(([0], np.cumsum(points == _SPACE)))
    found = []
    for length in LENGTHS:
        starts = np.arange(len(points) - length + 1)
        inside = blanks[starts + length - 1] - blanks[starts + 1]
        starts = starts[inside == 0]  # a blank may only be the first or the last of them
        hashed = np.full(len(starts), length, np.uint32)
        for place in range(length):
            hashed = (hashed ^ points[starts + place]) * _MULTIPLIER
            hashed ^= hashed >> np.uint32(15)
        found.append(hashed % np.uint32(BUCKETS))
    return np.unique_counts(np.concatenate(found).astype(np.int64))


def vector(text: str, idf: Floats) -> tuple[NDArray[np.int64], Floats]:
    """Buckets of a cleaned text and their weights: (1 + ln tf) · idf, of length 1."""
    buckets, times = counts(text)
    values = ((1 + np.log(times)) * idf[buckets]).astype(np.float32)
    return buckets, values / max(float(np.linalg.norm(values)), 1e-9)


def _softmax(logits: Floats) -> list[float]:
    powers = np.exp(logits.astype(np.float64) - logits.max())
    chances: list[float] = (powers / powers.sum()).tolist()
    return chances
