"""Pure text cleaning, the same for training and serving, and what script a text is written in.

A model is only as good as the likeness of what it is served to what it was trained on, so the
version of these rules is stored with every artifact: an engine refuses one made under other rules.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final

CLEANING_VERSION: Final = 1
HEAD_CHARS: Final = 2_000
TAIL_CHARS: Final = 1_000

_URL = re.compile(r"(?:https?://|www\.)\S+", re.IGNORECASE)
_MENTION = re.compile(r"(?<![\w@])@\w[\w.]*")
_APOSTROPHES = re.compile("[\u2018\u2019\u02bb\u02bc\u0060\u00b4]")
_STRETCH = re.compile(r"(\D)\1{3,}")
_SPACES = re.compile(r"\s+")
_INVISIBLE = re.compile(
    "[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\xad\u200b\u200c\u200e\u200f\u202a-\u202e"
    "\u2060-\u2064\u2066-\u2069\ufeff\ufffd\ud800-\udfff]"
)
_LATIN = re.compile("[A-Za-z\u00aa\u00ba\u00c0-\u024f\u1e00-\u1eff]")
_CYRILLIC = re.compile("[\u0400-\u052f]")
_LETTER = re.compile(r"[^\W\d_]")
_TWO_LETTERS = re.compile(r"[^\W\d_].*?[^\W\d_]")
_PICTURE = re.compile(
    "[\u2190-\u21ff\u2300-\u27bf\u2b00-\u2bff\U0001f000-\U0001faff]"  # arrows, symbols, emoji
    r"|(?<!\w)[:;=8xX]['-]?[()DPpOo3/\\*]|\){2,}"  # emoticons; Russian smiles are bare brackets
)


def clean(text: str) -> str:
    """`text` as the model reads it: one line, at most HEAD_CHARS + TAIL_CHARS + 1 characters.

    Invisible and control characters and lone surrogates go; links become `http`, mentions `@user`;
    every apostrophe (ʻ ʼ ‘ ’ ` ´) becomes `'`, because Uzbek keyboards differ; a character repeated
    four times or more is cut to three. Of a longer text the beginning and the end stay: reviews put
    their verdict in either. Never raises; may return an empty string.
    """
    if len(text) > HEAD_CHARS + TAIL_CHARS:
        text = f"{text[:HEAD_CHARS]} {text[-TAIL_CHARS:]}"
    if not text.isascii():
        text = _APOSTROPHES.sub("'", unicodedata.normalize("NFC", _INVISIBLE.sub("", text)))
    elif not text.isprintable():
        text = _INVISIBLE.sub("", text)
    text = text.replace("`", "'")
    if "@" in text:
        text = _MENTION.sub("@user", text)
    if "http" in text or "www" in text or "HTTP" in text:
        text = _URL.sub("http", text)
    return _SPACES.sub(" ", _STRETCH.sub(r"\1\1\1", text)).strip()


def script(text: str) -> str:
    """ISO 15924 code of the script that most letters are in: Latn, Cyrl, Zzzz for any other, Zyyy for none."""
    if text.isascii():
        return "Latn" if _LATIN.search(text) else "Zyyy"
    latin, cyrillic = len(_LATIN.findall(text)), len(_CYRILLIC.findall(text))
    other = len(_LETTER.findall(text)) - latin - cyrillic
    if max(latin, cyrillic, other) <= 0:
        return "Zyyy"
    if other > max(latin, cyrillic):
        return "Zzzz"
    return "Cyrl" if cyrillic > latin else "Latn"


def has_picture(text: str) -> bool:
    """Whether emoji, arrows or emoticons are in the text: without letters they still carry sentiment."""
    return _PICTURE.search(text) is not None


def is_readable(text: str) -> bool:
    """Whether a cleaned text says anything: two letters or more, or a picture."""
    return _TWO_LETTERS.search(text) is not None or has_picture(text)
