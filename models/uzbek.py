"""Uzbek in its two scripts: Latin → Cyrillic by the 1995 alphabet's correspondences."""

from __future__ import annotations

import re
from typing import Final

_DIGRAPHS: Final = {
    "o'": "ў",
    "g'": "ғ",
    "sh": "ш",
    "ch": "ч",
    "yo": "ё",
    "yu": "ю",
    "ya": "я",
    "ye": "е",
    "ts": "ц",
}
_LETTERS: Final = dict(zip("abdefghijklmnopqrstuvxyz'", "абдэфгҳижклмнопқрстувхйзъ", strict=True)) | {
    "c": "с",
    "w": "в",
}
_TOKEN = re.compile(r"http|@user|[oO]'|[gG]'|[sS][hH]|[cC][hH]|[yY][oOuUaAeE]|[A-Za-z']")


def to_cyrillic(text: str) -> str:
    """Latin Uzbek with `'` apostrophes (as `preprocess.clean` leaves it) written in Cyrillic letters.

    `e` is `э` only at the start of a word; `yo'` is `йў`, not `ёъ`. Links and mentions stay. Loan words
    with `ts` (abzats) keep two letters, since Latin Uzbek writes both `с` and `ц` so.
    """
    out: list[str] = []
    previous_end = 0
    position = 0
    while match := _TOKEN.search(text, position):
        start, token = match.start(), match.group()
        out.append(text[previous_end:start])
        low = token.lower()
        if low in ("http", "@user"):
            letter = token
        else:
            if low == "yo" and text[match.end() : match.end() + 1] == "'":
                token, low = token[0], "y"
            at_word_start = start == 0 or not (text[start - 1].isalpha() or text[start - 1] == "'")
            letter = _DIGRAPHS.get(low) or _LETTERS[low]
            if low == "e" and not at_word_start:
                letter = "е"
            if low == "'" and (at_word_start or not text[match.end() : match.end() + 1].isalpha()):
                letter = "'"
            if token[0].isupper():
                letter = letter.upper()
        out.append(letter)
        previous_end = position = start + len(token)
    out.append(text[previous_end:])
    return "".join(out)
