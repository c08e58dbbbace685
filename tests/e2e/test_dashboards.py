"""Every query of every dashboard on a real Prometheus that scrapes a real worker and a real intake."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Final

import pytest

from deploy.grafana.asking import Question, ask, put, questions
from deploy.grafana.rehearsal import SCRAPE_S, RehearsalError, program, rehearsing

BOARDS: Final = Path(__file__).parents[2] / "deploy/grafana/dashboards"
WITHIN_S: Final = 240.0
# What is empty is shown as zero; that the zero is one is no proof that the query before it ever finds anything.
EMPTY_IS_ZERO: Final = " or vector(0)"


def asked() -> list[Question]:
    """All of them, and the Voice of the customer's for each window of event time."""
    return [
        question
        for path in sorted(BOARDS.glob("*.json"))
        for question in questions(json.loads(path.read_text("utf-8")))
    ]


def windows(question: Question) -> tuple[str, ...]:
    return ("5m", "1h", "24h") if "$window" in question.expression else ("",)


@pytest.fixture(autouse=True)
def programs() -> None:
    try:
        for names in (("prometheus",), ("prometheus-alertmanager", "alertmanager")):
            program(*names)
    except RehearsalError as error:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(str(error))


@pytest.mark.slow
@pytest.mark.prometheus
@pytest.mark.timeout(420)
def test_every_query_of_every_panel_variable_and_annotation_returns_data_under_the_demo_load(tmp_path: Path) -> None:
    waiting = {(question.where, window): question for question in asked() for window in windows(question)}
    assert len({board for (board, _, _), _ in waiting}) == 3
    with rehearsing(tmp_path) as running:
        deadline = time.monotonic() + WITHIN_S
        while waiting and time.monotonic() < deadline:
            now = time.time()
            for (where, window), question in list(waiting.items()):
                variables = {"window": window, "source": ".*", "topic": ".*", "severity": ".*"}
                expression = put(question.expression.replace(EMPTY_IS_ZERO, ""), variables, SCRAPE_S)
                found = ask(running.prometheus, question, expression, since=now - 15, until=now, step_s=SCRAPE_S)
                # A legend of a label that no series has would be blank.
                if any(all(series.labels.get(label) for label in question.labels) for series in found):
                    del waiting[where, window]
            time.sleep(1)
    assert not waiting, "no data: " + "\n".join(f"{key}: {one.expression}" for key, one in waiting.items())
