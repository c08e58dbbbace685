"""One door to every engine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from models import artifact
from models.classifier import TOPICS, Classifier, ModelError

ENGINES: Final = ("onnx", "transformer", "tfidf", "lexicon")


@dataclass(frozen=True, slots=True, kw_only=True)
class Labels:
    """What the labels of a Hugging Face checkpoint mean: its label → one of ours.

    `sentiment` may stay empty where the labels say it themselves, `topics` where there are none. An answer
    whose probability is below `unsure_below` counts as unsure, since nothing is known of its calibration.
    """

    sentiment: Mapping[str, str] = field(default_factory=dict)
    topics: Mapping[str, str] = field(default_factory=dict)
    unsure_below: float = 0.0


def load(
    engine: str = "onnx",
    path: str | None = None,
    threads: int = 2,
    *,
    topics: Path | None = None,
    labels: Labels = Labels(),
) -> Classifier:
    """A ready classifier. ModelError when the engine or its model cannot be had.

    `engine`: `onnx` (an artifact folder, the shipped one without `path`), `transformer` (a Hugging Face
    checkpoint: a folder or `name@revision`; needs torch), or one of the baselines: `tfidf` (the one that
    comes with an artifact) and `lexicon` (word lists, no model). `topics`: a head that `ovoz topics fit`
    wrote, for `onnx`. `labels`: for `transformer`.
    """
    if topics and engine != "onnx":
        raise ModelError(f"topics of your own need the engine onnx: {topics} is a head for its embeddings")
    if engine == "onnx":
        from models.onnx import OnnxClassifier

        return OnnxClassifier(path, threads, topics)
    if engine == "lexicon":
        from models.lexicon import LexiconClassifier

        return LexiconClassifier()
    if engine == "tfidf":
        from models.tfidf import TfidfClassifier

        return TfidfClassifier((Path(path) if path else artifact.SHIPPED) / artifact.BASELINE)
    if engine == "transformer":
        if not path:
            raise ModelError("the transformer engine needs a path: a folder, or name@revision")
        try:
            from models.transformer import TransformerClassifier
        except ImportError as fault:
            raise ModelError(f"the transformer engine needs {fault.name}: pip install 'ovoz[train]'") from fault
        return TransformerClassifier(path, threads, labels)
    raise ModelError(f"unknown engine {engine!r}; known: {', '.join(ENGINES)}")


def topics_of(
    engine: str = "onnx",
    path: str | None = None,
    *,
    topics: Path | None = None,
    labels: Labels = Labels(),
) -> tuple[str, ...]:
    """Every topic that such a classifier can say, without loading its weights. ModelError where files are wrong."""
    if engine == "onnx":
        from models import head

        folder = Path(path) if path else artifact.SHIPPED
        weights, known = artifact.verify(folder), artifact.read_config(folder).topics
        return head.read(topics, made_for=weights, known=known).topics if topics else known
    if engine == "transformer" and path:
        from models import checkpoint

        named = checkpoint.parse(path)
        if named.revision is None:
            return checkpoint.topics_in(checkpoint.meaning(path, checkpoint.labels_in(path), labels))
        # What a hub has is not known here; TOPICS are what a zero-shot checkpoint is asked.
        return tuple(dict.fromkeys((*labels.topics.values(), "other"))) if labels.topics else TOPICS
    return TOPICS
