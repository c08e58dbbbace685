"""`ovoz check`: every fault of the settings and of the alert rules."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipeline.cli.shared import DONE, FAILED, command

if TYPE_CHECKING:
    from pipeline.settings_file import Loaded


@command("check", short_help="Find every fault in the settings and rules.")
@click.option("--show", is_flag=True, help="Also print each value and where it came from; secrets are masked.")
def check(show: bool, config: Path | None) -> int:
    """Read the settings, the tables of connectors and the rule file and print every fault, with file and line and
    what to write instead.

    \b
    Example:
        ovoz check --config production.toml --show
    """
    from pipeline.connector_build import faults as connector_faults
    from pipeline.settings import SettingsError
    from pipeline.settings_file import read

    faults: list[str] = []
    loaded: Loaded | None = None
    try:
        loaded = read(config, os.environ)
    except SettingsError as error:
        faults += [str(fault) for fault in error.faults]
    rules, count = (loaded.settings.alerts.rules if loaded else None), 0
    if loaded is not None:
        topics, found = model_faults(loaded)
        faults += found
        count, found = rule_faults(rules, topics)
        faults += found
        faults += list(_unknown_services(loaded))
        faults += [str(fault) for table in loaded.settings.connector for fault in connector_faults(table, os.environ)]
    for fault in faults:
        click.echo(fault, err=True)
    if loaded is not None and show:
        for line in _values(loaded):
            click.echo(line)
    if faults:
        click.echo(f"{len(faults)} fault{'s' if len(faults) != 1 else ''}", err=True)
        return FAILED
    read_from = f"read {loaded.file}" if loaded and loaded.file else "no settings file: the defaults hold"
    used = sum(origin.startswith("OVOZ_") for origin in loaded.origins.values()) if loaded else 0
    whose = rules or "those of Ovoz"
    driven = len(loaded.settings.connector) if loaded else 0
    click.echo(
        f"{read_from}, {used} environment variables, {count} alert rules ({whose}), {driven} connectors: no faults"
    )
    return DONE


def model_faults(loaded: Loaded) -> tuple[tuple[str, ...], list[str]]:
    """What topics the model can say, none where its files are wrong, and what is wrong with them."""
    from models.classifier import ModelError
    from pipeline.model import labels_of

    try:
        return labels_of(loaded.settings.model), []
    except ModelError as error:
        named = [key for key in ("topics", "path") if loaded.origins["model", key] != "default"]
        where = loaded.origins["model", named[0]] if named else "model"
        return (), [f"{where}: {error}"]


def rule_faults(file: Path | None, topics: Collection[str] = ()) -> tuple[int, list[str]]:
    """The number of rules in a rule file (None: the shipped one), and its faults as lines.

    `topics`: what the model can say, where known.
    """
    from alerts.rule import DEFAULT_FILE, parse
    from connectors.feedback import CHANNELS
    from pipeline.settings_file import parse as parse_toml
    from pipeline.toml_lines import line_of

    file = file or DEFAULT_FILE
    if not file.exists():
        return 0, []
    try:
        source = file.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        return 0, [f"{file}: found bytes that are no UTF-8 at position {error.start}; write instead: the file as UTF-8"]
    data, syntax = parse_toml(source, str(file))
    rules, faults = parse(str(file), data, line_of(source), topics=topics, channels=CHANNELS)
    return len(rules), [*map(str, syntax), *map(str, faults)]


def _unknown_services(loaded: Loaded) -> Iterator[str]:
    """Notification addresses that Apprise does not know; only their number is named, they hold secrets."""
    urls = loaded.settings.alerts.apprise
    if not urls:
        return
    from apprise import Apprise

    for index, url in enumerate(urls):
        if Apprise.instantiate(url, suppress_exceptions=True) is None:
            yield (
                f"{loaded.origins['alerts', 'apprise']}: alerts.apprise[{index}]: found "
                f"{url.partition('://')[0]}:// …, expected the address of a service that Apprise knows; "
                "write instead: see https://github.com/caronc/apprise#supported-notifications"
            )


def _values(loaded: Loaded) -> Iterator[str]:
    from pipeline.settings_file import sections, toml
    from pipeline.settings_kinds import hide_password

    for section, cls in sections():
        yield f"[{section}]"
        for field in fields(cls):
            value = getattr(getattr(loaded.settings, section), field.name)
            key = field.metadata.get("key")
            if field.name == "tokens":
                shown = f"{len(value)} ({', '.join(token.name for token in value)})" if value else "none"
            elif value is None or value == ():
                shown = "none"
            elif key is not None and key.kind.secret and field.name == "apprise":
                shown = toml([f"{url.partition('://')[0]}://…" for url in value])
            elif key is not None and key.kind.secret:
                shown = toml([hide_password(u) for u in value] if isinstance(value, tuple) else hide_password(value))
            else:
                shown = toml(value)
            yield f"{field.name} = {shown}  # {loaded.origins[section, field.name]}"
