"""How much better "it got worse" explains some counts than "it is as usual, give or take". Natural logarithms.

Both hypotheses about a share are averages over what is not known. As usual: the share of these items was drawn
from a beta distribution around the usual share (the beta-binomial law), so that it may wander. Worse: the odds are
one of several multiples of the usual odds, all as likely (a mixture, so that one test finds the slight and the
grave; Pollak 1978, Lai 1998). The same for a number of items: gamma-Poisson, which is negative binomial,
against several multiples of the expected number.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

_lgamma, _log, _exp = math.lgamma, math.log, math.exp
_GREATEST = 300.0


def beta_binomial(negative: float, total: float, mean: float, strength: float) -> float:
    """ln P(these items in their order) when the share is beta distributed: `mean`, worth `strength` items."""
    bad, good = strength * mean, strength * (1 - mean)
    return (
        _lgamma(negative + bad) - _lgamma(bad) + _lgamma(total - negative + good) - _lgamma(good)
        - _lgamma(total + strength) + _lgamma(strength)
    )  # fmt: skip


def tail(negative: float, total: float, mean: float, strength: float) -> float:
    """ln of a bound on the chance of so many negative items or more, by the same law.

    Each term of the tail is less than the one before by a ratio that falls: the tail is less than a geometric
    series. 0, a bound that says nothing, where that has no sum, or the items are no more than usual.
    """
    bad, good, left = strength * mean, strength * (1 - mean), total - negative
    if negative <= total * mean or good + left <= 1:
        return 0.0
    ratio = left / (good + left - 1) * max((bad + negative) / (negative + 1), 1.0)
    if ratio >= 1:
        return 0.0
    orders = _lgamma(total + 1) - _lgamma(negative + 1) - _lgamma(left + 1)
    return min(orders + beta_binomial(negative, total, mean, strength) - math.log1p(-ratio), 0.0)


def worse_share(negative: float, total: float, usual: float, ratios: Sequence[float]) -> float:
    """ln P(these items in their order) when the odds are one of `ratios` times the usual ones."""
    good, logs = total - negative, []
    for ratio in ratios:
        spread = 1 - usual + ratio * usual
        logs.append(negative * _log(ratio * usual / spread) + good * _log((1 - usual) / spread))
    return mean_of(logs)


def more_items(items: float, expected: float, shape: float, ratios: Sequence[float]) -> float:
    """ln of the likelihood ratio of a number of items: one of `ratios` times the expected, against as usual.

    `shape`: of the gamma distribution, mean 1, by which the usual rate wanders; its variance is 1 / shape.
    """
    usual = _lgamma(shape + items) - _lgamma(shape) + shape * _log(shape) - (shape + items) * _log(shape + expected)
    return mean_of([items * _log(ratio) - ratio * expected for ratio in ratios]) - usual


def mean_of(logs: Sequence[float]) -> float:
    """ln of the mean of what these are logarithms of."""
    most = max(logs)
    return most + _log(sum([_exp(value - most) for value in logs]) / len(logs))


def either(one: float, other: float, chance: float) -> float:
    """ln of the average of two probabilities, the first with weight `chance`, 0 < chance < 1."""
    one, other = one + _log(chance), other + math.log1p(-chance)
    most = max(one, other)
    return most + _log(_exp(one - most) + _exp(other - most))


def helped(log_ratio: float) -> float:
    """ln of the average of a likelihood ratio and 1: it may help, and costs at most a factor of two."""
    return _log(0.5 + 0.5 * _exp(min(log_ratio, _GREATEST)))
