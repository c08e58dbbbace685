"""A backtest as a picture: items, the negative share, alerts and labelled incidents over time, as SVG."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from html import escape
from typing import Final

from alerts.alert import NEGATIVE, Alert, Sample
from alerts.backtest import Labelled

WIDTH: Final = 1200
LEFT: Final = 190
RIGHT: Final = 24
BARS: Final = 240
ROW: Final = 24
CHART: Final = 130

_INK, _PALE, _GRID, _BAD, _GOOD, _TRUE = "#1f2933", "#6b7785", "#e4e7eb", "#c8402f", "#b8c4d0", "#f2c14e"


@dataclass(slots=True)
class Counts:
    """Items and negative ones of equal slices of time, filled while the history is read."""

    begin: datetime
    end: datetime
    items: list[int] = field(default_factory=lambda: [0] * BARS)
    negative: list[int] = field(default_factory=lambda: [0] * BARS)

    def add(self, sample: Sample) -> None:
        """Count a sample, if it lies in the picture."""
        if self.begin <= sample.at <= self.end:
            slot = min(int((sample.at - self.begin) / (self.end - self.begin or timedelta(seconds=1)) * BARS), BARS - 1)
            self.items[slot] += 1
            self.negative[slot] += sample.sentiment == NEGATIVE


def draw(counts: Counts, alerts: Sequence[Alert], labelled: Sequence[Labelled], title: str) -> str:
    """The picture. Each series that fired has a row; labelled incidents are the yellow bands."""
    begin, end = counts.begin, counts.end
    length = end - begin or timedelta(seconds=1)
    rows = sorted({_row(alert) for alert in alerts})
    top, bottom = 64, 64 + CHART
    height = bottom + 34 + ROW * max(len(rows), 1) + 44
    plot = WIDTH - LEFT - RIGHT

    def x(at: datetime) -> float:
        return LEFT + plot * min(max((at - begin) / length, 0.0), 1.0)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        'font-family="DejaVu Sans, Helvetica, Arial, sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        f'<text x="24" y="30" font-size="17" font-weight="bold" fill="{_INK}">{escape(title)}</text>',
        f'<text x="24" y="48" fill="{_PALE}">{begin:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M} UTC · '
        f"{sum(counts.items):,} items · {len(alerts)} alerts</text>",
    ]
    for incident in labelled:
        if incident.end >= begin and incident.begin <= end:
            left, right = x(incident.begin), x(incident.end)
            parts.append(
                f'<rect x="{left:.1f}" y="{top}" width="{max(right - left, 1.5):.1f}" height="{height - 44 - top}" '
                f'fill="{_TRUE}" fill-opacity="0.3"><title>{escape(incident.name)}</title></rect>'
            )
    for at, text in _ticks(begin, end):
        parts.append(f'<path d="M{x(at):.1f} {top}V{height - 40}" stroke="{_GRID}"/>')
        parts.append(f'<text x="{x(at):.1f}" y="{height - 22}" text-anchor="middle" fill="{_PALE}">{text}</text>')
    most, wide = max(*counts.items, 1), plot / BARS
    for slot, (items, negative) in enumerate(zip(counts.items, counts.negative, strict=True)):
        if items:
            left, tall, red = LEFT + slot * wide, CHART * items / most, CHART * negative / most
            parts.append(f'<rect x="{left:.1f}" y="{bottom - tall:.1f}" width="{wide * 0.85:.1f}" '
                         f'height="{tall:.1f}" fill="{_GOOD}"/>')  # fmt: skip
            parts.append(f'<rect x="{left:.1f}" y="{bottom - red:.1f}" width="{wide * 0.85:.1f}" '
                         f'height="{red:.1f}" fill="{_BAD}" fill-opacity="0.75"/>')  # fmt: skip
    minutes = length / BARS / timedelta(minutes=1)
    parts.append(f'<text x="{LEFT - 10}" y="{top + 12}" text-anchor="end" fill="{_PALE}">{most:,} items</text>')
    parts.append(f'<text x="{LEFT - 10}" y="{top + 28}" text-anchor="end" fill="{_PALE}">in {minutes:.3g} min</text>')
    parts.append(f'<text x="{LEFT - 10}" y="{bottom}" text-anchor="end" fill="{_BAD}">negative</text>')
    if not rows:
        parts.append(f'<text x="{LEFT}" y="{bottom + 44}" fill="{_PALE}">no alert</text>')
    for number, row in enumerate(rows):
        y = bottom + 34 + ROW * number
        parts.append(f'<path d="M{LEFT} {y + ROW / 2}H{WIDTH - RIGHT}" stroke="{_GRID}"/>')
        shown = row if len(row) <= 26 else row[:25] + "…"
        parts.append(
            f'<text x="{LEFT - 10}" y="{y + 16}" text-anchor="end" fill="{_INK}">{escape(shown)}'
            f"<title>{escape(row)}</title></text>"
        )
        for alert in alerts:
            if _row(alert) == row:
                left, right = x(alert.starts_at), x(alert.ends_at or end)
                told = escape(f"{alert.starts_at:%H:%M}: {alert.annotations.get('description', '')}")
                parts.append(
                    f'<rect x="{left:.1f}" y="{y + 4}" width="{max(right - left, 3):.1f}" height="{ROW - 8}" rx="3" '
                    f'fill="{_BAD}"><title>{told}</title></rect>'
                )
    return "\n".join([*parts, "</svg>"]) + "\n"


def _row(alert: Alert) -> str:
    shown = " ".join(value for name, value in alert.labels if name not in ("severity", "team"))
    return f"{alert.rule} {shown}".strip()


def _ticks(begin: datetime, end: datetime) -> Iterable[tuple[datetime, str]]:
    length = end - begin
    steps = [timedelta(minutes=10), timedelta(hours=1), timedelta(hours=3), timedelta(days=1), timedelta(days=7)]
    step = next((step for step in steps if length / step <= 12), timedelta(days=max(length.days // 10, 1)))
    at = begin.replace(minute=0, second=0, microsecond=0)
    if step >= timedelta(days=1):
        at = at.replace(hour=0)
    elif step == timedelta(hours=3):
        at = at.replace(hour=at.hour // 3 * 3)
    while at <= end:
        if at >= begin:
            yield at, f"{at:%d %b}" if step >= timedelta(days=1) else f"{at:%H:%M}"
        at += step
