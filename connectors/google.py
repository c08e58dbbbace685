"""What Google's APIs have in common: a used-up quota is a 403 like a missing permission, told by its reason."""

from __future__ import annotations

import json
from collections.abc import Awaitable
from datetime import datetime
from typing import Final

from connectors.fields import Fields, Unreadable
from connectors.transport import Answer, verdict

TOKEN_URL: Final = "https://oauth2.googleapis.com/token"
_PASSING: Final = {
    "quotaExceeded", "dailyLimitExceeded", "rateLimitExceeded", "userRateLimitExceeded", "RATE_LIMIT_EXCEEDED",
    "RESOURCE_EXHAUSTED",
}  # fmt: skip


async def asked(request: Awaitable[Answer], now: datetime) -> Answer:
    """The answer to a request made with `expect=(403,)`. Raises Retryable where a quota is used up, else Permanent."""
    answer = await request
    if answer.status == 403:
        passing = (403,) if reasons(answer.body) & _PASSING else ()
        raise verdict(403, answer.headers, answer.body, answer.where, now=now, retryable=passing)
    return answer


def reasons(body: bytes) -> set[str]:
    """The reasons in an error of a Google API, in its older form (`errors`) and its newer (`status`, `details`)."""
    try:
        error = Fields(Fields(json.loads(body)).get("error") or {})
        entries = [Fields(entry) for name in ("errors", "details") for entry in error.items(name)]
        found = {entry.text("reason") for entry in entries} | {error.text("status")}
    except (ValueError, RecursionError, Unreadable):
        return set()
    return {reason for reason in found if reason}
