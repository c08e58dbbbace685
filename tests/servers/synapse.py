"""matrix-synapse: a Matrix homeserver with SQLite, from a virtual environment of its own."""

from __future__ import annotations

import hashlib
import hmac
import itertools
import json
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

from benchmarks.processes import end
from benchmarks.servers import free_port
from tests.servers import SERVERS, missing

_CONFIG = """
server_name: localhost
pid_file: {folder}/pid
listeners:
  - {{port: {port}, type: http, bind_addresses: ['127.0.0.1'], resources: [{{names: [client]}}]}}
database: {{name: sqlite3, args: {{database: {folder}/db}}}}
media_store_path: {folder}/media
registration_shared_secret: shared
signing_key_path: {folder}/signing.key
macaroon_secret_key: macaroon
form_secret: form
report_stats: false
trusted_key_servers: []
suppress_key_server_warning: true
rc_message: {{per_second: 10000, burst_count: 10000}}
rc_login: {{account: {{per_second: 1000, burst_count: 1000}}, address: {{per_second: 1000, burst_count: 1000}}}}
"""


class Synapse:
    """A homeserver; users are made with `register`."""

    def __init__(self, folder: Path) -> None:
        python = SERVERS / "synapse" / "bin" / "python"
        if not python.exists():
            missing("matrix-synapse is not installed: make .venv/.servers")
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._numbers = itertools.count()
        config = folder / "homeserver.yaml"
        config.write_text(_CONFIG.format(folder=folder, port=self.port))
        command = [str(python), "-m", "synapse.app.homeserver", "--config-path", str(config)]
        subprocess.run([*command, "--generate-keys"], check=True, capture_output=True, cwd=folder)
        with (folder / "log").open("wb") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder)
        deadline = time.monotonic() + 60
        while not self._healthy():
            if time.monotonic() > deadline or self._process.poll() is not None:
                raise RuntimeError(f"Synapse did not start: {(folder / 'log').read_text()[-2000:]}")
            time.sleep(0.1)

    def register(self, name: str) -> str:
        """A user's access token, by Synapse's shared-secret registration."""
        nonce = self.call("GET", "/_synapse/admin/v1/register")["nonce"]
        message = b"\x00".join([nonce.encode(), name.encode(), b"password", b"notadmin"])
        mac = hmac.new(b"shared", message, hashlib.sha1).hexdigest()
        body = {"nonce": nonce, "username": name, "password": "password", "admin": False, "mac": mac}
        return str(self.call("POST", "/_synapse/admin/v1/register", body)["access_token"])

    def send(self, token: str, room: str, content: dict[str, Any]) -> str:
        """The event id of a message."""
        path = f"/_matrix/client/v3/rooms/{urllib.parse.quote(room)}/send/m.room.message/t{next(self._numbers)}"
        return str(self.call("PUT", path, content, token)["event_id"])

    def redact(self, token: str, room: str, event: str) -> None:
        """Erase an event."""
        place = f"{urllib.parse.quote(room)}/redact/{urllib.parse.quote(event)}"
        self.call("PUT", f"/_matrix/client/v3/rooms/{place}/r{next(self._numbers)}", {}, token)

    def call(self, method: str, path: str, body: dict[str, Any] | None = None, token: str | None = None) -> Any:
        """One request of the client API, as JSON."""
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, headers, method=method)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    def stop(self) -> None:
        """End it."""
        end(self._process)

    def _healthy(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/health", timeout=1):
                return True
        except (urllib.error.URLError, OSError):
            return False
