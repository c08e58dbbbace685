"""A dashboard and the answers to its queries → a picture, each panel where Grafana would put it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any, Final

from matplotlib.axes import Axes
from matplotlib.dates import DateFormatter, date2num
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from matplotlib.ticker import FuncFormatter, MaxNLocator
from PIL import Image

from deploy.grafana.asking import LEGEND_LABEL, Series
from pipeline.demo.paint import BAD, GOOD, SENTIMENT

COLUMNS: Final = 24
COLUMN_IN, ROW_IN, GAP_IN, HEAD_IN = 0.58, 0.36, 0.07, 0.6
INK, DIM, EDGE, PAPER, BACK = "#1f2328", "#68707a", "#d8dbe0", "#ffffff", "#f4f5f7"
PALETTE: Final = (
    "#3d84d6", "#c8963c", "#a064be", "#3ca0aa", "#d67a3d", "#7a9a3a", "#5b62c9", "#c9578f", "#8a6d4f", "#4f7f6d",
)  # fmt: skip
MOST_ROWS: Final = 24
Answer = Callable[[str, str], list[Series]]
"""Panel and letter of a query → its series."""


def draw(board: Mapping[str, Any], of: Answer, path: Path) -> None:
    """Write the picture of a dashboard as PNG."""
    rows = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in board["panels"])
    width, height = COLUMNS * COLUMN_IN + GAP_IN, HEAD_IN + rows * ROW_IN + GAP_IN
    figure = Figure(figsize=(width, height), dpi=100, facecolor=BACK)
    figure.text(0.12 / width, 1 - HEAD_IN / 2 / height, board["title"], size=17, weight="bold", color=INK, va="center")
    for panel in board["panels"]:
        at = panel["gridPos"]
        x, y = at["x"] * COLUMN_IN + GAP_IN, height - HEAD_IN - (at["y"] + at["h"]) * ROW_IN + GAP_IN
        w, h = at["w"] * COLUMN_IN - GAP_IN, at["h"] * ROW_IN - GAP_IN
        if panel["type"] == "row":
            figure.text((x + 0.05) / width, (y + h / 2) / height, panel["title"], size=12, weight="bold", color=INK,
                        va="center")  # fmt: skip
            continue
        card = FancyBboxPatch(
            (x / width, y / height), w / width, h / height, boxstyle="square,pad=0", transform=figure.transFigure,
            facecolor=PAPER, edgecolor=EDGE, linewidth=0.8, zorder=-1,
        )  # fmt: skip
        figure.add_artist(card)
        figure.text((x + 0.1) / width, (y + h - 0.16) / height, panel["title"], size=9, weight="bold", color=INK,
                    va="center")  # fmt: skip
        axes = figure.add_axes((x / width, y / height, w / width, (h - 0.32) / height))
        axes.set_facecolor("none")
        KINDS[panel["type"]](axes, panel, of)
    drawn = BytesIO()
    figure.savefig(drawn, facecolor=BACK)
    # Few colours are used: a palette makes the file a third as large.
    with Image.open(drawn) as picture:
        picture.convert("RGB").quantize(128, dither=Image.Dither.NONE).save(path, "PNG", optimize=True)


def shown(value: float, unit: str, decimals: float | None = None) -> str:
    """A value as Grafana writes it in this unit."""
    if decimals is not None and unit in ("short", "none"):
        return f"{value:,.{decimals:.0f}f}"
    if unit == "percentunit":
        return f"{value:.1%}" if abs(value) < 0.1 and value else f"{value:.0%}"
    if unit == "s":
        if abs(value) >= 86_400:
            return f"{value / 86_400:.3g} days"
        if abs(value) >= 3600:
            return f"{value / 3600:.3g} h"
        if abs(value) >= 60:
            return f"{value / 60:.3g} min"
        return f"{value:.3g} s" if abs(value) >= 1 or not value else f"{value * 1000:.3g} ms"
    return f"{value:.3g}{' /s' if unit == 'cps' else ''}" if value % 1 else f"{value:,.0f}{' /s' * (unit == 'cps')}"


def named(series: Series, legend: str) -> str:
    """The legend of a series."""
    return LEGEND_LABEL.sub(lambda found: series.labels.get(found[1], ""), legend).strip() or "value"


def colour(series: Series, number: int) -> str:
    """Of its sentiment where it has one, as in the demo."""
    return SENTIMENT.get(series.labels.get("sentiment", ""), PALETTE[number % len(PALETTE)])


def _unit(panel: Mapping[str, Any]) -> str:
    return str(panel["fieldConfig"]["defaults"].get("unit", "none"))


def _all(panel: Mapping[str, Any], of: Answer) -> list[tuple[Series, str]]:
    return [
        (one, named(one, target.get("legendFormat", "")))
        for target in panel["targets"]
        for one in of(panel["title"], target["refId"])
    ]


def _graph(axes: Axes, panel: Mapping[str, Any], of: Answer) -> None:
    defaults, unit = panel["fieldConfig"]["defaults"], _unit(panel)
    _inset(axes, left=0.62, bottom=0.62, right=0.12, top=0.04)
    found = sorted(_all(panel, of), key=lambda pair: pair[1])
    stacked = defaults["custom"].get("stacking", {}).get("mode") == "normal"
    every = sorted({at for one, _ in found for at, _ in one.samples})
    base = [0.0] * len(every)
    for number, (one, name) in enumerate(found):
        held = dict(one.samples)
        ink = colour(one, number)
        if stacked:
            top = [low + held.get(at, 0.0) for low, at in zip(base, every, strict=True)]
            axes.fill_between(_times(every), base, top, color=ink, alpha=0.45, linewidth=0)
            axes.plot(_times(every), top, color=ink, linewidth=1, label=name)
            base = top
        else:
            # A gap stays a gap.
            values = [held.get(at, float("nan")) for at in every]
            axes.plot(_times(every), values, color=ink, linewidth=1.3, label=name)
    if not found:
        _nothing(axes)
        return
    if len(every) > 1:
        axes.set_xlim(*_times([every[0], every[-1]]))
    if {"min", "max"} <= defaults.keys():
        axes.set_ylim(defaults["min"], defaults["max"])
    elif axes.get_ylim()[1] <= 0:
        axes.set_ylim(0, 1)
    else:
        axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: shown(value, unit)))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.xaxis.set_major_formatter(DateFormatter("%H:%M:%S", tz=UTC))  # type: ignore[no-untyped-call]
    axes.grid(axis="y", color=EDGE, linewidth=0.6)
    axes.tick_params(labelsize=7, colors=DIM, length=0)
    axes.spines[:].set_visible(False)
    wide = max(len(name) for _, name in found)
    columns = max(1, min(len(found), 96 // (wide + 6)))
    axes.legend(loc="upper left", bbox_to_anchor=(-0.06, -0.1), ncols=columns, fontsize=6.5, frameon=False,
                labelcolor=INK, handlelength=1, columnspacing=1.2, borderpad=0, labelspacing=0.2)  # fmt: skip


def _bars(axes: Axes, panel: Mapping[str, Any], of: Answer) -> None:
    defaults, unit = panel["fieldConfig"]["defaults"], _unit(panel)
    found = sorted(_all(panel, of), key=lambda pair: pair[1])[:MOST_ROWS]
    if not found:
        _nothing(axes)
        return
    _inset(axes, left=2.1, bottom=0.08, right=0.75, top=0.04)
    top = defaults.get("max") or max(one.samples[-1][1] for one, _ in found) or 1.0
    for number, (one, name) in enumerate(found):
        value, y = one.samples[-1][1], len(found) - number
        axes.barh(y, top, height=0.72, color="#eceef1")
        axes.barh(y, value, height=0.72, color="#9aa3ad" if name.endswith("usual") else colour(one, 0))
        axes.text(-0.015 * top, y, name, ha="right", va="center", size=7, color=INK)
        axes.text(1.015 * top, y, shown(value, unit), ha="left", va="center", size=7, color=INK)
    axes.set_xlim(0, top)
    axes.set_ylim(len(found) - max(len(found), 4) + 0.4, len(found) + 0.6)
    axes.set_axis_off()


def _stacks(axes: Axes, panel: Mapping[str, Any], of: Answer) -> None:
    options = panel["transformations"][0]["options"]
    found = of(panel["title"], "A")
    if not found:
        _nothing(axes)
        return
    _inset(axes, left=1.2, bottom=0.42, right=0.2, top=0.04)
    label, part = options["rowField"], options["columnField"]
    held = {(one.labels[label], one.labels[part]): one.samples[-1][1] for one in found}
    rows = sorted({row for row, _ in held}, reverse=True)
    base = [0.0] * len(rows)
    for number, name in enumerate(name for name in SENTIMENT if any(name == one for _, one in held)):
        widths = [held.get((row, name), 0.0) for row in rows]
        axes.barh(rows, widths, left=base, height=0.72, label=name, color=SENTIMENT.get(name, PALETTE[number]))
        base = [low + more for low, more in zip(base, widths, strict=True)]
    axes.grid(axis="x", color=EDGE, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=7, colors=INK, length=0)
    axes.spines[:].set_visible(False)
    axes.legend(loc="upper left", bbox_to_anchor=(-0.15, -0.1), ncols=4, fontsize=6.5, frameon=False, labelcolor=INK,
                handlelength=1, borderpad=0)  # fmt: skip


def _number(axes: Axes, panel: Mapping[str, Any], of: Answer) -> None:
    defaults = panel["fieldConfig"]["defaults"]
    found = _all(panel, of)
    value = found[0][0].samples[-1][1] if found else float(defaults.get("noValue", 0))
    ink = GOOD
    for step in defaults["thresholds"]["steps"]:
        if step.get("value") is None or value >= step["value"]:
            ink = BAD if step["color"] == "red" else GOOD
    axes.set_axis_off()
    said = shown(value, _unit(panel), defaults.get("decimals"))
    axes.text(0.5, 0.5, said, size=24, weight="bold", color=ink, ha="center", va="center", transform=axes.transAxes)


def _table(axes: Axes, panel: Mapping[str, Any], of: Answer) -> None:
    hidden = panel["transformations"][0]["options"]["excludeByName"]
    found = of(panel["title"], "A")
    axes.set_axis_off()
    if not found:
        _nothing(axes)
        return
    columns = [name for name in sorted({name for one in found for name in one.labels}) if name not in hidden]
    cells = [[one.labels.get(name, "") for name in columns] for one in found]
    if "Value" not in hidden:
        columns.append("Value")
        for row, one in zip(cells, found, strict=True):
            row.append(shown(one.samples[-1][1], _unit(panel), panel["fieldConfig"]["defaults"].get("decimals")))
    height = (axes.bbox.height / axes.figure.dpi) / 0.22
    fit = max(int(height) - 1, 1)
    axes.set_xlim(0, 1)
    axes.set_ylim(height, 0)
    longest = [max(len(name), *(len(row[i]) for row in cells[:fit])) + 2 for i, name in enumerate(columns)]
    x = 0.02
    for index, name in enumerate(columns):
        axes.text(x, 0.5, name, size=7, weight="bold", color=DIM, va="center")
        for y, row in enumerate(cells[:fit], start=1):
            axes.text(x, y + 0.5, row[index], size=7, color=INK, va="center")
        x += 0.96 * longest[index] / sum(longest)
    for y in range(1, min(len(cells), fit) + 1):
        axes.axhline(y, 0.02, 0.98, color=EDGE, linewidth=0.6)


def _nothing(axes: Axes) -> None:
    axes.set_axis_off()
    axes.text(0.5, 0.5, "No data", size=9, color=DIM, ha="center", va="center", transform=axes.transAxes)


def _inset(axes: Axes, *, left: float, bottom: float, right: float, top: float) -> None:
    """Leave room for what stands around the drawing, in inches."""
    figure = axes.figure
    wide, high = figure.get_figwidth(), figure.get_figheight()  # type: ignore[union-attr]
    x, y, w, h = axes.get_position().bounds
    axes.set_position((
        x + left / wide, y + bottom / high, w - (left + right) / wide, h - (bottom + top) / high,
    ))  # fmt: skip


def _times(seconds: list[float]) -> list[float]:
    return [float(date2num(datetime.fromtimestamp(at, UTC))) for at in seconds]  # type: ignore[no-untyped-call]


KINDS: Final = {"timeseries": _graph, "barchart": _stacks, "bargauge": _bars, "stat": _number, "table": _table}
