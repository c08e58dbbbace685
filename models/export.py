"""A trained encoder → an artifact folder: activation ranges, the int8 graph, the manifest."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer

from models import artifact, batching, graph
from models.backbone import PAD
from models.classifier import SENTIMENTS, TOPICS
from models.corpus import LANGUAGES
from models.encoder import Encoder
from models.preprocess import CLEANING_VERSION

MAX_TOKENS: Final = 128
_LINEAR: Final = ("qkv", "out", "up", "down")


def padded(ids: Sequence[Sequence[int]]) -> NDArray[np.int64]:
    """[texts, longest], filled on the right with PAD."""
    table = np.full((len(ids), max(map(len, ids))), PAD, np.int64)
    for row, pieces in enumerate(ids):
        table[row, : len(pieces)] = pieces
    return table


def ranges(model: Encoder, ids: Sequence[Sequence[int]]) -> dict[str, tuple[float, float]]:
    """What each linear layer reads over `ids`, by its name: the bounds of its int8 input.

    The outputs of attention get the extremes seen, the others the bounds that training kept them in.
    """
    found: dict[str, tuple[float, float]] = {}

    def watch(name: str) -> Any:
        def hook(_: object, inputs: tuple[torch.Tensor]) -> None:
            low, high = found.get(name, (0.0, 0.0))
            found[name] = min(low, inputs[0].min().item()), max(high, inputs[0].max().item())

        return hook

    modules = {name: m for name, m in model.named_modules() if name.rpartition(".")[2] in _LINEAR}
    handles = [module.register_forward_pre_hook(watch(name)) for name, module in modules.items()]
    with torch.inference_mode():
        for batch in batching.by_length([len(pieces) for pieces in ids]):
            model(torch.from_numpy(padded([ids[i] for i in batch])))
    for handle in handles:
        handle.remove()
    fixed = {"qkv": graph.QKV_RANGE, "up": graph.UP_RANGE, "down": graph.DOWN_RANGE}
    return {name: fixed.get(name.rpartition(".")[2], bounds) for name, bounds in found.items()}


def write(
    folder: Path,
    *,
    name: str,
    model: Encoder,
    heads: Mapping[str, int],
    tokenizer: Tokenizer,
    language: Path,
    bounds: graph.Ranges | None,
    calibration: Mapping[str, artifact.Calibration],
    ngrams: Mapping[str, Mapping[str, float]],
    card: str,
) -> str:
    """Write and seal the folder; the hash of its weights. `bounds` None writes fp32 weights."""
    folder.mkdir(parents=True, exist_ok=True)
    parameters = {key: value.numpy() for key, value in model.state_dict().items()}
    built = graph.build(parameters, heads=heads, halvings=model.halvings, ranges=bounds)
    (folder / artifact.WEIGHTS).write_bytes(built.SerializeToString(deterministic=True))
    tokenizer.no_truncation()
    tokenizer.save(str(folder / artifact.TOKENIZER), pretty=False)
    if language.resolve() != (folder / artifact.LANGUAGE).resolve():
        shutil.copy(language, folder / artifact.LANGUAGE)
    config = artifact.Config(
        name=name,
        topics=TOPICS,
        languages=LANGUAGES,
        max_tokens=MAX_TOKENS,
        cleaning=CLEANING_VERSION,
        calibration=calibration,
        ngrams=ngrams,
        sentiments=SENTIMENTS,
    )
    (folder / artifact.CONFIG).write_text(config.to_json(), encoding="utf-8")
    (folder / artifact.CARD).write_text(card, encoding="utf-8")
    return artifact.seal(folder)
