"""`ovoz classify`: texts in, one JSON object a line out."""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from pipeline.cli.shared import DONE, command, settings_of

if TYPE_CHECKING:
    from models.classifier import Prediction

MAX_LINE_BYTES: Final = 1_048_576
FIRST_BATCH: Final = 32
LARGEST_BATCH: Final = 4096
FLUSH_AFTER_S: Final = 0.2
_AHEAD_BLOCKS: Final = 8
_BLOCK_BYTES: Final = 262_144


@command("classify", short_help="Score texts on the terminal.")
@click.argument("texts", nargs=-1, metavar="[TEXT…|-]")
def classify(texts: tuple[str, ...], config: Path | None) -> int:
    """Score each TEXT, or each line of standard input (-, or no TEXT at all); one JSON object a line out.

    A line is plain text, a JSON string, or a JSON object with "text" and, if known, "language". Bytes that
    are no UTF-8 are replaced; every line has an answer, an empty one too, in order. A line longer than
    1 MiB is cut. "label" is what the text counts as: negative, neutral, positive, or unsure where none of them
    is probable enough in that language. Answers come after 0.2 s at the latest, without waiting for the end of
    the input.

    \b
    Example:
        ovoz classify "The courier never came" "Зўр хизмат, раҳмат!"
        ovoz classify - < texts.txt > scores.jsonl
        {"text":"…","label":"negative","sentiment":{"negative":0.97,"neutral":0.02,"positive":0.01},"score":-0.96,
         "topics":{"delivery":0.98,…},"language":"en","model":"name@hash"}
    """
    from pipeline.model import classifier_of

    model = classifier_of(settings_of(config).model)
    if texts and texts != ("-",):
        known = [text.encode("utf-8", "surrogateescape").decode("utf-8", "replace") for text in texts]
        _write(known, model.classify(known))
        return DONE
    with ThreadPoolExecutor(1, "write") as writer:  # writes answers while the next batch is classified
        written = None
        for batch in batches(sys.stdin.fileno()):
            items = [read_line(line) for line in batch]
            known = [text for text, _ in items]
            stated = [language for _, language in items]
            predictions = model.classify(known, stated if any(stated) else [])
            if written:
                written.result()
            written = writer.submit(_write, known, predictions)
        if written:
            written.result()
    return DONE


def read_line(line: bytes) -> tuple[str, str | None]:
    """The text of one line and the language it states, if any; never fails."""
    text = line.decode("utf-8", "replace")
    if text[:1] in ("{", '"') or text.lstrip()[:1] in ("{", '"'):
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            return text, None
        if isinstance(value, str):
            return _whole(value), None
        if isinstance(value, dict) and isinstance(value.get("text"), str):
            language = value.get("language")
            return _whole(value["text"]), language if isinstance(language, str) and language.isascii() else None
    return text, None


def answer(text: str, prediction: Prediction) -> dict[str, Any]:
    """What is printed of one text."""
    negative, neutral, positive = prediction.sentiment
    said: dict[str, Any] = {
        "text": text,
        "label": prediction.label,
        "sentiment": {"negative": negative, "neutral": neutral, "positive": positive},
        "score": prediction.score,
        "topics": dict(prediction.topics),
        "language": prediction.language,
        "model": prediction.model,
    }
    if prediction.urgency is not None:
        said["urgency"] = prediction.urgency
    return said


def batches(descriptor: int) -> Iterator[list[bytes]]:
    """Lines of a file descriptor in batches, read ahead by a thread.

    A batch ends when it is full, or FLUSH_AFTER_S after its first line. The first is small, so that an
    answer comes early; they grow to the size that suits the model.
    """
    blocks: queue.Queue[list[bytes] | None] = queue.Queue(_AHEAD_BLOCKS)

    def read() -> None:
        try:
            for lines in _blocks(descriptor):
                blocks.put(lines)
        finally:
            blocks.put(None)

    threading.Thread(target=read, name="read-ahead", daemon=True).start()
    waiting: list[bytes] = []
    size, deadline, ended = FIRST_BATCH, 0.0, False
    while not ended or waiting:
        while not ended and len(waiting) < size:
            try:
                block = blocks.get(timeout=max(0.0, deadline - time.monotonic()) if waiting else None)
            except queue.Empty:
                break
            if block is None:
                ended = True
            else:
                if not waiting:
                    deadline = time.monotonic() + FLUSH_AFTER_S
                waiting += block
        if waiting:
            yield waiting[:size]
            del waiting[:size]
            deadline = time.monotonic() + FLUSH_AFTER_S
            size = min(size * 4, LARGEST_BATCH)


def _blocks(descriptor: int) -> Iterator[list[bytes]]:
    """Whole lines as they come, each cut to MAX_LINE_BYTES; the last may lack its line end."""
    rest, cut = b"", False
    while chunk := os.read(descriptor, _BLOCK_BYTES):
        *lines, last = (rest + chunk if not cut else rest + chunk[_line_end(chunk) :]).split(b"\n")
        cut = cut and not lines
        rest = last
        if len(rest) > MAX_LINE_BYTES:
            rest, cut = rest[:MAX_LINE_BYTES], True
        if lines:
            yield [line[:MAX_LINE_BYTES].removesuffix(b"\r") for line in lines]
    if rest:
        yield [rest.removesuffix(b"\r")]


def _line_end(chunk: bytes) -> int:
    """Where the line that began before this chunk ends: its `\\n`, or the chunk's end."""
    at = chunk.find(b"\n")
    return len(chunk) if at < 0 else at


def _write(texts: Sequence[str], predictions: Sequence[Prediction]) -> None:
    import orjson

    out = sys.stdout.buffer
    out.write(
        b"".join(
            orjson.dumps(answer(text, prediction), option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_SERIALIZE_NUMPY)
            for text, prediction in zip(texts, predictions, strict=True)
        )
    )
    out.flush()


def _whole(text: str) -> str:
    """Text without lone surrogates, which no JSON could carry."""
    return text.encode("utf-8", "replace").decode() if not text.isascii() else text
