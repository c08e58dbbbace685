"""A Hugging Face checkpoint as the settings name it, and what its labels mean. Imports neither torch nor transformers.

A checkpoint is a folder, or `name@revision` of a hub: without a revision it is refused, since scores must say
which weights they are from.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from models import artifact
from models.classifier import SENTIMENTS, ModelError
from models.load import Labels
from models.topics import NAME, OTHER

_MEANINGS: Final = {
    "negative": r"neg(ative)?|very negative|[12] stars?|label_negative",
    "neutral": r"neu(tral)?|mixed|3 stars?|label_neutral",
    "positive": r"pos(itive)?|very positive|[45] stars?|label_positive",
}
# What a zero-shot checkpoint is asked of each text, where the settings ask nothing else.
SENTIMENT_CLAIMS: Final[Mapping[str, str]] = {
    "The customer is dissatisfied.": "negative",
    "The customer states a fact or asks a question without praise or complaint.": "neutral",
    "The customer is satisfied.": "positive",
}
TOPIC_CLAIMS: Final[Mapping[str, str]] = {
    "This is about delivery or shipping.": "delivery",
    "This is about a payment, an invoice or a charge.": "billing",
    "This is about a refund, a return or a cancellation.": "refund",
    "This is about the quality of a product or of food.": "quality",
    "This is about an app or a website.": "app",
    "This is about an account, a login or a password.": "account",
    "This is about staff or customer service.": "service",
    "This is about prices, fees or discounts.": "price",
    "This is about what is in stock or when a place is open.": "availability",
    "This is about none of the usual customer topics.": "other",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """`source`: folder or hub name; `revision`: None for a folder."""

    source: str
    revision: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Meaning:
    """`sentiment`, `topics`: a checkpoint's label → ours; for a `zero_shot` one, what is asked → ours."""

    zero_shot: bool
    sentiment: Mapping[str, str]
    topics: Mapping[str, str]


def parse(path: str) -> Checkpoint:
    """What `path` names. ModelError when it is neither a folder nor an exact revision."""
    if Path(path).is_dir():
        return Checkpoint(source=path)
    name, at, revision = path.rpartition("@")
    if not at or not name or not revision:
        raise ModelError(f"{path!r} is neither a folder nor name@revision: name the exact revision")
    return Checkpoint(source=name, revision=revision)


def labels_in(folder: str) -> list[str]:
    """The labels of a checkpoint's folder, in order. ModelError when its config.json cannot be read."""
    path = Path(folder) / "config.json"
    try:
        named: dict[str, object] = json.loads(path.read_text(encoding="utf-8"))["id2label"]
        return [str(named[key]) for key in sorted(named, key=int)]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as fault:
        raise ModelError(f"{path} has no labels of a sequence classifier ({fault!r})") from None


def meaning(path: str, labels: Sequence[str], given: Labels) -> Meaning:
    """What the labels of the checkpoint at `path` mean, as the settings say or as they say themselves.

    ModelError names what is missing or unknown, and the setting that would help.
    """
    for kind, mapping, known in (("sentiment", given.sentiment, SENTIMENTS), ("topic", given.topics, None)):
        for label, ours in mapping.items():
            if known and ours not in known:
                raise ModelError(f"{kind}_labels: {label} means {ours!r}, which is none of {', '.join(known)}")
            if not NAME.match(ours):
                raise ModelError(f"{kind}_labels: {label} means {ours!r}; a topic is 1-41 characters of a-z 0-9 _ -")
    if any(label.lower() == "entailment" for label in labels):
        asked = given.sentiment or SENTIMENT_CLAIMS
        missing = set(SENTIMENTS) - set(asked.values())
        if missing:
            raise ModelError(f"sentiment_labels: nothing is asked for {', '.join(sorted(missing))}")
        return Meaning(zero_shot=True, sentiment=asked, topics=given.topics or TOPIC_CLAIMS)
    sentiment = given.sentiment or _recognised(labels)
    missing = {*sentiment, *given.topics} - set(labels)
    if missing:
        raise ModelError(f"{path!r} has no labels {sorted(missing)}; it has {list(labels)}")
    if not sentiment:
        raise ModelError(
            f"{path!r} has the labels {list(labels)}, none of which is known to mean {', '.join(SENTIMENTS)}: say what "
            f'they mean with [model] sentiment_labels = {{ "{labels[0]}" = "negative", … }}'
        )
    return Meaning(zero_shot=False, sentiment=sentiment, topics=given.topics)


def topics_in(meaning: Meaning) -> tuple[str, ...]:
    """Every topic that such labels say; OTHER, which is none of the others, last."""
    return (*(topic for topic in dict.fromkeys(meaning.topics.values()) if topic != OTHER), OTHER)


def identity(checkpoint: Checkpoint, given: Labels) -> str:
    """`name@hash` of the weights, or `name@revision`; of `name+labels`, the hash is of the mapping too."""
    if checkpoint.revision:
        name, mark = checkpoint.source, checkpoint.revision
    else:
        folder = Path(checkpoint.source)
        digests = [artifact.sha256(p) for p in sorted(folder.iterdir()) if p.suffix in (".safetensors", ".bin")]
        name = folder.resolve().name
        mark = digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()
    if given != Labels():
        said = json.dumps([mark, dict(given.sentiment), dict(given.topics), given.unsure_below], ensure_ascii=False)
        name, mark = f"{name}+labels", hashlib.sha256(said.encode()).hexdigest()
    return f"{name}@{mark[:12]}"


def _recognised(labels: Sequence[str]) -> dict[str, str]:
    return {
        label: meaning
        for label in labels
        for meaning, pattern in _MEANINGS.items()
        if re.fullmatch(pattern, label.strip().lower())
    }
