"""`python -m pipeline.cli.document [FOLDER]` writes commands.md and configuration.md (default: docs)."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from pipeline.cli.root import ovoz
from pipeline.cli.template import reference

_HEAD = """\
# Commands

<!-- Made by `python -m pipeline.cli.document`; change the commands in pipeline/cli instead. -->

Exit status of all: 0 done, 1 failed, 2 wrong usage, 130 ended with Ctrl-C.
"""


def commands() -> str:
    """docs/commands.md: the help of every command, as the terminal shows it."""
    parts = [_HEAD]
    for path, command in _walk("ovoz", ovoz, None):
        with click.Context(command, info_name=path, max_content_width=100, terminal_width=100) as context:
            parts.append(f"\n## {path}\n\n```text\n{command.get_help(context)}\n```\n")
    return "".join(parts)


def _walk(path: str, command: click.Command, parent: click.Context | None) -> list[tuple[str, click.Command]]:
    found = [(path, command)]
    if isinstance(command, click.Group):
        context = click.Context(command, parent=parent)
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            if inner is not None:
                found += _walk(f"{path} {name}", inner, context)
    return found


def main() -> None:
    """Write both files."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "docs")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "commands.md").write_text(commands(), "utf-8")
    (folder / "configuration.md").write_text(reference(), "utf-8")


if __name__ == "__main__":
    main()
