"""Files of feedback as items: JSONL or CSV, plain or gzip, in bounded memory whatever they hold."""

from __future__ import annotations

import csv
import io
import json
import zlib
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, Final

import orjson

MAX_LINE_BYTES: Final = 1_048_576
KEPT_BYTES: Final = 500_000
_COMPRESSED_BYTES: Final = 16_384
_GZIP: Final = b"\x1f\x8b"
_DELIMITERS: Final = (",", ";", "\t", "|")


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One decoded line (or CSV record): its number from 1, its bytes, and the object in it."""

    line: int
    payload: bytes
    value: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Unreadable:
    """A line without an item. `payload` is cut to KEPT_BYTES; `reason` is a word, `detail` a sentence."""

    line: int
    payload: bytes
    reason: str
    detail: str


class SourceError(RuntimeError):
    """The file cannot be read on: damaged compression, or no header; says where and why."""


def opened(raw: io.BufferedReader) -> BinaryIO:
    """The stream itself, or what is in it if it is gzip; told by its first bytes."""
    if raw.peek(2)[:2] == _GZIP:
        return io.BufferedReader(_Gunzip(raw), 262_144)
    return raw


def items(
    stream: BinaryIO, *, csv_file: bool | None = None, delimiter: str | None = None
) -> Iterator[Item | Unreadable]:
    """Everything in a stream, in order. `csv_file` None: told by the first line. Raises SourceError."""
    lines = _Lines(stream)
    first = lines.peek()
    if first is None:
        return
    if csv_file is None:
        csv_file = first.lstrip(b"\xef\xbb\xbf \t")[:1] not in (b"{", b"[", b"") and sniff(first) is not None
    if csv_file:
        yield from _csv(lines, delimiter)
    else:
        yield from _json(lines)


def sniff(header: bytes) -> str | None:
    """The delimiter of a CSV header: the one that stands in it most often, outside quotes."""
    text = header.decode("utf-8", "replace")
    if not text.isprintable() and not text.replace("\t", "").strip().isprintable():
        return None
    outside = "".join(text.split('"')[::2])
    best = max(_DELIMITERS, key=outside.count)
    return best if best in outside else None


class _Gunzip(io.RawIOBase):
    """Decompresses as much as is asked for; of a cut file it gives everything up to the cut before it fails."""

    def __init__(self, raw: io.BufferedReader) -> None:
        self._raw = raw
        self._member = zlib.decompressobj(31)
        self._rest = b""

    def readable(self) -> bool:
        """True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill a part of the buffer. Raises EOFError and zlib.error for damaged data."""
        while True:
            if self._member.eof:
                self._rest = self._member.unused_data or self._raw.read(_COMPRESSED_BYTES)
                if not self._rest.strip(b"\0"):
                    return 0
                self._member = zlib.decompressobj(31)
            self._rest = self._rest or self._raw.read(_COMPRESSED_BYTES)
            if not self._rest:
                raise EOFError("it ends in the middle")
            out = self._member.decompress(self._rest, len(buffer))
            self._rest = self._member.unconsumed_tail
            if out:
                buffer[: len(out)] = out
                return len(out)


class _Lines:
    """Numbered lines without their ends, each at most MAX_LINE_BYTES + 1 long; some may be given back."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._waiting: deque[tuple[int, bytes]] = deque()
        self._number = 0

    def peek(self) -> bytes | None:
        """The next line, left where it is."""
        line = self.take()
        if line is not None:
            self.give_back([line])
        return None if line is None else line[1]

    def take(self) -> tuple[int, bytes] | None:
        """The next line and its number, None at the end. Raises SourceError."""
        if self._waiting:
            return self._waiting.popleft()
        try:
            line = self._stream.readline(MAX_LINE_BYTES + 2)
            if not line:
                return None
            self._number += 1
            if not line.endswith(b"\n") and len(line) > MAX_LINE_BYTES:
                rest = line
                while rest and not rest.endswith(b"\n"):
                    rest = self._stream.readline(MAX_LINE_BYTES)
        except (EOFError, zlib.error) as error:
            raise SourceError(f"the gzip data is damaged after line {self._number}: {error}") from error
        return self._number, line.removesuffix(b"\n").removesuffix(b"\r")

    def give_back(self, lines: list[tuple[int, bytes]]) -> None:
        """Put lines back, so that they are taken next."""
        self._waiting.extendleft(reversed(lines))


def _json(lines: _Lines) -> Iterator[Item | Unreadable]:
    while (taken := lines.take()) is not None:
        number, line = taken
        if number == 1:
            line = line.removeprefix(b"\xef\xbb\xbf")
        if not line.strip():
            continue
        bad = _unreadable_bytes(number, line)
        if bad is not None:
            yield bad
            continue
        try:
            yield Item(line=number, payload=line, value=orjson.loads(line))
        except orjson.JSONDecodeError as error:
            yield _json_leniently(number, line, str(error))


def _json_leniently(number: int, line: bytes, reason: str) -> Item | Unreadable:
    """What orjson refuses but other writers emit: lone surrogates, numbers beyond 64 bits. NaN stays out."""

    def refuse(name: str) -> float:
        raise ValueError(f"{name} is not JSON")

    try:
        return Item(line=number, payload=line, value=json.loads(line, parse_constant=refuse))
    except (ValueError, RecursionError):
        return Unreadable(line=number, payload=line[:KEPT_BYTES], reason="json", detail=f"is not JSON: {reason}")


def _csv(lines: _Lines, delimiter: str | None) -> Iterator[Item | Unreadable]:
    header_line = lines.peek() or b""
    delimiter = delimiter or sniff(header_line) or ","
    feed = _Feed(lines)
    reader = csv.reader(feed, delimiter=delimiter, strict=True)
    try:
        header = [name.strip().removeprefix("\ufeff") for name in next(reader)]
    except (csv.Error, StopIteration) as error:
        raise SourceError(f"line 1 is no CSV header: {error}") from error
    if "" in header or len(set(header)) < len(header):
        raise SourceError(f"line 1 is no CSV header: a name is empty or stands twice: {', '.join(header)[:200]}")
    while True:
        feed.used.clear()
        wrong = ""
        row: list[str] = []
        try:
            row = next(reader)
            if row and len(row) != len(header):
                wrong = f"has {len(row)} fields, the header has {len(header)}"
        except StopIteration:
            return
        except csv.Error as error:
            wrong = f"is not CSV: {error}"
        used = feed.used[:]
        if wrong and len(used) > 1:
            # A quote that was never closed swallows its neighbours: only the first line is at fault.
            lines.give_back(used[1:])
            used = used[:1]
        number, payload = used[0][0], b"\n".join(line for _, line in used)
        bad = next((found for n, line in used if (found := _unreadable_bytes(n, line))), None)
        if bad is not None:
            yield bad
        elif wrong:
            yield Unreadable(line=number, payload=payload[:KEPT_BYTES], reason="csv", detail=wrong)
        elif row:
            value = {name: text for name, text in zip(header, row, strict=True) if text.strip()}
            yield Item(line=number, payload=payload, value=value)


class _Feed:
    """Gives csv.reader one line after the other and remembers which it has had."""

    def __init__(self, lines: _Lines) -> None:
        self._lines = lines
        self.used: list[tuple[int, bytes]] = []

    def __iter__(self) -> _Feed:
        return self

    def __next__(self) -> str:
        taken = self._lines.take()
        if taken is None:
            raise StopIteration
        self.used.append(taken)
        return taken[1].decode("utf-8", "replace") + "\n"


def _unreadable_bytes(number: int, line: bytes) -> Unreadable | None:
    if len(line) > MAX_LINE_BYTES:
        detail = f"is longer than {MAX_LINE_BYTES:,} bytes; the first {KEPT_BYTES:,} are kept"
        return Unreadable(line=number, payload=line[:KEPT_BYTES], reason="too_long", detail=detail)
    try:
        line.decode()
    except UnicodeDecodeError as error:
        detail = f"is not UTF-8: byte 0x{line[error.start]:02x} at position {error.start}"
        return Unreadable(line=number, payload=line[:KEPT_BYTES], reason="encoding", detail=detail)
    return None
