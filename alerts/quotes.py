"""What customers said, made fit for an alert: clean, short, told once, harmless in any channel."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from alerts.alert import Quote, Sample

MAX_CHARS: Final = 280
KEPT: Final = 8  # held per series: more than an alert shows, so that some may be erased

# Control characters, lone surrogates, and the marks that reorder or hide text. The joiners U+200C and
# U+200D stay: emoji and several scripts need them.
_HIDDEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\u00ad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufeff\ufff9-\uffff]+"
)
_SPACES = re.compile(r"\s+")
_WORD = re.compile(r"[^\W\d_]+")
# What the intake should have taken out already: addresses, and numbers long enough for a card or a telephone.
_ADDRESS = re.compile(r"[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{2,63})+")
_DIGIT = re.compile(r"\d")
_NUMBER = re.compile(r"(?<!\w)\+?\d(?:[ ().-]{0,2}\d){8,18}(?!\w)")
# The last three are full stops too: browsers take a name with them for the name with dots.
_LINK = re.compile(r"(?<=\w)[.:\u3002\uff0e\uff61](?=[\w/])|\](?=\()")
_HARMLESS = str.maketrans({"<": "‹", ">": "›", "&": "＆", "@": "@\u200b", "`": "'", "\\": "＼"})
_BREAK = "\u200b"  # zero-width space: invisible to a reader, ends a mention or a link for a program


def clean(text: str, limit: int = MAX_CHARS) -> str:
    """One line without control characters or lone surrogates, at most `limit` characters."""
    if len(text) <= limit and text.isprintable() and "  " not in text:
        return text.strip()
    # Only what can survive is looked at: the text may be 10,000 characters long.
    text = _SPACES.sub(" ", _HIDDEN.sub(" ", text[: 4 * limit])).strip()
    return text if len(text) <= limit else text[: limit - 1].rstrip() + "…"


def harmless(text: str) -> str:
    """The same to a reader, nothing to a program: no HTML, no mention, no link, no code.

    Slack reads `<!channel>`, Discord and Telegram `@everyone`, most chats turn `http://…` and even
    `name.com` into links, mail shows HTML. The text of a customer must do none of this.
    """
    return _LINK.sub(rf"\g<0>{_BREAK}", text.translate(_HARMLESS))


@lru_cache(maxsize=4096)
def _words(text: str) -> frozenset[str]:
    return frozenset(_WORD.findall(text.casefold())) or frozenset((text,))


def alike(one: str, other: str) -> bool:
    """Whether two texts share four fifths of their words, whatever numbers, case and marks they carry."""
    return _common(_words(one), _words(other))


def _common(first: frozenset[str], second: frozenset[str]) -> bool:
    one, other = len(first), len(second)
    if one < 0.8 * other or other < 0.8 * one or first.isdisjoint(second):
        return False
    both = len(first & second)
    return both >= 0.8 * (one + other - both)


def private(text: str) -> str:
    """The text without addresses of mail and without long numbers."""
    if "@" in text:
        text = _ADDRESS.sub("[address]", text)
    return _NUMBER.sub("[number]", text) if _DIGIT.search(text) else text


def pick(quotes: tuple[Quote, ...], limit: int) -> tuple[Quote, ...]:
    """The quotes to show, newest first: one of each source and language before a second of any."""
    newest = quotes[::-1]
    firsts = list({(one.source, one.language): one for one in quotes}.values())[::-1]
    chosen = {one.feedback_id for one in [*firsts, *(one for one in newest if one not in firsts)][:limit]}
    return tuple(one for one in newest if one.feedback_id in chosen)


def quote(sample: Sample) -> Quote:
    """What an alert may show of a sample."""
    return Quote(
        feedback_id=clean(sample.feedback_id, 600),
        source=_label(sample.source, 64),
        language=_label(sample.language, 35),
        at=sample.at,
        text=_shown(sample.text),
    )


_label = lru_cache(maxsize=1024)(clean)


@lru_cache(maxsize=256)
def _shown(text: str) -> str:
    return clean(private(text[: 4 * MAX_CHARS]))


def remember(quotes: tuple[Quote, ...], sample: Sample) -> tuple[Quote, ...]:
    """The newest quotes, oldest first, with `sample` among them; a repost takes its forerunner's place."""
    new = quote(sample)
    if not new.text:
        return quotes
    if not quotes:
        return (new,)
    words, name = _words(new.text), new.feedback_id
    kept = [one for one in quotes if one.feedback_id != name and not _common(words, _words(one.text))]
    return (*kept, new)[-KEPT:]
