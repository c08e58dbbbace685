"""A topic head: the user's own topics, as one small file beside a model that is not changed.

An `.npz` of `weights` (fp16 [own, width]), `bias` (fp32 [own]) and `about` (JSON). The logit of one of the
user's topics is a linear function of the model's embeddings; the model's own topics that stay keep the
model's own logits. The file is bound to the weights that the embeddings came from.
"""

from __future__ import annotations

import hashlib
import io
import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from models.classifier import ModelError
from models.topics import OTHER

FORMAT: Final = 1

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """`topics`: every label, in order, OTHER last. `own`: those that `weights` and `bias` are of, in order.

    `made_for`: SHA-256 of the model's weights. `digest`: SHA-256 of the file.
    """

    name: str
    made_for: str
    topics: tuple[str, ...]
    own: tuple[str, ...]
    descriptions: Mapping[str, str]
    weights: Floats
    bias: Floats
    digest: str

    def logits(self, embedding: Floats, theirs: Floats, names: tuple[str, ...]) -> Floats:
        """[texts, topics]. `theirs`: the model's own logits, calibrated, of its topics `names`."""
        own = embedding @ self.weights.T + self.bias
        columns = {name: theirs[:, i] for i, name in enumerate(names)}
        columns |= {name: own[:, i] for i, name in enumerate(self.own)}
        return np.stack([columns[name] for name in self.topics], axis=1)

    def identity(self, model: str, weights: str) -> str:
        """`model+head@hash`: the hash changes with the weights and with the head."""
        return f"{model}+{self.name}@{hashlib.sha256((weights + self.digest).encode()).hexdigest()[:12]}"


def write(
    path: Path,
    *,
    name: str,
    made_for: str,
    topics: tuple[str, ...],
    descriptions: Mapping[str, str],
    own: tuple[str, ...],
    weights: Floats,
    bias: Floats,
) -> Head:
    """Write a head and read it back. The same head is the same bytes."""
    about = {
        "format": FORMAT,
        "name": name,
        "made_for": made_for,
        "topics": topics,
        "own": own,
        "descriptions": dict(descriptions),
    }
    content = io.BytesIO()
    np.savez(
        content,
        weights=weights.astype(np.float16),
        bias=bias.astype(np.float32),
        about=np.array(json.dumps(about, ensure_ascii=False)),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_bytes(content.getvalue())
    part.replace(path)
    return read(path)


def read(path: Path, *, made_for: str | None = None, known: tuple[str, ...] | None = None) -> Head:
    """The head in a file; ModelError when it is none, or was fitted on another model.

    `made_for`: SHA-256 of the weights that it is to be used with; `known`: the topics of that model.
    """
    try:
        raw = path.read_bytes()
        with np.load(io.BytesIO(raw), allow_pickle=False) as arrays:
            about: dict[str, Any] = json.loads(str(arrays["about"]))
            head = Head(
                name=str(about["name"]),
                made_for=str(about["made_for"]),
                topics=tuple(map(str, about["topics"])),
                own=tuple(map(str, about["own"])),
                descriptions=dict(about["descriptions"]),
                weights=arrays["weights"].astype(np.float32),
                bias=arrays["bias"].astype(np.float32),
                digest=hashlib.sha256(raw).hexdigest(),
            )
        if about["format"] != FORMAT or head.weights.shape[0] != len(head.own) or OTHER not in head.topics:
            raise ValueError("another format")
    except FileNotFoundError:
        raise ModelError(f"no topics in {path}: `ovoz topics fit` writes such a file") from None
    except (OSError, ValueError, KeyError, TypeError, BadZipFile, zlib.error) as fault:
        raise ModelError(f"{path} is no topic head ({fault}); write it with `ovoz topics fit`") from None
    if made_for is not None and head.made_for != made_for:
        raise ModelError(
            f"{path} was fitted on a model with the weights {head.made_for[:12]}, this one has {made_for[:12]}: "
            "fit it again with `ovoz topics fit`"
        )
    missing = set(head.topics) - set(head.own) - set(known or head.topics)
    if missing:
        raise ModelError(f"{path} keeps topics that this model lacks, {sorted(missing)}: `ovoz topics fit` again")
    return head
