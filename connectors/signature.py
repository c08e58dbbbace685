"""How webhooks prove who sent them: digests over the raw body, compared in constant time. Pure."""

from __future__ import annotations

import base64
import hmac
from datetime import UTC, datetime, timedelta
from typing import Final

from connectors.connector import Refused, Request

WINDOW: Final = timedelta(seconds=300)


def digest(secret: str, message: bytes, algorithm: str = "sha256", form: str = "hex") -> str:
    """HMAC (RFC 2104) of the message as `hex` or `base64` text."""
    raw = hmac.digest(secret.encode(), message, algorithm)
    return raw.hex() if form == "hex" else base64.b64encode(raw).decode()


def octets(text: str) -> bytes:
    """The bytes of a header or parameter, also of one that is no UTF-8: such bytes came as lone surrogates."""
    return text.encode("utf-8", "surrogatepass")


def check(request: Request, header: str, expected: str) -> None:
    """Refuse the request (401) unless the header, in lower case, is exactly `expected`."""
    given = request.headers.get(header, "")
    if not given:
        raise Refused(401, "unsigned", f"the request has no {header} header")
    if not hmac.compare_digest(octets(given), octets(expected)):
        raise Refused(401, "signature", f"the {header} header does not fit the body and the secret")


def same(given: str | None, expected: str) -> bool:
    """Whether two texts are equal, in a time that does not tell where they differ."""
    return hmac.compare_digest(octets(given or ""), octets(expected))


def check_age(request: Request, seconds: str, window: timedelta = WINDOW) -> None:
    """Refuse the request (401) when its time (seconds since 1970, as text) is not within `window` of now."""
    try:
        sent = datetime.fromtimestamp(float(seconds), UTC)
    except (ValueError, OverflowError, OSError):
        raise Refused(401, "stale", "the request's time cannot be read") from None
    _check_sent(request, sent, window)


def check_iso_age(request: Request, moment: str, window: timedelta = WINDOW) -> None:
    """The same for a time in ISO 8601; UTC where it names no zone."""
    try:
        sent = datetime.fromisoformat(moment)
        sent = sent.replace(tzinfo=sent.tzinfo or UTC)
    except (ValueError, OverflowError):
        raise Refused(401, "stale", "the request's time cannot be read") from None
    _check_sent(request, sent, window)


def _check_sent(request: Request, sent: datetime, window: timedelta) -> None:
    try:
        fits = abs(request.received_at - sent) <= window
    except OverflowError:  # years 1 and 9999 with an offset
        fits = False
    if not fits:
        raise Refused(401, "stale", "the request's time is too far from ours: replayed, or a clock is wrong")
