"""How often a service may be asked, as its documentation says: what it answers beyond that, and the headers it tells
it by."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from aiohttp import web


def _no_headers(limit: Limit, now: datetime) -> Mapping[str, str]:
    return {}


@dataclass(slots=True)
class Limit:
    """At most `requests` in a window of `window_s` seconds, which begins with the first of them.

    `path`: what stands in the paths that count; `headers`: what every counted answer carries; `refusal`: the answer
    beyond the limit; `told`: whether it says when to come again (Retry-After); `midnight`: the window ends with the day
    in UTC. `refused` and `used` count requests.
    """

    requests: int
    window_s: float
    refusal: Callable[[], web.Response]
    headers: Callable[[Limit, datetime], Mapping[str, str]] = _no_headers
    path: str = "/"
    told: bool = False
    midnight: bool = False
    used: int = 0
    refused: int = 0
    _begun: datetime | None = field(default=None, repr=False)

    @property
    def left(self) -> int:
        """Requests that the window still allows."""
        return max(0, self.requests - self.used)

    def renew(self) -> None:
        """The window has ended."""
        self._begun = None

    def ends(self, now: datetime) -> datetime:
        """When the window ends."""
        begun = self._begun or now
        if self.midnight:
            return begun.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
        return begun + timedelta(seconds=self.window_s)

    def take(self, now: datetime) -> web.Response | None:
        """Count a request: None, or the refusal of it."""
        if self._begun is None or not self._begun <= now < self.ends(now):
            self._begun, self.used = now, 0
        if self.used < self.requests:
            self.used += 1
            return None
        self.refused += 1
        answer = self.refusal()
        if self.told:
            answer.headers["Retry-After"] = str(int((self.ends(now) - now).total_seconds()) + 1)
        return answer


def told(
    remaining: str, reset: str, form: str = "epoch", most: str = ""
) -> Callable[[Limit, datetime], Mapping[str, str]]:
    """Headers of these names: what is left, and when the window ends, as `epoch` seconds, `seconds` or `iso`."""

    def headers(limit: Limit, now: datetime) -> Mapping[str, str]:
        ends = limit.ends(now)
        when = {
            "epoch": str(int(ends.timestamp())),
            "seconds": str(int((ends - now).total_seconds())),
            "iso": ends.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        }[form]
        found = {remaining: str(limit.left), reset: when}
        return found | ({most: str(limit.requests)} if most else {})

    return headers
