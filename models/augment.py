"""The same sentence as other people would have typed it."""

from __future__ import annotations

import random
import re
import unicodedata
from dataclasses import replace
from typing import Final

from models.corpus import Row, in_cyrillic

_PUNCTUATION = re.compile(r"[.,!?;:…\"«»()]+")
_FOLDED: Final = ("tr", "de", "es", "fr", "it", "pt")
_RUSSIAN_KEYS: Final = str.maketrans("ўқғҳЎҚҒҲ", "укгхУКГХ")
_DOTLESS: Final = str.maketrans("ıİ", "iI")


def vary(row: Row, chance: random.Random) -> Row:
    """`row`, sometimes changed: Uzbek moved to Cyrillic (40 %) or without its apostrophes, Cyrillic Uzbek on
    a Russian keyboard, Latin letters without their marks, all in lower case, without punctuation, or with
    one typing slip."""
    text = row.text
    if row.language == "uz":
        if chance.random() < 0.4:
            row = in_cyrillic(row)
            text = row.text
        elif chance.random() < 0.15:
            text = text.replace("'", "")
    if row.language == "uz-Cyrl" and chance.random() < 0.15:
        text = text.translate(_RUSSIAN_KEYS)
    if row.language in _FOLDED and chance.random() < 0.1:
        text = without_marks(text)
    if chance.random() < 0.1:
        text = text.lower()
    if chance.random() < 0.07:
        text = _PUNCTUATION.sub("", text)
    if chance.random() < 0.1:
        text = slip(text, chance)
    return replace(row, text=text) if text.strip() else row


def join(row: Row, other: Row) -> Row:
    """Both texts as one, about the topics of both: feedback is often two sentences, of one mood.

    `row` itself when both are the same, or topics are known of one of them only.
    """
    if row.text == other.text or (row.topics is None) != (other.topics is None):
        return row
    return replace(
        row,
        text=f"{row.text} {other.text}",
        topics=None if row.topics is None else row.topics | (other.topics or frozenset()),
        urgent=None if row.urgent is None else row.urgent or bool(other.urgent),
        lesson=None,
    )


def without_marks(text: str) -> str:
    """`şikayet` as `sikayet`: what a keyboard without the language's letters gives."""
    decomposed = unicodedata.normalize("NFD", text.translate(_DOTLESS))
    return "".join(c for c in decomposed if not unicodedata.combining(c))


def slip(text: str, chance: random.Random) -> str:
    """One letter left out, doubled, or swapped with its neighbour."""
    if len(text) < 8:
        return text
    at = chance.randrange(1, len(text) - 1)
    if not (text[at].isalpha() and text[at + 1].isalpha()):
        return text
    changed = chance.choice((text[at + 1], text[at] * 2 + text[at + 1], text[at + 1] + text[at]))
    return text[:at] + changed + text[at + 2 :]
