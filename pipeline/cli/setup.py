"""`ovoz init` and `ovoz token`."""

from __future__ import annotations

import hashlib
import re
import secrets
from pathlib import Path

import click

from pipeline.cli.shared import DONE, Failed, command


@command("init", short_help="Write a commented ovoz.toml.")
@click.option("--path", type=click.Path(path_type=Path, dir_okay=False), default="ovoz.toml", show_default=True,
              help="Where to write it.")  # fmt: skip
@click.option("--force", is_flag=True, help="Replace a file that is there already.")
def init(path: Path, force: bool, config: Path | None) -> int:
    """Write a settings file with every key, its default and what it means.

    --config names the file as well as --path does.

    \b
    Example:
        ovoz init
        ovoz check
    """
    from pipeline.cli.template import settings_file

    path = config or path
    try:
        with path.open("w" if force else "x", encoding="utf-8") as out:
            out.write(settings_file())
    except FileExistsError:
        raise Failed(f"{path} is there already: pass --force to replace it, or --path for another") from None
    named = "" if path == Path("ovoz.toml") else f" --config {path}"
    click.echo(f"wrote {path}; every value in it is the default. Next: ovoz check{named}")
    return DONE


@command("token", short_help="Make a bearer token for the intake.")
@click.argument("name")
def token(name: str, config: Path | None) -> int:
    """Make a bearer token for a client called NAME, or a password of /quotes, and print it, once.

    Only its SHA-256 goes into the settings file, so the token itself cannot be shown again.

    \b
    Example:
        ovoz token shop
        curl -H "Authorization: Bearer $TOKEN" … http://HOST:8080/v1/feedback
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}", name):
        raise click.UsageError("NAME must be 1-63 letters, digits, _ . or -, starting with a letter or digit")
    secret = f"ovoz_{secrets.token_urlsafe(32)}"
    digest = hashlib.sha256(secret.encode()).hexdigest()
    click.echo(f"# The token, for the client; it is not shown again:\n{secret}\n")
    click.echo(f'# For ovoz.toml:\n[[ingest.tokens]]\nname = "{name}"\nsha256 = "{digest}"\n')
    click.echo(f'# Or, as the password of /quotes at each worker:\n[worker]\nquotes_token_sha256 = "{digest}"')
    return DONE
