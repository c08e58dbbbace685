"""Writes the dashboards that Grafana is provisioned with: `python -m deploy.grafana.dashboards`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from grafana_foundation_sdk.builders.dashboard import Dashboard
from grafana_foundation_sdk.cog.encoder import JSONEncoder

from deploy.grafana import alert_desk, health, runbooks, voice

FOLDER: Final = Path(__file__).parent / "dashboards"
RUNBOOKS: Final = Path(__file__).parent / "runbooks"


def files() -> Iterator[tuple[Path, str]]:
    """Each file that Grafana reads, and what is in it."""
    for module in (voice, alert_desk, health):
        yield FOLDER / f"{module.UID}.json", text(module.dashboard())
    for name, made in runbooks.dashboards():
        yield RUNBOOKS / f"{name}.json", text(made)


def text(made: Dashboard) -> str:
    """A dashboard as JSON."""
    board = made.build()
    # Links to a panel hold its number, so it must not depend on what Grafana makes up.
    for number, panel in enumerate(board.panels or [], start=1):
        panel.id_val = number
    return JSONEncoder(sort_keys=True, indent=2).encode(board) + "\n"


if __name__ == "__main__":
    for path, content in files():
        path.write_text(content, encoding="utf-8")
