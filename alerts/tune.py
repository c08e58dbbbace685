"""Which `false_alarms_per_week` gives as many false alarms as are wanted, and how sure that is. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from alerts.backtest import Labelled, Replayed, Verdict, judge
from alerts.rule import Rule

SETTINGS: Final = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
KINDS: Final = ("spike", "volume")


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One setting on the history: false alarms per week of the rule as a whole, with a 95 % interval."""

    setting: float
    verdict: Verdict
    low: float
    high: float


def interval(count: int, weeks: float) -> tuple[float, float]:
    """The exact 95 % confidence interval of a Poisson rate (Garwood 1936), by bisection.

    Raises ValueError where no time passed.
    """
    if weeks <= 0:
        raise ValueError("no time passed")

    def below(mean: float, most: int) -> float:
        """P(N <= most)."""
        term = total = math.exp(-mean)
        for number in range(1, most + 1):
            term *= mean / number
            total += term
        return total

    def solve(holds: Callable[[float], bool]) -> float:
        low, high = 0.0, 10.0 + 3.0 * count
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if holds(middle) else (low, middle)
        return low

    least = solve(lambda mean: 1 - below(mean, count - 1) < 0.025) if count else 0.0
    most = solve(lambda mean: below(mean, count) > 0.025)
    return least / weeks, most / weeks


def trials(rule: Rule, run: Callable[[Sequence[Rule]], Replayed], labelled: Sequence[Labelled]) -> tuple[Trial, ...]:
    """What each of SETTINGS would have done. `run` replays the history with the given rules.

    All are replayed at once, as rules of their own names. Raises ValueError for a kind without this setting, and
    for an empty history.
    """
    if rule.kind not in KINDS:
        raise ValueError(f"{rule.name} is of kind {rule.kind}, which has no false_alarms_per_week to tune")
    names = {setting: f"{rule.name}.{number}" for number, setting in enumerate(SETTINGS)}
    replayed = run([replace(rule, name=name, false_alarms_per_week=setting) for setting, name in names.items()])
    found = []
    for setting, name in names.items():
        # Labels may name the rule by its real name.
        own = tuple(replace(alert, rule=rule.name) for alert in replayed.alerts if alert.rule == name)
        verdict = judge(replace(replayed, alerts=own), labelled)
        low, high = interval(len(verdict.false), verdict.weeks)
        found.append(Trial(setting=setting, verdict=verdict, low=low, high=high))
    return tuple(found)


def proposed(tried: Sequence[Trial], wanted: float) -> Trial | None:
    """The greatest setting up to which no more false alarms came than wanted; None where even the least had more."""
    best = None
    for trial in tried:
        if trial.verdict.rate > wanted:
            break
        best = trial
    return best
