"""What is written about a connector: its commented table for ovoz.toml, and its page under docs/connectors. Pure."""

from __future__ import annotations

import textwrap
from typing import Any, Final, get_args

from connectors.option import Option, Secret, options
from connectors.registry import Declaration
from pipeline.settings_file import toml

WIDTH: Final = 98


def sample(declared: Declaration) -> str:
    """What a service gives: a sample of what was said, or all of it."""
    return "samples" if declared.sample else "all that is said"


def config(declared: Declaration) -> str:
    """A commented [[connector]] table; what has a default stands as a comment."""
    lines = [f"# {declared.title}: {', '.join(declared.modes)}; gives {sample(declared)}."]
    lines += _comment(f"Resuming: {declared.cursor}")
    for limit in declared.limits:
        lines += _comment(f"Limit: {limit}")
    lines += _comment(f"Documentation: {declared.source}")
    lines += [
        "[[connector]]",
        f"use = {toml(declared.name)}",
        f"name = {toml(declared.name)}  # of this instance; part of each item's identity",
        '# workspace = "default"',
    ]
    if "poll" in declared.modes:
        lines.append(f"# every = {toml(_every(declared.every_s))}  # from one poll to the next")
    if "webhook" in declared.modes:
        lines.append(f"# repeats = {toml(_every(max(declared.repeats_s, 1.0)))}  # for so long the service calls again")
    if len(declared.modes) > 1:
        lines.append(f"# modes = {toml(list(declared.modes))}  # only some of them")
    if "webhook" in declared.modes:
        lines += _comment(f"Give the service this address: https://YOUR-HOST/v1/hooks/{declared.name}")
    known = options(declared.config)
    first_choice = {about.instead_of for about, _, _ in known.values()}
    for name, (about, kind, required) in known.items():
        lines += _comment(about.help + _bounds(about))
        mark = "" if required or name in first_choice else "# "
        lines.append(f"{mark}{name} = {_example(about, kind)}")
    return "\n".join(lines) + "\n"


def page(declared: Declaration) -> str:
    """docs/connectors/<name>.md."""
    parts = [
        f"# {declared.title}\n",
        "<!-- Made by `python -m pipeline.cli.document` from the connector's declaration; change that instead. -->\n",
        f"`use = \"{declared.name}\"` · {declared.kind} · {', '.join(declared.modes)} · gives {sample(declared)} · "
        f"items come as channel `{declared.channel}`\n",
        f"**Resuming.** {declared.cursor}\n",
        "**Limits.**\n" + "\n".join(f"- {limit}" for limit in declared.limits) + "\n",
        f"The service's own documentation: <{declared.source}>\n",
        "## Settings\n",
        f"```toml\n{config(declared)}```\n",
        "| Key | Must be set | What it is |\n|---|---|---|",
    ]
    for name, (about, kind, required) in options(declared.config).items():
        secret = " A secret: `env:NAME` or `file:PATH`." if _is_secret(kind) else ""
        default = "yes" if required else "no"
        cell = (about.help + _bounds(about)).replace("|", "\\|")
        parts.append(f"| `{name}` | {default} | {cell}.{secret} |")
    parts.append("")
    parts.append(
        f"`ovoz connectors test NAME` makes one request with your settings and shows what would be taken, writing "
        f"nothing; `ovoz connectors test {declared.name} --against-fake` tries it without the service."
    )
    return "\n".join(parts).replace("\n\n\n", "\n\n") + "\n"


def index(all_of_them: list[Declaration]) -> str:
    """docs/connectors/README.md."""
    rows = [
        f"| [{one.title}]({one.name}.md) | `{one.name}` | {one.kind} | {', '.join(one.modes)} | {sample(one)} |"
        for one in all_of_them
    ]
    return _INDEX + "\n".join(rows) + "\n" + _INDEX_END


def _example(about: Option, kind: Any) -> str:
    if about.example is None:
        return '"env:NAME"' if _is_secret(kind) else '"…"'
    return toml(about.example)


def _is_secret(kind: Any) -> bool:
    return Secret in (kind, *get_args(kind))


def _bounds(about: Option) -> str:
    if about.choices:
        return f" (one of {', '.join(about.choices)})"
    if about.least is not None and about.greatest is not None:
        return f" ({about.least:g} to {about.greatest:g})"
    return ""


def _every(seconds: float) -> str:
    for unit, size in (("h", 3600), ("m", 60)):
        if seconds >= size and seconds % size == 0:
            return f"{seconds / size:g}{unit}"
    return f"{seconds:g}s"


def _comment(text: str) -> list[str]:
    return [f"# {line}" for line in textwrap.wrap(text, WIDTH - 2)]


_INDEX: Final = """\
# Connectors

<!-- Made by `python -m pipeline.cli.document`; change the declarations in connectors/ instead. -->

Each `[[connector]]` table of `ovoz.toml` is one instance of one of these; `ovoz ingest` drives them all. `samples`
are services that show some of what was said and not all of it. `ovoz connectors show NAME` prints a commented table.

| service | `use` | kind | modes | gives |
|---|---|---|---|---|
"""
_INDEX_END: Final = """
- **No gap and no double.** A cursor is saved only after the broker has what came before it; what comes twice counts
  once. A gap that no request can close is kept in the store (`gap`), counted, and marks the times it covers.
- **Own pace.** `Retry-After` and quotas are honoured, rates that are only documented are kept, failures are waited
  out with full jitter, a refusal for good (wrong credentials) stops that connector with one message while the others
  go on.
- **Webhooks** are mounted at `/v1/hooks/<name>`. Set `[ingest] public_url` where a proxy stands before them. They are
  answered only once the broker has what they brought; what takes longer than 2.5 s is answered 503, so that the
  service repeats it. Where nothing but the webhook brings what was said, a time in which no process was open to it
  for longer than the service repeats its calls (`repeats`, as far as it is known) is such a gap, however the last
  process ended.
- **Secrets** stand in the settings as `env:NAME` or `file:PATH` only.
- **Personal data** is taken out before the first write, as `[privacy]` says.
- **Several processes** may run the same settings: one at a time drives each connector (`[ingest] lease_s`), all take
  webhooks.

- **Proved** on servers that others wrote: IMAP on Dovecot, Matrix on Synapse, Bluesky on its personal data server,
  Kafka on Apache Kafka, feeds from a generator. All of them, also those, on imitations that keep the documented rules,
  limits and signatures: `ovoz connectors test NAME --against-fake`. No server with Mastodon's API was found in PyPI,
  npm or Debian 12 on 2026-11-25 (`takahe` on PyPI is another program; Mastodon, Pleroma and GoToSocial are not
  packaged, and GoToSocial was not built from source); Mastodon.py reads and streams our imitation.

[Writing one](writing-one.md) takes one file.
"""
