"""Rows of a file from a place on: JSONL, CSV and Parquet, plain or gzip. Reads a bounded piece at a time."""

from __future__ import annotations

import csv
import gzip
import json
import zlib
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

from connectors.connector import Permanent

SUFFIXES: Final = (".jsonl", ".ndjson", ".csv", ".parquet", ".jsonl.gz", ".ndjson.gz", ".csv.gz")
MAX_LINE: Final = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row: `record`, or None with the `fault` and the bytes that could not be read. `place`: where to go
    on after it — a byte offset in plain JSONL, a number of rows elsewhere. `number` counts from 1 at the
    place where reading began."""

    record: Any
    place: int
    number: int
    fault: str = ""
    raw: bytes = b""


def rows(path: Path, place: int, *, whole: bool) -> Generator[Row, None, None]:
    """Rows after `place`. A last line without a line end is read only when `whole`: it may still be written.

    Of a damaged file what comes before the damage is read, and the rest is one fault. Raises Permanent for a
    Parquet file without pyarrow, OSError when the file cannot be read.
    """
    reached = place
    try:
        for row in _rows(path, place, whole=whole):
            reached = row.place
            yield row
    except (EOFError, gzip.BadGzipFile, zlib.error, ValueError) as error:
        fault = f"damaged from here on: {error}"
        yield Row(record=None, place=reached + 1, number=reached + 1, fault=fault)


def _rows(path: Path, place: int, *, whole: bool) -> Iterator[Row]:
    name = path.name.lower()
    if name.endswith(".parquet"):
        yield from _parquet(path, place)
    elif name.endswith((".csv", ".csv.gz")):
        yield from _csv(path, place, whole=whole)
    elif name.endswith(".gz"):
        with gzip.open(path, "rb") as lines:
            for number, (line, _) in enumerate(_lines(lines, whole=True), start=1):
                if number > place:
                    yield _json(line, number, number)
    else:
        with path.open("rb") as lines:
            lines.seek(place)
            for number, (line, size) in enumerate(_lines(lines, whole=whole), start=1):
                place += size
                yield _json(line, place, number)


def _lines(source: IO[bytes] | gzip.GzipFile, *, whole: bool) -> Iterator[tuple[bytes, int]]:
    """(the line, at most MAX_LINE + 1 bytes of it; how many bytes it takes in the file)."""
    while line := source.readline(MAX_LINE + 1):
        size, ended = len(line), line.endswith(b"\n")
        while not ended and (more := source.readline(MAX_LINE)):
            size, ended = size + len(more), more.endswith(b"\n")
        if not ended and not whole:
            return
        yield line, size


def _json(line: bytes, place: int, number: int) -> Row:
    if not line.strip():
        return Row(record=None, place=place, number=number)
    if len(line) > MAX_LINE:
        return Row(record=None, place=place, number=number, fault=f"longer than {MAX_LINE} bytes", raw=line)
    try:
        return Row(record=json.loads(line.decode("utf-8-sig")), place=place, number=number)
    except (ValueError, RecursionError) as error:
        return Row(record=None, place=place, number=number, fault=f"no JSON in UTF-8: {error}", raw=line)


def _csv(path: Path, place: int, *, whole: bool) -> Iterator[Row]:
    text = _text(path)
    with text:
        reader = csv.reader(_complete(text, whole=whole), strict=True)
        try:
            header = next(reader)
        except (StopIteration, csv.Error, UnicodeDecodeError):
            return
        number = 0
        while True:
            number += 1
            try:
                cells = next(reader)
            except StopIteration:
                return
            except (csv.Error, UnicodeDecodeError) as error:
                yield Row(record=None, place=number, number=number, fault=f"no CSV in UTF-8: {error}")
                if isinstance(error, UnicodeDecodeError):
                    return
                continue
            if number <= place or not cells:
                continue
            if len(cells) != len(header):
                fault = f"{len(cells)} cells under {len(header)} columns"
                raw = ",".join(cells).encode("utf-8", "replace")
                yield Row(record=None, place=number, number=number, fault=fault, raw=raw)
            else:
                yield Row(record=dict(zip(header, cells, strict=True)), place=number, number=number)


def _text(path: Path) -> IO[str]:
    if path.name.lower().endswith(".gz"):
        return gzip.open(path, "rt", encoding="utf-8-sig", errors="replace", newline="")
    return path.open("r", encoding="utf-8-sig", errors="replace", newline="")


def _complete(text: IO[str], *, whole: bool) -> Iterator[str]:
    for line in text:
        if not whole and not line.endswith(("\n", "\r")):
            return
        yield line


def _parquet(path: Path, place: int) -> Iterator[Row]:
    try:
        from pyarrow import parquet
    except ImportError:
        raise Permanent(f"{path.name} is a Parquet file: pip install 'ovoz[parquet]' to read it") from None
    number = 0
    with parquet.ParquetFile(path) as file:
        for batch in file.iter_batches(1_000):
            for record in batch.slice(max(0, place - number)).to_pylist() if number + batch.num_rows > place else ():
                place += 1
                yield Row(record=record, place=place, number=place)
            number += batch.num_rows
