"""The shipped engine: int8 weights on onnxruntime. Nothing here imports torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Final

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from models import artifact, batching, head, reading
from models.backbone import PAD
from models.calibration import mixed
from models.classifier import UNKNOWN_LANGUAGE, ModelError, Prediction
from models.reading import Reading
from models.tfidf import Tfidf

Floats = NDArray[np.float32]
_WINDOW: Final = 1_024


class OnnxClassifier:
    """An artifact folder as a `Classifier`; the shipped one by default. Odd input: see `reading`.

    `threads` batches run at a time, each on one thread: sharing every product out to two threads was a
    third slower on a quiet machine and several times on a busy one, where each waits for the other.
    """

    def __init__(self, path: str | None = None, threads: int = 2, topics: Path | None = None) -> None:
        """Read and verify everything; `topics`: a head of the user's. ModelError when a file cannot be trusted."""
        folder = Path(path) if path else artifact.SHIPPED
        self.weights = artifact.verify(folder)
        self._config = artifact.read_config(folder)
        self._head = head.read(topics, made_for=self.weights, known=self._config.topics) if topics else None
        self._model = f"{self._config.name}@{self.weights[:12]}"
        if self._head:
            self._model = self._head.identity(self._config.name, self.weights)
        self._reader = reading.Reader(folder, self._config.max_tokens)
        self._baseline = Tfidf(folder / artifact.BASELINE) if self._config.ngrams else None
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.enable_mem_pattern = False  # it would keep a plan for every batch shape
        try:
            self._session = onnxruntime.InferenceSession(
                str(folder / artifact.WEIGHTS), options, providers=["CPUExecutionProvider"]
            )
        except Exception as fault:  # onnxruntime's errors have no public base class
            raise ModelError(f"{folder / artifact.WEIGHTS} cannot be loaded: {fault}") from fault
        self._widths = {output.name: int(output.shape[1]) for output in self._session.get_outputs()}
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="model")

    @property
    def model(self) -> str:
        """`name@hash` of the loaded weights."""
        return self._model

    @property
    def topics(self) -> tuple[str, ...]:
        """Every topic that it can say, in the order of its answers."""
        return self._head.topics if self._head else self._config.topics

    def classify(self, texts: Sequence[str], languages: Sequence[str | None] = ()) -> list[Prediction]:
        """See `Classifier.classify`."""
        running = []
        for start in range(0, len(texts), _WINDOW):  # the next texts are cut into pieces while these run
            stop = start + _WINDOW
            readings = self._reader.read(texts[start:stop], languages[start:stop])
            wanted = [item for item in readings if item.readable]
            running.append((readings, wanted, self._start([item.ids for item in wanted])))
        return [
            prediction
            for readings, wanted, batches in running
            for prediction in self._predictions(readings, wanted, self._finish(len(wanted), batches))
        ]

    def _predictions(
        self, readings: Sequence[Reading], wanted: Sequence[Reading], outputs: Mapping[str, Floats]
    ) -> Iterator[Prediction]:
        """One for each of `readings`; `outputs` has a row for each of `wanted`."""
        tags = [item.language for item in wanted]
        said = self._mixed(outputs, wanted)
        sentiment = softmax(self._scaled(said["sentiment"], "sentiment", tags)).tolist()
        about = self._scaled(said["topics"], "topics", tags)
        if self._head:
            about = self._head.logits(features(outputs), about, self._config.topics)
        topics = sigmoid(about).tolist()
        urgency = sigmoid(self._scaled(outputs["urgency"], "urgency", tags))[:, 0].tolist()
        answers = iter(zip(sentiment, topics, urgency, strict=True))
        for item in readings:
            if not item.readable:
                yield reading.unread(self.topics, self._model)
                continue
            feeling, chances, urgent = next(answers)
            yield Prediction(
                sentiment=(feeling[0], feeling[1], feeling[2]),
                topics=dict(zip(self.topics, chances, strict=True))
                if item.lettered
                else reading.only_other(self.topics),
                language=item.language,
                model=self._model,
                urgency=urgent if item.lettered else 0.0,
                unsure=max(feeling) < self._config.calibration["sentiment"].least(item.language),
            )

    def encode(self, texts: Sequence[str]) -> tuple[Floats, Floats]:
        """`features` of each text, and the calibrated logits of the model's own topics: what heads for other topics
        are fitted on."""
        readings = self._reader.read(texts)
        outputs = self.logits([item.ids for item in readings])
        about = self._mixed(outputs, readings)["topics"]
        return features(outputs), self._scaled(about, "topics", [item.language for item in readings])

    def logits(self, ids: Sequence[Sequence[int]]) -> dict[str, Floats]:
        """Every output of the graph, alone and uncalibrated, rows in the order of `ids` (pieces a text)."""
        return self._finish(len(ids), self._start(ids))

    def _start(self, ids: Sequence[Sequence[int]]) -> list[tuple[list[int], Future[list[Floats]]]]:
        """Batches of indices into `ids`, under way."""
        lengths = [len(pieces) for pieces in ids]
        return [
            (batch, self._pool.submit(self._run, [ids[index] for index in batch]))
            for batch in batching.by_length(lengths)
        ]

    def _run(self, ids: Sequence[Sequence[int]]) -> list[Floats]:
        padded = np.full((len(ids), max(map(len, ids))), PAD, np.int64)
        for row, pieces in enumerate(ids):
            padded[row, : len(pieces)] = pieces
        outputs: list[Floats] = self._session.run(list(self._widths), {"ids": padded})
        return outputs

    def _finish(self, count: int, batches: Sequence[tuple[list[int], Future[list[Floats]]]]) -> dict[str, Floats]:
        found = {name: np.zeros((count, width), np.float32) for name, width in self._widths.items()}
        for batch, future in batches:
            for values, output in zip(found.values(), future.result(), strict=True):
                values[batch] = output
        return found

    def _mixed(self, outputs: Mapping[str, Floats], readings: Sequence[Reading]) -> Mapping[str, Floats]:
        """The network's logits with the baseline's part in them."""
        if self._baseline is None or not readings:
            return outputs
        opinions = self._baseline.opinions([item.text for item in readings])
        found = dict(outputs)
        for name, shares in self._config.ngrams.items():
            other = shares.get(UNKNOWN_LANGUAGE, 0.0)
            parts = np.array([shares.get(item.language, other) for item in readings], np.float32)
            found[name] = mixed(outputs[name], opinions[name], parts)
        return found

    def _scaled(self, logits: Floats, head: str, tags: Sequence[str]) -> Floats:
        calibration = self._config.calibration[head]
        temperature = np.array([calibration.of(tag) for tag in tags], np.float32)
        return logits / temperature.reshape(-1, 1)


def features(outputs: Mapping[str, Floats]) -> Floats:
    """What a topic head reads: the embeddings that the graph has, side by side, [texts, their width]."""
    return np.concatenate([outputs[name] for name in ("middle", "embedding") if name in outputs], axis=1)


def softmax(logits: Floats) -> NDArray[np.float64]:
    """Rows of probabilities, in fp64 so that each sums to 1 to the last digits."""
    powers = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True, initial=-np.inf))
    chances: NDArray[np.float64] = powers / powers.sum(axis=1, keepdims=True)
    return chances


def sigmoid(logits: Floats) -> NDArray[np.float64]:
    """Each logit as a probability of its own."""
    chances: NDArray[np.float64] = 1 / (1 + np.exp(-logits.astype(np.float64)))
    return chances
