"""The baseline to beat: character n-grams, TF-IDF and logistic regression. Needs scikit-learn."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from models import preprocess
from models.classifier import TOPICS, UNKNOWN_LANGUAGE, Prediction
from models.corpus import Row


class TfidfClassifier:
    """See `Classifier`. Fitted when it is made, on rows with a sentiment and on rows with topics."""

    def __init__(self, rows: Sequence[Row], seed: int = 0) -> None:
        self._vectors: Any = TfidfVectorizer(
            analyzer="char_wb", ngram_range=(2, 5), min_df=2, max_features=200_000, sublinear_tf=True
        )
        self._vectors.fit([row.text for row in rows])
        felt = [row for row in rows if row.sentiment is not None]
        about = [(row, TOPICS.index(topic)) for row in rows for topic in sorted(row.topics or ())]
        self._sentiment = self._fit([row.text for row in felt], [row.sentiment or 0 for row in felt], seed)
        self._topics = self._fit([row.text for row, _ in about], [label for _, label in about], seed)
        digest = hashlib.sha256("\n".join(row.text for row in rows).encode()).hexdigest()
        self._model = f"tfidf@{digest[:12]}"

    @property
    def model(self) -> str:
        """`name@hash` of the training texts."""
        return self._model

    def classify(self, texts: Sequence[str], languages: Sequence[str | None] = ()) -> list[Prediction]:
        """See `Classifier.classify`."""
        if not texts:
            return []
        features = self._vectors.transform([preprocess.clean(text) for text in texts])
        feeling = self._chances(self._sentiment, features, 3)
        about = self._chances(self._topics, features, len(TOPICS))
        return [
            Prediction(
                sentiment=(row[0], row[1], row[2]),
                topics=dict(zip(TOPICS, chances, strict=True)),
                language=UNKNOWN_LANGUAGE,
                model=self._model,
            )
            for row, chances in zip(feeling, about, strict=True)
        ]

    def _fit(self, texts: Sequence[str], labels: Sequence[int], seed: int) -> Any:
        if len(set(labels)) < 2:
            return None
        return LogisticRegression(C=4, max_iter=300, random_state=seed).fit(self._vectors.transform(texts), labels)

    def _chances(self, model: Any, features: Any, classes: int) -> list[list[float]]:
        table = np.full((features.shape[0], classes), 0.0)
        if model is None:
            table[:] = 1 / classes
        else:
            table[:, model.classes_] = model.predict_proba(features)
        rows: list[list[float]] = table.tolist()
        return rows
