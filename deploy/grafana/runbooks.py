"""The runbooks as pages of Grafana, a dashboard of one text each: at hand where the alert is seen.

Its uid is the alert's name, so that a table of alerts can link to it: `/d/OvozNoWorker`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from grafana_foundation_sdk.builders import text
from grafana_foundation_sdk.builders.dashboard import Dashboard, DashboardLink
from grafana_foundation_sdk.models.dashboard import DashboardLinkType
from grafana_foundation_sdk.models.text import TextMode

from deploy.grafana.panels import RUNBOOK_TAG, TAG

PAGES: Final = Path(__file__).parents[2] / "docs/runbooks"


def dashboards() -> Iterator[tuple[str, Dashboard]]:
    """The name of each alert, and its page."""
    for page in sorted(PAGES.glob("Ovoz*.md")):
        name, content = page.stem, page.read_text("utf-8").partition("\n")[2].strip()
        content = re.sub(r"\]\((Ovoz\w+)\.md\)", r"](/d/\1)", content)
        made = Dashboard(name).uid(name).tags([RUNBOOK_TAG]).readonly().description(f"What to do about {name}.")
        made.link(DashboardLink("Ovoz").type(DashboardLinkType.DASHBOARDS).tags([TAG]).as_dropdown(False))
        panel = text.Panel().title(name).mode(TextMode.MARKDOWN).content(content)
        yield name, made.with_panel(panel.span(24).height(22))
