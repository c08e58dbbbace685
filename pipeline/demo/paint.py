"""Colours and lines of the view. Every colour reads on dark and on light backgrounds."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest
from typing import Final

from rich.text import Text

PLAIN: Final = "default"
DIM: Final = "#858585"
ACCENT: Final = "#3d84d6"
BAD: Final = "#d64f4f"
GOOD: Final = "#2f9e62"
SENTIMENT: Final = {"negative": BAD, "neutral": "#9a9a9a", "positive": GOOD, "unsure": "#6f6f8f"}


def one_line(text: str) -> str:
    """What a customer wrote as one line that cannot move the terminal's cursor."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def fit(line: Text, width: int) -> Text:
    """The line, cut with an ellipsis where it is too long."""
    if line.cell_len > width:
        line = line.copy()
        line.truncate(max(width, 0), overflow="ellipsis")
    line.no_wrap = True
    return line


def rule(title: str, width: int, right: Text | None = None) -> Text:
    """A heading: the title, a thin line, and what stands at its end."""
    line = Text.assemble((f"{title} ", "bold"))
    tail = right.copy() if right is not None else Text()
    tail.rstrip()
    room = width - line.cell_len - tail.cell_len - 1
    line.append("─" * max(room, 0), f"dim {DIM}")
    return line.append(" ").append_text(tail) if tail else line.append("─", f"dim {DIM}")


def beside(left: Sequence[Text], right: Sequence[Text], left_width: int) -> list[Text]:
    """Two columns."""
    lines = []
    for one, other in zip_longest(left, right, fillvalue=None):
        line = fit(one or Text(), left_width).copy()
        line.append(" " * (left_width - line.cell_len + 2))
        lines.append(line.append_text(other or Text()))
    return lines
