"""The shipped engine: int8 weights on onnxruntime. Nothing here imports torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from tokenizers import Tokenizer

from models import artifact, batching, preprocess
from models.backbone import PAD, UNK
from models.classifier import UNKNOWN_LANGUAGE, ModelError, Prediction
from models.language import LanguageDetector

OTHER: Final = "other"
TAIL_TOKENS: Final = 32
UNREADABLE: Final = (0.25, 0.5, 0.25)
Floats = NDArray[np.float32]


class OnnxClassifier:
    """An artifact folder as a `Classifier`; the shipped one by default.

    Rules for odd input. A text with neither a letter nor a picture (emoji, emoticon), and one whose
    pieces are mostly outside the vocabulary, is unreadable: sentiment UNREADABLE, topic `other`, no
    urgency, language `und`. Pictures without letters: sentiment from the model, topic `other`. Of a
    text longer than the token limit, the beginning and the last TAIL_TOKENS are read.
    """

    def __init__(self, path: str | None = None, threads: int = 2) -> None:
        """Read and verify everything. ModelError when the folder cannot be trusted or read."""
        folder = Path(path) if path else artifact.SHIPPED
        digest = artifact.verify(folder)
        self._config = artifact.read_config(folder)
        self._model = f"{self._config.name}@{digest[:12]}"
        self._tokenizer = Tokenizer.from_file(str(folder / artifact.TOKENIZER))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._languages = LanguageDetector.load(folder / artifact.LANGUAGE)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.enable_mem_pattern = False  # it keeps a plan for every batch shape
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = onnxruntime.InferenceSession(
                str(folder / artifact.WEIGHTS), options, providers=["CPUExecutionProvider"]
            )
        except Exception as fault:  # onnxruntime's errors have no public base class
            raise ModelError(f"{folder / artifact.WEIGHTS} cannot be loaded: {fault}") from fault
        self._outputs = [output.name for output in self._session.get_outputs()]

    @property
    def model(self) -> str:
        """`name@hash` of the loaded weights."""
        return self._model

    def classify(self, texts: Sequence[str], languages: Sequence[str | None] = ()) -> list[Prediction]:
        """See `Classifier.classify`."""
        cleaned, ids = self._encode(texts)
        detected = self._languages.detect(cleaned, ids, languages)
        readable = [self._readable(text, pieces) for text, pieces in zip(cleaned, ids, strict=True)]
        wanted = [i for i, yes in enumerate(readable) if yes]
        outputs = self._run([ids[i] for i in wanted])
        tags = [detected[i] for i in wanted]
        sentiment = _softmax(self._scaled(outputs["sentiment"], "sentiment", tags))
        topics = _sigmoid(self._scaled(outputs["topics"], "topics", tags))
        urgency = _sigmoid(self._scaled(outputs["urgency"], "urgency", tags))[:, 0]
        predictions = [self._unread()] * len(texts)
        rows = zip(wanted, sentiment.tolist(), topics.tolist(), urgency.tolist(), tags, strict=True)
        for index, feeling, chances, urgent, language in rows:
            lettered = preprocess.script(cleaned[index]) != "Zyyy"
            predictions[index] = Prediction(
                sentiment=(feeling[0], feeling[1], feeling[2]),
                topics=dict(zip(self._config.topics, chances, strict=True))
                if lettered
                else self._only_other(),
                language=language,
                model=self._model,
                urgency=urgent if lettered else 0.0,
            )
        return predictions

    def embed(self, texts: Sequence[str]) -> Floats:
        """The pooled embedding of each text, [texts, hidden]: what heads for other labels are fitted on."""
        return self._run(self._encode(texts)[1])["embedding"]

    def _encode(self, texts: Sequence[str]) -> tuple[list[str], list[list[int]]]:
        cleaned = [preprocess.clean(text) for text in texts]
        limit = self._config.max_tokens
        ids = [encoding.ids for encoding in self._tokenizer.encode_batch_fast(cleaned)]
        return cleaned, [
            pieces if len(pieces) <= limit else pieces[: limit - TAIL_TOKENS] + pieces[-TAIL_TOKENS:]
            for pieces in ids
        ]

    def _readable(self, text: str, pieces: Sequence[int]) -> bool:
        if 2 * pieces.count(UNK) >= len(pieces) - 2:
            return False
        return preprocess.script(text) != "Zyyy" or preprocess.has_picture(text)

    def _run(self, ids: Sequence[Sequence[int]]) -> dict[str, Floats]:
        """Every output of the graph, rows in the order of `ids`."""
        found: dict[str, Any] = {
            name: np.zeros((len(ids), self._width(name)), np.float32) for name in self._outputs
        }
        lengths = [len(pieces) for pieces in ids]
        for batch in batching.by_length(lengths):
            padded = np.full((len(batch), lengths[batch[-1]]), PAD, np.int64)
            for row, index in enumerate(batch):
                padded[row, : lengths[index]] = ids[index]
            for name, values in zip(self._outputs, self._session.run(None, {"ids": padded}), strict=True):
                found[name][batch] = values
        return found

    def _width(self, output: str) -> int:
        return next(int(o.shape[1]) for o in self._session.get_outputs() if o.name == output)

    def _scaled(self, logits: Floats, head: str, tags: Sequence[str]) -> Floats:
        calibration = self._config.calibration[head]
        return logits / np.array([calibration.of(tag) for tag in tags], np.float32).reshape(-1, 1)

    def _only_other(self) -> dict[str, float]:
        return {topic: 1.0 if topic == OTHER else 0.0 for topic in self._config.topics}

    def _unread(self) -> Prediction:
        return Prediction(
            sentiment=UNREADABLE,
            topics=self._only_other(),
            language=UNKNOWN_LANGUAGE,
            model=self._model,
            urgency=0.0,
        )


def _softmax(logits: Floats) -> NDArray[np.float64]:
    powers = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True, initial=-np.inf))
    return powers / powers.sum(axis=1, keepdims=True)


def _sigmoid(logits: Floats) -> NDArray[np.float64]:
    return 1 / (1 + np.exp(-logits.astype(np.float64)))
