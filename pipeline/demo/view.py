"""The live view: a scene → exactly as many lines as the terminal has. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from models.classifier import LABELS, TOPICS
from pipeline.demo import alerts_panel
from pipeline.demo.bars import share_bar, spark, strip
from pipeline.demo.day import DAY_S, WORKSPACE, clock
from pipeline.demo.paint import ACCENT, BAD, DIM, GOOD, PLAIN, SENTIMENT, beside, fit, one_line, rule
from pipeline.demo.reading import Reading
from pipeline.store.read import Message

# Where the terminal has fewer rows, everything moves together.
ROOMY_ROWS: Final = 32
NAME_WIDTH: Final = 13
SPARK_HOURS: Final = (6, 9)
"""Hours of the small curves, where there is little room and where there is more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """What there is to show. `told`: seconds from the deciding message to the receiver, by incident."""

    phase: str
    clock_s: float
    midnight: datetime
    reading: Reading
    intake: str
    metrics: str
    curl: tuple[str, str, str]
    told: dict[tuple[str, bool], float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class View:
    """The scene as a renderable that fills the terminal, whatever its size is by now."""

    scene: Scene

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The lines, without a newline after the last, which would scroll."""
        lines = draw(self.scene, options.max_width, options.height or console.height)
        yield Text("\n", end="").join(lines)


def draw(scene: Scene, width: int, height: int) -> list[Text]:
    """`height` lines, none wider than `width`."""
    roomy = height >= ROOMY_ROWS
    gap = [Text()] if roomy else []
    strip_rows = 4 if height >= 44 else 3 if roomy else 1
    curl = _curl(scene.curl, width)
    top = [_header(scene, width), *gap]
    top += strip(scene.reading.minutes, scene.clock_s, width, strip_rows)
    left_width = max(40, width * 45 // 100)
    right_width = width - left_width - 2
    left = [_topics_title(left_width), *_topics(scene, left_width)]
    right = [
        alerts_panel.title(scene.reading.alerts, right_width),
        *alerts_panel.draw(scene.reading.alerts, scene.midnight, scene.told, right_width, len(left) - 1),
    ]
    middle = [*gap, *beside(left, right, left_width), *gap]
    bottom = [*gap, _health(scene, width), _addresses(scene, width), *curl]
    rows = height - len(top) - len(middle) - len(bottom) - 1
    said = [_said_title(scene.reading, width), *_said(scene.reading.said, scene.midnight, width, rows)]
    return [fit(line, width) for line in [*top, *middle, *said, *bottom]][:height]


def _header(scene: Scene, width: int) -> Text:
    day = scene.midnight
    line = Text.assemble((" Ovoz ", f"bold reverse {ACCENT}"), " ", (clock(scene.clock_s), "bold"))
    line.append(f"  {day:%a %-d %b}  ", DIM)
    right = Text(f"{scene.reading.replayed + scene.reading.own:,} items", "bold")
    right.append(f"  {scene.reading.rate:.1f}/s", ACCENT)
    right.append(f"  {scene.phase} ", DIM)
    room = width - line.cell_len - right.cell_len - 2
    full = round(max(room, 0) * scene.clock_s / DAY_S)
    line.append("━" * full, ACCENT)
    line.append("━" * (room - full), f"dim {DIM}")
    return line.append("  ").append_text(right)


def _topics_title(width: int) -> Text:
    legend = Text()
    for sentiment in LABELS:
        legend.append("■ ", SENTIMENT[sentiment]).append(f"{sentiment} " if width > 50 else f"{sentiment[:3]} ", DIM)
    return rule("Topics", width, legend)


def _topics(scene: Scene, width: int) -> Iterable[Text]:
    reading = scene.reading
    firing = {dict(alert.labels).get("topic") for alert in reading.alerts if alert.state == "firing"}
    hour = min(int(scene.clock_s // 3600), 23)
    span = SPARK_HOURS[width >= 50]
    bar_width = max(4, width - NAME_WIDTH - 5 - 6 - span)
    for topic in TOPICS:
        shares = reading.topics.get(topic, (0,) * len(LABELS))
        total = sum(shares)
        line = Text(f"{topic:<{NAME_WIDTH}}", f"bold {BAD}" if topic in firing else PLAIN)
        line.append_text(share_bar(shares, bar_width))
        line.append(f"{total:>5}" if total else "    –", "bold")
        line.append(f"{shares[0] / total:>5.0%} " if total else " " * 6, BAD if topic in firing else DIM)
        hours = [reading.hours.get(topic, {}).get(h, 0) for h in range(hour - span + 1, hour + 1)]
        yield line.append(spark(hours), SENTIMENT["negative"])


def _said_title(reading: Reading, width: int) -> Text:
    languages = Text()
    for language, count in list(reading.languages.items())[:5]:
        languages.append(f"{language} ", DIM).append(f"{count}  ", ACCENT)
    return rule("Latest complaints", width, languages)


def _said(said: Sequence[Message], midnight: datetime, width: int, rows: int) -> Iterable[Text]:
    shown = said[: max(rows, 0)]
    for one in shown:
        own = one.workspace != WORKSPACE
        at = "yours" if own else clock((one.created_at - midnight).total_seconds())
        line = Text(f"{at} ", f"bold {ACCENT}" if own else DIM)
        line.append(f"{one.language:<8}", ACCENT).append(f"{one.source[:11]:<12}", DIM)
        line.append(f"{one.topic[:12]:<13}", SENTIMENT[one.sentiment])
        yield fit(line.append(one_line(one.text), PLAIN), width)
    for _ in range(rows - len(shown)):
        yield Text()


def _health(scene: Scene, width: int) -> Text:
    health = scene.reading.health
    wide = width >= 100
    line = Text(" pipeline  " if wide else " ", DIM)
    for name, seconds in (("p50", health.p50_s), ("p99", health.p99_s)):
        text = "–" if seconds is None else f"{seconds * 1000:.0f} ms"
        line.append(f"{'latency ' if name == 'p50' else ''}{name} ", DIM).append(f"{text}  ", "bold")
    line.append("lag ", DIM).append(f"{health.lag}  ", "bold")
    for name, number in (("unaccounted", health.unaccounted), ("dead letters", health.dead)):
        line.append(f"{name} ", DIM).append(f"{number}  ", f"bold {BAD if number else GOOD}")
    if wide:
        line.append(f"edited {health.replaced}  deleted {health.retracted}  repeated {health.repeated}", DIM)
    return line


def _addresses(scene: Scene, width: int) -> Text:
    if width >= 100:
        line = Text.assemble((" metrics   ", DIM), scene.metrics, ("   intake ", DIM), scene.intake)
        return line.append("   Ctrl-C ends it", DIM)
    return Text.assemble((" metrics ", DIM), scene.metrics, ("  send your own (Ctrl-C ends):", DIM))


def _curl(lines: tuple[str, str, str], width: int) -> list[Text]:
    """The command at the left edge, so that it can be copied as it stands."""
    first, second, third = lines
    if width >= len(first) + len(second):
        joined = first.removesuffix("\\").rstrip() + second
        return [Text(joined, ACCENT), Text(third, ACCENT)]
    return [Text(line, ACCENT) for line in lines]
