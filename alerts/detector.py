"""One series of one `spike` rule: is the share of negative items worse than its own usual share?

A one-sided CUSUM of Bernoulli log-likelihood ratios (Page, "Continuous inspection schemes", Biometrika
1954; Moustakides 1986 and Reynolds & Stoumbos 1999 for the Bernoulli case). With x = 1 for a negative item
and 0 for any other:

    usual = a / b                         learned share, before this item
    q0    = min(margin * usual, 0.95)     the worst share that is still not worth a page, at least `usual`
    q1    = r*q0 / (1 - q0 + r*q0)        the share whose odds are r times as bad
    llr   = x*ln(q1/q0) + (1-x)*ln((1-q1)/(1-q0)) = x*ln(r) - ln(1 + (r-1)*q0)
    climb = max(0, climb + llr)           page when climb >= h
    a, b  = d*a + x, d*b + 1              from a = 12.5, b = 50: a quarter negative, worth 50 items

The climb starts only after `min_items` items, which are for learning alone. While the true share stays at
q0 and items are independent, pages come e^h / (I*zeta^2) items apart on average, where
I = q1*ln(q1/q0) + (1-q1)*ln((1-q1)/(1-q0)) is the evidence of one item and zeta <= 1 the overshoot
(Tartakovsky, Nikiforov & Basseville, "Sequential Analysis", 2014, on CUSUM's run length; Lorden's bound of
1971, e^h, is lower by the factor I). With zeta = 1, which errs towards fewer pages,

    h = ln(I * items per week / allowed false alarms per week), at least H_MIN

with the series' own learned rate, never below ITEMS_PER_WEEK[0]. For q0 = 0.375 and h = 6, simulation gives
9,200 items between pages, the formula 6,800, Lorden's bound 400. At shares below q0 they are far rarer.

The weight d halves what was learned every `half_life` of event time; a pause counts at most 1/1500 of a
half-life, so that a rare topic remembers its last 1,500 items or so. Learning never stops, but while an
alert fires it is judged by the share that was usual at its onset, for one half-life; what lasts longer is
the new usual.

Recovery is the same test backwards. While firing, `climb` goes on, `peak` is its highest value, and
peak - climb is the log-odds that things are back at q0 rather than still at q1. The alert resolves at odds
of 1000:1; or, since this kind fades (alerts.series), when `resolve_after` passed since the last item that
spoke for the incident: a negative one while the odds of recovery were below 10:1.

All of it is pure, and time is that of the items: replaying the same items gives the same memories.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Final

from alerts.alert import NEGATIVE, Sample, moment
from alerts.kind import Explanation, Verdict
from alerts.life import Life
from alerts.rule import Rule

PRIOR_NEGATIVE: Final = 12.5
PRIOR_ITEMS: Final = 50.0
WORST_EDGE: Final = 0.95  # lower, and a topic with nine complaints in ten pages while its share is being learned
REMEMBERED_ITEMS: Final = 1500
ITEMS_PER_WEEK: Final = (500.0, 10_000_000.0)
H_MIN: Final = 3.0  # below it the run-length formula is no longer true
RECOVERED: Final = math.log(1000)
DOUBTFUL: Final = math.log(10)

_DAY_S: Final = 86400.0
_WEEK_S: Final = 7 * _DAY_S
_LONG_WEEKS: Final = 520


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """What one series has learned. Times `_s` are epoch seconds of event time.

    `a`, `b`: learned negatives and items. `seen`: items, halved every half-life, for the rate; `items`: all
    of them. `climb`, `peak`: see the module. `onset_s`: the first item of the current climb; `usual`: the
    share learned before it.
    """

    a: float = PRIOR_NEGATIVE
    b: float = PRIOR_ITEMS
    seen: float = 0.0
    items: int = 0
    first_s: float | None = None
    last_s: float = 0.0
    climb: float = 0.0
    peak: float = 0.0
    onset_s: float | None = None
    usual: float = PRIOR_NEGATIVE / PRIOR_ITEMS


START: Final = Memory()


class Spike:
    """The kind `spike` (alerts.kind.Detector)."""

    fades: Final = True
    takes_copies: Final = False

    def start(self) -> Memory:
        """Nothing seen: the prior."""
        return START

    def observe(self, memory: Memory, rule: Rule, sample: Sample, at_s: float, life: Life) -> tuple[Memory, Verdict]:
        """Take one more item of the series."""
        bad = sample.sentiment == NEGATIVE
        open_ = life.since_s is not None
        onset_s, usual, peak = memory.onset_s, memory.usual, memory.peak
        learned = memory.a / memory.b
        if onset_s is None:
            usual = learned
        frozen = life.since_s is not None and at_s < life.since_s + rule.half_life_s
        edge = _edge(usual if frozen else learned, rule)
        climb = memory.climb - math.log1p((rule.odds_ratio - 1) * edge) + (math.log(rule.odds_ratio) if bad else 0.0)
        if not open_ and (climb <= 0 or memory.items < rule.min_items):
            climb, onset_s = 0.0, None
        else:
            onset_s = at_s if onset_s is None else onset_s
            peak = max(peak, climb) if open_ else climb
        gap_s = at_s - memory.last_s if memory.items else 0.0
        fade = 0.5 ** (min(gap_s, rule.half_life_s / REMEMBERED_ITEMS) / rule.half_life_s)
        new = Memory(
            a=memory.a * fade + bad,
            b=memory.b * fade + 1,
            seen=memory.seen * 0.5 ** (gap_s / rule.half_life_s) + 1,
            items=memory.items + 1,
            first_s=at_s if memory.first_s is None else memory.first_s,
            last_s=at_s,
            climb=climb,
            peak=peak,
            onset_s=onset_s,
            usual=usual,
        )
        holds = peak - climb < RECOVERED if open_ else bad and climb >= max(H_MIN, threshold(new, rule))
        speaks = bad and open_ and peak - climb < DOUBTFUL
        return new, Verdict(holds, onset_s, matched=bad, speaks=speaks)

    def tick(self, memory: Memory, rule: Rule, now_s: float, life: Life, *, behind: bool) -> tuple[Memory, Verdict]:
        """Time alone says nothing about a share."""
        return memory, Verdict(life.since_s is not None, memory.onset_s)

    def due_s(self, memory: Memory, rule: Rule, life: Life) -> None:
        """Never: this kind waits for items."""
        return

    def rest(self, memory: Memory) -> Memory:
        """All learning kept, the climb forgotten."""
        return replace(memory, climb=0.0, peak=0.0, onset_s=None)

    def explain(self, memory: Memory, rule: Rule, life: Life) -> Explanation:
        """Counts, usual share, and how likely chance is to do this."""
        observed = life.matched / max(life.total, 1)
        since = moment(life.last_s if life.onset_s is None else life.onset_s)
        return Explanation(
            title="More negative feedback than usual",
            description=(
                f"{life.matched} of {life.total} items were negative ({observed:.0%}) since "
                f"{since:%Y-%m-%d %H:%M} UTC; usual are {memory.usual:.0%}. {_chance(memory, rule)}"
            ),
            figures={
                "negative": str(life.matched),
                "total": str(life.total),
                "share": f"{observed:.3f}",
                "baseline": f"{memory.usual:.3f}",
                "expected": f"{memory.usual * life.total:.1f}",
            },
        )

    def dump(self, memory: Memory) -> Any:
        """The memory as a JSON array."""
        return [
            memory.a, memory.b, memory.seen, memory.items, memory.first_s, memory.last_s, memory.climb, memory.peak,
            memory.onset_s, memory.usual,
        ]  # fmt: skip

    def load(self, data: Any) -> Memory:
        """Raises ValueError or TypeError for what `dump` did not make."""
        a, b, seen, items, first_s, last_s, climb, peak, onset_s, usual = data
        return Memory(
            a=a, b=b, seen=seen, items=items, first_s=first_s, last_s=last_s, climb=climb, peak=peak,
            onset_s=onset_s, usual=usual,
        )  # fmt: skip


def share(memory: Memory) -> float:
    """The share of negative items that is usual by now, 0..1."""
    return memory.a / memory.b


def weekly(memory: Memory, rule: Rule) -> float:
    """Items per week, as learned with a memory of `half_life`; the first day counts as a whole one.

    Within the first day this says too little rather than too much, and the h of each moment follows what
    was seen so far: the first day together spends at most about the allowance of one week.
    """
    memory_s = rule.half_life_s / math.log(2)
    lived_s = memory.last_s - (memory.last_s if memory.first_s is None else memory.first_s)
    watched_s = max(-memory_s * math.expm1(-lived_s / memory_s), min(_DAY_S, memory_s))
    return min(max(memory.seen / watched_s * _WEEK_S, ITEMS_PER_WEEK[0]), ITEMS_PER_WEEK[1])


def threshold(memory: Memory, rule: Rule) -> float:
    """h: the climb at which chance alone would page `false_alarms_per_week` times a week at the most."""
    pages = _information(share(memory), rule) * weekly(memory, rule) / rule.false_alarms_per_week
    return max(math.log(pages), H_MIN)


def weeks_by_chance(memory: Memory, rule: Rule) -> float:
    """Weeks in which chance alone gives such a climb once at the most, while the share stays at its edge."""
    return math.exp(min(memory.peak, 50.0)) / (_information(memory.usual, rule) * weekly(memory, rule))


def _information(usual: float, rule: Rule) -> float:
    """I: the mean log-likelihood ratio of an item at the share q1."""
    odds = rule.odds_ratio
    q0 = _edge(usual, rule)
    spread = 1 + (odds - 1) * q0
    return max(odds * q0 / spread * math.log(odds) - math.log(spread), 1e-6)


def _edge(usual: float, rule: Rule) -> float:
    """q0, the worst share that is not worth a page."""
    return max(min(rule.margin * usual, WORST_EDGE), usual)


def _chance(memory: Memory, rule: Rule) -> str:
    weeks = weeks_by_chance(memory, rule)
    if weeks >= _LONG_WEEKS:
        return "By chance alone this happens less than once in ten years."
    if weeks >= 2:
        return f"By chance alone this happens at most once in {weeks:.0f} weeks."
    return f"By chance alone this happens at most {max(1 / weeks, 0.1):.1f} times a week."
