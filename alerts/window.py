"""The last three quarters of an hour of one series: its items, and what was usual for them. Pure.

A window begins at an edge, one each seven and a half minutes of event time, and ends now: it is 45 to 52 1/2 minutes
long. The counts of the slot that goes on are those of the baseline's hour (alerts.baseline) less what that had when the
slot began, so that an item costs nothing here unless it is the first of a slot.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from alerts.baseline import HOUR_S, Hour

SLOT_S: Final = 450.0  # an hour is a whole number of slots
SLOTS: Final = 6
WINDOW_S: Final = SLOT_S * SLOTS

Counts = tuple[float, float, float, float]
"""Negative items, all items, how many negative ones were usual among them, how many items were expected."""


class Window(NamedTuple):
    """`until_s`: end of the slot that goes on. `negative`, `total`, `usual`: what its hour had counted when it began;
    `negative` is -1 until the first item from `until_s` on. `full`: the slots before it, oldest first, of which there
    are fewer than SLOTS after a beginning. `past`: their sum."""

    until_s: float = 0.0
    negative: int = -1
    total: int = 0
    usual: float = 0.0
    full: tuple[Counts, ...] = ()
    past: Counts = (0, 0, 0.0, 0.0)

    @classmethod
    def after(cls, begin_s: float, end_s: float) -> Window:
        """With nothing known of an incident, nor of as much time after it: so long it is in doubt what is usual."""
        return cls(until_s=2 * end_s - begin_s)

    def turned(self, before: Hour, hour: Hour, at_s: float) -> Window:
        """With another slot, in which `at_s` is, no earlier than `until_s`. `before`: the baseline's hour as the last
        item left it; `hour`: as the next one finds it."""
        slot = at_s // SLOT_S
        until_s = (slot + 1) * SLOT_S
        negative, total, usual = 0, 0, 0.0
        if hour.number == before.number:
            negative, total, usual = hour.negative, hour.items, hour.expected
        if self.negative < 0:
            return Window(until_s, negative, total, usual)
        ended = (
            before.negative - self.negative, before.items - self.total, before.expected - self.usual,
            before.rate * SLOT_S / HOUR_S,
        )  # fmt: skip
        empty = (0, 0, 0.0, hour.rate * SLOT_S / HOUR_S)
        skipped = min(round((until_s - self.until_s) / SLOT_S) - 1, SLOTS)
        full = (*self.full, ended, *[empty] * skipped)[-SLOTS:]
        return Window(until_s, negative, total, usual, full, summed(full))

    def counts(self, hour: Hour, at_s: float) -> Counts | None:
        """What came from the first full slot until now, the items in `hour` included; None while slots are missing."""
        if len(self.full) < SLOTS:
            return None
        negative, total, usual, expected = self.past
        return (
            negative + hour.negative - self.negative,
            total + hour.items - self.total,
            usual + hour.expected - self.usual,
            expected + hour.rate * (at_s - self.until_s + SLOT_S) / HOUR_S,
        )


def summed(slots: tuple[Counts, ...]) -> Counts:
    """The slots together."""
    negative, total, usual, expected = 0.0, 0.0, 0.0, 0.0
    for slot in slots:
        negative, total = negative + slot[0], total + slot[1]
        usual, expected = usual + slot[2], expected + slot[3]
    return negative, total, usual, expected
