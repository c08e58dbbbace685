"""Any Hugging Face sequence classifier behind `Classifier`, zero-shot ones too. Needs torch and transformers.

Where a checkpoint comes from: a folder, or `name@revision` of a hub (without a revision it is refused:
scores must say which weights they are from). Where its labels are not recognised by themselves, a
JSON file given as the path says what they mean:
`{"checkpoint": "folder or name@revision", "sentiment": {"LABEL_0": "negative"}, "topics": {"LABEL_3": "delivery"}}`.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
import transformers
from numpy.typing import NDArray

from models import artifact, batching, reading
from models.classifier import SENTIMENTS, TOPICS, ModelError, Prediction

MAX_TOKENS: Final = 128
_MEANINGS: Final = {
    "negative": r"neg(ative)?|very negative|[12] stars?|label_negative",
    "neutral": r"neu(tral)?|mixed|3 stars?|label_neutral",
    "positive": r"pos(itive)?|very positive|[45] stars?|label_positive",
}
HYPOTHESES: Final[Mapping[str, str]] = {
    "negative": "The customer is dissatisfied.",
    "neutral": "The customer states a fact or asks a question without praise or complaint.",
    "positive": "The customer is satisfied.",
    "delivery": "This is about delivery or shipping.",
    "billing": "This is about a payment, an invoice or a charge.",
    "refund": "This is about a refund, a return or a cancellation.",
    "quality": "This is about the quality of a product or of food.",
    "app": "This is about an app or a website.",
    "account": "This is about an account, a login or a password.",
    "service": "This is about staff or customer service.",
    "price": "This is about prices, fees or discounts.",
    "availability": "This is about what is in stock or when a place is open.",
    "other": "This is about none of the usual customer topics.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """`source`: folder or hub name; `revision`: None for a folder. The mappings: label → ours."""

    source: str
    revision: str | None = None
    sentiment: Mapping[str, str] = field(default_factory=dict)
    topics: Mapping[str, str] = field(default_factory=dict)


def parse(path: str) -> Checkpoint:
    """What `path` names: a folder, `name@revision`, or a JSON file with a label mapping."""
    if path.endswith(".json"):
        try:
            table: dict[str, Any] = json.loads(Path(path).read_text(encoding="utf-8"))
            named = parse(str(table["checkpoint"]))
            sentiment, topics = dict(table.get("sentiment", {})), dict(table.get("topics", {}))
        except (OSError, ValueError, KeyError, TypeError) as fault:
            raise ModelError(f"{path}: no checkpoint description ({fault!r}); it needs a `checkpoint`") from None
        unknown = {*sentiment.values()} - {*SENTIMENTS} or {*topics.values()} - {*TOPICS}
        if unknown:
            raise ModelError(f"{path}: labels map to {sorted(unknown)}, which are none of ours")
        return Checkpoint(source=named.source, revision=named.revision, sentiment=sentiment, topics=topics)
    if Path(path).is_dir():
        return Checkpoint(source=path)
    name, at, revision = path.rpartition("@")
    if not at or not name or not revision:
        raise ModelError(f"{path!r} is neither a folder nor name@revision: name the exact revision")
    return Checkpoint(source=name, revision=revision)


class TransformerClassifier:
    """See `Classifier`; odd input as in `reading`. Without topic labels every topic is `other`.

    A checkpoint with an `entailment` label is zero-shot: each text is paired with HYPOTHESES, sentiment
    is a softmax over their entailment, a topic its entailment against its contradiction.
    """

    def __init__(self, path: str, threads: int = 2) -> None:
        """Loads onto the GPU when there is one. ModelError when loading or the labels fail."""
        checkpoint = parse(path)
        torch.set_num_threads(threads)
        where: dict[str, Any] = {"revision": checkpoint.revision} if checkpoint.revision else {}
        try:
            self._tokenizer: Any = transformers.AutoTokenizer.from_pretrained(checkpoint.source, **where)
            self._network: Any = transformers.AutoModelForSequenceClassification.from_pretrained(
                checkpoint.source, **where
            )
        except (OSError, ValueError, RuntimeError, ImportError) as fault:
            raise ModelError(f"checkpoint {path!r} cannot be loaded: {fault}") from fault
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._network.to(self._device).eval()
        labels = [str(self._network.config.id2label[i]) for i in range(self._network.config.num_labels)]
        self._entailment = next((i for i, x in enumerate(labels) if x.lower() == "entailment"), None)
        self._contradiction = next((i for i, x in enumerate(labels) if "contra" in x.lower()), 0)
        self._sentiment = _columns(labels, checkpoint.sentiment or _recognised(labels), SENTIMENTS)
        self._topics = _columns(labels, checkpoint.topics, TOPICS)
        if self._entailment is None and not self._sentiment.any():
            raise ModelError(
                f"{path!r} has the labels {labels}, none of which is known to mean "
                f"{', '.join(SENTIMENTS)}: give a JSON file with `checkpoint` and `sentiment`"
            )
        self._reader = reading.Reader(artifact.SHIPPED, MAX_TOKENS)
        self._model = _identity(checkpoint)

    @property
    def model(self) -> str:
        """`name@hash` of the loaded weights, or `name@revision`."""
        return self._model

    def classify(self, texts: Sequence[str], languages: Sequence[str | None] = ()) -> list[Prediction]:
        """See `Classifier.classify`."""
        readings = self._reader.read(texts, languages)
        wanted = [i for i, item in enumerate(readings) if item.readable]
        cleaned = [readings[i].text for i in wanted]
        sentiment, topics = self._zero_shot(cleaned) if self._entailment is not None else self._mapped(cleaned)
        predictions = [reading.unread(TOPICS, self._model, None)] * len(texts)
        for row, index in enumerate(wanted):
            feeling = sentiment[row].tolist()
            item = readings[index]
            known = item.lettered and topics is not None
            predictions[index] = Prediction(
                sentiment=(feeling[0], feeling[1], feeling[2]),
                topics=dict(zip(TOPICS, topics[row].tolist(), strict=True))
                if known and topics is not None
                else reading.only_other(TOPICS),
                language=item.language,
                model=self._model,
            )
        return predictions

    def _mapped(self, texts: Sequence[str]) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
        logits = self._logits([(text,) for text in texts])
        powers = np.exp(logits - logits.max(axis=1, keepdims=True, initial=-np.inf))
        sentiment = powers @ self._sentiment + 1e-12  # a checkpoint without `neutral` never says it
        topics = (1 / (1 + np.exp(-logits))) @ self._topics if self._topics.any() else None
        return sentiment / sentiment.sum(axis=1, keepdims=True), topics

    def _zero_shot(self, texts: Sequence[str]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        claims = [*SENTIMENTS, *TOPICS]
        logits = self._logits([(text, HYPOTHESES[claim]) for text in texts for claim in claims])
        entailed = logits[:, self._entailment].reshape(-1, len(claims))
        denied = logits[:, self._contradiction].reshape(-1, len(claims))
        feeling = entailed[:, : len(SENTIMENTS)]
        powers = np.exp(feeling - feeling.max(axis=1, keepdims=True, initial=-np.inf))
        margin = (entailed - denied)[:, len(SENTIMENTS) :]
        return powers / powers.sum(axis=1, keepdims=True), 1 / (1 + np.exp(-margin))

    def _logits(self, inputs: Sequence[tuple[str, ...]]) -> NDArray[np.float64]:
        """Logits in the order of `inputs` (a text, or a text and a hypothesis): [inputs, labels]."""
        found = np.zeros((len(inputs), self._network.config.num_labels))
        if not inputs:
            return found
        columns = [list(column) for column in zip(*inputs, strict=True)]
        encoded = self._tokenizer(*columns, truncation="longest_first", max_length=MAX_TOKENS)
        rows = [{key: encoded[key][i] for key in encoded} for i in range(len(inputs))]
        for batch in batching.by_length([len(row["input_ids"]) for row in rows]):
            padded = self._tokenizer.pad([rows[i] for i in batch], return_tensors="pt").to(self._device)
            with torch.inference_mode():
                found[batch] = self._network(**padded).logits.float().cpu().numpy()
        return found


def _recognised(labels: Sequence[str]) -> dict[str, str]:
    return {
        label: meaning
        for label in labels
        for meaning, pattern in _MEANINGS.items()
        if re.fullmatch(pattern, label.strip().lower())
    }


def _columns(labels: Sequence[str], mapping: Mapping[str, str], names: Sequence[str]) -> NDArray[np.float64]:
    """[labels, names]: 1 where a label means a name. ModelError for a label that there is not."""
    missing = set(mapping) - set(labels)
    if missing:
        raise ModelError(f"the checkpoint has no labels {sorted(missing)}; it has {list(labels)}")
    table = np.zeros((len(labels), len(names)))
    for label, name in mapping.items():
        table[labels.index(label), names.index(name)] = 1
    return table


def _identity(checkpoint: Checkpoint) -> str:
    if checkpoint.revision:
        return f"{checkpoint.source}@{checkpoint.revision[:12]}"
    folder = Path(checkpoint.source)
    digests = [artifact.sha256(p) for p in sorted(folder.iterdir()) if p.suffix in (".safetensors", ".bin")]
    joined = digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()
    return f"{folder.resolve().name}@{joined[:12]}"
