"""The kinds `trend` and `goal`: what changes over days. Both judge whole days (UTC), at the end of each.

`trend` compares the share of negative items of the last `window` with that of the `baseline` before it:

    z = (p1 - p0) / sqrt(phi * p*(1-p) * (1/n1 + 1/n0))

where phi >= 1 is the overdispersion of the baseline's days (Pearson's chi-square by degrees of freedom), since
days differ more than coins do. It holds when z is beyond the normal quantile for a seventh of
`false_alarms_per_week` (it is judged daily) and the share rose by `rise` at least; it ends when less than
half of that is left. Trends slower than window and baseline together are the new usual.

`goal` draws a line through the days of the `window`, weighted by their items, and follows it to the day `by`,
but not further ahead than the window is long. It holds while the level misses the target and the line, with
90 % of its error, misses it too; it ends when the level meets the target, or the line beyond doubt
(by one standard error). On the day itself the level alone decides, for a week.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime
from statistics import NormalDist
from typing import Any, Final, NamedTuple

from alerts.alert import NEGATIVE, Sample
from alerts.kind import Explanation, Verdict
from alerts.life import Life, made
from alerts.rule import Rule
from alerts.threshold import span

MOST_DAYS: Final = 180
LEAST_DAYS: Final = 7
ONE_SIDED_95: Final = 1.645
AFTER_DAYS: Final = 7

_DAY_S: Final = 86400.0
_NORMAL: Final = NormalDist()


class Day(NamedTuple):
    """Items of one day (whole days since 1970), of them negative, and the sum of their scores."""

    day: int
    items: int
    negative: int
    score: float


class Memory(NamedTuple):
    """The days, oldest first; `judged`, the last day that was; and what was found then."""

    days: tuple[Day, ...] = ()
    judged: int = 0
    holds: bool = False
    level: float = 0.0
    before: float = 0.0
    items: int = 0
    other: float = 0.0


class _Daily:
    fades: Final = False
    takes_copies: Final = False

    def ignores(self, rule: Rule, sample: Sample) -> bool:
        """None: each counts."""
        return False

    def start(self) -> Memory:
        """No days yet."""
        return Memory()

    def observe(self, memory: Memory, rule: Rule, sample: Sample, at_s: float, life: Life) -> tuple[Memory, Verdict]:
        """Count an item in its day."""
        bad, day = sample.sentiment == NEGATIVE, int(at_s // _DAY_S)
        days = memory.days
        if days and days[-1].day >= day:
            last, items, negative, score = days[-1]
            days = (*days[:-1], made(Day, (last, items + 1, negative + bad, score + sample.score)))
        else:
            days = (*days, Day(day, 1, int(bad), sample.score))[-MOST_DAYS:]
        judged = memory.judged or day - 1
        return made(Memory, (days, judged, *memory[2:])), self._verdict(memory, life, matched=bad, at_s=at_s)

    def tick(self, memory: Memory, rule: Rule, now_s: float, life: Life, *, behind: bool) -> tuple[Memory, Verdict]:
        """Judge the day that is over; while behind, it is not over."""
        over = int(now_s // _DAY_S) - 1
        if not behind and memory.days and over > memory.judged:
            memory = self.judge(memory._replace(judged=over), rule, over, life)
        return memory, self._verdict(memory, life, matched=False, at_s=now_s)

    def due_s(self, memory: Memory, rule: Rule, life: Life) -> float | None:
        """The end of the day."""
        if not memory.days or (life.since_s is None and memory.days[-1].day <= memory.judged):
            return None
        return (memory.judged + 2) * _DAY_S

    def rest(self, memory: Memory) -> Memory:
        """The days are what they are."""
        return memory._replace(holds=False)

    def dump(self, memory: Memory) -> Any:
        """The memory as a JSON array."""
        days = [[one.day, one.items, one.negative, round(one.score, 6)] for one in memory.days]
        return [days, memory.judged, memory.holds, memory.level, memory.before, memory.items, memory.other]

    def load(self, data: Any) -> Memory:
        """Raises ValueError or TypeError for what `dump` did not make."""
        days, judged, holds, level, before, items, other = data
        return Memory(
            days=tuple(Day(*one) for one in days), judged=judged, holds=holds, level=level, before=before,
            items=items, other=other,
        )  # fmt: skip

    def judge(self, memory: Memory, rule: Rule, over: int, life: Life) -> Memory:
        """What the days up to `over` say."""
        raise NotImplementedError

    @staticmethod
    def _verdict(memory: Memory, life: Life, *, matched: bool, at_s: float) -> Verdict:
        # Quotes are those of the last day or so: what is wrong now, not what was weeks ago.
        recent_s = (at_s // _DAY_S - 1) * _DAY_S
        return made(Verdict, (memory.holds, recent_s if life.since_s is None else life.onset_s, matched, False))


class Trend(_Daily):
    """The kind `trend` (alerts.kind.Detector)."""

    def judge(self, memory: Memory, rule: Rule, over: int, life: Life) -> Memory:
        """Compare the last days with those before."""
        edge = over - round(rule.window_s / _DAY_S)
        first = edge - round(rule.baseline_s / _DAY_S)
        recent = [one for one in memory.days if edge < one.day <= over]
        past = [one for one in memory.days if first < one.day <= edge]
        n1, n0 = sum(one.items for one in recent), sum(one.items for one in past)
        if n1 < rule.min_items or n0 < rule.min_items or len(past) < LEAST_DAYS:
            return memory._replace(holds=False, items=n1)
        p1, p0 = sum(one.negative for one in recent) / n1, sum(one.negative for one in past) / n0
        z = _z(p1, n1, p0, n0, past)
        if life.since_s is not None:
            holds = p1 - p0 >= rule.rise / 2
        else:
            wanted = _NORMAL.inv_cdf(1 - min(rule.false_alarms_per_week / 7, 0.4))
            holds = z >= wanted and p1 - p0 >= rule.rise
        return memory._replace(holds=holds, level=p1, before=p0, items=n1, other=z)

    def explain(self, memory: Memory, rule: Rule, life: Life) -> Explanation:
        """The shares now and before."""
        chance = _NORMAL.cdf(-memory.other)
        likely = "less than once in ten thousand" if chance < 1e-4 else f"with a probability of {chance:.2%}"
        return Explanation(
            title="Slowly getting worse",
            description=(
                f"{memory.level:.1%} of {memory.items} items were negative over {span(rule.window_s)}, "
                f"{memory.before:.1%} over {span(rule.baseline_s)} before. On a day, chance alone does this {likely}."
            ),
            figures={
                "share": f"{memory.level:.3f}",
                "baseline": f"{memory.before:.3f}",
                "total": str(memory.items),
                "z": f"{memory.other:.2f}",
            },
        )


class Goal(_Daily):
    """The kind `goal` (alerts.kind.Detector)."""

    def judge(self, memory: Memory, rule: Rule, over: int, life: Life) -> Memory:
        """Where the line leads."""
        size = round(rule.window_s / _DAY_S)
        days = [one for one in memory.days if over - size < one.day <= over]
        items = sum(one.items for one in days)
        left = (datetime.combine(rule.by, datetime.min.time(), UTC).timestamp() // _DAY_S) - over
        if items < rule.min_items or len(days) < LEAST_DAYS or left < -AFTER_DAYS:
            return memory._replace(holds=False, items=items)
        share = rule.measure == "negative_share"
        sums = [one.negative if share else one.score for one in days]
        points = [(one.day - over, total / one.items, one.items) for one, total in zip(days, sums, strict=True)]
        level = sum(y * w for _, y, w in points) / items
        sign = 1 if share else -1  # what is worse is greater
        value, error = _line(points, min(max(left, 0), size))
        low, high = (0.0, 1.0) if share else (-1.0, 1.0)
        projected = min(max(value, low), high)
        doubt = -error if life.since_s is not None else ONE_SIDED_95 * error
        late = left <= 0 or sign * (value - rule.target) > doubt
        holds = sign * (level - rule.target) > 0 and late
        return memory._replace(holds=holds, level=level, before=rule.target, items=items, other=projected)

    def explain(self, memory: Memory, rule: Rule, life: Life) -> Explanation:
        """The level, the target, and where the line leads."""
        what = "share of negative items" if rule.measure == "negative_share" else "mean score"
        side = "at most" if rule.measure == "negative_share" else "at least"
        return Explanation(
            title="A goal is off track",
            description=(
                f"The {what} is {memory.level:.3f} over {span(rule.window_s)} ({memory.items} items); the goal is "
                f"{side} {rule.target:g} by {rule.by}. As it goes, it will be {memory.other:.3f} "
                f"by then, looking {span(rule.window_s)} ahead at the most."
            ),
            figures={
                "level": f"{memory.level:.3f}",
                "target": f"{rule.target:g}",
                "by": str(rule.by),
                "projected": f"{memory.other:.3f}",
                "total": str(memory.items),
            },
        )


def _z(p1: float, n1: int, p0: float, n0: int, past: list[Day]) -> float:
    p = (p1 * n1 + p0 * n0) / (n1 + n0)
    spread = p0 * (1 - p0)
    if not 0 < p < 1:
        return 0.0
    squares = sum((one.negative - one.items * p0) ** 2 / (one.items * spread) for one in past) if spread else 0.0
    phi = max(1.0, squares / (len(past) - 1))
    return (p1 - p0) / math.sqrt(phi * p * (1 - p) * (1 / n1 + 1 / n0))


def _line(points: list[tuple[int, float, int]], ahead: float) -> tuple[float, float]:
    """The weighted least-squares line's value `ahead` days from the last, and its standard error."""
    weight = sum(w for _, _, w in points)
    x0 = sum(x * w for x, _, w in points) / weight
    y0 = sum(y * w for _, y, w in points) / weight
    sxx = sum(w * (x - x0) ** 2 for x, _, w in points)
    slope = sum(w * (x - x0) * (y - y0) for x, y, w in points) / sxx
    left = sum(w * (y - y0 - slope * (x - x0)) ** 2 for x, y, w in points)
    variance = max(left / (len(points) - 2), y0 * (1 - y0) if 0 < y0 < 1 else 0.0, 1e-4)
    return y0 + slope * (ahead - x0), math.sqrt(variance * (1 / weight + (ahead - x0) ** 2 / sxx))
