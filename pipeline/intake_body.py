"""Pure: the body of an intake request → what is published, what is refused, and what the sender is told."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Literal

import orjson

from connectors.feedback import MAX_ID_CHARS, Fault, Faulty, printable
from pipeline.codec import encode_feedback
from pipeline.redact import Redactor

Kind = Literal["json", "ndjson"]
Record = tuple[bytes, bytes]

MEDIA_TYPES: Final[dict[str, Kind]] = {
    "application/json": "json",
    "application/x-ndjson": "ndjson",
    "application/ndjson": "ndjson",
}
_BOM: Final = b"\xef\xbb\xbf"
_CHARSET = re.compile(r"""charset\s*=\s*"?([^\s";]+)""", re.IGNORECASE)


class Refused(Exception):
    """The request is refused as a whole: status, and for the sender a code, the cause and the remedy."""

    def __init__(
        self, status: int, code: str, cause: str, remedy: str, headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(cause)
        self.status = status
        self.code = code
        self.cause = cause
        self.remedy = remedy
        self.headers = headers or {}

    def body(self) -> dict[str, Any]:
        """The answer's JSON object."""
        return {"error": {"code": self.code, "cause": self.cause, "remedy": self.remedy}}


@dataclass(frozen=True, slots=True, kw_only=True)
class Unreadable:
    """An NDJSON line that is not JSON."""

    reason: str


@dataclass(slots=True, kw_only=True)
class Sorted:
    """Records to publish with what to call them in the answer, and what is refused; both in order."""

    records: list[Record] = field(default_factory=list)
    accepted: list[dict[str, str]] = field(default_factory=list)
    rejected: list[dict[str, Any]] = field(default_factory=list)
    fields: list[str] = field(default_factory=list)

    @property
    def size(self) -> int:
        """Bytes of all records."""
        return sum(len(key) + len(value) for key, value in self.records)


def kind_of(content_type: str | None) -> Kind:
    """How to read a body of this Content-Type. Raises Refused (415)."""
    media, _, parameters = (content_type or "").partition(";")
    kind = MEDIA_TYPES.get(media.strip().lower())
    if kind is None:
        raise Refused(
            415,
            "media_type",
            f"cannot read Content-Type {media.strip()[:100]!r}"
            if media.strip()
            else "there is no Content-Type",
            "send application/json (an object or an array) or application/x-ndjson (an object a line)",
        )
    charset = _CHARSET.search(parameters)
    if charset is not None and charset[1].lower() not in ("utf-8", "utf8", "us-ascii"):
        raise Refused(415, "charset", f"cannot read charset {charset[1][:40]!r}", "send UTF-8")
    return kind


def is_gzip(content_encoding: str | None) -> bool:
    """Whether the body is compressed with gzip. Raises Refused (415) for any other encoding."""
    encoding = (content_encoding or "identity").strip().lower()
    if encoding not in ("identity", "gzip", "x-gzip"):
        raise Refused(
            415,
            "content_encoding",
            f"cannot read Content-Encoding {encoding[:40]!r}",
            "send the body as it is, or compressed with gzip",
            {"Accept-Encoding": "gzip, identity"},
        )
    return encoding != "identity"


def too_large(limit: int) -> Refused:
    """413 for a body over `limit` bytes."""
    return Refused(
        413,
        "body_too_large",
        f"the body has more than {limit} bytes (compressed or not)",
        "send fewer items at a time, or raise [ingest] max_body_bytes",
    )


def unzip(body: bytes, limit: int) -> bytes:
    """The gzip members of `body`, decompressed one after the other; never makes more than `limit` + 1 bytes.

    Raises Refused: 413 over the limit, 400 for what is not gzip or is cut off.
    """
    out = bytearray()
    rest = body
    while rest:
        member = zlib.decompressobj(16 + zlib.MAX_WBITS)
        try:
            out += member.decompress(rest, limit + 1 - len(out))
        except zlib.error as error:
            raise _not_gzip(str(error)) from None
        if len(out) > limit:
            raise too_large(limit)
        if not member.eof:
            raise _not_gzip("it is cut off")
        rest = member.unused_data
    return bytes(out)


def items_of(body: bytes, kind: Kind, max_items: int) -> list[object]:
    """The items of a body, in order; a line that cannot be read stands as Unreadable.

    Raises Refused: 400 where nothing can be read at all, 413 for more than `max_items`.
    """
    body = body.removeprefix(_BOM)
    if not body.strip():
        raise Refused(
            400, "empty_body", "the body is empty", "send a JSON object, an array, or an object a line"
        )
    if kind == "ndjson":
        lines = [line for line in body.split(b"\n") if line.strip()]
        _bound(len(lines), max_items)
        return [_line(line) for line in lines]
    try:
        got = _loads(body)
    except ValueError as error:
        raise Refused(
            400,
            "not_json",
            f"the body is not JSON: {error}",
            "send one JSON object or array in UTF-8; for one object a line use application/x-ndjson",
        ) from None
    items = got if isinstance(got, list) else [got]
    _bound(len(items), max_items)
    return items


def sort_out(items: Sequence[object], *, now: datetime, redactor: Redactor) -> Sorted:
    """Each item as a record to publish or as a refusal. `now` (UTC) is the time of receipt."""
    out = Sorted()
    for index, item in enumerate(items):
        try:
            if isinstance(item, Unreadable):
                raise Faulty([Fault(field="", reason=item.reason)])
            feedback = redactor.parse(item, now=now)
        except Faulty as error:
            refusal: dict[str, Any] = {"index": index}
            if isinstance(item, dict):
                for part in ("source", "id"):
                    if isinstance(item.get(part), str):
                        refusal[part] = printable(item[part][:MAX_ID_CHARS])
            refusal["errors"] = [{"field": fault.field, "reason": fault.reason} for fault in error.faults]
            out.rejected.append(refusal)
            out.fields.extend(fault.field for fault in error.faults)
            continue
        out.records.append((feedback.feedback_id.encode(), encode_feedback(feedback)))
        name = {"source": feedback.source, "id": feedback.external_id}
        if feedback.instance:
            name["instance"] = feedback.instance
        out.accepted.append(name)
    return out


def read_body(
    body: bytes,
    *,
    kind: Kind,
    gzip: bool,
    max_bytes: int,
    max_items: int,
    now: datetime,
    redactor: Redactor,
) -> Sorted:
    """From received bytes to records: decompress, read, sort out. Raises Refused."""
    if gzip:
        body = unzip(body, max_bytes)
    return sort_out(items_of(body, kind, max_items), now=now, redactor=redactor)


def _line(line: bytes) -> object:
    try:
        return _loads(line)
    except ValueError as error:
        return Unreadable(reason=f"is not JSON: {error}")


def _loads(body: bytes) -> object:
    """JSON, read leniently where strictness would lose good neighbours. Raises ValueError.

    What orjson refuses (bytes that are not UTF-8, lone surrogates, NaN, huge numbers) is read again
    by the standard library, so that only the item that has it is judged, field by field: broken
    characters of a text become U+FFFD, in an identifier they are a fault.
    """
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        cause = str(error)
    try:
        return json.loads(body.decode("utf-8", "surrogateescape"))
    except RecursionError:
        raise ValueError("it is nested too deep") from None
    except ValueError:
        raise ValueError(cause) from None


def _bound(count: int, max_items: int) -> None:
    if count > max_items:
        raise Refused(
            413,
            "too_many_items",
            f"the body has {count} items, at most {max_items} are taken at a time",
            f"send at most {max_items} items in a request",
        )


def _not_gzip(why: str) -> Refused:
    return Refused(
        400, "not_gzip", f"the body cannot be decompressed: {why}", "send gzip, or leave Content-Encoding out"
    )
