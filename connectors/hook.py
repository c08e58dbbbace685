"""What webhooks of all vendors share: the body as JSON, secrets that must be set, refusals in one form. Pure."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeVar

from connectors.connector import Refused, Request
from connectors.fields import Fields, Unreadable
from connectors.option import Secret

T = TypeVar("T")


def needed(secret: Secret | None, name: str) -> str:
    """The secret itself. Refuses the request (403) where none is set: nothing unsigned is believed.

    Not 404: Typeform switches a webhook off that answers so.
    """
    if secret is None:
        raise Refused(403, "not_configured", f"no {name} is set for this connector")
    return secret.reveal()


def posted(request: Request, *handshakes: str) -> None:
    """Refuse (405) whatever is no POST. `handshakes`: other methods that the vendor uses, for the answer."""
    if request.method != "POST":
        allow = ", ".join(("POST", *handshakes))
        raise Refused(405, "method", f"{request.method[:20]} is not taken here", allow=allow)


def body(request: Request) -> Any:
    """The body as JSON. Refuses the request (400) where it is none; call it once the sender is proved."""
    try:
        return json.loads(request.body)
    except (ValueError, RecursionError):
        raise Refused(400, "body", "the body is no JSON") from None


def table(request: Request) -> Fields:
    """The body as a JSON object. Refuses the request (400) otherwise."""
    return understood(lambda found: Fields(found, "the body"), body(request))


def understood(parse: Callable[[Any], T], found: Any) -> T:
    """What `parse` makes of it. Refuses the request (400) where its frame is not of the documented form."""
    try:
        return parse(found)
    except Unreadable as error:
        raise Refused(400, "body", f"the body cannot be read: {error}") from None


def stranger(message: str) -> Refused:
    """The refusal of a request that does not prove its sender."""
    return Refused(401, "signature", message)
