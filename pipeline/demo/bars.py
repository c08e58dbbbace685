"""Numbers as blocks: stacked shares, small curves, and the strip of the day. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from rich.text import Text

from models.classifier import LABELS
from pipeline.demo.day import DAY_S
from pipeline.demo.paint import ACCENT, BAD, DIM, SENTIMENT

EIGHTHS: Final = " ▁▂▃▄▅▆▇█"
# Different shapes, for those who do not see the colours (NO_COLOR).
SHAPES: Final = {"negative": "█", "neutral": "▓", "positive": "▒", "unsure": "░"}


def share_bar(shares: Sequence[int], width: int) -> Text:
    """What items count as (LABELS) as parts of one bar of `width` cells."""
    bar = Text()
    if not sum(shares):
        return bar.append("·" * width, f"dim {DIM}")
    for sentiment, cells in zip(LABELS, apportion(shares, width), strict=True):
        bar.append(SHAPES[sentiment] * cells, SENTIMENT[sentiment])
    return bar


def apportion(parts: Sequence[int], whole: int) -> list[int]:
    """`whole` cells in proportion to `parts`, by largest remainder, so that they add up."""
    total = sum(parts)
    exact = [part * whole / total for part in parts]
    cells = [int(value) for value in exact]
    order = sorted(range(len(parts)), key=lambda i: exact[i] - cells[i], reverse=True)
    for index in order[: whole - sum(cells)]:
        cells[index] += 1
    return cells


def spark(values: Sequence[int]) -> str:
    """One block a value; the greatest (at least 8) is a whole one."""
    top = max(8, *values)
    return "".join(EIGHTHS[-(-8 * value // top)] for value in values)


def strip(minutes: Mapping[int, tuple[int, int]], clock_s: float, width: int, rows: int) -> list[Text]:
    """The day so far as columns of items, those that complain in red below, over an axis of hours."""
    bins = [[0, 0] for _ in range(width)]
    for minute, (count, negative) in minutes.items():
        index = minute * 60 * width // DAY_S
        if 0 <= index < width:
            bins[index][0] += count
            bins[index][1] += negative
    top = max(8, *(count for count, _ in bins))
    now = min(int(clock_s * width / DAY_S), width - 1)
    lines = []
    for row in reversed(range(rows)):
        line = Text()
        for index, (count, negative) in enumerate(bins):
            if index > now and not count:
                line.append("·" if row == 0 else " ", f"dim {DIM}")
                continue
            # Never nothing for something.
            whole, red = (-(-n * rows * 8 // top) for n in (count, negative))
            level, below = min(max(whole - row * 8, 0), 8), min(max(red - row * 8, 0), 8)
            if below >= level:
                line.append(EIGHTHS[level], BAD)
            elif level == 8 and below:
                line.append(EIGHTHS[below], f"{BAD} on {SENTIMENT['neutral']}")
            else:
                line.append(EIGHTHS[level], BAD if 2 * below > level else SENTIMENT["neutral"])
        lines.append(line)
    return [*lines, _axis(now, width)]


def _axis(now: int, width: int) -> Text:
    marks = [" "] * width
    for hour in range(0, 24, 3):
        at = hour * width // 24
        marks[at : at + 2] = f"{hour:02}"
    axis = Text("".join(marks[:width]), DIM)
    axis.right_crop(width - now)
    axis.append("▲", f"bold {ACCENT}")
    return axis.append("".join(marks[now + 1 : width]), DIM)
