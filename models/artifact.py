"""A model on disk: what its folder holds, and the proof that nothing in it was changed.

`manifest.json` lists every other file with its SHA-256 and size. `config.json` says how the weights are
to be read: label sets in order, token limit, cleaning version, temperatures, thresholds of certainty.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from models.classifier import SENTIMENTS, UNKNOWN_LANGUAGE, ModelError
from models.preprocess import CLEANING_VERSION

SHIPPED: Final = Path(__file__).parent / "shipped"
MANIFEST, CONFIG, WEIGHTS, TOKENIZER, LANGUAGE, BASELINE, CARD = (
    "manifest.json",
    "config.json",
    "model.onnx",
    "tokenizer.json",
    "language.npz",
    "tfidf.npz",
    "card.md",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """A head's logits are divided by `temperature` of the text's language, or of `und`.

    An answer whose probability is below `threshold`, found the same way, counts as unsure; without any,
    none does.
    """

    temperature: Mapping[str, float]
    threshold: Mapping[str, float] = field(default_factory=dict)

    def of(self, language: str) -> float:
        return self.temperature.get(language, self.temperature[UNKNOWN_LANGUAGE])

    def least(self, language: str) -> float:
        """The probability from which on an answer counts."""
        return self.threshold.get(language, self.threshold.get(UNKNOWN_LANGUAGE, 0.0))


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """How to read the weights. `max_tokens` counts the two marks around a text.

    `ngrams`: what part the baseline has in what a head says of a text, by the text's language, `und` for all others;
    none where nothing is said.
    """

    name: str
    topics: tuple[str, ...]
    languages: tuple[str, ...]
    max_tokens: int
    cleaning: int
    calibration: Mapping[str, Calibration]
    ngrams: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    sentiments: tuple[str, ...] = SENTIMENTS

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n"


def sha256(path: Path) -> str:
    """Hex digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def seal(folder: Path) -> str:
    """Write `manifest.json` over every file in `folder`; the hash of the weights."""
    files = {
        path.name: {"sha256": sha256(path), "bytes": path.stat().st_size}
        for path in sorted(folder.iterdir())
        if path.name != MANIFEST
    }
    (folder / MANIFEST).write_text(json.dumps({"files": files}, indent=1) + "\n", encoding="utf-8")
    return str(files[WEIGHTS]["sha256"])


def verify(folder: Path) -> str:
    """The hash of the weights, once every file is proved to be the one in the manifest.

    ModelError names the first file that is missing or differs, both hashes, and what to do.
    """
    remedy = "restore the folder (reinstall the package or check the files out again) or train a new model"
    try:
        files: dict[str, dict[str, Any]] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["files"]
        listed = {str(name): str(entry["sha256"]) for name, entry in files.items()}
    except FileNotFoundError:
        raise ModelError(f"no model in {folder}: {MANIFEST} is missing; {remedy}") from None
    except (ValueError, KeyError, TypeError, AttributeError) as fault:
        raise ModelError(f"{folder / MANIFEST} is not a manifest ({fault}); {remedy}") from None
    for name in {WEIGHTS, TOKENIZER, LANGUAGE, CONFIG} - listed.keys():
        raise ModelError(f"{folder / MANIFEST} does not list {name}; {remedy}")
    for name, expected in listed.items():
        path = folder / name
        if not path.is_file():
            raise ModelError(f"{path} is missing, expected sha256 {expected}; {remedy}")
        found = sha256(path)
        if found != expected:
            raise ModelError(f"{path}: expected sha256 {expected}, found {found}; {remedy}")
    return listed[WEIGHTS]


def read_config(folder: Path) -> Config:
    """The config; ModelError when it is malformed or was made for other cleaning rules."""
    path = folder / CONFIG
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
        calibration = {
            head: Calibration(
                temperature={k: float(v) for k, v in entry["temperature"].items()},
                threshold={k: float(v) for k, v in entry.get("threshold", {}).items()},
            )
            for head, entry in table["calibration"].items()
        }
        config = Config(
            name=str(table["name"]),
            topics=tuple(table["topics"]),
            languages=tuple(table["languages"]),
            max_tokens=int(table["max_tokens"]),
            cleaning=int(table["cleaning"]),
            calibration=calibration,
            ngrams={
                head: {language: float(share) for language, share in shares.items()}
                for head, shares in table.get("ngrams", {}).items()
            },
            sentiments=tuple(table["sentiments"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as fault:
        raise ModelError(f"{path} is not a model config ({fault!r}); train the model again") from None
    if config.sentiments != SENTIMENTS:
        raise ModelError(f"{path}: sentiments {config.sentiments}, expected {SENTIMENTS}")
    if config.cleaning != CLEANING_VERSION:
        raise ModelError(
            f"{path}: made for cleaning version {config.cleaning}, this is {CLEANING_VERSION}; train it again"
        )
    return config
