"""Made-up topics for `benchmarks.detection`: quiet, seasonal, bursty, drifting, brigaded, with incidents or none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

HOUR_S: Final = 3600.0
DAY_S: Final = 86400.0
WEEK_S: Final = 7 * DAY_S
USUAL: Final = 0.25
COPIES: Final = 200
UNRECOGNISED: Final = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What a topic is like. `per_minute`: items on average. `swing`: by which the share goes up and down over the
    day, `rate_swing` the same for the rate, relative. `wander`: standard deviation of each hour's share.
    `bursts`: variance of each hour's rate, relative. `drift`: of the share, up and down in eight weeks.
    `brigades`: a day, each of 200 copied negative posts in ten minutes, one in twenty not recognised as a copy.
    """

    name: str
    per_minute: float
    swing: float = 0.0
    rate_swing: float = 0.0
    wander: float = 0.0
    bursts: float = 0.0
    drift: float = 0.0
    brigades: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Incident:
    """A rise of the share to `share` for `minutes`, reached after `ramp` minutes, with `volume` times the items."""

    name: str
    share: float
    volume: float = 2.0
    minutes: float = 60.0
    ramp: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """Event times in seconds, sorted, whether each item is negative, whether it is known to be a copy, and when
    incidents begin."""

    at_s: NDArray[np.float64]
    negative: NDArray[np.bool_]
    copy: NDArray[np.bool_]
    begins_s: tuple[float, ...]
    days: int


def stream(world: World, days: int, seed: int, incident: Incident | None = None, first_day: int = 8) -> Stream:
    """One topic for so many days, with an incident at a random time of each day from `first_day` on."""
    dice = np.random.default_rng(seed)
    hours = np.arange(days * 24)
    sun = np.sin(2 * np.pi * hours / 24)
    share = USUAL + world.swing * sun + world.wander * dice.standard_normal(hours.size)
    share = np.clip(share + world.drift * np.sin(2 * np.pi * hours / (56 * 24)), 0.02, 0.9)
    rate = world.per_minute * 60 * (1 + world.rate_swing * sun)
    if world.bursts:
        rate = rate * dice.gamma(1 / world.bursts, world.bursts, hours.size)
    hour = np.repeat(hours, dice.poisson(rate))
    at_s = (hour + dice.random(hour.size)) * HOUR_S
    odds = share[hour]
    begins: list[float] = []
    if incident is not None:
        lasts_s = incident.minutes * 60
        for day in range(first_day, days):
            begin_s = day * DAY_S + dice.random() * (DAY_S - 2 * lasts_s)
            begins.append(begin_s)
            if incident.volume > 1:
                size = dice.poisson(rate[int(begin_s // HOUR_S)] * (incident.volume - 1) * lasts_s / HOUR_S)
                at_s = np.concatenate([at_s, begin_s + dice.random(size) * lasts_s])
                odds = np.concatenate([odds, np.full(size, USUAL)])
            since_s = at_s - begin_s
            during = (since_s >= 0) & (since_s < lasts_s)
            risen = np.minimum(since_s / (incident.ramp * 60), 1) if incident.ramp else 1.0
            odds = np.where(during, odds + (incident.share - odds) * risen, odds)
    copy = np.zeros(at_s.size, bool)
    if world.brigades:
        for begin_s in dice.random(dice.poisson(world.brigades * days)) * (days * DAY_S - 600):
            at_s = np.concatenate([at_s, begin_s + dice.random(COPIES) * 600])
            odds = np.concatenate([odds, np.ones(COPIES)])
            copy = np.concatenate([copy, dice.random(COPIES) >= UNRECOGNISED])
    order = np.argsort(at_s, kind="stable")
    negative = dice.random(at_s.size) < odds
    return Stream(at_s=at_s[order], negative=negative[order], copy=copy[order], begins_s=tuple(begins), days=days)
