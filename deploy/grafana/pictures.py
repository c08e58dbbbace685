"""Pictures of the dashboards for the docs: `python -m deploy.grafana.pictures [ANSWERS.json]`.

It runs a rehearsal of the demo's day, asks Prometheus every query of every panel, and draws the answers where
Grafana would put them, into docs/pictures. No Grafana is needed. With a file, the answers are kept there, and
drawn again from it when it exists: for work on the drawing alone.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import matplotlib

matplotlib.use("Agg")

from deploy.grafana.asking import Question, Series, ask, put, questions
from deploy.grafana.drawing import draw
from deploy.grafana.rehearsal import SCRAPE_S, rehearsing

BOARDS: Final = Path(__file__).parent / "dashboards"
PICTURES: Final = Path(__file__).parents[2] / "docs/pictures"
TAKES_S: Final = 100.0
RARE_EVERY_S: Final = 8.0
AFTER_S: Final = 15.0
"""So long after the last message, everything is counted and told."""
VARIABLES: Final = {"window": "24h", "source": ".*", "topic": ".*", "severity": ".*"}

Answers = dict[str, list[Series]]


def boards() -> list[dict[str, Any]]:
    """The dashboards as Grafana reads them."""
    return [json.loads(path.read_text("utf-8")) for path in sorted(BOARDS.glob("*.json"))]


def key(board: str, panel: str, letter: str) -> str:
    """The place of a query in the answers."""
    return f"{board}/{panel}/{letter}"


def collect() -> Answers:
    """What every query of a rehearsal answers at its end."""
    with (
        tempfile.TemporaryDirectory(prefix="ovoz-pictures-") as folder,
        rehearsing(Path(folder), TAKES_S, RARE_EVERY_S) as running,
    ):
        time.sleep(max(running.began + TAKES_S + AFTER_S - time.time(), 0))
        now = time.time()

        def answer(question: Question) -> list[Series]:
            expression = put(question.expression, VARIABLES, SCRAPE_S)
            return ask(running.prometheus, question, expression, since=running.began, until=now, step_s=SCRAPE_S)

        return {key(*question.where): answer(question) for board in boards() for question in questions(board)}


def save(answers: Answers, path: Path) -> None:
    """Keep the answers."""
    data = {name: [[dict(one.labels), one.samples] for one in found] for name, found in answers.items()}
    path.write_text(json.dumps(data), "utf-8")


def read(path: Path) -> Answers:
    """What `save` kept."""
    data: Mapping[str, Sequence[Any]] = json.loads(path.read_text("utf-8"))
    return {
        name: [Series(labels, tuple((at, value) for at, value in samples)) for labels, samples in found]
        for name, found in data.items()
    }


def main(arguments: Sequence[str]) -> None:
    """See the module."""
    kept = Path(arguments[0]) if arguments else None
    if kept is not None and kept.exists():
        answers = read(kept)
    else:
        answers = collect()
        if kept is not None:
            save(answers, kept)
    PICTURES.mkdir(exist_ok=True)
    for board in boards():
        path = PICTURES / f"{board['uid']}.png"

        def of(panel: str, letter: str, title: str = board["title"]) -> list[Series]:
            return answers.get(key(title, panel, letter), [])

        draw(board, of, path)
        print(f"wrote {path.name}, {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main(sys.argv[1:])
