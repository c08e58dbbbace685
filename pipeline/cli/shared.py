"""What every command has: `--config`, `--debug`, settings, and faults that are said in one sentence."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

if TYPE_CHECKING:
    from pipeline.settings import Settings

F = TypeVar("F", bound=Callable[..., Any])

DONE: Final = 0
FAILED: Final = 1
INTERRUPTED: Final = 130


class Failed(click.ClickException):
    """The command did not do what it was asked; exit status 1. The message says cause, place and remedy."""

    exit_code = FAILED

    def show(self, file: Any = None) -> None:
        """Print the message to stderr."""
        click.echo(f"ovoz: {self.message}", err=True)


def command(name: str, **attributes: Any) -> Callable[[Callable[..., Any]], click.Command]:
    """A click command with `--config` (passed as `config`) and `--debug`."""

    def make(function: Callable[..., Any]) -> click.Command:
        made: click.Command = click.command(name, cls=click.Command, **attributes)(with_config(function))
        return made

    return make


def with_config(function: F) -> F:
    """Add `--config FILE` and `--debug`."""

    def remember(context: click.Context, _: click.Parameter, value: bool) -> None:
        if value:
            context.find_root().meta["ovoz.debug"] = True

    debug = click.option(
        "--debug", is_flag=True, expose_value=False, callback=remember, help="Show the traceback of a failure."
    )
    config = click.option(
        "--config",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="Settings file; default: OVOZ_CONFIG, else ovoz.toml here if it is there.",
    )
    return config(debug(function))


def settings_of(config: Path | None) -> Settings:
    """The settings of this process. Raises SettingsError."""
    from pipeline.settings import load

    return load(config, os.environ)


def one_line(text: str, limit: int = 300) -> str:
    """Text from outside as one printable line, so that it cannot move the cursor of a terminal."""
    line = "".join(c if c.isprintable() else " " for c in text[: limit + 1])
    return line[:limit] + "…" if len(line) > limit else line


def stop_on_sigterm() -> None:
    """Let SIGTERM end a command as Ctrl-C does, with exit status 0."""

    def stop(*_: object) -> None:
        raise SystemExit(DONE)

    signal.signal(signal.SIGTERM, stop)
