"""The demo's child processes: the real commands, each with a log of its own, none outliving the demo."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

import pipeline

GRACE_S: Final = 2.5
PR_SET_PDEATHSIG: Final = 1
LOG_LINES: Final = 6

_libc: Final = ctypes.CDLL(None)


class Child:
    """One `ovoz …` command in a process of its own.

    Start it from the main thread: the kernel ends it with the thread that started it.
    """

    def __init__(self, name: str, arguments: list[str], folder: Path) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        self._arguments = arguments
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; its own session keeps the terminal's Ctrl-C from it, so that the demo ends it in order."""
        # -P: nothing in the current folder may pass for our packages; they come from where we came from.
        command = [sys.executable, "-P", "-m", "pipeline", *self._arguments]
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=self._folder,
                env=environment(os.environ.items()), start_new_session=True, preexec_fn=die_with(os.getpid()),
            )  # fmt: skip

    def poll(self) -> int | None:
        """Exit status if it has ended, else None."""
        return None if self._process is None else self._process.poll()

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    def signal(self, number: int) -> None:
        """Send a signal, if it runs."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)

    def last_lines(self) -> list[str]:
        """The end of its log."""
        try:
            text = self.log.read_text(encoding="utf-8", errors="replace")
        except OSError:
            return []
        return [line for line in text.splitlines() if line.strip()][-LOG_LINES:]


def end(children: Iterable[Child], grace_s: float = GRACE_S) -> None:
    """End them all, gracefully for so long."""
    living = list(children)
    for child in living:
        child.signal(signal.SIGTERM)
    deadline = time.monotonic() + grace_s
    while any(child.running for child in living) and time.monotonic() < deadline:
        time.sleep(0.02)
    for child in living:
        child.signal(signal.SIGKILL)
    while any(child.running for child in living):
        time.sleep(0.01)


def environment(of: Iterable[tuple[str, str]]) -> dict[str, str]:
    """The environment of the children: none of the user's own settings, and our packages first."""
    kept = {name: value for name, value in of if not name.startswith("OVOZ_")}
    home = str(Path(pipeline.__file__).resolve().parents[1])
    kept["PYTHONPATH"] = os.pathsep.join(filter(None, [home, kept.get("PYTHONPATH", "")]))
    return kept | {"PYTHONUNBUFFERED": "1"}


def die_with(parent: int) -> Callable[[], None]:
    """What a child does before it becomes the command: ask to be killed when `parent` ends in any way."""

    def ask() -> None:
        _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)

    return ask
