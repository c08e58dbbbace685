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
from alerts.kind import Explanation, Verdict
from alerts.life import Life
from alerts.rule import Rule
from alerts.threshold import span

HOURS: Final = 168
FORGET_WEEKLY: Final = 0.5**0.25
DRAWN_ITEMS: Final = 0.05
LONGEST_HOURS: Final = 24 * 28
GAPS: Final = 200

_HOUR_S: Final = 3600.0
_NOTHING: Final = (0.0,) * HOURS


class Memory(NamedTuple):
    """By hour of the week: `heard` items in `listened` hours; both fade by the week that ends at `week`.

    `mean`, `square`: of the gaps' evidence. `due_s`: when the silence that began with the last item
    is too long.
    """

    heard: tuple[float, ...] = _NOTHING
    listened: tuple[float, ...] = _NOTHING
    week: int = 0
    items: int = 0
    first_s: float = 0.0
    last_s: float = 0.0
    mean: float = 1.0
    square: float = 2.0
    due_s: float | None = None


class Silence:
    """The kind `silence` (alerts.kind.Detector)."""

    fades: Final = False
    takes_copies: Final = True

    def start(self) -> Memory:
        """Nothing heard yet."""
        return Memory()

    def observe(self, memory: Memory, rule: Rule, sample: Sample, at_s: float, life: Life) -> tuple[Memory, Verdict]:
        """A sign of life."""
        if not memory.items:
            return Memory(items=1, first_s=at_s, last_s=at_s, week=_week(at_s)), Verdict(False)
        gap = _evidence(memory, memory.last_s, at_s)
        weight = max(1 / memory.items, 1 / GAPS)
        memory = _listen(memory, at_s)
        heard = list(memory.heard)
        heard[_hour(at_s)] += 1
        memory = memory._replace(
            heard=tuple(heard),
            items=memory.items + 1,
            last_s=at_s,
            mean=memory.mean + weight * (gap - memory.mean),
            square=memory.square + weight * (gap * gap - memory.square),
        )
        due_s = _due_s(memory, rule)
        return (memory if due_s == memory.due_s else memory._replace(due_s=due_s)), Verdict(False)

    def tick(self, memory: Memory, rule: Rule, now_s: float, life: Life, *, behind: bool) -> tuple[Memory, Verdict]:
        """Whether the silence is too long by now."""
        if life.since_s is not None:
            return memory, Verdict(True, life.onset_s)
        holds = not behind and memory.due_s is not None and now_s >= memory.due_s
        return memory, Verdict(holds, memory.last_s if holds else None)

    def due_s(self, memory: Memory, rule: Rule, life: Life) -> float | None:
        """When the silence is too long."""
        return memory.due_s if life.since_s is None else None

    def rest(self, memory: Memory) -> Memory:
        """What it has learned."""
        return memory

    def explain(self, memory: Memory, rule: Rule, life: Life) -> Explanation:
        """Since when, and how many items should have come."""
        begun_s = life.since_s if life.since_s is not None else memory.last_s
        expected = missed(memory, memory.last_s, begun_s)
        weekly = _weekly(memory)
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
        return [
            memory.heard, memory.listened, memory.week, memory.items, memory.first_s, memory.last_s, memory.mean,
            memory.square, memory.due_s,
        ]  # fmt: skip

    def load(self, data: Any) -> Memory:
        """Raises ValueError or TypeError for what `dump` did not make."""
        heard, listened, week, items, first_s, last_s, mean, square, due_s = data
        return Memory(
            heard=tuple(heard), listened=tuple(listened), week=week, items=items, first_s=first_s, last_s=last_s,
            mean=mean, square=square, due_s=due_s,
        )  # fmt: skip


def missed(memory: Memory, from_s: float, to_s: float) -> float:
    """Items that the learned rate promises between two moments; at most four weeks are looked at."""
    mean = _mean(memory)
    total = 0.0
    for hour, part in _hours(from_s, to_s):
        heard, listened = _drawn(memory, hour, mean)
        total += heard / listened * part
    return total


def _evidence(memory: Memory, from_s: float, to_s: float) -> float:
    mean = _mean(memory)
    total = 0.0
    for hour, part in _hours(from_s, to_s):
        heard, listened = _drawn(memory, hour, mean)
        total += heard * math.log1p(part / listened)
    return total


def _listen(memory: Memory, to_s: float) -> Memory:
    listened, heard = list(memory.listened), memory.heard
    for hour, part in _hours(memory.last_s, to_s):
        listened[hour] += part
    week = _week(to_s)
    if week > memory.week:
        fade = FORGET_WEEKLY ** min(week - memory.week, 50)
        heard = tuple(round(one * fade, 4) for one in heard)
        listened = [round(one * fade, 4) for one in listened]
    return memory._replace(heard=heard, listened=tuple(listened), week=week)


def _due_s(memory: Memory, rule: Rule) -> float | None:
    if memory.items < rule.min_items or memory.last_s - memory.first_s < rule.baseline_s:
        return None
    stretch = max(1.0, memory.square / (2 * max(memory.mean, 1e-9) ** 2))
    left = stretch * max(math.log(max(_weekly(memory), 1.0) / rule.false_alarms_per_week), 1.0)
    mean, at_s = _mean(memory), memory.last_s
    for hour, part in _hours(at_s, at_s + LONGEST_HOURS * _HOUR_S):
        heard, listened = _drawn(memory, hour, mean)
        evidence = heard * math.log1p(part / listened)
        if evidence >= left:
            at_s += listened * math.expm1(left / heard) * _HOUR_S
            return max(at_s, memory.last_s + rule.min_silence_s)
        left -= evidence
        at_s += part * _HOUR_S
    return None


def _mean(memory: Memory) -> float:
    return sum(memory.heard) / max(sum(memory.listened), 1e-9)


def _drawn(memory: Memory, hour: int, mean: float) -> tuple[float, float]:
    """Items and hours of an hour of the week, drawn towards that hour of any day, and that towards `mean`."""
    if mean <= 0:
        return 0.0, 1.0
    heard = sum(memory.heard[hour % 24 :: 24]) + DRAWN_ITEMS
    listened = sum(memory.listened[hour % 24 :: 24]) + DRAWN_ITEMS / mean
    return memory.heard[hour] + DRAWN_ITEMS, memory.listened[hour] + DRAWN_ITEMS * listened / heard


def _weekly(memory: Memory) -> float:
    return sum(memory.heard) / max(sum(memory.listened), 1.0) * HOURS


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
