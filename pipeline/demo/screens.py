"""Where the demo shows itself: a terminal, or plain lines."""

from __future__ import annotations

import time
from typing import Final, Protocol

from rich.console import Console
from rich.live import Live
from rich.status import Status
from rich.text import Text

from pipeline.demo.day import clock
from pipeline.demo.paint import ACCENT, DIM, GOOD
from pipeline.demo.receiver import Notice
from pipeline.demo.view import Scene, View

PLAIN_EVERY_S: Final = 4.0


class Screen(Protocol):
    """Told of everything, shows what fits it."""

    def waiting(self, text: str) -> None:
        """What is being waited for."""
        ...

    def done(self, text: str) -> None:
        """A step of the start that is done."""
        ...

    def show(self, scene: Scene) -> None:
        """The newest scene, several times a second."""
        ...

    def notice(self, notice: Notice, clock_s: float) -> None:
        """A notification that was received when the clock of the day stood there."""
        ...

    def close(self) -> None:
        """Give the terminal back. Lines may follow."""
        ...

    def line(self, text: str | Text = "") -> None:
        """A line that stays."""
        ...


class PlainScreen:
    """Lines, for pipes, logs and terminals that can do no more."""

    def __init__(self) -> None:
        self._shown_s = 0.0
        self._phase = ""

    def waiting(self, text: str) -> None:
        """A line."""
        self.line(f"  … {text}")

    def done(self, text: str) -> None:
        """A line."""
        self.line(f"  ✓ {text}")

    def show(self, scene: Scene) -> None:
        """A line every few seconds."""
        now_s = time.monotonic()
        if scene.phase == self._phase and now_s - self._shown_s < PLAIN_EVERY_S:
            return
        self._shown_s, self._phase = now_s, scene.phase
        reading, health = scene.reading, scene.reading.health
        items = reading.replayed + reading.own
        negative = sum(shares[0] for shares in reading.topics.values())
        latency = "–" if health.p99_s is None else f"{health.p99_s * 1000:.0f} ms"
        self.line(
            f"{clock(scene.clock_s)}  {items:>4} items  {reading.rate:>5.1f}/s  "
            f"negative {negative / max(items, 1):>4.0%}  p99 {latency}  lag {health.lag}  "
            f"unaccounted {health.unaccounted}  [{scene.phase}]"
        )

    def notice(self, notice: Notice, clock_s: float) -> None:
        """The whole notice."""
        word = "RESOLVED" if notice.resolved else "FIRING"
        self.line(f"{clock(clock_s)}  ALERT {word}: {notice.title}")
        for line in notice.text.splitlines():
            if line.strip():
                self.line(f"       | {line.strip()}")

    def close(self) -> None:
        """Nothing to give back."""

    def line(self, text: str | Text = "") -> None:
        """Print it at once, also into a pipe."""
        print(text.plain.rstrip() if isinstance(text, Text) else text, flush=True)


class LiveScreen:
    """A start-up with a spinner, then the view on the terminal's other screen."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._status: Status | None = None
        self._live: Live | None = None

    def waiting(self, text: str) -> None:
        """Beside the spinner."""
        if self._status is None:
            self._status = self._console.status("", spinner="dots", spinner_style=ACCENT)
            self._status.start()
        self._status.update(Text(text, DIM))

    def done(self, text: str) -> None:
        """A line with a tick."""
        self.line(Text.assemble(("✓ ", GOOD), text))

    def show(self, scene: Scene) -> None:
        """Draw the view anew: without clearing, so that nothing flickers."""
        if self._live is None:
            self._end_status()
            self._live = Live(console=self._console, screen=True, auto_refresh=False, vertical_overflow="crop")
            self._live.start()
        self._live.update(View(scene), refresh=True)

    def notice(self, notice: Notice, clock_s: float) -> None:
        """The view shows alerts by itself."""

    def close(self) -> None:
        """Back to the terminal's own screen."""
        self._end_status()
        if self._live is not None:
            self._live.stop()
            self._live = None

    def line(self, text: str | Text = "") -> None:
        """Print it."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def _end_status(self) -> None:
        if self._status is not None:
            self._status.stop()
            self._status = None
