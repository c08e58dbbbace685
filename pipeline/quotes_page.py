"""`/quotes` of a worker: the worst of what customers said lately, for whoever has the token.

Dashboards link to it, since no text may become a metric. Without `[worker] quotes_token_sha256` there is no such page.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Final

from aiohttp import web

from pipeline.store.engine import StoreAway
from pipeline.store.quotes import FILTERS, Said
from pipeline.windows import WINDOWS_MINUTES

PATH: Final = "/quotes"
LIMIT: Final = 50
HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
ASK: Final = {"WWW-Authenticate": 'Basic realm="Ovoz: what customers said", charset="UTF-8"'}
_STYLE: Final = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1f2328}"
    "li{margin:0 0 1rem}blockquote{margin:.2rem 0;overflow-wrap:anywhere}small{color:#68707a}"
)


class QuotesPage:
    """Answers who sends the token, as a bearer token or as the password that a browser asks for."""

    def __init__(self, worst: Callable[[Mapping[str, str], str], list[Said]], token_sha256: str) -> None:
        """`worst`: what is shown for filters and a window, as `asked` gives them."""
        self._worst = worst
        self._digest = token_sha256.lower()

    async def handle(self, request: web.Request) -> web.Response:
        """The page; JSON where that is asked for."""
        if not allowed(request.headers.get("Authorization"), self._digest):
            return web.Response(status=401, text="The token of [worker] quotes_token_sha256 is the password.\n",
                                headers={**HEADERS, **ASK})  # fmt: skip
        try:
            picked, window = asked(request.query)
        except ValueError as error:
            return web.Response(status=400, text=f"{error}\n", headers=HEADERS)
        try:
            found = await asyncio.get_running_loop().run_in_executor(None, self._worst, picked, window)
        except StoreAway:
            return web.Response(status=503, text="The database is away.\n", headers=HEADERS)
        if "application/json" in request.headers.get("Accept", ""):
            return web.json_response([as_data(one) for one in found], headers=HEADERS)
        return web.Response(text=page(found, picked, window), content_type="text/html", headers=HEADERS)


def allowed(authorization: str | None, digest: str) -> bool:
    """Whether the header carries the secret whose SHA-256 this is, as bearer token or as password."""
    scheme, _, given = (authorization or "").partition(" ")
    secret = given.strip().encode("utf-8", "surrogateescape")
    if scheme.lower() == "basic":
        try:
            _, _, secret = base64.b64decode(secret, validate=True).partition(b":")
        except binascii.Error:
            return False
    elif scheme.lower() != "bearer":
        return False
    return hmac.compare_digest(hashlib.sha256(secret).hexdigest().encode(), digest.encode())


def asked(query: Mapping[str, str]) -> tuple[dict[str, str], str]:
    """Filters and window of a query string; empty values, as of Grafana's "All", pick everything. Raises ValueError."""
    unknown = query.keys() - {*FILTERS, "window"}
    if unknown:
        raise ValueError(f"known are {', '.join(FILTERS)} and window")
    window = query.get("window", "1h")
    if window not in WINDOWS_MINUTES:
        raise ValueError(f"window is one of {', '.join(WINDOWS_MINUTES)}")
    return {name: query[name] for name in FILTERS if query.get(name)}, window


def as_data(one: Said) -> dict[str, str | float]:
    """One item for JSON."""
    return {
        "id": one.feedback_id, "at": one.at.isoformat(), "workspace": one.workspace, "source": one.source,
        "channel": one.channel, "topic": one.topic, "language": one.language, "touchpoint": one.touchpoint,
        "score": one.score, "text": one.text,
    }  # fmt: skip


def page(found: Sequence[Said], picked: Mapping[str, str], window: str) -> str:
    """The page as HTML, in which nothing that a customer wrote is markup."""
    of = ", ".join(f"{name} {value}" for name, value in picked.items()) or "everything"
    items = "".join(
        f"<li><small>{one.at:%Y-%m-%d %H:%M} UTC · {escape(' · '.join(_labels(one)))} · {one.score:+.2f}</small>"
        f'<blockquote lang="{escape(one.language)}" dir="auto">{escape(one.text)}</blockquote></li>'
        for one in found
    )
    said = f"<ol>{items}</ol>" if found else "<p>Nothing negative was said.</p>"
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Worst quotes</title><style>{_STYLE}</style>'
        f"</head><body><h1>Worst quotes</h1><p>Of {escape(of)}, in the last {window}, most negative first; what was "
        f"said nearly alike is shown once.</p>{said}</body></html>"
    )


def _labels(one: Said) -> list[str]:
    names = (one.workspace, one.source, one.channel, one.topic, one.language, one.touchpoint)
    return [name for name in names if name]
