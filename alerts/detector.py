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
of 1000:1; or when `resolve_after` of event time passed since the last item that spoke for the incident
(a negative one while the odds of recovery were below 10:1), which includes that no items came at all.

All of it is pure, and time is that of the items: replaying the same items gives the same states.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final

from alerts.alert import NEGATIVE, Quote, Sample, Status, quote_from_data, quote_to_data
from alerts.quotes import remember
from alerts.rule import Rule

PRIOR_NEGATIVE: Final = 12.5
PRIOR_ITEMS: Final = 50.0
WORST_EDGE: Final = 0.95  # lower, and a topic with nine complaints in ten pages while its share is being learned
REMEMBERED_ITEMS: Final = 1500
ITEMS_PER_WEEK: Final = (500.0, 10_000_000.0)
H_MIN: Final = 3.0  # below it the run-length formula is no longer true
RECOVERED: Final = math.log(1000)
DOUBTFUL: Final = math.log(10)
REFRESH_S: Final = 15.0

_DAY_S: Final = 86400.0
_WEEK_S: Final = 7 * _DAY_S
_FORMAT: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What is known of one series; at most some 12 KB as JSON. Times `_s` are epoch seconds of event time.

    `a`, `b`: learned negatives and items. `seen`: items, halved every half-life, for the rate; `items`: all
    of them. `climb`, `peak`: see the module. Since `onset_s`, the first item of the current climb:
    `negative` of `total` items and the newest negative `quotes`; `usual`: the share learned before it.
    Firing since `started_s`; `worse_s`: the last item that spoke for the incident; `refreshed_s`: when
    the alert was last told anew; `ended_s`: when the last incident ended.
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
    negative: int = 0
    total: int = 0
    quotes: tuple[Quote, ...] = ()
    model: str = ""
    started_s: float | None = None
    worse_s: float = 0.0
    refreshed_s: float = 0.0
    ended_s: float | None = None

    @property
    def firing(self) -> bool:
        """Whether an incident is open."""
        return self.started_s is not None

    def to_json(self) -> str:
        """The state as JSON, for the store; `from_json` reads it back equal."""
        data = [
            _FORMAT, self.a, self.b, self.seen, self.items, self.first_s, self.last_s, self.climb, self.peak,
            self.onset_s, self.usual, self.negative, self.total, [quote_to_data(q) for q in self.quotes],
            self.model, self.started_s, self.worse_s, self.refreshed_s, self.ended_s,
        ]  # fmt: skip
        return json.dumps(data, ensure_ascii=False, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> State:
        """Raises ValueError or TypeError for what `to_json` of this format did not write."""
        data = json.loads(text)
        if not isinstance(data, list) or data[:1] != [_FORMAT]:
            raise ValueError(f"not a detector state of format {_FORMAT}")
        (
            _, a, b, seen, items, first_s, last_s, climb, peak, onset_s, usual, negative, total, quotes,
            model, started_s, worse_s, refreshed_s, ended_s,
        ) = data  # fmt: skip
        return cls(
            a=a, b=b, seen=seen, items=items, first_s=first_s, last_s=last_s, climb=climb, peak=peak,
            onset_s=onset_s, usual=usual, negative=negative, total=total,
            quotes=tuple(quote_from_data(quote) for quote in quotes), model=model, started_s=started_s,
            worse_s=worse_s, refreshed_s=refreshed_s, ended_s=ended_s,
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """An alert to tell: `state` is the series as of `at_s`, for `resolved` as of just before its end."""

    status: Status
    state: State
    at_s: float


START: Final = State()


def step(state: State, rule: Rule, sample: Sample, at_s: float) -> tuple[State, Change | None]:
    """Take one more item of the series, at event time `at_s`; one that comes late counts as of the latest."""
    at_s = max(at_s, state.last_s)
    state, change = quiet(state, rule, at_s)
    bad = sample.sentiment == NEGATIVE
    firing = state.started_s is not None
    onset_s, usual, negative, total = state.onset_s, state.usual, state.negative, state.total
    quotes, peak, worse_s = state.quotes, state.peak, state.worse_s

    learned = state.a / state.b
    if onset_s is None:
        usual = learned
    frozen = state.started_s is not None and at_s < state.started_s + rule.half_life_s
    edge = _edge(usual if frozen else learned, rule)
    climb = state.climb - math.log1p((rule.odds_ratio - 1) * edge) + (math.log(rule.odds_ratio) if bad else 0.0)
    if not firing and (climb <= 0 or state.items < rule.min_items):
        climb, onset_s, negative, total, quotes = 0.0, None, 0, 0, ()
    else:
        onset_s = at_s if onset_s is None else onset_s
        negative, total = negative + bad, total + 1
        peak = max(peak, climb) if firing else climb
        if bad:
            quotes = remember(quotes, sample)
            if peak - climb < DOUBTFUL:
                worse_s = at_s

    first_s = at_s if state.first_s is None else state.first_s
    gap_s = at_s - state.last_s if state.items else 0.0
    fade = 0.5 ** (min(gap_s, rule.half_life_s / REMEMBERED_ITEMS) / rule.half_life_s)
    new = State(
        a=state.a * fade + bad,
        b=state.b * fade + 1,
        seen=state.seen * 0.5 ** (gap_s / rule.half_life_s) + 1,
        items=state.items + 1,
        first_s=first_s,
        last_s=at_s,
        climb=climb,
        peak=peak,
        onset_s=onset_s,
        usual=usual,
        negative=negative,
        total=total,
        quotes=quotes,
        model=sample.model,
        started_s=state.started_s,
        worse_s=worse_s,
        refreshed_s=state.refreshed_s,
        ended_s=state.ended_s,
    )
    if not firing:
        # A new incident begins later than the last one ended: each has a start of its own.
        rested = new.ended_s is None or at_s > new.ended_s
        if bad and rested and climb >= H_MIN and climb >= threshold(new, rule):
            new = replace(new, started_s=at_s, worse_s=at_s, refreshed_s=at_s)
            change = Change(status="firing", state=new, at_s=at_s)
    elif peak - climb >= RECOVERED:
        return _end(new, at_s)
    elif at_s >= new.refreshed_s + REFRESH_S:
        new = replace(new, refreshed_s=at_s)
        change = Change(status="firing", state=new, at_s=at_s)
    return new, change


def quiet(state: State, rule: Rule, now_s: float) -> tuple[State, Change | None]:
    """Let time pass: an incident that nothing spoke for during `resolve_after` ends, at the end of that."""
    if state.started_s is None:
        return state, None
    end_s = state.worse_s + rule.resolve_after_s
    return _end(state, end_s) if now_s >= end_s else (state, None)


def rest(state: State) -> State:
    """The state with any climb or incident forgotten and all learning kept."""
    return replace(state, climb=0.0, peak=0.0, onset_s=None, negative=0, total=0, quotes=(), started_s=None)


def share(state: State) -> float:
    """The share of negative items that is usual by now, 0..1."""
    return state.a / state.b


def weekly(state: State, rule: Rule) -> float:
    """Items per week, as learned with a memory of `half_life`; the first day counts as a whole one.

    Within the first day this says too little rather than too much, and the h of each moment follows what
    was seen so far: the first day together spends at most about the allowance of one week.
    """
    memory_s = rule.half_life_s / math.log(2)
    lived_s = state.last_s - (state.last_s if state.first_s is None else state.first_s)
    watched_s = max(-memory_s * math.expm1(-lived_s / memory_s), min(_DAY_S, memory_s))
    return min(max(state.seen / watched_s * _WEEK_S, ITEMS_PER_WEEK[0]), ITEMS_PER_WEEK[1])


def threshold(state: State, rule: Rule) -> float:
    """h: the climb at which chance alone would page `false_alarms_per_week` times a week at the most."""
    pages = _information(share(state), rule) * weekly(state, rule) / rule.false_alarms_per_week
    return max(math.log(pages), H_MIN)


def weeks_by_chance(state: State, rule: Rule) -> float:
    """Weeks in which chance alone gives such a climb once at the most, while the share stays at its edge."""
    return math.exp(min(state.peak, 50.0)) / (_information(state.usual, rule) * weekly(state, rule))


def _information(usual: float, rule: Rule) -> float:
    """I: the mean log-likelihood ratio of an item at the share q1."""
    odds = rule.odds_ratio
    q0 = _edge(usual, rule)
    spread = 1 + (odds - 1) * q0
    return max(odds * q0 / spread * math.log(odds) - math.log(spread), 1e-6)


def _edge(usual: float, rule: Rule) -> float:
    """q0, the worst share that is not worth a page."""
    return max(min(rule.margin * usual, WORST_EDGE), usual)


def _end(state: State, at_s: float) -> tuple[State, Change]:
    return replace(rest(state), ended_s=at_s), Change(status="resolved", state=state, at_s=at_s)


def moment(at_s: float) -> datetime:
    """Epoch seconds as a time in UTC."""
    return datetime.fromtimestamp(at_s, UTC)
