"""`ovoz backfill`: what was said before a connector was set up, or while it was away too long."""

from __future__ import annotations

import os
import signal
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipeline.cli.connectors import table_of
from pipeline.cli.shared import DONE, FAILED, INTERRUPTED, Failed, command, settings_of

if TYPE_CHECKING:
    from pipeline.backfill import Told


@command("backfill", short_help="Take in what was said before.")
@click.argument("name")
@click.option("--since", required=True, metavar="DATE", help="From this day (UTC) or moment on, such as 2026-01-01.")
@click.option("--again", is_flag=True, help="Begin anew although it was done, or begun, before.")
def backfill(name: str, since: str, again: bool, config: Path | None) -> int:
    """Take in what customers said since DATE at the connector instance NAME, up to now.

    Items keep the time at which they were said and never fire live alerts; what is known already counts once. It
    goes on where it was broken off, waits while the workers are behind, and leaves half of the service's quota to
    the live connector.

    \b
    Example:
        ovoz backfill shop --since 2026-01-01
    """
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    moment = moment_of(since)
    settings = settings_of(config)
    table = table_of(settings, name)
    from pipeline.backfill import run

    console = Console(stderr=True)
    with Progress(SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn(), console=console) as shown:
        bar = shown.add_task(f"{name}: asking")

        def told(so_far: Told) -> None:
            reached = f", reached {so_far.newest:%Y-%m-%d %H:%M}" if so_far.newest else ""
            waiting = f"; {so_far.waiting}" if so_far.waiting else ""
            shown.update(bar, description=f"{name}: {so_far.items:,} items{reached}{waiting}")

        outcome = run(settings, table, moment, os.environ, again=again, told=told)
    if outcome.state == "done":
        click.echo(f"{name}: {outcome.items:,} items since {moment:%Y-%m-%d} are in; nothing more to fetch")
        return DONE
    if outcome.state == "interrupted":
        click.echo(f"{name}: broken off after {outcome.items:,} items; the same command goes on from there", err=True)
        return 128 + signal.SIGTERM if outcome.terminated else INTERRUPTED
    click.echo(f"ovoz: {name}: {outcome.message}", err=True)
    return FAILED


def moment_of(text: str) -> datetime:
    """A day or moment in UTC. Raises Failed."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise Failed(f"--since {text!r} is no date: write one such as 2026-01-01 or 2026-01-01T09:00Z") from None
    found = found if found.tzinfo else found.replace(tzinfo=UTC)
    if found >= datetime.now(UTC):
        raise Failed(f"--since {text} lies in the future")
    return found.astimezone(UTC)
