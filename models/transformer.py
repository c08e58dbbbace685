"""Any Hugging Face sequence classifier behind `Classifier`, zero-shot ones too. Needs torch and transformers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import torch
import transformers
from numpy.typing import NDArray

from models import artifact, batching, checkpoint, reading
from models.classifier import SENTIMENTS, ModelError, Prediction
from models.load import Labels
from models.topics import OTHER

MAX_TOKENS: Final = 128

Floats = NDArray[np.float64]


class TransformerClassifier:
    """See `Classifier`; odd input as in `reading`. Without topic labels every topic is `other`; `other` is what is
    none of the topics.

    A checkpoint with an `entailment` label is zero-shot: each text is paired with what is asked, sentiment is a
    softmax over the entailment of its three claims, a topic the entailment of its claim against the contradiction.
    """

    def __init__(self, path: str, threads: int = 2, labels: Labels = Labels()) -> None:  # noqa: B008 - frozen
        """Loads onto the GPU when there is one. ModelError when loading or the labels fail."""
        named = checkpoint.parse(path)
        torch.set_num_threads(threads)
        where: dict[str, Any] = {"revision": named.revision} if named.revision else {}
        try:
            self._tokenizer: Any = transformers.AutoTokenizer.from_pretrained(named.source, **where)
            self._network: Any = transformers.AutoModelForSequenceClassification.from_pretrained(named.source, **where)
        except (OSError, ValueError, RuntimeError, ImportError, KeyError) as fault:
            raise ModelError(f"checkpoint {path!r} cannot be loaded: {fault}") from fault
        if self._tokenizer.pad_token_id is None:
            raise ModelError(f"checkpoint {path!r} cannot be run in batches: its tokenizer has no padding token")
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._network.to(self._device).eval()
        config = self._network.config
        # Some architectures count positions from 2.
        self._max_tokens = min(MAX_TOKENS, (getattr(config, "max_position_embeddings", None) or 512) - 2)
        self._labels = [str(config.id2label[i]) for i in range(config.num_labels)]
        self._meaning = checkpoint.meaning(path, self._labels, labels)
        self._topics = checkpoint.topics_in(self._meaning)
        self._unsure_below = labels.unsure_below
        self._reader = reading.Reader(artifact.SHIPPED, MAX_TOKENS)
        self._model = checkpoint.identity(named, labels)

    @property
    def model(self) -> str:
        """`name@hash` of the loaded weights, or `name@revision`."""
        return self._model

    def classify(self, texts: Sequence[str], languages: Sequence[str | None] = ()) -> list[Prediction]:
        """See `Classifier.classify`."""
        readings = self._reader.read(texts, languages)
        wanted = [i for i, item in enumerate(readings) if item.readable]
        cleaned = [readings[i].text for i in wanted]
        sentiment, topics = self._zero_shot(cleaned) if self._meaning.zero_shot else self._mapped(cleaned)
        predictions = [reading.unread(self._topics, self._model, None)] * len(texts)
        for row, index in enumerate(wanted):
            feeling = sentiment[row].tolist()
            item = readings[index]
            chances = dict(zip(self._topics, topics[row].tolist(), strict=True))
            predictions[index] = Prediction(
                sentiment=(feeling[0], feeling[1], feeling[2]),
                topics=chances if item.lettered else reading.only_other(self._topics),
                language=item.language,
                model=self._model,
                unsure=max(feeling) < self._unsure_below,
            )
        return predictions

    def _mapped(self, texts: Sequence[str]) -> tuple[Floats, Floats]:
        logits = self._logits([(text,) for text in texts])
        powers = np.exp(logits - logits.max(axis=1, keepdims=True, initial=-np.inf))
        columns = [self._columns(self._meaning.sentiment, name) for name in SENTIMENTS]
        # A checkpoint without `neutral` never says it.
        sentiment = np.stack([powers[:, at].sum(axis=1) for at in columns], axis=1) + 1e-12
        chances = 1 / (1 + np.exp(-logits))
        about = [
            chances[:, self._columns(self._meaning.topics, name)].max(axis=1, initial=0) for name in self._topics
        ]
        return sentiment / sentiment.sum(axis=1, keepdims=True), self._whole(np.stack(about, axis=1))

    def _zero_shot(self, texts: Sequence[str]) -> tuple[Floats, Floats]:
        claims = [*self._meaning.sentiment, *self._meaning.topics]
        ours = [*self._meaning.sentiment.values(), *self._meaning.topics.values()]
        logits = self._logits([(text, claim) for text in texts for claim in claims])
        lowered = [label.lower() for label in self._labels]
        entailed = logits[:, lowered.index("entailment")].reshape(-1, len(claims))
        against = next((i for i, label in enumerate(lowered) if "contra" in label), 0)
        margin = entailed - logits[:, against].reshape(-1, len(claims))
        felt = len(self._meaning.sentiment)
        feeling = entailed[:, :felt]
        powers = np.exp(feeling - feeling.max(axis=1, keepdims=True, initial=-np.inf))
        columns = [[i for i, name in enumerate(ours[:felt]) if name == wanted] for wanted in SENTIMENTS]
        sentiment = np.stack([powers[:, at].sum(axis=1) for at in columns], axis=1)
        chances = 1 / (1 + np.exp(-margin[:, felt:]))
        asked = ours[felt:]
        about = [chances[:, [i for i, n in enumerate(asked) if n == t]].max(axis=1, initial=0) for t in self._topics]
        return sentiment / sentiment.sum(axis=1, keepdims=True), self._whole(np.stack(about, axis=1))

    def _whole(self, about: Floats) -> Floats:
        """OTHER, where no label means it, is as probable as the likeliest topic is not."""
        if OTHER not in self._meaning.topics.values():
            about[:, -1] = 1 - about[:, :-1].max(axis=1, initial=0)
        return about

    def _columns(self, mapping: Mapping[str, str], name: str) -> list[int]:
        return [i for i, label in enumerate(self._labels) if mapping.get(label) == name]

    def _logits(self, inputs: Sequence[tuple[str, ...]]) -> Floats:
        """Logits in the order of `inputs` (a text, or a text and a claim): [inputs, labels]."""
        found = np.zeros((len(inputs), len(self._labels)))
        if not inputs:
            return found
        columns = [list(column) for column in zip(*inputs, strict=True)]
        encoded = self._tokenizer(*columns, truncation="longest_first", max_length=self._max_tokens)
        rows = [{key: encoded[key][i] for key in encoded} for i in range(len(inputs))]
        for batch in batching.by_length([len(row["input_ids"]) for row in rows]):
            padded = self._tokenizer.pad([rows[i] for i in batch], return_tensors="pt").to(self._device)
            with torch.inference_mode():
                found[batch] = self._network(**padded).logits.float().cpu().numpy()
        return found
