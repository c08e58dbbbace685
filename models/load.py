"""One door to every engine."""

from __future__ import annotations

from models.classifier import Classifier, ModelError


def load(engine: str = "onnx", path: str | None = None, threads: int = 2) -> Classifier:
    """A ready classifier. ModelError when the engine or its model cannot be had.

    `engine`: `onnx` (an artifact folder, the shipped one without `path`), `transformer` (a Hugging Face
    checkpoint: folder or `name@revision`; needs torch) or `lexicon` (word lists, no model at all).
    """
    if engine == "onnx":
        from models.onnx import OnnxClassifier

        return OnnxClassifier(path, threads)
    raise ModelError(f"unknown engine {engine!r}; known: onnx, transformer, lexicon")
