"""Real workers on a real broker and a real store, for tests: started, killed, paused, asked."""

from __future__ import annotations

import contextlib
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

import psutil

from pipeline.broker import free_port
from pipeline.bus import Bus
from pipeline.settings import Settings, load
from pipeline.topics import Topics
from tests.command import environment

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def until(holds: Callable[[], object], seconds: float = 40, what: Callable[[], object] = lambda: "") -> None:
    """Return when the condition holds; fail after so many seconds, saying `what`."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what()}"
        time.sleep(0.05)


class Worker:
    """One worker process; `start` again after any end."""

    def __init__(self, folder: Path, config: Path, port: int, *arguments: str) -> None:
        self.log = folder / f"{config.stem}.log"
        self.url = f"http://127.0.0.1:{port}/metrics"
        self._config = config
        self._arguments = arguments
        self._folder = folder
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *, ready: bool = True) -> None:
        """Start it; return when it takes records, or at once."""
        said = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, *self._arguments, "--config", str(self._config)], stdin=subprocess.DEVNULL,
                stdout=output, stderr=output, cwd=self._folder, env=environment(PYTHONUNBUFFERED="1"),
                start_new_session=True,
            )  # fmt: skip

        def listening() -> bool:
            assert self.process is not None and self.process.poll() is None, self.output()
            return self.url.encode() in self.log.read_bytes()[said:]

        if ready:
            until(listening, 60, self.output)

    def output(self) -> str:
        """What it printed."""
        return self.log.read_text(errors="replace")

    def signal(self, what: signal.Signals) -> None:
        """Send it a signal."""
        assert self.process is not None
        self.process.send_signal(what)

    def kill(self) -> None:
        """End it at once (`kill -9`)."""
        self.signal(signal.SIGKILL)
        assert self.process is not None
        self.process.wait(10)

    def stop(self) -> int:
        """End it in order: its exit status."""
        if self.process is None or self.process.poll() is not None:
            return -1 if self.process is None else self.process.returncode
        self.process.send_signal(signal.SIGCONT)
        self.process.terminate()
        try:
            return self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise

    def ps(self) -> psutil.Process:
        """For its limits and children."""
        assert self.process is not None
        return psutil.Process(self.process.pid)

    def get(self, path: str = "/metrics") -> tuple[int, str]:
        """Status and body of an answer."""
        try:
            with urllib.request.urlopen(self.url.removesuffix("/metrics") + path, timeout=15) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def metrics(self) -> Samples:
        """Its samples by name and sorted labels."""
        found: Samples = {}
        for line in self.get()[1].splitlines():
            match = re.fullmatch(r"(\w+)(?:\{(.*)\})? (\S+)", line)
            if match and not line.startswith("#"):
                labels = tuple(sorted(re.findall(r'(\w+)="([^"]*)"', match[2] or "")))
                found[match[1], labels] = float(match[3])
        return found

    def total(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples that have these labels."""
        return sum(
            value
            for (found, pairs), value in self.metrics().items()
            if found == name and labels.items() <= dict(pairs).items()
        )


class Plant:
    """A folder with settings, and the workers that were started with them; `with` ends them all."""

    def __init__(
        self, folder: Path, bootstrap: str, store: str | None = None, session_timeout_s: int = 3, **sections: str
    ) -> None:
        self.folder = folder
        self._text = f'[kafka]\nbootstrap = "{bootstrap}"\n{sections.pop("kafka", "")}\n'
        self._text += f'[store]\nurl = "{store or f"sqlite:///{folder}/ovoz.db"}"\n'
        self._worker = f"session_timeout_s = {session_timeout_s}\n" + sections.pop("worker", "")
        for name, lines in sections.items():
            self._text += f"[{name}]\n{lines}\n"
        self.config = self._write("ovoz")
        self.settings: Settings = load(self.config, {})
        self.workers: list[Worker] = []

    def worker(self, *, stage: str = "all", real: bool = False, ready: bool = True, more: str = "") -> Worker:
        """Start one more. `real`: `ovoz worker` with the shipped model, instead of the keyword model; `more`: lines
        of [worker].
        """
        port = free_port()
        config = self._write(f"worker-{len(self.workers)}", port, more)
        command = ["-m", "pipeline", "worker"] if real else ["-m", "benchmarks.worker"]
        made = Worker(self.folder, config, port, *command, "--stage", stage)
        self.workers.append(made)
        made.start(ready=ready)
        return made

    def send(self, records: Sequence[tuple[bytes, bytes]]) -> None:
        """Publish to the raw topic; returns with the acknowledgement."""
        bus = Bus(self.settings.kafka, delivery_timeout_s=30)
        try:
            for future in bus.send(Topics.of(self.settings.kafka).raw.name, records):
                future.result(30)
        finally:
            bus.close()

    def _write(self, name: str, port: int = 0, more: str = "") -> Path:
        path = self.folder / f"{name}.toml"
        data = self.folder / f"{name}-data"
        path.write_text(f'{self._text}[worker]\nport = {port}\ndata_dir = "{data}"\n{self._worker}{more}')
        return path

    def __enter__(self) -> Plant:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in self.workers:
            worker.stop()


@contextmanager
def suspended(process: psutil.Process) -> Iterator[None]:
    """The process stands still meanwhile."""
    process.suspend()
    try:
        yield
    finally:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.resume()
