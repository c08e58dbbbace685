"""Labelled texts of a user's own, from JSON lines or CSV, and every fault in them with its line."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from models import corpus, preprocess
from models.classifier import SENTIMENTS, TOPICS, UNKNOWN_LANGUAGE, ModelError
from models.corpus import LANGUAGES, Row

FIELDS: Final = ("text", "language", "source", "sentiment", "topics", "urgent")
_ALIASES: Final = {"lang": "language", "topic": "topics", "label": "sentiment", "urgency": "urgent"}
_SHOWN: Final = 20
_YES_NO: Final = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}


@dataclass(frozen=True, slots=True, kw_only=True)
class Labelled:
    """What could be read, and what is wrong with the rest: `FILE:LINE: key: reason`."""

    rows: tuple[Row, ...]
    faults: tuple[str, ...]


class _Wrong(ValueError):
    """What a field should have been."""


def read(path: Path, topics: Collection[str]) -> Labelled:
    """Rows of a `.jsonl` or `.csv` file (or either with `.gz`), or of a folder as `models/sentences/train`.

    Fields: `text`; `sentiment`, `topics` (a list, or with commas) and `urgent`, of which a row needs one;
    `language` and `source` where known. `topics`: what the model can say. ModelError when there is no such file.
    """
    if path.is_dir():
        return Labelled(rows=tuple(corpus.sentences(path)), faults=())
    rows: list[Row] = []
    faults: list[str] = []
    for line, record in _records(path):
        if isinstance(record, str):
            faults.append(f"{path}:{line}: {record}")
            continue
        try:
            rows.append(_row(record, path.name.partition(".")[0], topics))
        except _Wrong as wrong:
            faults.append(f"{path}:{line}: {wrong}")
    return Labelled(rows=tuple(rows), faults=tuple(faults))


def learnable(path: Path) -> Iterator[Row]:
    """Rows that a model can learn from: labels of our taxonomy, languages that the vocabulary holds.

    ModelError with the first faults when there is any.
    """
    found = read(path, TOPICS)
    if found.faults:
        more = [f"… and {len(found.faults) - _SHOWN} more"] if len(found.faults) > _SHOWN else []
        raise ModelError("\n".join([*found.faults[:_SHOWN], *more]))
    yield from (row for row in found.rows if row.language in LANGUAGES)


def _records(path: Path) -> Iterator[tuple[int, Mapping[str, Any] | str]]:
    """Line and record, or what is wrong with the line."""
    try:
        raw = path.read_bytes()
        text = (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode("utf-8-sig")
    except UnicodeDecodeError as fault:
        raise ModelError(f"{path}: found bytes that are no UTF-8 at position {fault.start}; save it as UTF-8") from None
    except (EOFError, gzip.BadGzipFile) as fault:
        raise ModelError(f"{path}: cannot be unpacked ({fault})") from None
    kind = path.name.removesuffix(".gz").rpartition(".")[2]
    if kind == "csv":
        reader = csv.DictReader(io.StringIO(text, newline=""))
        for record in reader:
            extra = record.pop(None, None)  # columns without a name
            yield reader.line_num, "has more columns than the first line" if extra else record
    elif kind in ("jsonl", "ndjson", "json"):
        for number, line in enumerate(text.split("\n"), start=1):
            if line.strip():
                try:
                    found = json.loads(line)
                except (ValueError, RecursionError) as fault:
                    found = f"is not JSON ({fault})"
                else:
                    found = found if isinstance(found, dict) else "must be a JSON object, such as {\"text\": \"…\"}"
                yield number, found
    else:
        raise ModelError(f"{path}: expected .jsonl or .csv, either with .gz too, or a folder of .tsv files")


def _row(record: Mapping[str, Any], source: str, topics: Collection[str]) -> Row:
    known = {_ALIASES.get(key, key): value for key, value in record.items() if value not in (None, "")}
    text = known.get("text")
    if not isinstance(text, str) or not text.strip():
        raise _Wrong(f"text: must be what a customer wrote; is {_shown(text)}")
    row = Row(
        text=preprocess.clean(text),
        language=_language(known.get("language")),
        source=str(known.get("source", source))[:63],
        sentiment=_sentiment(known.get("sentiment")),
        topics=_topics(known.get("topics"), topics),
        urgent=_urgent(known.get("urgent")),
    )
    if row.sentiment is None and row.topics is None and row.urgent is None:
        raise _Wrong(f"has no label: needs sentiment, topics or urgent; has {', '.join(known)}")
    return row


def _language(value: object) -> str:
    """One of ours for a BCP 47 tag such as `en-GB` or `uz_Cyrl`; `und` for every other."""
    if not isinstance(value, str):
        return UNKNOWN_LANGUAGE
    parts = value.replace("_", "-").lower().split("-")
    if parts[0] == "uzc" or (parts[0] == "uz" and "cyrl" in parts):
        return "uz-Cyrl"
    return parts[0] if parts[0] in LANGUAGES else UNKNOWN_LANGUAGE


def _sentiment(value: object) -> int | None:
    if value is None:
        return None
    if not isinstance(value, str) or value.strip().lower() not in SENTIMENTS:
        raise _Wrong(f"sentiment: must be {', '.join(SENTIMENTS)}; is {_shown(value)}")
    return SENTIMENTS.index(value.strip().lower())


def _topics(value: object, known: Collection[str]) -> frozenset[str] | None:
    if value is None:
        return None
    named = value.split(",") if isinstance(value, str) else value
    if not isinstance(named, list) or not named or not all(isinstance(name, str) for name in named):
        raise _Wrong(f"topics: must be a topic, several with commas, or a list; is {_shown(value)}")
    found = frozenset(name.strip() for name in named)
    for name in sorted(found - set(known)):
        raise _Wrong(f"topics: {_shown(name)} is no topic of the model; its topics are {', '.join(known)}")
    return found


def _urgent(value: object) -> bool | None:
    if value is None or isinstance(value, bool):
        return value
    found = _YES_NO.get(str(value).strip().lower())
    if found is None:
        raise _Wrong(f"urgent: must be true or false; is {_shown(value)}")
    return found


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:39] + "…"
