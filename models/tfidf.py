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
_WINDOW: Final = 1_024

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]


class Tfidf:
    """The file, and what it says of cleaned texts."""

    def __init__(self, path: Path) -> None:
        """ModelError when the file is missing or no such baseline."""
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                self._idf: Floats = arrays["idf"].astype(np.float32)
                weights, scale = arrays["weights"], arrays["scale"]
                self._bias: Floats = arrays["bias"]
                self.topics = [str(topic) for topic in arrays["topics"]]
            if weights.shape != (BUCKETS, len(SENTIMENTS) + len(self.topics)):
                raise ValueError(f"weights of shape {weights.shape}")
            self._weights: Floats = weights.astype(np.float32) * scale
        except (OSError, ValueError, KeyError, BadZipFile, zlib.error) as fault:
            remedy = "`ovoz train` writes one into a model's folder"
            raise ModelError(f"{path} is no TF-IDF baseline ({fault}); {remedy}") from None

    def logits(self, texts: Sequence[str]) -> tuple[Floats, Floats]:
        """Of the sentiment, [texts, 3], and of the topics, [texts, len(topics)]."""
        starts, buckets, values = vectors(texts, self._idf)
        logits = _sums(self._weights[buckets] * values[:, None], starts) + self._bias
        return logits[:, : len(SENTIMENTS)], logits[:, len(SENTIMENTS) :]

    def opinions(self, texts: Sequence[str]) -> dict[str, Floats]:
        """What can be mixed with a network's logits, by head: of the topics, each one's odds against all others."""
        sentiment, about = self.logits(texts)
        chances = np.clip(np.array(_softmax(about)).reshape(about.shape), 1e-6, 1 - 1e-6)
        odds: Floats = np.log(chances / (1 - chances)).astype(np.float32)
        return {"sentiment": sentiment, "topics": odds}


class TfidfClassifier:
    """See `Classifier`. Languages are not told apart, urgency is not judged."""

    def __init__(self, path: Path) -> None:
        """ModelError as for `Tfidf`."""
        self._baseline = Tfidf(path)
        self._model = f"tfidf@{artifact.sha256(path)[:12]}"

    @property
    def model(self) -> str:
        """`name@hash` of the file."""
        return self._model

    def classify(self, texts: Sequence[str], languages: Sequence[str | None] = ()) -> list[Prediction]:
        """See `Classifier.classify`."""
        topics = self._baseline.topics
        predictions = [reading.unread(topics, self._model, None)] * len(texts)
        for start in range(0, len(texts), _WINDOW):
            cleaned = [preprocess.clean(text) for text in texts[start : start + _WINDOW]]
            wanted = [i for i, text in enumerate(cleaned) if preprocess.is_readable(text)]
            sentiment, about = self._baseline.logits([cleaned[i] for i in wanted])
            for i, feeling, chances in zip(wanted, _softmax(sentiment), _softmax(about), strict=True):
                predictions[start + i] = Prediction(
                    sentiment=(feeling[0], feeling[1], feeling[2]),
                    topics=dict(zip(topics, chances, strict=True)),
                    language=UNKNOWN_LANGUAGE,
                    model=self._model,
                )
        return predictions


def counts(texts: Sequence[str]) -> tuple[Ints, Ints, Ints]:
    """The n-grams of cleaned texts, all at once: where each text's begin ([texts + 1], the last one is their number);
    the bucket of each, ascending within a text; how often it occurs there."""
    padded = [f" {text.lower()} " for text in texts]
    points = np.frombuffer("".join(padded).encode("utf-32-le"), np.uint32)
    of = np.repeat(np.arange(len(padded), dtype=np.uint32), [len(text) for text in padded])
    blanks = np.concatenate(([0], np.cumsum(points == _SPACE)))
    found = []
    for length in LENGTHS:
        many = max(0, len(points) - length + 1)
        # A blank may only be the first or the last of an n-gram, and all of it lies in one text.
        inside = blanks[length - 1 : length - 1 + many] == blanks[1 : 1 + many]
        starts = np.flatnonzero(inside & (of[:many] == of[length - 1 : length - 1 + many]))
        hashed = np.full(len(starts), length, np.uint32)
        for place in range(length):
            hashed = (hashed ^ points[starts + place]) * _MULTIPLIER
            hashed ^= hashed >> np.uint32(15)
        found.append(of[starts].astype(np.int64) * BUCKETS + hashed % np.uint32(BUCKETS))
    keys, times = np.unique_counts(np.concatenate(found))
    return np.searchsorted(keys, np.arange(len(texts) + 1) * BUCKETS), keys % BUCKETS, times


def vectors(texts: Sequence[str], idf: Floats) -> tuple[Ints, Ints, Floats]:
    """As `counts`, with weights instead of counts: (1 + ln tf) · idf, of length 1 in each text."""
    starts, buckets, times = counts(texts)
    values = ((1 + np.log(times)) * idf[buckets]).astype(np.float32)
    lengths = np.maximum(np.sqrt(_sums(values * values, starts)), np.float32(1e-9))
    return starts, buckets, values / np.repeat(lengths, np.diff(starts))


def _sums(values: Floats, starts: Ints) -> Floats:
    """The sum over each text's n-grams. Every text has some, since blanks stand around it."""
    summed: Floats = np.add.reduceat(values, starts[:-1]) if len(starts) > 1 else values[:0]
    return summed


def _softmax(logits: Floats) -> list[list[float]]:
    powers = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True, initial=-np.inf))
    chances: list[list[float]] = (powers / powers.sum(axis=1, keepdims=True)).tolist()
    return chances
