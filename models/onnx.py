"""The shipped engine: int8 weights on onnxruntime. Nothing here imports torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from models import artifact, batching, reading
from models.backbone import PAD
from models.classifier import ModelError, Prediction

Floats = NDArray[np.float32]


class OnnxClassifier:
    """An artifact folder as a `Classifier`; the shipped one by default. Odd input: see `reading`."""

    def __init__(self, path: str | None = None, threads: int = 2) -> None:
        """Read and verify everything. ModelError when the folder cannot be trusted or read."""
        folder = Path(path) if path else artifact.SHIPPED
        digest = artifact.verify(folder)
        self._config = artifact.read_config(folder)
        self._model = f"{self._config.name}@{digest[:12]}"
        self._reader = reading.Reader(folder, self._config.max_tokens)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.enable_mem_pattern = False  # it would keep a plan for every batch shape
        try:
            self._session = onnxruntime.InferenceSession(
                str(folder / artifact.WEIGHTS), options, providers=["CPUExecutionProvider"]
            )
        except Exception as fault:  # onnxruntime's errors have no public base class
            raise ModelError(f"{folder / artifact.WEIGHTS} cannot be loaded: {fault}") from fault
        self._widths = {output.name: int(output.shape[1]) for output in self._session.get_outputs()}

    @property
    def model(self) -> str:
        """`name@hash` of the loaded weights."""
        return self._model

    def classify(self, texts: Sequence[str], languages: Sequence[str | None] = ()) -> list[Prediction]:
        """See `Classifier.classify`."""
        readings = self._reader.read(texts, languages)
        wanted = [i for i, item in enumerate(readings) if item.readable]
        outputs = self.logits([readings[i].ids for i in wanted])
        tags = [readings[i].language for i in wanted]
        sentiment = softmax(self._scaled(outputs["sentiment"], "sentiment", tags)).tolist()
        topics = sigmoid(self._scaled(outputs["topics"], "topics", tags)).tolist()
        urgency = sigmoid(self._scaled(outputs["urgency"], "urgency", tags))[:, 0].tolist()
        predictions = [reading.unread(self._config.topics, self._model)] * len(texts)
        for index, feeling, chances, urgent in zip(wanted, sentiment, topics, urgency, strict=True):
            item = readings[index]
            predictions[index] = Prediction(
                sentiment=(feeling[0], feeling[1], feeling[2]),
                topics=dict(zip(self._config.topics, chances, strict=True))
                if item.lettered
                else reading.only_other(self._config.topics),
                language=item.language,
                model=self._model,
                urgency=urgent if item.lettered else 0.0,
                unsure=max(feeling) < self._config.calibration["sentiment"].least(item.language),
            )
        return predictions

    def embed(self, texts: Sequence[str]) -> Floats:
        """The pooled embedding of each text, [texts, hidden]: what heads for other labels are fitted on."""
        return self.logits([item.ids for item in self._reader.read(texts)])["embedding"]

    def logits(self, ids: Sequence[Sequence[int]]) -> dict[str, Floats]:
        """Every output of the graph, uncalibrated, rows in the order of `ids` (pieces a text)."""
        found = {name: np.zeros((len(ids), width), np.float32) for name, width in self._widths.items()}
        lengths = [len(pieces) for pieces in ids]
        for batch in batching.by_length(lengths):
            padded = np.full((len(batch), lengths[batch[-1]]), PAD, np.int64)
            for row, index in enumerate(batch):
                padded[row, : lengths[index]] = ids[index]
            outputs = self._session.run(list(found), {"ids": padded})
            for name, values in zip(found, outputs, strict=True):
                found[name][batch] = values
        return found

    def _scaled(self, logits: Floats, head: str, tags: Sequence[str]) -> Floats:
        calibration = self._config.calibration[head]
        temperature = np.array([calibration.of(tag) for tag in tags], np.float32)
        return logits / temperature.reshape(-1, 1)


def softmax(logits: Floats) -> NDArray[np.float64]:
    """Rows of probabilities, in fp64 so that each sums to 1 to the last digits."""
    powers = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True, initial=-np.inf))
    chances: NDArray[np.float64] = powers / powers.sum(axis=1, keepdims=True)
    return chances


def sigmoid(logits: Floats) -> NDArray[np.float64]:
    """Each logit as a probability of its own."""
    chances: NDArray[np.float64] = 1 / (1 + np.exp(-logits.astype(np.float64)))
    return chances
