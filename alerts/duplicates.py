"""Near-duplicates in a stream: reposts, copied texts with small changes, replies that only quote.

A text is compared by its character shingles (five letters in a row, after case, digits, marks, links and
mentions are taken away). MinHash of 64 values (Broder, "On the resemblance and containment of documents",
1997) estimates how many of all shingles two texts share; locality-sensitive hashing in 16 bands of 4
(Indyk & Motwani 1998) finds the few candidates among the last texts without comparing all. Two texts are
taken as near-duplicates from an estimate of 0.6: found are 98.8 % of pairs that share 0.7, and 1 % of those
that share 0.3 are even looked at.

Short texts ("ok", "does not work") are what many people say by themselves: below 32 characters a text
repeats another only when the same author wrote exactly it. Only the newest 2,048 to 4,096 distinct texts of three
days are remembered: they are kept in generations of 2,048, the present one and the one before. A copy never becomes a
model for further copies, so a text cannot drift away.
"""

from __future__ import annotations

import hashlib
import re
import struct
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Final

import numpy as np

from alerts.alert import Sample

VALUES: Final = 64
BANDS: Final = 16
SHINGLE: Final = 5
ALIKE: Final = 0.6
SHORTEST: Final = 32
LONGEST: Final = 600
GENERATION: Final = 2048
REMEMBERED_FOR: Final = timedelta(days=3)

_DICE = np.random.Generator(np.random.PCG64(0x4F564F5A))
_FACTORS: Final = _DICE.integers(0, 2**31, VALUES, dtype=np.uint32) * np.uint32(2) + np.uint32(1)
_OFFSETS: Final = _DICE.integers(0, 2**32, VALUES, dtype=np.uint32)
_PRIME: Final = np.uint64(0x100000001B3)
_MIXER: Final = np.uint64(0x9E3779B97F4A7C15)
_HALF: Final = np.uint64(32)
_BAND_KEYS: Final = struct.Struct(f"{VALUES // BANDS * 4}s" * BANDS)

_QUOTED = re.compile(r"^[ \t]*>.*$", re.MULTILINE)
# What mail programs write above the message that they quote, in the languages of the model.
_REPLY = re.compile(
    r"^[ \t]*(?:-{2,}.{0,40}-{2,}[ \t]*$|(?:on|am|le|el|il|em|a)\b.{5,120}"
    r"(?:wrote|schrieb|a écrit|escribió|ha scritto|escreveu)[ \t]*:[ \t]*$"
    r"|.{5,120}(?:пишет|писал\(а\)|yazdı|yozdi)[ \t]*:?[ \t]*$)",
    re.IGNORECASE | re.MULTILINE,
)
_LINK = re.compile(r"https?://\S+|www\.\S+|[@#]\w+")
_FORWARDED = re.compile(r"\A\s*(?:(?:rt|fwd?|via)\b:?\s*(?:@\w+:?)?\s*)+", re.IGNORECASE)
_NO_LETTER = re.compile(r"[\W\d_]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A text that was the first of its kind: the `number`-th of its workspace."""

    number: int
    feedback_id: str
    at: datetime
    signature: bytes


@lru_cache(maxsize=1024)
def essence(text: str) -> str:
    """What is compared: letters and single spaces, at most 600; of a reply what is new in it.

    Where a reply adds next to nothing, it is what it quotes.
    """
    text = text[: 8 * LONGEST]
    quoted = _QUOTED.search(text)
    cut = _REPLY.search(text)
    own = text
    if quoted is not None or cut is not None:
        own = _QUOTED.sub(" ", text[: cut.start()] if cut is not None else text)
    found = _letters(own)
    if len(found) < SHORTEST and own is not text:
        lines = text[cut.end() :] if cut is not None else "\n".join(_QUOTED.findall(text))
        found = _letters(lines) or found
    return found


def signatures(samples: Sequence[Sample]) -> list[bytes]:
    """Of each 256 bytes of MinHash; of a short text 8 bytes of author and text; nothing where neither can be told."""
    texts = [essence(sample.text) for sample in samples]
    hashed = iter(minhashes([text for text in texts if len(text) >= SHORTEST]))
    found = []
    for text, sample in zip(texts, samples, strict=True):
        if len(text) >= SHORTEST:
            found.append(next(hashed))
        elif text and sample.author:
            found.append(hashlib.blake2b(f"{sample.author}\0{text}".encode(), digest_size=8).digest())
        else:
            found.append(b"")
    return found


def minhashes(texts: Sequence[str]) -> list[bytes]:
    """Of each text the smallest of its shingles' hashes under 64 hash functions, 4 bytes each.

    Each text has a shingle at least. All are hashed together: one by one it takes three times as long.
    """
    if not texts:
        return []
    codes = np.frombuffer("".join(texts).encode("utf-32-le"), dtype=np.uint32).astype(np.uint64)
    shingles = codes[: len(codes) - SHINGLE + 1].copy()
    for offset in range(1, SHINGLE):
        shingles = shingles * _PRIME + codes[offset : offset + len(shingles)]
    counts = np.array([len(text) - SHINGLE + 1 for text in texts])
    begins = np.concatenate(([0], np.cumsum(counts)[:-1]))
    # Between two texts lie as many shingles of both as one is long, less one.
    own = np.arange(counts.sum()) + np.repeat(np.arange(len(texts)) * (SHINGLE - 1), counts)
    mixed = shingles[own]
    mixed = ((mixed ^ (mixed >> _HALF)) * _MIXER >> _HALF).astype(np.uint32)
    hashes = _FACTORS[:, None] * mixed + _OFFSETS[:, None]
    least = np.minimum.reduceat(hashes, begins, axis=1).T.astype("<u4")
    return [row.tobytes() for row in least]


def resemblance(one: bytes, other: bytes) -> float:
    """The estimated share of shingles that two texts have in common, 0..1, from their MinHash."""
    same = np.frombuffer(one, dtype="<u4") == np.frombuffer(other, dtype="<u4")
    return float(np.count_nonzero(same)) / VALUES


class Recent:
    """The newest distinct texts of one workspace. The same samples in the same order are marked the same.

    Entries are found by any of their bands' keys in the index of their generation, `number // GENERATION`. Thousands of
    keys are looked up for each that is found, so it is asked first, without a loop, whether there is any.
    """

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        """`entries`: those known already, in the order of their numbers."""
        self._entries: tuple[dict[int, Entry], dict[int, Entry]] = ({}, {})
        self._numbers: tuple[dict[bytes, tuple[int, ...]], dict[bytes, tuple[int, ...]]] = ({}, {})
        self._new: list[Entry] = []
        self.last: Entry | None = None
        for entry in entries:
            self._add(entry, _keys(entry.signature))

    def mark(self, sample: Sample, mark: bytes | None = None) -> Sample:
        """The sample, with `copy_of` set where it repeats an earlier one. `mark`: its signature, if known."""
        if mark is None:
            (mark,) = signatures([sample])
        if not mark:
            return sample
        keys = _keys(mark)
        original = self._find(mark, keys, sample.at)
        if original is not None:
            return sample if original.feedback_id == sample.feedback_id else replace(
                sample, copy_of=original.feedback_id
            )
        number = 1 if self.last is None else self.last.number + 1
        entry = Entry(number=number, feedback_id=sample.feedback_id, at=sample.at, signature=mark)
        self._add(entry, keys)
        self._new.append(entry)
        return sample

    def take_new(self) -> list[Entry]:
        """The entries that were added since the last call, for whoever keeps them."""
        new, self._new = self._new, []
        return new

    def __len__(self) -> int:
        """How many texts are remembered."""
        return sum(map(len, self._entries))

    def _find(self, mark: bytes, keys: tuple[bytes, ...], at: datetime) -> Entry | None:
        best: Entry | None = None
        alike = ALIKE
        for entries, numbers in zip(self._entries, self._numbers, strict=True):
            if numbers.keys().isdisjoint(keys):
                continue
            for number in {number for key in keys for number in numbers.get(key, ())}:
                entry = entries[number]
                if abs(at - entry.at) > REMEMBERED_FOR:
                    continue
                share = resemblance(mark, entry.signature) if len(mark) == len(entry.signature) == VALUES * 4 else 1.0
                # Of equals the oldest, so that all copies name the same original.
                if share > alike or (share == alike and (best is None or number < best.number)):
                    best, alike = entry, share
        return best

    def _add(self, entry: Entry, keys: tuple[bytes, ...]) -> None:
        if self.last is not None and entry.number // GENERATION != self.last.number // GENERATION:
            self._entries = ({}, self._entries[0])
            self._numbers = ({}, self._numbers[0])
        self.last = entry
        self._entries[0][entry.number] = entry
        numbers, own = self._numbers[0], (entry.number,)
        if numbers.keys().isdisjoint(keys):
            numbers.update(dict.fromkeys(keys, own))
        else:
            for key in set(keys):
                numbers[key] = numbers.get(key, ()) + own


def oldest_kept(last: int) -> int:
    """The least number that is remembered once the entry `last` is there."""
    return max(0, last // GENERATION - 1) * GENERATION


def _keys(mark: bytes) -> tuple[bytes, ...]:
    """What is looked up in each band; a short text's signature in the first alone."""
    return _BAND_KEYS.unpack(mark) if len(mark) == VALUES * 4 else (mark,)


def _letters(text: str) -> str:
    plain = _LINK.sub(" ", _FORWARDED.sub("", text[: 4 * LONGEST]))
    folded = unicodedata.normalize("NFKC", plain).casefold()
    return _NO_LETTER.sub(" ", folded).strip()[:LONGEST]
