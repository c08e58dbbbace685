"""Hostile bodies by name: what the world sends by mistake or on purpose. All are meant as JSON."""

from __future__ import annotations

import gzip
import json

GOOD = {"source": "good", "id": "neighbour", "text": "kept"}


def _item(**fields: object) -> bytes:
    return json.dumps({"source": "hostile", "id": "1", **fields}).encode()


def _raw(field: str, value: bytes) -> bytes:
    return b'{"source":"hostile","id":"1","' + field.encode() + b'":' + value + b"}"


ITEMS: dict[str, bytes] = {
    "broken UTF-8 in the text": _raw("text", b'"\xff\xfe\xc3("'),
    "broken UTF-8 in the id": b'{"source":"hostile","id":"\xff"}',
    "NaN rating": _raw("rating", b'{"value":NaN,"max":5}'),
    "infinite rating": _raw("rating", b'{"value":-Infinity,"max":5}'),
    "float over the range": _raw("created_at", b"1e400"),
    "integer of 401 digits": _raw("version", b"1" + b"0" * 400),
    "integer of 401 digits as time": _raw("created_at", b"1" + b"0" * 400),
    "integer of 401 digits as rating": _raw("rating", b'{"value":1,"max":1' + b"0" * 400 + b"}"),
    "lone surrogates in the text": _raw("text", b'"\\ud800 \\udc00"'),
    "lone surrogate in the id": b'{"source":"hostile","id":"\\ud800"}',
    "lone surrogate in a key": b'{"source":"hostile","id":"1","\\ud800":1}',
    "right to left and zero width": _item(text="\u202eabc\u200b\u200d\u2066\u0645"),
    "NUL in the text": _item(text="a\x00b"),
    "NUL in the id": _item(id="a\x00b"),
    "line feed in the id": _item(id="a\nb"),
    "control characters in a key": _item(**{"\x00\x1b[31m": 1}),
    "year 1970": _item(created_at="1970-01-01T00:00:00Z"),
    "before 1970": _item(created_at=-1),
    "year 2262": _item(created_at="2262-04-12T00:00:00Z"),
    "year 9999": _item(created_at="9999-12-31T23:59:59-23:59"),
    "year 1": _item(created_at="0001-01-01T00:00:00+23:59"),
    "no zone": _item(created_at="2026-01-01T00:00:00"),
    "milliseconds since 1970": _item(created_at=1_769_247_000_000),
    "negative rating": _item(rating={"value": -1, "max": 5}),
    "rating without scale": _item(rating=4),
    "rating with min = max": _item(rating={"value": 5, "min": 5, "max": 5}),
    "negative version": _item(version=-1),
    "version 2^63": _item(version=2**63),
    "boolean version": _item(version=True),
    "unknown schema version": _item(v=99),
    "author as object": _item(author={"name": "x"}),
    "four thousand unknown keys": _item(**{f"k{i}": i for i in range(4000)}),
    "duplicate keys": b'{"source":"hostile","id":"1","id":"2"}',
    "text as array": _item(text=["a"]),
    "array in array": b'[{"source":"hostile","id":"1"}]',
    "null": b"null",
    "number": b"1",
    "string": b'"feedback"',
}
"""One JSON value each; each may stand in an array among good neighbours, who must not suffer."""

BODIES: dict[str, bytes] = {
    "empty": b"",
    "blank": b" \n\t ",
    "byte order mark": b"\xef\xbb\xbf" + json.dumps(GOOD).encode(),
    "UTF-16": json.dumps(GOOD).encode("utf-16"),
    "cut off": b'{"source": "hostile", "id": ',
    "two values": b"{} {}",
    "arrays 100,000 deep": b"[" * 100_000 + b"]" * 100_000,
    "objects 100,000 deep": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "100,000 items": b"[" + b",".join([b"1"] * 100_000) + b"]",
    "text of 10 MB": _item(text="x" * 10_000_000),
    "text of 900 kB": _item(text="\u0436" * 450_000),
    "NUL bytes": b"\x00" * 1000,
    **ITEMS,
}

GZIP: dict[str, tuple[bytes, int]] = {
    "bomb of 200 MB": (gzip.compress(b" " * 200_000_000, 1), 413),
    "bomb in many members": (gzip.compress(b" " * 100_000) * 100, 413),
    "cut off": (gzip.compress(json.dumps(GOOD).encode())[:-6], 400),
    "not gzip": (json.dumps(GOOD).encode(), 400),
    "garbage after it": (gzip.compress(json.dumps(GOOD).encode()) + b"garbage", 400),
    "fine": (gzip.compress(json.dumps(GOOD).encode()), 202),
}
"""Compressed bodies with the status they earn."""
