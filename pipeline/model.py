"""The classifier that the settings ask for, and what topics it can say."""

from __future__ import annotations

from models.classifier import Classifier
from models.load import Labels, load, topics_of
from pipeline.settings import Model


def classifier_of(model: Model) -> Classifier:
    """Load it. Raises ModelError."""
    return load(model.engine, model.path, model.threads, topics=model.topics, labels=_labels(model))


def labels_of(model: Model) -> tuple[str, ...]:
    """Every topic that it can say, without loading it. Raises ModelError."""
    return topics_of(model.engine, model.path, topics=model.topics, labels=_labels(model))


def _labels(model: Model) -> Labels:
    return Labels(
        sentiment=dict(model.sentiment_labels), topics=dict(model.topic_labels), unsure_below=model.unsure_below
    )
