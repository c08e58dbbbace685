"""`ovoz topics fit`: from a user's topics to a head file, on embeddings that are kept from one time to the next."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from threadpoolctl import threadpool_limits

from models import corpus, head, topic_fit
from models.classifier import ModelError
from models.corpus import Row
from models.onnx import OnnxClassifier
from models.topic_fit import Encoded, Fitted, Labelled
from models.topics import Wanted

SENTENCES: Final = Path(__file__).parent / "sentences"


def fit(wanted: Wanted, model: OnnxClassifier, *, cache: Path | None = None, sentences: Path = SENTENCES) -> Fitted:
    """Fit and judge what is wanted on top of `model`, which must be without a head itself.

    `cache`: a folder for the embeddings of our own sentences; they are computed anew when the model or the
    sentences have changed. The same input gives the same result.
    """
    ours, held = (_labelled(model, _sentences(sentences / part), cache) for part in ("train", "validation"))
    examples = [_encode(model, topic.examples) for topic in wanted.topics]
    descriptions = _encode(model, [topic.description for topic in wanted.topics])
    with threadpool_limits(1):  # more are slower at this size, and their number would show in the last digits
        return topic_fit.fit(wanted, model.topics, ours=ours, held=held, examples=examples, descriptions=descriptions)


def write(path: Path, wanted: Wanted, fitted: Fitted, model: OnnxClassifier) -> head.Head:
    """Write the head of what was fitted on `model`."""
    return head.write(
        path,
        name=wanted.name,
        made_for=model.weights,
        topics=fitted.topics,
        descriptions={topic.name: topic.description for topic in wanted.topics},
        own=fitted.own,
        weights=fitted.weights.astype(np.float32),
        bias=fitted.bias.astype(np.float32),
    )


def _sentences(folder: Path) -> list[Row]:
    rows = [row for row in corpus.sentences(folder) if row.topics is not None]
    if not rows:
        raise ModelError(f"{folder}: the sentences that come with Ovoz are missing; reinstall it")
    return rows


def _labelled(model: OnnxClassifier, rows: Sequence[Row], cache: Path | None) -> Labelled:
    texts = [row.text for row in rows]
    mark = hashlib.sha256("\n".join((model.weights, *texts)).encode()).hexdigest()[:16]
    path = None if cache is None else cache / f"embeddings-{mark}.npz"
    encoded = _cached(path) if path else None
    if encoded is None or len(encoded) != len(rows):
        encoded = _encode(model, texts)
        if path:
            _keep(path, encoded)
    return Labelled(encoded, [row.topics or frozenset() for row in rows])


def _encode(model: OnnxClassifier, texts: Sequence[str]) -> Encoded:
    """As fp16 holds it, so that what comes from the cache is what was computed."""
    embedding, logits = (part.astype(np.float16).astype(np.float64) for part in model.encode(texts))
    return Encoded(embedding, logits)


def _cached(path: Path) -> Encoded | None:
    """What was kept; None when there is nothing that can be read: then it is computed again."""
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as arrays:
            return Encoded(arrays["embedding"].astype(np.float64), arrays["logits"].astype(np.float64))
    except Exception:  # a cache of whatever kind of damage is no cache
        return None


def _keep(path: Path, encoded: Encoded) -> None:
    """Without a place to write, the next time takes some seconds longer."""
    content = io.BytesIO()
    np.savez(content, embedding=encoded.embedding.astype(np.float16), logits=encoded.logits.astype(np.float16))
    part = path.with_suffix(".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(content.getvalue())
        part.replace(path)
    except OSError:
        return
