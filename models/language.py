"""Which language a text is in: a linear model over the tokenizer's pieces, held by rules of script.

The encoder's own tokenization is at hand for
nothing, so a detector over it costs a few microseconds and half a megabyte, and knows Uzbek, which
`langid`'s models do not.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models import preprocess
from models.classifier import UNKNOWN_LANGUAGE

SURE: Final = 0.85
GUESS: Final = 0.55
_SCRIPTS: Final = {"Latn": ("en", "uz", "tr", "de", "es", "fr", "it", "pt"), "Cyrl": ("ru", "uz-Cyrl")}
_UZBEK = re.compile("[ўқғҳЎҚҒҲ]")
_ELSEWHERE = re.compile("[әңөұүһіїєґӣӯҷјљњћђџѓќѕ]", re.IGNORECASE)  # Kazakh, Ukrainian, Tajik, Serbian …


class LanguageDetector:
    """`weights`: [pieces, languages] int8 times `scale`; a text's logits are the mean over its pieces."""

    def __init__(self, weights: NDArray[np.int8], scale: float, tags: Sequence[str]) -> None:
        self._weights = weights
        self._scale = scale
        self.tags = tuple(tags)
        self._usable = {
            script: np.array([tag in known or tag == UNKNOWN_LANGUAGE for tag in self.tags])
            for script, known in _SCRIPTS.items()
        }

    @classmethod
    def load(cls, path: Path) -> LanguageDetector:
        """From an `.npz` with `weights`, `scale` and `tags`."""
        with np.load(path, allow_pickle=False) as arrays:
            return cls(arrays["weights"], float(arrays["scale"]), [str(tag) for tag in arrays["tags"]])

    def detect(
        self, texts: Sequence[str], ids: Sequence[Sequence[int]], hints: Sequence[str | None] = ()
    ) -> list[str]:
        """A BCP 47 tag for each cleaned text, `und` when no rule settles it.

        `ids`: the pieces of each text, at least one. `hints`: what the source claims; it decides only
        where the pieces leave doubt and the script allows it.
        """
        if not texts:
            return []
        flat = np.concatenate([np.asarray(pieces, np.int64) for pieces in ids])
        counts = np.array([len(pieces) for pieces in ids])
        starts = np.concatenate(([0], np.cumsum(counts)[:-1]))
        sums = np.add.reduceat(self._weights[flat].astype(np.float32), starts, axis=0)
        logits = sums * (self._scale / counts[:, None])
        return [
            self._decide(text, logits[i], hints[i] if i < len(hints) else None)
            for i, text in enumerate(texts)
        ]

    def _decide(self, text: str, logits: NDArray[np.float32], hint: str | None) -> str:
        script = preprocess.script(text)
        if script not in _SCRIPTS:
            return UNKNOWN_LANGUAGE
        if script == "Cyrl":
            letters = len(text)
            if len(_ELSEWHERE.findall(text)) * 50 > letters:
                return UNKNOWN_LANGUAGE
            if _UZBEK.search(text):
                return "uz-Cyrl"
        masked = np.where(self._usable[script], logits, -np.inf)
        chances = np.exp(masked - masked.max())
        chances /= chances.sum()
        best = int(chances.argmax())
        if chances[best] < SURE and hint:
            claimed = hint.split("-")[0].lower()
            for tag in _SCRIPTS[script]:
                if tag.split("-")[0] == claimed:
                    return tag
        return self.tags[best] if chances[best] >= GUESS else UNKNOWN_LANGUAGE
