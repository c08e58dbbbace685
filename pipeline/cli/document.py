"""`python -m pipeline.cli.document [FOLDER]` writes commands.md, configuration.md and connectors/ (default: docs)."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from connectors.registry import declaration, names
from pipeline.cli.root import ovoz
from pipeline.cli.template import reference
from pipeline.connector_page import index, page

WRITING = "writing-one.md"
_HEAD = """\
# Commands

<!-- Made by `python -m pipeline.cli.document`; change the commands in pipeline/cli instead. -->

Exit status of all: 0 done, 1 failed, 2 wrong usage, 130 ended with Ctrl-C.
"""


def commands() -> str:
    """docs/commands.md: the help of every command, as the terminal shows it."""
    parts = [_HEAD]
    for path, command in _walk("ovoz", ovoz, None):
        settings: dict[str, Any] = {**ovoz.context_settings, "max_content_width": 100, "terminal_width": 100}
        with click.Context(command, info_name=path, **settings) as context:
            parts.append(f"\n## {path}\n\n```text\n{command.get_help(context)}\n```\n")
    return "".join(parts)


def connector_pages() -> dict[str, str]:
    """The files of docs/connectors that are made from the declarations, by name."""
    declared = [declaration(name) for name in names()]
    return {"README.md": index(declared)} | {f"{one.name}.md": page(one) for one in declared}


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
    """Write all of them; pages of connectors that are no more are taken away."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "docs")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "commands.md").write_text(commands(), "utf-8")
    (folder / "configuration.md").write_text(reference(), "utf-8")
    own = folder / "connectors"
    own.mkdir(exist_ok=True)
    pages = connector_pages()
    for name, text in pages.items():
        (own / name).write_text(text, "utf-8")
    for stale in {file.name for file in own.glob("*.md")} - {*pages, WRITING}:
        (own / stale).unlink()


if __name__ == "__main__":
    main()
