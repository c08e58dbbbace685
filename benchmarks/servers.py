"""Real servers for proofs and measurements, on loopback and free ports, ended by process id."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

from pipeline.broker import EmbeddedBroker, free_port

__all__ = ["EmbeddedBroker", "KafkaServer", "PostgresServer", "ServerMissing", "free_port"]


class ServerMissing(RuntimeError):
    """A server's programs are not on this machine; says which and where they are looked for."""


class KafkaServer:
    """Apache Kafka from the folder in OVOZ_KAFKA_HOME; keeps its data over `kill` and `start`."""

    def __init__(self, folder: Path) -> None:
        home = os.environ.get("OVOZ_KAFKA_HOME")
        if not home or not (Path(home) / "kafka").exists():
            raise ServerMissing("Apache Kafka is looked for in the folder that OVOZ_KAFKA_HOME names")
        self._program = str(Path(home) / "kafka")
        self._folder = folder
        # The node's controller listens on the port above its own.
        self.port = free_port()
        while not _free(self.port + 1):
            self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def bootstrap(self) -> str:
        """`host:port` for clients."""
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it and return once it answers."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / "server.log").open("ab") as output:
            self._process = subprocess.Popen(
                [self._program, "serve", str(self._folder), str(self.port)],
                stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
            )  # fmt: skip
        subprocess.run(
            [self._program, "wait", str(self.port), "90"], check=True, stdout=subprocess.DEVNULL, timeout=120
        )

    def kill(self) -> None:
        """End it at once (`kill -9`)."""
        if self._process is not None:
            _kill_group(self._process)

    def stop(self) -> None:
        """End it."""
        self.kill()


class PostgresServer:
    """PostgreSQL from Debian's or the PATH's programs; keeps its data over `kill` and `start`."""

    def __init__(self, folder: Path) -> None:
        self._bin = _postgres_bin()
        self._folder = folder
        self.port = free_port()
        self._user = "postgres" if os.geteuid() == 0 else None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The store URL of its database."""
        return f"postgresql+psycopg://ovoz@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        """Make the cluster if there is none, start it and return once it accepts connections."""
        data = self._folder / "data"
        if not data.exists():
            self._folder.mkdir(parents=True, exist_ok=True)
            self._own(self._folder)
            self._run(
                [str(self._bin / "initdb"), "-D", str(data), "-U", "ovoz", "-A", "trust", "-E", "UTF8", "--no-sync"]
            )
        deadline = time.monotonic() + 60
        while not self._serve(data):
            # After `kill -9` the backends need a moment to notice; until then a new server refuses to start.
            if time.monotonic() > deadline:
                raise RuntimeError(f"PostgreSQL did not start, see {self._folder}/server.log")
            time.sleep(0.3)

    def _serve(self, data: Path) -> bool:
        command = [str(self._bin / "postgres"), "-D", str(data), "-p", str(self.port)]
        command += ["-c", "listen_addresses=127.0.0.1", "-c", f"unix_socket_directories={self._folder}"]
        with (self._folder / "server.log").open("ab") as output:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                user=self._user,
                cwd=self._folder,
            )
        ready = [str(self._bin / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        while self._process.poll() is None:
            if subprocess.run(ready, check=False).returncode == 0:
                return True
            time.sleep(0.1)
        return False

    def kill(self) -> None:
        """End it and its backends at once (`kill -9`)."""
        if self._process is not None:
            _kill_group(self._process)

    def stop(self) -> None:
        """End it, without waiting for clients."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGQUIT)
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self.kill()

    def _own(self, folder: Path) -> None:
        if self._user is not None:
            entry = pwd.getpwnam(self._user)
            os.chown(folder, entry.pw_uid, entry.pw_gid)
            for parent in folder.parents:
                if parent.stat().st_uid == 0 and parent != Path("/") and str(parent).startswith("/tmp/"):
                    parent.chmod(parent.stat().st_mode | 0o011)

    def _run(self, command: list[str]) -> None:
        subprocess.run(
            command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, user=self._user, cwd="/"
        )


def _postgres_bin() -> Path:
    candidates = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    found = shutil.which("postgres")
    if found:
        candidates.append(Path(found).resolve().parent)
    for folder in candidates:
        if (folder / "initdb").exists():
            return folder
    raise ServerMissing("PostgreSQL's server programs are looked for in /usr/lib/postgresql and on the PATH")


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            os.killpg(process.pid, 0)
        except (ProcessLookupError, PermissionError):
            return
        time.sleep(0.02)


def _free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0
