"""A process under measurement: started, waited for, its processor time and peak memory read, ended by its id."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

START_S: Final = 90.0
TICKS: Final = os.sysconf("SC_CLK_TCK")
SAMPLE: Final = re.compile(r"(\w+)(?:\{(.*)\})? (\S+)")
Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def end(process: subprocess.Popen[Any]) -> None:
    """End a process that may have ended already: asked first, killed after 10 s."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class Running:
    """One `python -m MODULE …`; `url` is what it printed when it became ready."""

    def __init__(self, log: Path, command: Sequence[str], ready: str = r"(http://\S+)") -> None:
        self._log = log
        self._command = list(command)
        with log.open("ab") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", *command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors,
                start_new_session=True, text=True,
            )  # fmt: skip
        self._lines: list[str] = []
        self._ready = threading.Event()
        self._pattern = ready
        self.url = ""
        threading.Thread(target=self._read, daemon=True).start()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def lines(self) -> list[str]:
        """What it has printed so far."""
        return list(self._lines)

    def wait_ready(self) -> None:
        """Return once it printed the line that is waited for. RuntimeError with the end of its log else."""
        deadline = time.monotonic() + START_S
        while not self._ready.wait(0.1):
            if self._process.poll() is not None or time.monotonic() > deadline:
                tail = self._log.read_text(errors="replace")[-3000:]
                raise RuntimeError(f"{' '.join(self._command)} did not start:\n{tail}")

    def wait(self, seconds: float) -> int:
        """Its exit status. RuntimeError with the end of its log where it is not 0."""
        status = self._process.wait(seconds)
        if status:
            raise RuntimeError(f"exit status {status}:\n{self._log.read_text(errors='replace')[-3000:]}")
        return status

    def alive(self) -> bool:
        """Whether it still runs."""
        return self._process.poll() is None

    def stop(self) -> None:
        """End it, at the latest after 10 s."""
        end(self._process)

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.append(line.rstrip("\n"))
            found = re.search(self._pattern, line)
            if found and not self._ready.is_set():
                self.url = found[1]
                self._ready.set()


def processor_s(pid: int) -> float:
    """Processor time of a process so far, over all its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def memory_mb(pid: int, field: str = "VmHWM") -> float:
    """Resident memory of a process in MB: VmHWM its peak so far, VmRSS now."""
    found = re.search(rf"^{field}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return int(found[1]) * 1024 / 1e6 if found else 0.0


def samples(text: str) -> Samples:
    """The samples of a /metrics answer by (name, sorted labels)."""
    found: Samples = {}
    for line in text.splitlines():
        match = SAMPLE.fullmatch(line)
        if match and not line.startswith("#"):
            found[match[1], tuple(sorted(re.findall(r'(\w+)="([^"]*)"', match[2] or "")))] = float(match[3])
    return found


def scrape(url: str) -> Samples:
    """The samples that a worker shows now."""
    with urllib.request.urlopen(url, timeout=10) as answer:
        return samples(answer.read().decode())
