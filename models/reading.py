"""What every engine does with a text before the network, and with one that no network can read.

A text is unreadable when it has fewer than two letters and no picture (emoji, emoticon), or when most of
its pieces are outside the vocabulary: then it is unsure, its sentiment is UNREADABLE (no leaning), its
topic `other`, its urgency 0 and its language `und`. Pictures without letters get their sentiment from the
network and the topic `other`. A text in a language that is none of the model's goes through the network
as `und`, whose threshold is the strictest. Of a text longer than the token limit, the beginning and the
last TAIL_TOKENS pieces are read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tokenizers import Tokenizer

from models import artifact, preprocess
from models.backbone import UNK
from models.classifier import UNKNOWN_LANGUAGE, ModelError, Prediction
from models.language import LanguageDetector

OTHER: Final = "other"
TAIL_TOKENS: Final = 32
UNREADABLE: Final = (0.25, 0.5, 0.25)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """A cleaned text, its pieces with the marks around them, and what is known before any network."""

    text: str
    ids: list[int]
    language: str
    readable: bool
    lettered: bool


class Reader:
    """Cleaning, pieces and language, from the files of an artifact."""

    def __init__(self, folder: Path, max_tokens: int) -> None:
        """ModelError when the files cannot be read."""
        try:
            self._tokenizer = Tokenizer.from_file(str(folder / artifact.TOKENIZER))
            self._languages = LanguageDetector.load(folder / artifact.LANGUAGE)
        except Exception as fault:  # tokenizers raises bare Exception
            raise ModelError(f"{folder}: tokenizer or language table cannot be read: {fault}") from fault
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._max_tokens = max_tokens

    def read(self, texts: Sequence[str], hints: Sequence[str | None] = ()) -> list[Reading]:
        """One reading a text, in order. `hints`: what the source says of each text's language."""
        cleaned = [preprocess.clean(text) for text in texts]
        limit = self._max_tokens
        pieces = [encoding.ids for encoding in self._tokenizer.encode_batch_fast(cleaned)]
        pieces = [ids if len(ids) <= limit else ids[: limit - TAIL_TOKENS] + ids[-TAIL_TOKENS:] for ids in pieces]
        scripts = [preprocess.script(text) for text in cleaned]
        known = [2 * ids.count(UNK) < len(ids) - 2 for ids in pieces]
        languages = self._languages.detect(cleaned, pieces, scripts, hints)
        return [
            Reading(
                text=text,
                ids=ids,
                language=language if readable else UNKNOWN_LANGUAGE,
                readable=readable and preprocess.is_readable(text),
                lettered=script != "Zyyy",
            )
            for text, ids, language, readable, script in zip(cleaned, pieces, languages, known, scripts, strict=True)
        ]


def only_other(topics: Sequence[str]) -> dict[str, float]:
    """`other` for certain, everything else not at all."""
    return {topic: 1.0 if topic == OTHER else 0.0 for topic in topics}


def unread(topics: Sequence[str], model: str, urgency: float | None = 0.0) -> Prediction:
    """The answer to an unreadable text."""
    return Prediction(
        sentiment=UNREADABLE,
        topics=only_other(topics),
        language=UNKNOWN_LANGUAGE,
        model=model,
        urgency=urgency,
        unsure=True,
    )
