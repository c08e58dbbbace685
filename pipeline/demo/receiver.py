"""Whoever is on call, in the demo: a server that takes the JSON which Apprise's `json://` posts."""

from __future__ import annotations

import json
import queue
import threading
import time
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final

MAX_BODY_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """One notification as it was received; `at_s` on the monotonic clock."""

    title: str
    text: str
    resolved: bool
    at_s: float

    @property
    def incident(self) -> str:
        """The first digits of the incident's identity, which the text ends with."""
        return self.text.rpartition("incident ")[2].strip()


class Receiver:
    """Listens on a free loopback port and keeps every notice in `notices`."""

    def __init__(self) -> None:
        self.notices: queue.SimpleQueue[Notice] = queue.SimpleQueue()
        notices = self.notices

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                try:
                    size = int(self.headers.get("Content-Length", "0"))
                    notice = parse(self.rfile.read(min(size, MAX_BODY_BYTES)), time.monotonic())
                except ValueError:
                    self.send_error(400)
                    return
                notices.put(notice)
                self.send_response(204)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                """Say nothing: the terminal belongs to the view."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), daemon=True)

    @property
    def url(self) -> str:
        """The Apprise URL."""
        return f"json://127.0.0.1:{self._server.server_port}/"

    def start(self) -> None:
        """Answer from now on."""
        self._thread.start()

    def stop(self) -> None:
        """Close the port."""
        if self._thread.is_alive():
            self._server.shutdown()
        self._server.server_close()


def parse(body: bytes, at_s: float) -> Notice:
    """A notice from what Apprise posts. Raises ValueError."""
    data = json.loads(body)
    if not isinstance(data, dict) or not isinstance(data.get("message"), str):
        raise ValueError("not a message of Apprise")
    return Notice(
        title=str(data.get("title", "")), text=data["message"], resolved=data.get("type") == "success", at_s=at_s
    )
