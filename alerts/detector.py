"""The kinds `spike` and `volume`: is a series worse, or busier, than its own usual?

Two statistics watch each series. A quick one, Page's CUSUM (1954) of r^2 against r^0.6 times the usual odds of a
negative item (r: the rule's `odds_ratio`), says when a change would have begun: a *run* begins with an item that
speaks for a change and ends when that CUSUM is back at 0, so that no good hour dilutes what follows. A careful
one weighs the counts since then, negative and total (alerts.likelihood):

    evidence = ln P(counts | the odds of a negative item are 1.25 r, 2 r or 3.2 r times the usual ones)
             - ln P(counts | as usual)

"As usual" is the average of two beta-binomial laws, since the share wanders: it is near what it was in the last
hour, or, more likely the longer the run lasts (half after an hour), it was drawn anew around the usual share,
which is learned (alerts.baseline). Where hardly anybody complains, the gravest change is to one half.

Of the copies that were recognised in the run (near-duplicates, which do not count), a tenth is taken off the
negative items: so many of a campaign's may have slipped through.

A rise in the number of items may help a `spike`: evidence from the number of items of the run against the
expected, averaged with "it says nothing", is added, but at least half of what is needed must come from the
share. How much the number wanders is itself a guess: the more it does, the less is made of it. A `volume` rule
judges the number alone, and its runs end when the evidence falls to 0.

When is it enough? By Ville's inequality a likelihood ratio of M, given what it was when we began to look,
rises e^g times as high with a chance of at most e^-g, if all is as usual. We begin to look when the evidence
passes START (4: most runs never do), and stake the time that such a run may answer for: a tenth of all time
not yet staked since the series began. With

    h = evidence then + ln(1 / (false_alarms_per_week * weeks staked))

the expected number of false alarms is at most the sum of the stakes times the allowance: the allowance per
week of event time, from the first minute, whatever the number of items. The engine gives each
series of a rule its part of what the rule allows (alerts.census).

That bound is dear where a change is found late, by the share alone. So a `spike` has a third statistic, on
half of the allowance: with each negative item of a run the last three quarters of an hour
(alerts.window) are tested. How likely are so many negative ones or more by the beta-binomial law around the
usual share, or around that of before the run, whichever is more? That chance, divided by the likelihood ratio
of the number of items (averaged with 1, so that its mean is 1 at most, whatever the share), must be below the
allowance of 45 minutes / WINDOW_TESTS: windows that overlap count for so many independent tests in each 45
minutes, which is not proved but simulated (docs/detection.md).

Recovery is a CUSUM backwards: the share is back at √r times the usual odds, rather than at those of the
incident (between r^1.5 and r^2 times). The alert resolves at odds of 1000:1; or, since these kinds fade
(alerts.series), when `resolve_after` passed since the last item that spoke for the incident: a bad one while
the odds of recovery were below 10:1. For one half-life the usual is that before the incident.

All of it is pure, and time is that of the items: replaying the same items gives the same memories.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, Final

from alerts.alert import NEGATIVE, Sample, moment
from alerts.baseline import HOUR_S, YOUNG_ITEMS, Baseline
from alerts.kind import CALM, Explanation, Verdict
from alerts.life import Life, made
from alerts.likelihood import beta_binomial, either, helped, more_items, tail, worse_share
from alerts.rule import Rule
from alerts.run import Memory, Run, dump, load
from alerts.window import WINDOW_S, Window

MULTIPLES: Final = (1.25, 2.0, 3.2)  # of the rule's odds ratio, all as likely
EDGE: Final = 0.6  # powers of the odds ratio between which the quick CUSUM tells
WORSE: Final = 2.0
BUSIER: Final = (2.0, 4.0)  # times as many items as expected, where they help a spike
BUSIER_RULE: Final = (1.5, 3.0)  # of the ratio of a `volume` rule
DOUBT: Final = 3.0  # of the shape by which a number wanders, where it helps a spike
SLIPPED: Final = 0.1  # of recognised copies: so many are taken to have come unrecognised
START: Final = 4.0
STAKE: Final = 0.1
OWN_PART: Final = 0.5  # of the evidence, that must come from the share
UNNOTICED_S: Final = 900.0  # by which a run may begin after the share was drawn anew: that is what begins runs
LONGEST_S: Final = 86400.0  # of a run that decides nothing
RUN_PART: Final = 0.5  # of the allowance; the rest is the windows'
WINDOW_TESTS: Final = 2.0  # independent ones, as many as the windows that end within WINDOW_S count for
LEAST_IN_WINDOW: Final = 5
WINDOW_STANDS_OUT: Final = 4.0  # squared standard deviations; less is not worth a test
RECOVERED: Final = math.log(1000)
DOUBTFUL: Final = math.log(10)

_DAY_S: Final = 86400.0
_WEEK_S: Final = 7 * _DAY_S
_LONG_WEEKS: Final = 520


class Spike:
    """The kind `spike` (alerts.kind.Detector): the share of negative items, helped by their number."""

    fades: Final = True
    takes_copies: Final = False
    by_number = False
    run_part = RUN_PART

    def ignores(self, rule: Rule, sample: Sample) -> bool:
        """None: each is learned from."""
        return False

    def start(self) -> Memory:
        """Nothing seen: the prior."""
        return Memory()

    def observe(self, memory: Memory, rule: Rule, sample: Sample, at_s: float, life: Life) -> tuple[Memory, Verdict]:
        """Take one more item of the series."""
        counts = sample.sentiment == NEGATIVE
        bad = counts or self.by_number
        old, run, unstaked, window = memory
        since_s = life.since_s
        open_ = since_s is not None
        held = since_s is not None and at_s < since_s + rule.half_life_s
        at_s = max(at_s, old.last_s)
        gap_s = at_s - old.last_s if old.items else 0.0
        baseline = old.at(at_s, rule.half_life_s, held=held)
        if at_s >= window.until_s:
            window = window.turned(old.hour, baseline.hour, at_s)
        unstaked += gap_s / _WEEK_S
        if run is not None:
            expected = run.expected + baseline.hour.rate * gap_s / HOUR_S
            run = made(Run, (*run[:6], run.negative + counts, run.total + 1, expected, *run[9:]))
        elif bad and (open_ or self._may_begin(baseline, rule)):
            run = self._begun(baseline, at_s)._replace(negative=int(counts), total=1)
        if run is not None and not open_:
            climb = run.climb + self._step(run, rule, bad=counts)
            run = made(Run, (*run[:-1], climb)) if climb > 0 else None
        own = 0.0
        if run is not None and bad:
            # After an item that is not bad there is not more evidence than before it.
            own, evidence = self._evidence(run, rule, baseline, at_s, life.copies)
            need = run.need
            if need is None and evidence >= START and not open_:
                stake = STAKE * unstaked
                unstaked -= stake
                need = evidence - _log_chance(self.run_part * stake, rule)
            run = made(Run, (*run[:9], evidence, max(run.peak, evidence), need, *run[12:]))
            if self.by_number and own <= 0 and not open_:
                run = None
        if run is not None and not open_ and at_s > run.onset_s + LONGEST_S:
            run = None
        baseline = baseline.counted(bad=counts, held=open_ and held)
        spare = -1.0
        if run is not None and counts and not open_:
            spare = self._spare(window, run, rule, baseline, life.copies)
            if spare >= 0:
                run = run._replace(need=run.peak - spare)
        memory = made(Memory, (baseline, run, unstaked, window))
        if run is None:
            return memory, CALM[bad]
        if not open_:
            holds = bad and run.need is not None and run.evidence >= run.need and own >= OWN_PART * run.need
            holds = spare >= 0 or holds
            return memory, made(Verdict, (holds, run.onset_s, bad, False))
        now = self._eased(run, rule, baseline, life, held=held, bad=counts, gap_s=gap_s)
        memory = memory._replace(run=now)
        return memory, Verdict(now.ease < RECOVERED, run.onset_s, matched=bad, speaks=bad and now.ease < DOUBTFUL)

    def tick(self, memory: Memory, rule: Rule, now_s: float, life: Life, *, behind: bool) -> tuple[Memory, Verdict]:
        """Time alone says nothing."""
        return memory, Verdict(life.since_s is not None, memory.run.onset_s if memory.run else None)

    def due_s(self, memory: Memory, rule: Rule, life: Life) -> None:
        """Never: these kinds wait for items."""
        return

    def rest(self, memory: Memory) -> Memory:
        """All learning kept, the run forgotten, and the items that it was made of."""
        last_s = memory.baseline.last_s
        return memory._replace(run=None, window=Window.after(memory.run.onset_s if memory.run else last_s, last_s))

    def explain(self, memory: Memory, rule: Rule, life: Life) -> Explanation:
        """Counts, usual share, and how likely chance is to do this."""
        run = memory.run
        usual = memory.baseline.share if run is None else run.usual
        observed = life.matched / max(life.total, 1)
        busier = _busier(run) if run is not None and memory.baseline.knows_volume else ""
        return Explanation(
            title="More negative feedback than usual",
            description=(
                f"{life.matched} of {life.total} items were negative ({observed:.0%}) since "
                f"{_since(life)}; usual are {usual:.0%}.{busier} {_chance(run, rule)}"
            ),
            figures={
                "negative": str(life.matched),
                "total": str(life.total),
                "share": f"{observed:.3f}",
                "baseline": f"{usual:.3f}",
                "expected": f"{usual * life.total:.1f}",
            },
        )

    def dump(self, memory: Memory) -> Any:
        """The memory as a JSON array."""
        return dump(memory)

    def load(self, data: Any) -> Memory:
        """Raises ValueError or TypeError for what `dump` did not make."""
        return load(data)

    def _may_begin(self, baseline: Baseline, rule: Rule) -> bool:
        return baseline.items >= rule.min_items

    def _begun(self, baseline: Baseline, at_s: float) -> Run:
        usual, strength, recent = baseline.share, baseline.strength, baseline.recent
        near = (baseline.recent_negative + strength * usual) / (recent + strength)
        return Run(
            onset_s=at_s, usual=usual, strength=strength, near=min(max(near, 0.002), 0.98),
            near_strength=strength + recent, shape=baseline.shape,
        )  # fmt: skip

    def _step(self, run: Run, rule: Rule, *, bad: bool) -> float:
        """By how much the quick CUSUM rises with an item."""
        return _climb(run.usual, rule.odds_ratio, bad)

    def _evidence(self, run: Run, rule: Rule, baseline: Baseline, at_s: float, copies: int) -> tuple[float, float]:
        """What the share says, and what it says together with the number of items."""
        slipped = min(SLIPPED * copies, run.negative) if copies else 0
        negative, total = run.negative - slipped, run.total - slipped
        ratios = [rule.odds_ratio * multiple for multiple in MULTIPLES]
        ratios[-1] = max(ratios[-1], 1 / run.usual - 1)
        redrawn = 1 - 0.5 ** min((at_s - run.onset_s + UNNOTICED_S) / HOUR_S, 30.0)
        as_usual = either(
            beta_binomial(negative, total, run.usual, run.strength),
            beta_binomial(negative, total, run.near, run.near_strength),
            redrawn,
        )
        own = worse_share(negative, total, run.usual, ratios) - as_usual
        if own <= 0 or not baseline.knows_volume:
            return own, own
        return own, own + helped(more_items(max(total - 1, 0), run.expected, _doubted(run.shape), BUSIER))

    def _spare(self, window: Window, run: Run, rule: Rule, baseline: Baseline, copies: int) -> float:
        """How much less likely by chance the window is than it must be, a logarithm; negative if it is not.

        The share's chance is that by the usual share or by that of before the run, whichever is greater. The
        likelihood ratio of the number of items, whose mean is 1 at most whatever the share, divides it.
        """
        counts = window.counts(baseline.hour, baseline.last_s)
        if counts is None:
            return -1.0
        negative, total, usual, expected = counts
        if negative <= usual or total < LEAST_IN_WINDOW or baseline.items < total + YOUNG_ITEMS:
            return -1.0
        mean, strength = usual / total, baseline.strength
        if copies:
            slipped = min(SLIPPED * copies, negative)
            negative, total = negative - slipped, total - slipped
        above, variance = negative - total * mean, total * mean * (1 - mean) * (1 + total / strength)
        if above <= 0 or above * above < WINDOW_STANDS_OUT * variance:
            return -1.0
        allowed = _log_chance((1 - self.run_part) * WINDOW_S / _WEEK_S / WINDOW_TESTS, rule)
        chance = max(tail(negative, total, mean, strength), tail(negative, total, run.near, run.near_strength))
        if chance > OWN_PART * allowed:
            return -1.0
        if baseline.knows_volume:
            chance -= helped(more_items(total, expected, _doubted(baseline.shape), BUSIER))
        return allowed - chance

    def _eased(
        self, run: Run, rule: Rule, baseline: Baseline, life: Life, *, held: bool, bad: bool, gap_s: float
    ) -> Run:
        """With what an item of an open incident says for recovery."""
        usual = run.usual if held else baseline.share
        odds, seen = usual / (1 - usual), min(max(run.negative / run.total, 1e-3), 0.99)
        worse = min(max(seen / (1 - seen), odds * rule.odds_ratio**1.5), odds * rule.odds_ratio**2)
        edge = odds * rule.odds_ratio**0.5
        says = math.log((1 + worse) / (1 + edge)) + (math.log(edge / worse) if bad else 0.0)
        return run._replace(ease=max(0.0, run.ease + says))


class Volume(Spike):
    """The kind `volume` (alerts.kind.Detector): the number of items of a series, whatever they say."""

    by_number = True
    run_part = 1.0

    def explain(self, memory: Memory, rule: Rule, life: Life) -> Explanation:
        """Counts, usual number, and how likely chance is to do this."""
        run = memory.run
        expected = 0.0 if run is None else run.expected
        return Explanation(
            title="More feedback than usual",
            description=(
                f"{life.total} items since {_since(life)}; usual are {expected:.0f} at this time of the week. "
                f"{_chance(run, rule)}"
            ),
            figures={"total": str(life.total), "expected": f"{expected:.1f}"},
        )

    def _may_begin(self, baseline: Baseline, rule: Rule) -> bool:
        return baseline.knows_volume and super()._may_begin(baseline, rule)

    def _step(self, run: Run, rule: Rule, *, bad: bool) -> float:
        return 1.0  # The evidence itself says when the run is over.

    def _evidence(self, run: Run, rule: Rule, baseline: Baseline, at_s: float, copies: int) -> tuple[float, float]:
        ratios = [rule.ratio * multiple for multiple in BUSIER_RULE]
        found = more_items(run.total - 1, run.expected, run.shape, ratios)
        # The first item opens the run and says nothing; by the second we know.
        return (found if run.total > 1 else math.ulp(0.0)), found

    def _spare(self, window: Window, run: Run, rule: Rule, baseline: Baseline, copies: int) -> float:
        return -1.0  # Nothing but the run.

    def _eased(
        self, run: Run, rule: Rule, baseline: Baseline, life: Life, *, held: bool, bad: bool, gap_s: float
    ) -> Run:
        seen = run.total / max(run.expected, 1e-9)
        worse = min(max(seen, rule.ratio**1.5), rule.ratio**2)
        edge = rule.ratio**0.5
        says = math.log(edge / worse) + (worse - edge) * baseline.hour.rate * gap_s / HOUR_S
        return run._replace(ease=max(0.0, run.ease + says))


@lru_cache(maxsize=4096)
def _climb(usual: float, odds_ratio: float, bad: bool) -> float:
    odds, edge, worse = usual / (1 - usual), odds_ratio**EDGE, odds_ratio**WORSE
    return (math.log(worse / edge) if bad else 0.0) - math.log((1 + worse * odds) / (1 + edge * odds))


def weeks_by_chance(run: Run | None, rule: Rule) -> float:
    """Weeks in which chance alone gives such evidence once at the most, while all is as usual."""
    if run is None or run.need is None:
        return 0.0
    return math.exp(min(run.peak - run.need, 100.0)) / rule.false_alarms_per_week


def _log_chance(weeks: float, rule: Rule) -> float:
    """ln of the chance of a false alarm that may be taken on behalf of so much time."""
    return math.log(max(rule.false_alarms_per_week * weeks, 1e-300))


def _doubted(shape: float) -> float:
    return shape * shape / (shape + DOUBT)


def _since(life: Life) -> str:
    return f"{moment(life.last_s if life.onset_s is None else life.onset_s):%Y-%m-%d %H:%M} UTC"


def _busier(run: Run) -> str:
    if run.total <= 1.5 * run.expected or run.expected <= 0:
        return ""
    return f" {run.total / run.expected:.1f} times as many items came as usual at this time of the week."


def _chance(run: Run | None, rule: Rule) -> str:
    weeks = weeks_by_chance(run, rule)
    if weeks >= _LONG_WEEKS:
        return "By chance alone this happens less than once in ten years."
    if weeks >= 2:
        return f"By chance alone this happens at most once in {weeks:.0f} weeks."
    return f"By chance alone this happens at most {max(1 / max(weeks, 1e-9), 0.1):.1f} times a week."
