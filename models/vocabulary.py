"""Which of the backbone's 250,002 pieces a model keeps: embeddings are most of a small model's weight."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from models import backbone
from models.backbone import Packed
from models.classifier import ModelError

SIZE: Final = 32_000
_WORD_WEIGHT: Final = 0.6
_CHARACTERS: Final = re.compile(
    "^▁?[\\x20-\\u024f\\u02bb\\u02bc\\u0400-\\u04ff\\u2010-\\u203a\\u20a0-\\u20bf\\u2190-\\u27bf"
    "\\U0001f300-\\U0001faff]?$"
)


def of_tokenizer(packed: Packed, path: Path) -> list[int]:
    """The backbone's ids of the pieces in a `tokenizer.json`, ascending: the vocabulary of a built model."""
    try:
        pieces = [str(entry[0]) for entry in json.loads(path.read_text(encoding="utf-8"))["model"]["vocab"]]
    except (OSError, ValueError, KeyError, TypeError, IndexError) as fault:
        raise ModelError(f"{path} is no unigram tokenizer ({fault!r})") from None
    ids = {piece: i for i, piece in enumerate(packed.pieces)}
    missing = [piece for piece in pieces if piece not in ids]
    if missing:
        raise ModelError(f"{path} has {len(missing)} pieces that the backbone lacks, {missing[0]!r} first")
    return [ids[piece] for piece in pieces]


def choose(
    packed: Packed,
    texts: Mapping[str, Iterable[str]],
    words: Mapping[str, Iterable[str]],
    size: int = SIZE,
) -> list[int]:
    """Ids of the `size` most useful pieces, ascending, the special ones and all single characters first.

    `texts` by language: each language weighs the same. `words` by language, most frequent first (the
    shipped vocabulary took 30,000 a language from `wordfreq`): what the texts are too few to show.
    """
    tokenizer = backbone.tokenizer(packed)
    worth: defaultdict[int, float] = defaultdict(float)
    for sample in texts.values():
        counts: Counter[int] = Counter()
        for encoding in tokenizer.encode_batch(list(sample), add_special_tokens=False):
            counts.update(encoding.ids)
        total = sum(counts.values()) or 1
        for piece, count in counts.items():
            worth[piece] += count / total if count > 1 else 0.0
    for ranked in words.values():
        weights: defaultdict[int, float] = defaultdict(float)
        for rank, word in enumerate(ranked):
            for form in (word, word.capitalize()):
                for piece in tokenizer.encode(form, add_special_tokens=False).ids:
                    weights[piece] += 1 / (rank + 50)
        norm = sum(weights.values()) or 1.0
        for piece, weight in weights.items():
            worth[piece] += _WORD_WEIGHT * weight / norm
    kept = set(range(4)) | {i for i, piece in enumerate(packed.pieces) if len(piece) <= 2 and _CHARACTERS.match(piece)}
    for piece in sorted(worth, key=worth.__getitem__, reverse=True):
        if len(kept) >= size:
            break
        kept.add(piece)
    return sorted(kept)
