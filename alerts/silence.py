"""The kind `silence`: a source that usually speaks has gone quiet, or nobody hears it any more.

Learned is the rate of items for each hour of the week (UTC), drawn towards that hour of any day and towards
the mean with the weight of a twentieth of an item, with a memory of some four weeks. A gap is measured by how
unlikely it is: c items in e hours promise none in d further hours with probability (e / (e+d))^c (Poisson
items whose rate is uncertain), so the evidence of a gap is the sum of c*ln(1 + d/e) over its hours. Were
items independent, the evidence of gaps would be exponential with mean 1; sources come in bursts, so the
tail is stretched by the mean residual gap, E[g^2] / (2 E[g]^2) >= 1 (the inspection paradox of renewal theory).
It holds when

    evidence >= stretch * ln(items per week / allowed false alarms per week)   and `min_silence` has passed

and only after `baseline` of listening and `min_items`, so that no first night or weekend is taken for an
outage. It ends with the next item. While items may still be on their way (`behind`), it says nothing: a
pipeline that lags is not a source that is silent. Copies count: they are a sign of life.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from alerts.alert import Sample, moment
from alerts.kind import CALM, Explanation, Verdict
from alerts.life import Life, made
from alerts.rule import Rule
from alerts.threshold import span

HOURS: Final = 168
FORGET_WEEKLY: Final = 0.5**0.25
DRAWN_ITEMS: Final = 0.05
LONGEST_HOURS: Final = 24 * 28
GAPS: Final = 200

_HOUR_S: Final = 3600.0
_NOTHING: Final = (0.0,) * HOURS


class Table(NamedTuple):
    """By hour of the week: `heard` items in `listened` hours."""

    heard: tuple[float, ...] = _NOTHING
    listened: tuple[float, ...] = _NOTHING


class Hour(NamedTuple):
    """What the hour that goes on is drawn towards: sums over the table without its own cell, `cell`; `day_…` are those
    of the same hour of other days. They stand as long as the hour does, so that an item changes two numbers only.
    """

    cell: int
    day_heard: float
    day_listened: float
    all_heard: float
    all_listened: float


class Memory(NamedTuple):
    """`table` is as of the beginning of the hour of the last item, `heard` and `listened` are that cell's values now.

    Both fade by the week that ends at `week`. `mean`, `square`: of the gaps' evidence. `due_s`: the silence that began
    with the last item is not too long before then; when it is, a tick at that time finds out.
    """

    table: Table = Table()
    week: int = 0
    items: int = 0
    first_s: float = 0.0
    last_s: float = 0.0
    mean: float = 1.0
    square: float = 2.0
    due_s: float | None = None
    hour: Hour = Hour(0, 0.0, 0.0, 0.0, 0.0)
    heard: float = 0.0
    listened: float = 0.0


class Silence:
    """The kind `silence` (alerts.kind.Detector)."""

    fades: Final = False
    takes_copies: Final = True

    def ignores(self, rule: Rule, sample: Sample) -> bool:
        """None: each is a sign of life."""
        return False

    def start(self) -> Memory:
        """Nothing heard yet."""
        return Memory()

    def observe(self, memory: Memory, rule: Rule, sample: Sample, at_s: float, life: Life) -> tuple[Memory, Verdict]:
        """A sign of life."""
        if not memory.items:
            hour = _hour_of(memory.table, at_s)
            return Memory(items=1, first_s=at_s, last_s=at_s, week=_week(at_s), hour=hour), CALM[0]
        table, week, items, first_s, last_s, mean, square, _, hour, heard, listened = memory
        if at_s // _HOUR_S == last_s // _HOUR_S:
            part = (at_s - last_s) / _HOUR_S
            gap = _none_in(part, *_drawn(hour, heard, listened))
            listened += part
        else:
            table = _settled(memory)
            gap = sum(_none_in(part, *_usual(table, number)) for number, part in _hours(last_s, at_s))
            table, week = _listened(table, last_s, at_s, week), _week(at_s)
            hour = _hour_of(table, at_s)
            heard, listened = table.heard[hour.cell], table.listened[hour.cell]
        weight = max(1 / items, 1 / GAPS)
        judges = items + 1 >= rule.min_items and at_s - first_s >= rule.baseline_s
        memory = made(Memory, (
            table, week, items + 1, first_s, at_s, mean + weight * (gap - mean), square + weight * (gap * gap - square),
            at_s + rule.min_silence_s if judges else None, hour, heard + 1, listened,
        ))  # fmt: skip
        return memory, CALM[0]

    def tick(self, memory: Memory, rule: Rule, now_s: float, life: Life, *, behind: bool) -> tuple[Memory, Verdict]:
        """Whether the silence is too long by now."""
        if life.since_s is not None:
            return memory, Verdict(True, life.onset_s)
        if behind or memory.due_s is None or now_s < memory.due_s:
            return memory, CALM[0]
        due_s = _due_s(memory, rule)
        if due_s is not None and now_s >= due_s:
            return memory, Verdict(True, memory.last_s)
        return memory._replace(due_s=due_s), CALM[0]

    def due_s(self, memory: Memory, rule: Rule, life: Life) -> float | None:
        """When the silence is too long, or some time before."""
        return memory.due_s if life.since_s is None else None

    def rest(self, memory: Memory) -> Memory:
        """What it has learned."""
        return memory

    def explain(self, memory: Memory, rule: Rule, life: Life) -> Explanation:
        """Since when, and how many items should have come."""
        begun_s = life.since_s if life.since_s is not None else memory.last_s
        expected = missed(memory, memory.last_s, begun_s)
        weekly = _weekly(_settled(memory))
        return Explanation(
            title="A source has gone silent",
            description=(
                f"Nothing since {moment(memory.last_s):%Y-%m-%d %H:%M} UTC, {span(max(begun_s - memory.last_s, 1))} "
                f"when this was noticed; about {expected:.0f} items were to be expected in that time, "
                f"at {weekly:.0f} a week. The source is quiet, or nobody hears it: look at its connector."
            ),
            figures={"expected": f"{expected:.1f}", "total": "0", "weekly": f"{weekly:.0f}"},
        )

    def dump(self, memory: Memory) -> Any:
        """The memory as a JSON array."""
        heard, listened = _settled(memory)
        return [
            heard, listened, memory.week, memory.items, memory.first_s, memory.last_s, memory.mean, memory.square,
            memory.due_s,
        ]  # fmt: skip

    def load(self, data: Any) -> Memory:
        """Raises ValueError or TypeError for what `dump` did not make."""
        heard, listened, week, items, first_s, last_s, mean, square, due_s = data
        if len(heard) != HOURS or len(listened) != HOURS:
            raise ValueError(f"not {HOURS} hours")
        table = Table(tuple(heard), tuple(listened))
        hour = _hour_of(table, last_s)
        return Memory(
            table=table, week=week, items=items, first_s=first_s, last_s=last_s, mean=mean, square=square, due_s=due_s,
            hour=hour, heard=heard[hour.cell], listened=listened[hour.cell],
        )  # fmt: skip


def missed(memory: Memory, from_s: float, to_s: float) -> float:
    """Items that the learned rate promises between two moments; at most four weeks are looked at."""
    table, total = _settled(memory), 0.0
    for number, part in _hours(from_s, to_s):
        heard, listened = _usual(table, number)
        total += heard / listened * part
    return total


def _none_in(hours: float, heard: float, listened: float) -> float:
    """The evidence of so many hours without an item."""
    return heard * math.log1p(hours / listened)


def _settled(memory: Memory) -> Table:
    """The table as of the last item."""
    (heard, listened), at = memory.table, memory.hour.cell
    return Table(
        (*heard[:at], memory.heard, *heard[at + 1 :]), (*listened[:at], memory.listened, *listened[at + 1 :])
    )


def _listened(table: Table, from_s: float, to_s: float, week: int) -> Table:
    """With the time from one moment to another listened to; what is older fades with each week since `week`."""
    heard, listened = table.heard, list(table.listened)
    for number, part in _hours(from_s, to_s):
        listened[number] += part
    weeks = _week(to_s) - week
    if weeks > 0:
        fade = FORGET_WEEKLY ** min(weeks, 50)
        heard = tuple(round(one * fade, 4) for one in heard)
        listened = [round(one * fade, 4) for one in listened]
    return Table(heard, tuple(listened))


def _due_s(memory: Memory, rule: Rule) -> float | None:
    """When the silence that began with the last item is too long; None: not for as long as is looked ahead."""
    table = _settled(memory)
    stretch = max(1.0, memory.square / (2 * max(memory.mean, 1e-9) ** 2))
    left = stretch * max(math.log(max(_weekly(table), 1.0) / rule.false_alarms_per_week), 1.0)
    at_s = memory.last_s
    for number, part in _hours(at_s, at_s + LONGEST_HOURS * _HOUR_S):
        heard, listened = _usual(table, number)
        evidence = _none_in(part, heard, listened)
        if evidence >= left:
            at_s += listened * math.expm1(left / heard) * _HOUR_S
            return max(at_s, memory.last_s + rule.min_silence_s)
        left -= evidence
        at_s += part * _HOUR_S
    return None


def _hour_of(table: Table, at_s: float) -> Hour:
    at = _hour(at_s)
    days = [at % 24 + 24 * day for day in range(7) if at % 24 + 24 * day != at]
    heard, listened = table
    return Hour(
        at, sum([heard[one] for one in days]), sum([listened[one] for one in days]),
        sum(heard[:at]) + sum(heard[at + 1 :]), sum(listened[:at]) + sum(listened[at + 1 :]),
    )  # fmt: skip


def _drawn(hour: Hour, heard: float, listened: float) -> tuple[float, float]:
    """Items and hours of an hour of the week, drawn towards that hour of any day, and that towards the mean."""
    _, day_heard, day_listened, all_heard, all_listened = hour
    mean = (all_heard + heard) / max(all_listened + listened, 1e-9)
    if mean <= 0:
        return 0.0, 1.0
    day = (day_listened + listened + DRAWN_ITEMS / mean) / (day_heard + heard + DRAWN_ITEMS)
    return heard + DRAWN_ITEMS, listened + DRAWN_ITEMS * day


def _usual(table: Table, cell: int) -> tuple[float, float]:
    """`_drawn` for any hour of the week."""
    return _drawn(_hour_of(table, cell * _HOUR_S), table.heard[cell], table.listened[cell])


def _weekly(table: Table) -> float:
    return sum(table.heard) / max(sum(table.listened), 1.0) * HOURS


def _hours(from_s: float, to_s: float) -> Iterator[tuple[int, float]]:
    """(hour of the week, part of it) from one moment to another, at most LONGEST_HOURS of them."""
    to_s = min(to_s, from_s + LONGEST_HOURS * _HOUR_S)
    while from_s < to_s:
        end_s = min((from_s // _HOUR_S + 1) * _HOUR_S, to_s)
        yield _hour(from_s), (end_s - from_s) / _HOUR_S
        from_s = end_s


def _hour(at_s: float) -> int:
    return int(at_s // _HOUR_S) % HOURS


def _week(at_s: float) -> int:
    return int(at_s // (HOURS * _HOUR_S))
