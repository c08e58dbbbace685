"""Near-duplicates in a stream: reposts, copied texts with small changes, replies that only quote.

A text is compared by its character shingles (five letters in a row, after case, digits, marks, links and
mentions are taken away). MinHash of 64 values (Broder, "On the resemblance and containment of documents",
1997) estimates how many of all shingles two texts share; locality-sensitive hashing in 16 bands of 4
(Indyk & Motwani 1998) finds the few candidates among the last texts without comparing all. Two texts are
taken as near-duplicates from an estimate of 0.6: found are 98.8 % of pairs that share 0.7, and 1 % of those
that share 0.3 are even looked at.

Short texts ("ok", "does not work") are what many people say by themselves: below 32 characters a text
repeats another only when the same author wrote exactly it. Only the newest 4,096 distinct texts of three
days are remembered. A copy never becomes a model for further copies, so a text cannot drift away.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

import numpy as np

from alerts.alert import Sample

VALUES: Final = 64
BANDS: Final = 16
SHINGLE: Final = 5
ALIKE: Final = 0.6
SHORTEST: Final = 32
LONGEST: Final = 600
REMEMBERED: Final = 4096
REMEMBERED_FOR: Final = timedelta(days=3)

_ROWS: Final = VALUES // BANDS
_DICE = np.random.Generator(np.random.PCG64(0x4F564F5A))
_FACTORS: Final = _DICE.integers(1, 2**63, VALUES, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
_OFFSETS: Final = _DICE.integers(0, 2**63, VALUES, dtype=np.uint64)
_PRIME: Final = np.uint64(0x100000001B3)

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


def signature(sample: Sample) -> bytes:
    """256 bytes of MinHash; 8 bytes of author and text for a short text; nothing where neither can be told."""
    text = essence(sample.text)
    if len(text) >= SHORTEST:
        return minhash(text)
    if text and sample.author:
        return hashlib.blake2b(f"{sample.author}\0{text}".encode(), digest_size=8).digest()
    return b""


def minhash(text: str) -> bytes:
    """The smallest of the shingles' hashes under 64 hash functions, 4 bytes each; `text` has a shingle at least."""
    codes = np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32).astype(np.uint64)
    count = len(codes) - SHINGLE + 1
    shingles = codes[:count].copy()
    for offset in range(1, SHINGLE):
        shingles = shingles * _PRIME + codes[offset : offset + count]
    hashes = np.unique(shingles)[:, None] * _FACTORS + _OFFSETS
    return bytes((hashes.min(axis=0) >> np.uint64(32)).astype("<u4").tobytes())


def resemblance(one: bytes, other: bytes) -> float:
    """The estimated share of shingles that two texts have in common, 0..1, from their MinHash."""
    same = np.frombuffer(one, dtype="<u4") == np.frombuffer(other, dtype="<u4")
    return float(np.count_nonzero(same)) / VALUES


class Recent:
    """The newest distinct texts of one workspace. The same samples in the same order are marked the same."""

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        """`entries`: those known already, in the order of their numbers."""
        self._entries: OrderedDict[int, Entry] = OrderedDict()
        self._bands: dict[bytes, list[int]] = {}
        self._new: list[Entry] = []
        self.last: Entry | None = None
        for entry in entries:
            self._add(entry)

    def mark(self, sample: Sample) -> Sample:
        """The sample, with `copy_of` set where it repeats an earlier one."""
        mark = signature(sample)
        if not mark:
            return sample
        original = self._find(mark, sample.at)
        if original is not None:
            return sample if original.feedback_id == sample.feedback_id else replace(
                sample, copy_of=original.feedback_id
            )
        number = 1 if self.last is None else self.last.number + 1
        entry = Entry(number=number, feedback_id=sample.feedback_id, at=sample.at, signature=mark)
        self._add(entry)
        self._new.append(entry)
        return sample

    def take_new(self) -> list[Entry]:
        """The entries that were added since the last call, for whoever keeps them."""
        new, self._new = self._new, []
        return new

    def _find(self, mark: bytes, at: datetime) -> Entry | None:
        best: Entry | None = None
        alike = ALIKE
        seen = set()
        for key in _keys(mark):
            for number in self._bands.get(key, ()):
                if number in seen:
                    continue
                seen.add(number)
                entry = self._entries[number]
                if abs(at - entry.at) > REMEMBERED_FOR:
                    continue
                share = resemblance(mark, entry.signature) if len(mark) == VALUES * 4 else 1.0
                # Of equals the oldest, so that all copies name the same original.
                if share > alike or (share == alike and (best is None or number < best.number)):
                    best, alike = entry, share
        return best

    def _add(self, entry: Entry) -> None:
        self.last = entry
        self._entries[entry.number] = entry
        for key in _keys(entry.signature):
            self._bands.setdefault(key, []).append(entry.number)
        if len(self._entries) > REMEMBERED:
            number, oldest = self._entries.popitem(last=False)
            for key in _keys(oldest.signature):
                kept = [one for one in self._bands[key] if one != number]
                if kept:
                    self._bands[key] = kept
                else:
                    del self._bands[key]


def _keys(mark: bytes) -> list[bytes]:
    if len(mark) != VALUES * 4:
        return [mark]
    size = _ROWS * 4
    return [bytes([band]) + mark[band * size : (band + 1) * size] for band in range(BANDS)]


def _letters(text: str) -> str:
    plain = _LINK.sub(" ", _FORWARDED.sub("", text[: 4 * LONGEST]))
    folded = unicodedata.normalize("NFKC", plain).casefold()
    return _NO_LETTER.sub(" ", folded).strip()[:LONGEST]
