"""One door to every engine."""

from __future__ import annotations

from pathlib import Path

from models import artifact
from models.classifier import Classifier, ModelError


def load(engine: str = "onnx", path: str | None = None, threads: int = 2) -> Classifier:
    """A ready classifier. ModelError when the engine or its model cannot be had.

    `engine`: `onnx` (an artifact folder, the shipped one without `path`), `transformer` (a Hugging Face
    checkpoint: see `transformer.parse` for `path`; needs torch), or one of the baselines: `tfidf` (the one that
    comes with an artifact) and `lexicon` (word lists, no model).
    """
    if engine == "onnx":
        from models.onnx import OnnxClassifier

        return OnnxClassifier(path, threads)
    if engine == "lexicon":
        from models.lexicon import LexiconClassifier

        return LexiconClassifier()
    if engine == "tfidf":
        from models.tfidf import TfidfClassifier

        return TfidfClassifier((Path(path) if path else artifact.SHIPPED) / artifact.BASELINE)
    if engine == "transformer":
        if not path:
            raise ModelError("the transformer engine needs a path: a folder, name@revision or a JSON file")
        try:
            from models.transformer import TransformerClassifier
        except ImportError as fault:
            raise ModelError(f"the transformer engine needs {fault.name}: pip install 'ovoz[train]'") from fault
        return TransformerClassifier(path, threads)
    raise ModelError(f"unknown engine {engine!r}; known: onnx, transformer, tfidf, lexicon")
