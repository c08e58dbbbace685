"""Sends the day to the intake over HTTP, as the compressed clock says."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from pipeline.demo.day import DAY_S, Message, at_share

STEP_S: Final = 0.15
MOST_AT_ONCE: Final = 100
RETRY_FOR_S: Final = 15.0


class SendingError(RuntimeError):
    """The intake does not take the day; says what it answered."""


class Sender(threading.Thread):
    """Posts every message once its time has come; `duration_s` seconds for the whole day.

    Written by the thread, read by the others: `sent`, `posted` (event second → when it was posted, on
    the monotonic clock), `failure`, `finished`.
    """

    def __init__(
        self, messages: Sequence[Message], midnight: datetime, *, port: int, token: str, duration_s: float
    ) -> None:
        super().__init__(name="sender", daemon=True)
        self.sent = 0
        self.posted: dict[int, float] = {}
        self.failure: SendingError | None = None
        self.finished = False
        self._messages = messages
        self._midnight = midnight
        self._port = port
        self._token = token
        self._duration_s = duration_s
        self._began_s: float | None = None
        self._halt = threading.Event()

    @property
    def clock_s(self) -> float:
        """Second of the day that it is now; it waits for what is not yet sent."""
        if self._began_s is None:
            return 0.0
        now_s = at_share((time.monotonic() - self._began_s) / self._duration_s)
        sent = self.sent
        return now_s if sent == len(self._messages) else min(now_s, float(self._messages[sent].at_s))

    def wall_s(self, at_s: float) -> float | None:
        """When it became this second of the day, on the monotonic clock."""
        if self._began_s is None:
            return None
        low, high = 0.0, 1.0
        for _ in range(40):
            middle = (low + high) / 2
            low, high = (middle, high) if at_share(middle) < at_s else (low, middle)
        return self._began_s + high * self._duration_s

    def halt(self) -> None:
        """End before the day does, within a step."""
        self._halt.set()

    def run(self) -> None:
        """Send the day."""
        self._began_s = time.monotonic()
        try:
            while not self._halt.is_set():
                share = (time.monotonic() - self._began_s) / self._duration_s
                now_s = at_share(share)
                due = [m for m in self._messages[self.sent : self.sent + MOST_AT_ONCE] if m.at_s <= now_s]
                if due:
                    self._post(due)
                if self.sent == len(self._messages) and now_s >= DAY_S:
                    self.finished = True
                    return
                self._halt.wait(STEP_S)
        except SendingError as error:
            self.failure = error

    def _post(self, due: Sequence[Message]) -> None:
        body = json.dumps([message.body(self._midnight) for message in due], ensure_ascii=False).encode()
        deadline_s = time.monotonic() + RETRY_FOR_S
        while not self._halt.is_set():
            posted_s = time.monotonic()
            status, answer = self._request(body)
            if status == 202:
                for message in due:
                    self.posted.setdefault(message.created_s, posted_s)
                self.sent += len(due)
                return
            if status not in (0, 429, 503) or time.monotonic() > deadline_s:
                raise SendingError(f"the intake answered {status or 'nothing'}: {answer[:300]}")
            self._halt.wait(0.5)

    def _request(self, body: bytes) -> tuple[int, str]:
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self._token}"}
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=5)
        try:
            connection.request("POST", "/v1/feedback", body, headers)
            response = connection.getresponse()
            return response.status, response.read().decode("utf-8", "replace")
        except (OSError, http.client.HTTPException) as error:
            return 0, repr(error)
        finally:
            connection.close()


def curl(port: int, token: str) -> tuple[str, str, str]:
    """A command, on three lines, that sends a message of one's own.

    Its workspace is another one: a message of now must not move the clock of the day that is replayed.
    """
    item: dict[str, Any] = {"workspace": "me", "source": "me", "id": "@", "text": "No courier!"}
    data = json.dumps(item, separators=(",", ":")).replace("@", "'$RANDOM'")
    return (
        f"curl http://127.0.0.1:{port}/v1/feedback --oauth2-bearer {token} \\",
        " -H Content-Type:application/json \\",
        f" -d '{data}'",
    )
