"""Access tokens: OAuth 2.0 grants and tokens that are signed here.

Client credentials and refresh tokens follow RFC 6749, service accounts RFC 7523 (a signed JWT is exchanged for
an access token). A token is kept until shortly before it ends, one request at a time renews it, and one that
the service no longer takes is renewed once.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Protocol

import jwt

from connectors.connector import Clock, Permanent, Retryable
from connectors.fields import Fields, Unreadable
from connectors.option import Secret
from connectors.transport import Answer, Http

MARGIN: Final = timedelta(seconds=60)
UNTOLD_S: Final = 300.0
JWT_GRANT: Final = "urn:ietf:params:oauth:grant-type:jwt-bearer"


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """An access token and when it ends."""

    value: Secret
    ends_at: datetime


class Grant(Protocol):
    """One way to get a token. Raises Verdict."""

    async def __call__(self, http: Http, now: datetime) -> Token:
        """A new token."""
        ...


class Authorized:
    """Requests that carry a token. `scheme`: what stands before it, where it is not as in RFC 6750."""

    def __init__(self, http: Http, now: Clock, grant: Grant, scheme: str = "Bearer") -> None:
        self._http = http
        self._now = now
        self._grant = grant
        self._scheme = scheme
        self._token: Token | None = None
        self._renewing = asyncio.Lock()

    async def get(self, url: str, *, headers: Mapping[str, str] | None = None, **named: Any) -> Answer:
        """GET with the token; see `Http.request`."""
        return await self.request("GET", url, headers=headers, **named)

    async def request(
        self, method: str, url: str, *, headers: Mapping[str, str] | None = None, expect: tuple[int, ...] = (),
        **named: Any,
    ) -> Answer:  # fmt: skip
        """See `Http.request`. Where the token is refused, one more attempt with a new one."""
        token = await self.token()
        answer = await self._http.request(
            method, url, headers=self._with(headers, token), expect=(*expect, 401), **named
        )  # fmt: skip
        if answer.status != 401:
            return answer
        if self._token is token:
            self._token = None
        renewed = await self.token()
        return await self._http.request(method, url, headers=self._with(headers, renewed), expect=expect, **named)

    async def token(self) -> Token:
        """The token at hand, or a new one. Raises Verdict."""
        async with self._renewing:
            if self._token is None or self._now() >= self._token.ends_at:
                self._token = await self._grant(self._http, self._now())
            return self._token

    def _with(self, headers: Mapping[str, str] | None, token: Token) -> dict[str, str]:
        return {**(headers or {}), "Authorization": f"{self._scheme} {token.value.reveal()}"}


def client_credentials(
    url: str, client_id: str, secret: Secret, *, headers: Mapping[str, str] | None = None, scope: str | None = None
) -> Grant:
    """The grant of RFC 6749, 4.4: the application speaks for itself, with HTTP Basic."""

    async def grant(http: Http, now: datetime) -> Token:
        form = {"grant_type": "client_credentials"} | ({"scope": scope} if scope else {})
        return _token(
            await http.post(url, form=form, auth=(client_id, secret.reveal()), headers=headers), now
        )  # fmt: skip

    return grant


def refresh_token(url: str, client_id: str, secret: Secret, refresh: Secret) -> Grant:
    """The grant of RFC 6749, 6: a person has agreed once, and the refresh token stands for it."""

    async def grant(http: Http, now: datetime) -> Token:
        form = {
            "grant_type": "refresh_token",
            "client_id": client_id,
            "client_secret": secret.reveal(),
            "refresh_token": refresh.reveal(),
        }
        return _token(await http.post(url, form=form), now)

    return grant


def service_account(url: str, key_file: Secret, scope: str) -> Grant:
    """The grant of RFC 7523 as Google uses it. `key_file`: the JSON key of the service account, whole."""

    async def grant(http: Http, now: datetime) -> Token:
        try:
            key = Fields(json.loads(key_file.reveal()), "the key")
            account, pem, kid = key.key("client_email"), key.key("private_key"), key.text("private_key_id")
        except (ValueError, Unreadable):
            raise Permanent("the service account's key is no JSON with client_email and private_key") from None
        claims = {"iss": account, "scope": scope, "aud": url, **_times(now, 3_600)}
        form = {"grant_type": JWT_GRANT, "assertion": sign(claims, Secret(pem), "RS256", kid)}
        return _token(await http.post(url, form=form), now)

    return grant


def signed_here(claims: Callable[[datetime], Mapping[str, Any]], key: Secret, algorithm: str, kid: str) -> Grant:
    """A JWT that is the token itself; it lives as long as its claim `exp` says."""

    async def grant(http: Http, now: datetime) -> Token:
        said = claims(now)
        ends = now + timedelta(seconds=int(said["exp"]) - int(now.timestamp())) - MARGIN
        return Token(value=Secret(sign(said, key, algorithm, kid)), ends_at=ends)

    return grant


def sign(claims: Mapping[str, Any], key: Secret, algorithm: str, kid: str | None) -> str:
    """A JWT (RFC 7519). Raises Permanent where the key is none of that algorithm."""
    try:
        return jwt.encode(dict(claims), key.reveal(), algorithm=algorithm, headers={"kid": kid} if kid else None)
    except (ValueError, TypeError, jwt.PyJWTError):
        raise Permanent(f"the private key is no PEM key for {algorithm}: download it again") from None


def _times(now: datetime, life_s: int) -> dict[str, int]:
    # A minute back: the service's clock may be behind ours.
    issued = int(now.timestamp()) - 60
    return {"iat": issued, "exp": issued + life_s}


def _token(answer: Answer, now: datetime) -> Token:
    try:
        found = Fields(answer.table(), "the answer")
        value, life = found.text("access_token"), found.number("expires_in")
    except Unreadable as error:
        raise Retryable(f"{answer.where} gave no token: {error}") from None
    if not value or not value.isascii() or not value.isprintable():
        raise Retryable(f"{answer.where} gave no token")
    whole = timedelta(seconds=max(0.0, min(UNTOLD_S if life is None else life, 86_400.0)))
    return Token(value=Secret(value), ends_at=now + max(whole - MARGIN, whole / 2))
