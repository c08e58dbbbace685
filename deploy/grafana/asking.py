"""The queries of the dashboards as Grafana would ask them, and what a Prometheus answers."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import urlopen

TIMEOUT_S: Final = 20
LABEL_VALUES: Final = re.compile(r"label_values\((\w+), (\w+)\)")
LEGEND_LABEL: Final = re.compile(r"\{\{(\w+)\}\}")


class AskingError(RuntimeError):
    """Prometheus refused a query; says which, and why."""


@dataclass(frozen=True, slots=True)
class Series:
    """Labels, and samples of (Unix seconds, value) without those that are no number."""

    labels: Mapping[str, str]
    samples: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class Question:
    """One query of a dashboard. `where`: dashboard, panel and letter; `kind`: that of the panel."""

    where: tuple[str, str, str]
    kind: str
    expression: str
    instant: bool
    legend: str = ""

    @property
    def labels(self) -> frozenset[str]:
        """The labels that its legend shows."""
        return frozenset(LEGEND_LABEL.findall(self.legend))


def questions(board: Mapping[str, Any]) -> Iterator[Question]:
    """Every query of every panel, annotation and variable of a dashboard, as it stands in its JSON."""
    title = board["title"]
    for panel in board["panels"]:
        for target in panel.get("targets", ()):
            yield Question(
                (title, panel["title"], target["refId"]), panel["type"], target["expr"],
                bool(target.get("instant")), target.get("legendFormat", ""),
            )  # fmt: skip
    for one in board["annotations"]["list"]:
        yield Question((title, f"annotation {one['name']}", "A"), "annotation", one["expr"], instant=False)
    for one in board["templating"]["list"]:
        if one["type"] == "query":
            yield Question((title, f"variable {one['name']}", "A"), "variable", one["query"], instant=True)


def put(expression: str, variables: Mapping[str, str], scrape_s: float) -> str:
    """The expression with Grafana's and the dashboard's variables replaced.

    `$__rate_interval` is four times the scrape interval where a graph's step is not longer than it:
    grafana.com/docs/grafana/latest/datasources/prometheus/template-variables. ValueError for one that is not known.
    """
    known = {"__rate_interval": f"{4 * scrape_s:g}s", **variables}

    def value(found: re.Match[str]) -> str:
        name = found[1] or found[2]
        if name not in known:
            raise ValueError(f"${name} is no variable of the dashboard: {expression}")
        return known[name]

    return re.sub(r"\$(?:(\w+)|\{(\w+)\})", value, expression)


def ask(server: str, question: Question, expression: str, *, since: float, until: float, step_s: float) -> list[Series]:
    """What the Prometheus at `server` says: between `since` and `until` for graphs, else at `until` (Unix seconds)."""
    if question.kind == "variable":
        asked = LABEL_VALUES.fullmatch(expression)
        if asked is None:
            raise AskingError(f"{question.where}: only label_values(metric, label) is understood: {expression}")
        values = _get(f"{server}/api/v1/label/{asked[2]}/values", {"match[]": asked[1]}, question)
        return [Series({asked[2]: value}, ((until, 1.0),)) for value in values]
    if question.instant:
        found = _get(f"{server}/api/v1/query", {"query": expression, "time": f"{until}"}, question)["result"]
        return _series([(one["metric"], [one["value"]]) for one in found])
    span = {"start": f"{since}", "end": f"{until}", "step": f"{step_s}"}
    found = _get(f"{server}/api/v1/query_range", {"query": expression, **span}, question)["result"]
    return _series([(one["metric"], one["values"]) for one in found])


def _series(found: list[tuple[dict[str, str], list[tuple[float, str]]]]) -> list[Series]:
    made = []
    for labels, samples in found:
        numbers = tuple((at, float(value)) for at, value in samples if math.isfinite(float(value)))
        if numbers:
            made.append(Series(labels, numbers))
    return made


def _get(url: str, query: Mapping[str, str], question: Question) -> Any:
    try:
        with urlopen(f"{url}?{urlencode(query)}", timeout=TIMEOUT_S) as answer:
            said = json.load(answer)
    except HTTPError as error:
        raise AskingError(f"{question.where}: {error.read().decode('utf-8', 'replace')}") from error
    if said.get("warnings"):
        raise AskingError(f"{question.where}: {said['warnings']}")
    return said["data"]
