"""The `ovoz` group: finds each command when it is asked for, and turns faults into exit statuses."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module
from typing import Final

import click

from pipeline.cli.shared import DONE, FAILED, INTERRUPTED

# name → (module in pipeline.cli, what it does in a few words); in the order of first use
COMMANDS: Final = {
    "init": ("setup", "Write a commented ovoz.toml."),
    "token": ("setup", "Make a bearer token for the intake."),
    "check": ("check", "Find every fault in the settings and rules."),
    "demo": ("services", "Show everything at work, on one machine."),
    "broker": ("services", "Run the embedded broker."),
    "ingest": ("services", "Run the HTTP intake and the connectors."),
    "worker": ("services", "Run a worker: classify and count."),
    "connectors": ("connectors", "List connectors, show and test them."),
    "backfill": ("backfill", "Take in what was said before."),
    "replay": ("replay", "Send files of feedback through the pipeline."),
    "classify": ("classify", "Score texts on the terminal."),
    "topics": ("topics", "Teach and list topics."),
    "evaluate": ("evaluate", "Measure the model on labelled texts."),
    "train": ("train", "Train a model from labelled texts."),
    "status": ("status", "Show lag, rates, sources and alerts."),
    "quotes": ("quotes", "Show the worst of what was said lately."),
    "alerts": ("alerts", "List, show, test, backtest and tune alerts."),
    "audit": ("audit", "Compare broker, ledger, items and counts."),
    "dead": ("dead", "List, show and put back dead letters."),
    "store": ("audit", "Look after the database."),
}
OWN_PACKAGES: Final = ("pipeline", "connectors", "models", "alerts")


class Lazy(click.Group):
    """Imports the module of a command only when that command is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names, in the order of first use."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """The command of this name."""
        if name not in COMMANDS:
            return None
        found = getattr(import_module(f"pipeline.cli.{COMMANDS[name][0]}"), name)
        assert isinstance(found, click.Command)  # noqa: S101
        return found

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Click's own, which names the nearest command for a misspelt one."""
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The table of commands, without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group("ovoz", cls=Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="ovoz", prog_name="ovoz")
@click.option("--debug", is_flag=True, help="Show the traceback of a failure.")
@click.pass_context
def ovoz(context: click.Context, debug: bool) -> None:
    """Hear customers in real time: feedback in, exact numbers and explained alerts out.

    \b
    A first look:            ovoz demo
    One text:                ovoz classify "Kuryer kelmadi"
    On this machine, each in a terminal of its own:
        ovoz init && ovoz check
        ovoz broker
        ovoz worker
        ovoz ingest
        ovoz replay reviews.csv --source reviews --map text=body

    Exit status: 0 done, 1 failed, 2 wrong usage, 130 ended with Ctrl-C.
    """
    if debug:
        context.meta["ovoz.debug"] = True


def run(arguments: Sequence[str]) -> int:
    """Run one command line; the exit status. Nothing leaves as an exception."""
    context: click.Context | None = None
    try:
        with ovoz.make_context("ovoz", list(arguments)) as context:
            result = ovoz.invoke(context)
            sys.stdout.flush()
            return result if isinstance(result, int) else DONE
    except click.exceptions.Exit as end:
        return end.exit_code
    except (KeyboardInterrupt, click.Abort):
        click.echo("ovoz: ended with Ctrl-C", err=True)
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has seen enough; the interpreter must not complain about it at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except click.ClickException as error:
        if _debug(context):
            traceback.print_exc()
        error.show()
        return error.exit_code
    except Exception as error:
        return _failure(error, _debug(context))


def _failure(error: Exception, debug: bool) -> int:
    """Say what failed. An exception class of our own, or of the operating system, is an expected fault."""
    expected = type(error).__module__.split(".")[0] in OWN_PACKAGES
    if debug or not (expected or isinstance(error, OSError)):
        traceback.print_exception(error)
    if isinstance(error, OSError) and error.filename is not None:
        click.echo(f"ovoz: {os.fsdecode(error.filename)}: {error.strerror}", err=True)
    elif expected or isinstance(error, OSError):
        lines = str(error).splitlines() or [type(error).__name__]
        for line in lines:
            click.echo(f"ovoz: {line}", err=True)
        if type(error).__name__ == "BrokerAway":
            click.echo("ovoz: start the broker (`ovoz broker`) or set [kafka] bootstrap", err=True)
    else:
        click.echo(f"ovoz: this should not happen, please report it: {error!r}", err=True)
    return FAILED


def _debug(context: click.Context | None) -> bool:
    return "--debug" in sys.argv[1:] if context is None else bool(context.meta.get("ovoz.debug"))
