"""What a model learns from: labelled sentences, ours and others', as one kind of row; and their splits."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from models import preprocess, uzbek
from models.classifier import SENTIMENTS, TOPICS, ModelError

OWN: Final = "own"
OWN_POST: Final = "own-post"
NO_TOPIC: Final = "-"
LANGUAGES: Final = ("en", "ru", "uz", "uz-Cyrl", "tr", "de", "es", "fr", "it", "pt")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One cleaned text and what is known of it: None where a source says nothing of that task.

    `lesson`: the number of what a teacher thinks of it (`models.distil`), while a student learns.
    """

    text: str
    language: str
    source: str
    sentiment: int | None = None
    topics: frozenset[str] | None = None
    urgent: bool | None = None
    lesson: int | None = None


def sentences(folder: Path) -> Iterator[Row]:
    """Our own sentences: `<language>[-n].tsv`, columns topics, sentiment, urgent, text.

    Topics NO_TOPIC: a post that is no feedback (source OWN_POST), of which only the sentiment is known.

    ModelError names the file and line of the first row that breaks the format.
    """
    for path in sorted(folder.glob("*.tsv")):
        language = re.sub(r"-\d+$", "", path.stem)
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            columns = line.split("\t")
            if len(columns) != 4:
                raise ModelError(f"{path}:{number}: {len(columns)} columns, expected 4 separated by tabs")
            topics = None if columns[0] == NO_TOPIC else frozenset(columns[0].split(","))
            if topics is not None and not topics <= set(TOPICS):
                raise ModelError(f"{path}:{number}: unknown topic in {columns[0]!r}; known: {', '.join(TOPICS)}")
            if columns[1] not in SENTIMENTS:
                raise ModelError(f"{path}:{number}: sentiment {columns[1]!r} is none of {', '.join(SENTIMENTS)}")
            if columns[2] not in ("0", "1"):
                raise ModelError(f"{path}:{number}: urgent is {columns[2]!r}, expected 0 or 1")
            yield Row(
                text=preprocess.clean(columns[3]),
                language=language,
                source=OWN_POST if topics is None else OWN,
                sentiment=SENTIMENTS.index(columns[1]),
                topics=topics,
                urgent=None if topics is None else columns[2] == "1",
            )


def digest(rows: Iterable[Row]) -> str:
    """SHA-256 of the rows in their order: the same in every process, which the order of a set is not."""
    found = hashlib.sha256()
    for row in rows:
        topics = None if row.topics is None else sorted(row.topics)
        found.update(repr((row.text, row.language, row.source, row.sentiment, topics, row.urgent)).encode())
    return found.hexdigest()


def in_cyrillic(row: Row) -> Row:
    """A Latin Uzbek row in Cyrillic letters."""
    return replace(row, text=uzbek.to_cyrillic(row.text), language="uz-Cyrl")


_NOT_LETTERS = re.compile(r"[\W\d_]+")


def fingerprint(text: str) -> str:
    """What two texts share when they differ only in case, digits, punctuation, links or mentions."""
    return _NOT_LETTERS.sub(" ", text.replace("@user", "").replace("http", "").lower()).strip()


def shingles(text: str) -> frozenset[str]:
    """The overlapping runs of five letters of a text's fingerprint."""
    letters = fingerprint(text).replace(" ", "")
    return frozenset(letters[i : i + 5] for i in range(max(1, len(letters) - 4)))


def near_duplicates(left: Iterable[str], right: Iterable[str], threshold: float = 0.7) -> list[tuple[str, str]]:
    """Pairs of one text of each side whose shingles overlap by `threshold` (Jaccard) or more.

    Candidates share one of a text's eight lowest-hashed shingles, so cost grows with the texts, not
    with their pairs.
    """
    known: dict[int, list[tuple[str, frozenset[str]]]] = {}

    def keys(grams: frozenset[str]) -> list[int]:
        hashed = (int.from_bytes(hashlib.blake2b(g.encode(), digest_size=8).digest()) for g in grams)
        return sorted(hashed)[:8]

    for text in left:
        grams = shingles(text)
        for key in keys(grams):
            known.setdefault(key, []).append((text, grams))
    pairs = []
    for text in right:
        grams = shingles(text)
        seen = set()
        for key in keys(grams):
            for other, theirs in known.get(key, ()):
                if other in seen or not threshold <= len(grams) / len(theirs) <= 1 / threshold:
                    continue
                seen.add(other)
                if len(grams & theirs) >= threshold * len(grams | theirs):
                    pairs.append((other, text))
    return pairs


def split(
    rows: Iterable[Row], validation_percent: int, test_percent: int = 0
) -> tuple[list[Row], list[Row], list[Row]]:
    """(train, validation, test), by a hash of each fingerprint, so that duplicates never part.

    Exact duplicates by fingerprint are dropped within each task; texts that nearly duplicate one of the
    parts before theirs are dropped.
    """
    parts: tuple[list[Row], list[Row], list[Row]] = ([], [], [])
    seen = set()
    for row in rows:
        mark = fingerprint(row.text)
        if not mark or (mark, row.language, row.topics is None) in seen:
            continue
        seen.add((mark, row.language, row.topics is None))
        parts[_part(mark, validation_percent, test_percent)].append(row)
    train, validation, test = parts
    validation = _without(validation, train)
    return train, validation, _without(test, [*train, *validation])


def halves(rows: Iterable[Row]) -> tuple[list[Row], list[Row]]:
    """Two halves, by a hash of each fingerprint."""
    parts: tuple[list[Row], list[Row], list[Row]] = ([], [], [])
    for row in rows:
        parts[_part(fingerprint(row.text), 50, 0)].append(row)
    return parts[0], parts[1]


def _part(mark: str, validation_percent: int, test_percent: int) -> int:
    bucket = int.from_bytes(hashlib.blake2b(mark.encode(), digest_size=4).digest()) % 100
    if bucket < validation_percent:
        return 1
    return 2 if bucket >= 100 - test_percent else 0


def _without(rows: list[Row], others: Iterable[Row]) -> list[Row]:
    close = {b for _, b in near_duplicates((row.text for row in others), (row.text for row in rows))}
    return [row for row in rows if row.text not in close]
