"""How fast a connector is asked: backing off after failures, and making a quota last. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from connectors.connector import Quota

FIRST_BACKOFF_S: Final = 1.0
LONGEST_BACKOFF_S: Final = 300.0
LONGEST_REST_S: Final = 86_400.0
"""Quotas are renewed daily at the latest."""
LIVE_RESERVE: Final = 0.0
BACKFILL_RESERVE: Final = 0.5

_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)(s|m|h|d)\Z")
_UNIT_S: Final = {"s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}


def backoff_s(failures: int, chance: float) -> float:
    """Seconds to wait after so many failures in a row: full jitter, `chance` from 0 to 1.

    Source: M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
    """
    ceiling = min(LONGEST_BACKOFF_S, FIRST_BACKOFF_S * 2.0 ** min(failures, 30))
    return ceiling * chance


def after_refusal_s(retry_after_s: float, failures: int, chance: float) -> float:
    """Seconds to wait where the service said how long: never less, and not all at the same moment."""
    apart = min(retry_after_s * 0.1, 10.0) * chance
    return retry_after_s + apart + (backoff_s(failures, chance) if failures > 3 else 0.0)


@dataclass(slots=True)
class Pacer:
    """Makes a quota last until it is renewed.

    It begins to spread requests when less than a quarter of the allowance is left, and waits for the renewal
    when none is. `reserve`: the share of the allowance that is left to others, 0 to 1.
    """

    reserve: float = LIVE_RESERVE
    _most: int = 0

    def rest_s(self, quota: Quota | None, now: datetime) -> float:
        """Seconds to wait before the next request."""
        if quota is None:
            return 0.0
        self._most = max(self._most, quota.remaining)
        until = min((quota.reset_at - now).total_seconds(), LONGEST_REST_S)
        if until <= 0:
            return 0.0
        spare = quota.remaining - int(self._most * self.reserve)
        if spare <= 0:
            return until
        scarce = self._most * (self.reserve + (1 - self.reserve) / 4)
        return until / (spare + 1) if quota.remaining < max(scarce, 2) else 0.0


def seconds(value: object) -> float:
    """A duration such as `30s`, `5m`, `1h`, `1d`, or a number of seconds. Raises ValueError."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        found = float(value)
    else:
        match = _DURATION.match(value) if isinstance(value, str) else None
        if match is None:
            raise ValueError("must be a time such as 30s, 5m or 1h")
        found = float(match[1]) * _UNIT_S[match[2]]
    if not 1 <= found <= 7 * 86_400:
        raise ValueError("must lie between 1s and 7d")
    return found
