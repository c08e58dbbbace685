"""A token endpoint by the rules of RFC 6749 and RFC 7523, and the check of what it gave out."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

import jwt
from aiohttp import web
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

JWT_GRANT: Final = "urn:ietf:params:oauth:grant-type:jwt-bearer"
LIFE_S: Final = 3_599


class TokenEndpoint:
    """`grant`: the only grant type it knows; `check(form, basic)` says whether the one who asks may have a token."""

    def __init__(self, grant: str, check: Callable[[Mapping[str, str], tuple[str, str] | None], bool]) -> None:
        self._grant = grant
        self._check = check
        self._good: set[str] = set()
        self.given = 0

    async def answer(self, request: web.Request) -> web.Response:
        """`POST`, a form: a token or an error in the RFC's words."""
        form = {name: str(value) for name, value in (await request.post()).items()}
        if form.get("grant_type") != self._grant:
            return web.json_response({"error": "unsupported_grant_type"}, status=400)
        if not self._check(form, _basic(request)):
            return web.json_response({"error": "invalid_client", "error_description": "Unauthorized"}, status=401)
        self.given += 1
        token = f"token-{self.given}"
        self._good.add(token)
        scope = form.get("scope") or "*"
        return web.json_response(
            {"access_token": token, "token_type": "Bearer", "expires_in": LIFE_S, "scope": scope}
        )  # fmt: skip

    def knows(self, request: web.Request, scheme: str = "bearer") -> bool:
        """Whether the request carries a token that is good."""
        kind, _, token = request.headers.get("Authorization", "").partition(" ")
        return kind.lower() == scheme and token in self._good

    def revoke(self) -> None:
        """No token given out so far is good any more."""
        self._good.clear()


def _basic(request: web.Request) -> tuple[str, str] | None:
    kind, _, rest = request.headers.get("Authorization", "").partition(" ")
    if kind.lower() != "basic":
        return None
    name, _, password = base64.b64decode(rest).decode().partition(":")
    return name, password


def pem_of(algorithm: str) -> tuple[str, Any]:
    """A new private key for `RS256` or `ES256`: (PEM, public key)."""
    key = (
        ec.generate_private_key(ec.SECP256R1())
        if algorithm == "ES256"
        else rsa.generate_private_key(public_exponent=65_537, key_size=2_048)
    )
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )  # fmt: skip
    return pem.decode(), key.public_key()


def claims_of(token: str, public: Any, algorithm: str, audience: str) -> dict[str, Any] | None:
    """The claims of a JWT with a right signature and audience; None otherwise. Times are for the caller."""
    try:
        found: dict[str, Any] = jwt.decode(
            token, public, algorithms=[algorithm], audience=audience,
            options={"verify_exp": False, "verify_iat": False, "require": ["iss", "iat", "exp"]},
        )  # fmt: skip
    except jwt.PyJWTError:
        return None
    return found


def in_time(claims: Mapping[str, Any], now: datetime, longest_s: int) -> bool:
    """Whether a JWT is valid now and was not made for longer than the service allows."""
    issued, ends = int(claims["iat"]), int(claims["exp"])
    return issued - 60 <= now.timestamp() < ends and ends - issued <= longest_s


def utc_now() -> datetime:
    """The machine's time, in UTC."""
    return datetime.now(UTC)
