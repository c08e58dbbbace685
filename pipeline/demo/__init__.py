"""The demo: one day of feedback, compressed into a minute or two, through the whole pipeline."""

from __future__ import annotations

from pathlib import Path


def run(
    *,
    seconds: float | None = None,
    plain: bool | None = None,
    alertmanager: str | None = None,
    keep: Path | None = None,
    port: int = 0,
) -> int:
    """Run the demo; its exit status: 0 all well, 1 not, 130 ended early.

    `seconds`: it ends by itself within them; None: with Ctrl-C. `plain` None: lines unless there is a
    terminal. `alertmanager`: the URL of one that is told too. `keep`: a new folder for settings, logs and
    database, which stays. `port` of the intake; 0 takes a free one.
    """
    from rich.console import Console

    from pipeline.demo.screens import LiveScreen, PlainScreen
    from pipeline.demo.stage import Options, perform

    console = Console()
    lines = not console.is_terminal or console.is_dumb_terminal if plain is None else plain
    options = Options(seconds=seconds, port=port, alertmanager=alertmanager, keep=keep)
    return perform(options, PlainScreen() if lines else LiveScreen(console))
