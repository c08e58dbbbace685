"""What one series has learned: its usual share and number of items, and how much both wander. Pure.

    share    a / b, both halved every half-life of event time; from 5 of 20. But for the first hundred, an item
             is learned with a delay: it is `recent` first, and of what is recent half is handed on every
             hour. So an incident is judged by a past that it is no part of, yet learning never stops. While an
             incident is open only a tenth is handed on, until it has lasted a half-life: then it is the new
             usual.
    volume   items of full hours / hours, the same half-life, each hour divided by the season's factor
    season   a factor on both for each hour of the week (alerts.season)
    wander   the variance between hours beyond what chance alone makes, of the share relative to p(1-p) (the
             intra-class correlation of a beta-binomial law), of the volume relative to its square: a ratio of
             moments over hours (Williams 1982), each hour weighed by what it can say, none taken as further
             off than two standard deviations (of a volume: four), so that incidents that nobody was told of
             do not pass for wander and hide the next; halved in two weeks, with prior values worth a day

A pause counts at most 1/1500 of a half-life for the share, so a rare topic remembers its last 1,500 items or so.
Hours that an incident touched, and the first, which is a part, teach neither season nor volume nor wander.
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple

from alerts import season
from alerts.life import made

PRIOR_NEGATIVE: Final = 5.0
PRIOR_ITEMS: Final = 20.0
YOUNG_ITEMS: Final = 100
REMEMBERED_ITEMS: Final = 1500
HELD: Final = 0.1
PRIOR_HOURS: Final = 24.0
SHARE_WANDER: Final = 0.0133  # about a quarter negative: give or take five points
VOLUME_WANDER: Final = 0.25  # give or take half
LEAST_SHARE_WANDER: Final = 0.002
LEAST_VOLUME_WANDER: Final = 0.01
FURTHEST: Final = 2.0
FURTHEST_VOLUME: Final = 4.0
KNOWN_HOURS: Final = 24.0  # after so many full hours something can be said about volume

HOUR_S: Final = 3600.0
_WANDER_FADE: Final = 0.5 ** (1 / (24 * 14))


class Wander(NamedTuple):
    """A variance, estimated: `total` over `weight`, both fading."""

    total: float
    weight: float

    @property
    def value(self) -> float:
        """The estimate."""
        return self.total / self.weight

    def after(self, found: float, weight: float, prior: float, least: float) -> Wander:
        """With one more hour, which found this much and is worth `weight` (0..1) of a decisive one."""
        new_weight = self.weight * _WANDER_FADE + weight + (1 - _WANDER_FADE) * PRIOR_HOURS
        total = self.total * _WANDER_FADE + weight * found + (1 - _WANDER_FADE) * PRIOR_HOURS * prior
        return Wander(total=max(total, least * new_weight), weight=new_weight)


class Hour(NamedTuple):
    """The hour that goes on, `number` hours after 1970: its items, and how many negatives were expected.

    `share`, `rate`: what is usual in it, a factor on the overall share and items per hour. `clean`: it can
    teach what is usual.
    """

    number: int
    negative: int = 0
    items: int = 0
    expected: float = 0.0
    clean: bool = False
    share: float = 1.0
    rate: float = 0.0


class Baseline(NamedTuple):
    """See the module. `last_s`: event time of the last item, epoch seconds, 0 before the first."""

    a: float = PRIOR_NEGATIVE
    b: float = PRIOR_ITEMS
    recent_negative: float = 0.0
    recent: float = 0.0
    items: int = 0
    last_s: float = 0.0
    volume_items: float = 0.0
    volume_hours: float = 0.0
    share_wander: Wander = Wander(total=PRIOR_HOURS * SHARE_WANDER, weight=PRIOR_HOURS)
    volume_wander: Wander = Wander(total=PRIOR_HOURS * VOLUME_WANDER, weight=PRIOR_HOURS)
    hour: Hour = Hour(number=-1)
    season: bytes = b""

    @property
    def share(self) -> float:
        """The usual share of negative items in this hour, 0..1."""
        return min(max(self.a / self.b * self.hour.share, 0.002), 0.98)

    @property
    def strength(self) -> float:
        """How many items the usual share is worth as a guess of the present one: it wanders, and is learned."""
        wander = self.share_wander.value
        return 1 / (wander / (1 - wander) + 1 / self.b)

    @property
    def shape(self) -> float:
        """The same for the usual number, as the shape of a gamma distribution."""
        return 1 / (self.volume_wander.value + 1 / max(self.volume_items, 1.0))

    @property
    def knows_volume(self) -> bool:
        """Whether enough full hours were seen to judge a number of items."""
        return self.volume_hours >= KNOWN_HOURS and self.hour.rate > 0

    def at(self, at_s: float, half_life_s: float, *, held: bool) -> Baseline:
        """As of `at_s`, no earlier than the last item, before it is counted."""
        number = int(at_s // HOUR_S)
        base = self if number == self.hour.number else self._turned(number, half_life_s, held=held)
        if not base.items:
            return base._replace(last_s=at_s)
        gap_s = at_s - base.last_s
        keep = 0.5 ** (gap_s / HOUR_S)
        handed = (1 - keep) * (HELD if held else 1.0)
        fade = 0.5 ** (min(gap_s, half_life_s / REMEMBERED_ITEMS) / half_life_s)
        a, b, recent_negative, recent, items = base[:5]
        return made(Baseline, (
            a * fade + recent_negative * handed, b * fade + recent * handed, recent_negative * keep, recent * keep,
            items, at_s, *base[6:],
        ))  # fmt: skip

    def counted(self, *, bad: bool, held: bool) -> Baseline:
        """With one more item, as of `last_s`."""
        a, b, recent_negative, recent, items = self[:5]
        if items < YOUNG_ITEMS:
            a, b = a + bad, b + 1
        else:
            recent_negative, recent = recent_negative + bad, recent + 1
        number, negative, heard, expected, clean, share, rate = self.hour
        hour = made(Hour, (number, negative + bad, heard + 1, expected + self.share, clean and not held, share, rate))
        return made(Baseline, (a, b, recent_negative, recent, items + 1, *self[5:10], hour, self.season))

    def _turned(self, number: int, half_life_s: float, *, held: bool) -> Baseline:
        """A new hour has begun: learn from the one before, and from those without an item in between."""
        base = self
        if base.hour.number >= 0:
            if base.hour.clean:
                base = base._learned(base.hour, half_life_s)
            if not held:
                first = max(base.hour.number + 1, number - season.HOURS)
                for empty in range(first, number):
                    base = base._learned(base._begun(empty)._replace(clean=True), half_life_s)
        return base._replace(hour=base._begun(number)._replace(clean=base.items > 0 and not held))

    def _begun(self, number: int) -> Hour:
        usual = season.factors(self.season, number)
        level = self.volume_items / self.volume_hours if self.volume_hours else 0.0
        return Hour(number=number, share=usual.share, rate=level * usual.volume)

    def _learned(self, hour: Hour, half_life_s: float) -> Baseline:
        wander, n = self.share_wander.value, hour.items
        share_wander = self.share_wander
        if n >= 2:
            mean = min(max(hour.expected / n, 1e-3), 0.999)
            chance, pairs = n * mean * (1 - mean), n * (n - 1) * mean * (1 - mean)
            usual = chance + pairs * wander
            off = min((hour.negative - hour.expected) ** 2, FURTHEST**2 * usual)
            share_wander = share_wander.after(
                (off - chance) / pairs, (pairs * wander / usual) ** 2, SHARE_WANDER, LEAST_SHARE_WANDER
            )
        volume_wander, rate = self.volume_wander, hour.rate
        if rate > 0:
            usual = rate + rate * rate * volume_wander.value
            off = min((n - rate) ** 2, FURTHEST_VOLUME**2 * usual)
            weight = (rate * rate * volume_wander.value / usual) ** 2
            volume_wander = volume_wander.after((off - rate) / rate**2, weight, VOLUME_WANDER, LEAST_VOLUME_WANDER)
        fade = 0.5 ** (HOUR_S / half_life_s)
        overall = season.factors(self.season, hour.number).volume
        items = self.volume_items * fade + n / max(overall, 0.02)
        hours = self.volume_hours * fade + 1
        level, share = items / hours, min(max(self.a / self.b, 1e-3), 0.999)
        share_variance = (1 - share) / share * (1 / n + wander) if n else math.inf
        return self._replace(
            volume_items=items,
            volume_hours=hours,
            share_wander=share_wander,
            volume_wander=volume_wander,
            season=season.learned(
                self.season,
                hour.number,
                share=min(hour.negative / n / share, 3.0) if n else 0.0,
                share_weight=1 / share_variance,
                volume=min(n / level, 5.0) if level else 0.0,
                volume_weight=1 / (1 / level + 0.05) if level else 0.0,
            ),
        )
