"""Who may write to the intake: bearer tokens, or without them only this machine."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re

from pipeline.intake_body import Refused
from pipeline.settings import Ingest, Token

_HOST = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^:\[\]]+)(?::\d+)?\Z")


class IntakeError(RuntimeError):
    """The intake cannot start; says why and what to write."""


def check_token(authorization: str | None, tokens: tuple[Token, ...]) -> None:
    """Raise Refused (401) unless the header bears the secret of one of the tokens.

    Every token is compared, in constant time, so that the time tells nothing.
    """
    scheme, _, secret = (authorization or "").partition(" ")
    digest = hashlib.sha256(secret.strip().encode("utf-8", "surrogateescape")).hexdigest()
    known = False
    for token in tokens:
        known |= hmac.compare_digest(digest.encode(), token.sha256.lower().encode())
    if scheme.lower() != "bearer" or not known:
        given = "the bearer token is not known" if authorization else "there is no bearer token"
        remedy = "send Authorization: Bearer SECRET with the secret of one of [[ingest.tokens]]"
        challenge = 'Bearer realm="ovoz", error="invalid_token"' if authorization else 'Bearer realm="ovoz"'
        raise Refused(401, "unauthorized", given, remedy, {"WWW-Authenticate": challenge})


def check_host(host: str | None) -> None:
    """Raise Refused (421) unless the Host header names this machine; for an intake without tokens.

    Without it any web page could write here, by a name of its own that resolves to 127.0.0.1.
    """
    match = _HOST.match(host or "")
    if match is None or not names_loopback(match[1]):
        raise Refused(
            421,
            "foreign_host",
            "without tokens the intake answers on loopback names only",
            "call it as 127.0.0.1 or localhost, or set [[ingest.tokens]]",
        )


def check_exposure(settings: Ingest, addresses: list[str]) -> None:
    """Raise IntakeError if it would listen beyond this machine (on `addresses`) without tokens."""
    if settings.tokens or (addresses and all(names_loopback(address) for address in addresses)):
        return
    raise IntakeError(
        f"the intake would listen on {settings.host} without tokens, open to everyone who reaches it: "
        'write host = "127.0.0.1" under [ingest], or give each sender a secret and write its SHA-256:\n'
        '[[ingest.tokens]]\nname = "shop"\n'
        'sha256 = "…"  # openssl rand -hex 32 | tee secret.txt | tr -d "\\n" | sha256sum'
    )


def names_loopback(host: str) -> bool:
    """Whether a host name or address can only mean this machine."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
