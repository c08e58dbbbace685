"""`ovoz.toml` and docs/configuration.md, both made from the settings classes."""

from __future__ import annotations

import textwrap

from pipeline.settings_file import keys, sections, toml
from pipeline.settings_kinds import Key

_HEAD = """\
# Settings of Ovoz. Every value here is the default: change what you need, delete the rest.
# Check it with `ovoz check`. An environment variable OVOZ_<SECTION>_<KEY> overrides a line,
# such as OVOZ_KAFKA_BOOTSTRAP; OVOZ_CONFIG names another file than ovoz.toml.
# Paths are relative to the folder that a command is started in.
"""
_TOKENS = """
# Bearer tokens of the intake; `ovoz token NAME` makes one and prints these lines.
# [[ingest.tokens]]
# name = "shop"
# sha256 = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
"""

_CONNECTORS = """
# What to listen to: `ovoz connectors` lists what there is, `ovoz connectors show NAME` prints such a table.
# [[connector]]
# use = "rss"
# name = "forum"
# every = "5m"
"""


def settings_file() -> str:
    """A commented settings file that holds every default; keys without one are shown as comments."""
    parts = [_HEAD]
    for section, cls in sections():
        parts.append(f"\n# {_about(cls)}\n[{section}]\n")
        for field, key in keys(cls):
            parts += [f"# {line}\n" for line in textwrap.wrap(f"{key.help} {_range(key)}".strip(), 98)]
            if field.default in (None, ()):
                parts.append(f"# {field.name} = {toml(key.example)}\n")
            else:
                parts.append(f"{field.name} = {toml(field.default)}\n")
        if section == "ingest":
            parts.append(_TOKENS)
    parts.append(_CONNECTORS)
    return "".join(parts)


def reference() -> str:
    """docs/configuration.md."""
    parts = [_INTRODUCTION]
    for section, cls in sections():
        parts.append(f"\n## [{section}]\n\n{_about(cls)}\n\n")
        parts.append("| Key | Default | Expected | What it does |\n|---|---|---|---|\n")
        for field, key in keys(cls):
            default = "none" if field.default in (None, ()) else f"`{toml(field.default)}`"
            cells = (f"`{field.name}`", default, key.kind.expected, key.help)
            parts.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n")
        if section == "ingest":
            parts.append(
                "| `tokens` | none | tables headed `[[ingest.tokens]]` with `name` and `sha256` | "
                "Bearer tokens; `ovoz token NAME` makes one. As a variable: "
                "`OVOZ_INGEST_TOKENS=NAME:SHA256,NAME:SHA256`. |\n"
            )
    parts.append(_CONNECTOR_REFERENCE)
    return "".join(parts)


_CONNECTOR_REFERENCE = """
## [[connector]]

One table for each thing to listen to; [connectors](connectors/README.md) lists them with their own keys.

| Key | Default | Expected | What it does |
|---|---|---|---|
| `use` | must be set | a connector's name, or `package.module:name` | What it connects to. |
| `name` | as `use` | 1-63 characters of a-z 0-9 _ . - | This instance; part of each item's identity. |
| `workspace` | `"default"` | the same | Whose feedback it is. |
| `every` | the connector's | a time such as `"5m"` | From one poll to the next. |
| `modes` | all it has | some of `"poll"`, `"stream"`, `"webhook"` | Only these sides of it. |
| `max_body_bytes` | `1048576` | 1024 to 16777216 | Largest body of a webhook request. |
"""
_INTRODUCTION = """\
# Configuration

<!-- Made by `python -m pipeline.cli.document`; change pipeline/settings.py instead. -->

Settings come from a TOML file and from the environment. The file is what `--config` names, or else the
variable `OVOZ_CONFIG`, or else `ovoz.toml` in the current folder, if it is there. Without any, the defaults
below run everything on one machine. `ovoz init` writes a file with all of them, `ovoz check` finds every
fault in it, and `ovoz check --show` prints each value with the place that it came from.

- `OVOZ_<SECTION>_<KEY>` overrides a key: `OVOZ_KAFKA_BOOTSTRAP=kafka:9092`. Lists are written with commas:
  `OVOZ_ALERTS_APPRISE=tgram://…,mailto://…`. An empty variable counts as not set.
- `OVOZ_<SECTION>_<KEY>_FILE` names a file that holds the value, for the keys that may hold a secret
  (`store.url`, `alerts.apprise`, `alerts.alertmanager`, `alerts.dashboard_url`).
- Paths are relative to the folder that the command is started in.
- Passwords and tokens never appear in an error message or in the output of `ovoz check`.
"""


def _about(cls: type) -> str:
    return " ".join((cls.__doc__ or "").split())


def _range(key: Key) -> str:
    """The bounds of a number, which its help does not repeat."""
    expected = key.kind.expected
    return f"({expected})" if "number" in expected else ""
