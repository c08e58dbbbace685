"""Which language a text is in: a linear model over the tokenizer's pieces, held by rules of script.

Pieces tell languages apart well, and the encoder's tokenizer yields them anyway: the detector costs some
microseconds a text and a quarter of a megabyte. It is our own because `langid`'s model, the small one that
is kept up, has no Uzbek.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

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
        self,
        texts: Sequence[str],
        ids: Sequence[Sequence[int]],
        scripts: Sequence[str],
        hints: Sequence[str | None] = (),
    ) -> list[str]:
        """A BCP 47 tag for each cleaned text, `und` when no rule settles it.

        `ids`: the pieces of each text, at least one. `scripts`: as `preprocess.script` says. `hints`:
        what the source claims; it decides only where the pieces leave doubt and the script allows it.
        """
        if not texts:
            return []
        flat = np.concatenate([np.asarray(pieces, np.int64) for pieces in ids])
        counts = np.array([len(pieces) for pieces in ids])
        starts = np.concatenate(([0], np.cumsum(counts)[:-1]))
        sums = np.add.reduceat(self._weights[flat], starts, axis=0, dtype=np.int32)
        logits = sums * (self._scale / counts[:, None])
        for script, usable in self._usable.items():
            rows = np.array([found == script for found in scripts])
            logits[np.ix_(rows, ~usable)] = -np.inf
        chances = np.exp(logits - logits.max(axis=1, keepdims=True))
        chances /= chances.sum(axis=1, keepdims=True)
        best = chances.argmax(axis=1)
        return [
            self._decide(text, script, self.tags[winner], chance, hints[i] if i < len(hints) else None)
            for i, (text, script, winner, chance) in enumerate(
                zip(texts, scripts, best.tolist(), chances.max(axis=1).tolist(), strict=True)
            )
        ]

    def _decide(self, text: str, script: str, best: str, chance: float, hint: str | None) -> str:
        if script not in _SCRIPTS:
            return UNKNOWN_LANGUAGE
        if script == "Cyrl":
            if len(_ELSEWHERE.findall(text)) * 50 > len(text):
                return UNKNOWN_LANGUAGE
            if _UZBEK.search(text):
                return "uz-Cyrl"
        if chance < SURE and hint:
            claimed = hint.split("-")[0].lower()
            for tag in _SCRIPTS[script]:
                if tag.split("-")[0] == claimed:
                    return tag
        return best if chance >= GUESS else UNKNOWN_LANGUAGE
