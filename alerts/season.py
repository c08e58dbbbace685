"""What is usual at each hour of the week, as factors on the overall level, shrunk where little is known.

A cell for each of the 168 hours of the week (UTC) holds weighted sums of two ratios, observed to overall: of
the share of negative items and of their number. An hour's ratio counts by what it is worth, the inverse of its
variance, and last week's counts half as much four weeks later. What a cell says is drawn towards what that
hour says on all seven days, and this towards 1, each worth some fixed amount of prior evidence: an empirical
Bayes shrinkage of two levels (Efron & Morris 1975). A series that has seen little has factors of 1.

The table is bytes: 672 half-precision numbers, 1.3 KB, or none at all before the first full hour.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

HOURS: Final = 168
SHARE_PRIOR: Final = 50.0  # as if a share's factor were known to 14 % for the hour of the day,
SHARE_CELL_PRIOR: Final = 100.0  # and to 10 % for the hour of the week, given that of the day
VOLUME_PRIOR: Final = 4.0  # a number's factor: to 50 % for the hour of the day,
VOLUME_CELL_PRIOR: Final = 32.0  # and to 18 % for the hour of the week, given that of the day
MEMORY: Final = 0.5 ** (1 / 4)  # a visit of a cell is a week

_TABLE: Final = struct.Struct(f"<{HOURS * 4}e")
_MOST: Final = 60_000.0  # near the greatest half-precision number


class Factors(NamedTuple):
    """What an hour has more (> 1) or less (< 1) than the average hour."""

    share: float
    volume: float


def factors(table: bytes, hour: int) -> Factors:
    """What is usual in the hour that began `hour` hours after 1970, against the overall level."""
    if not table:
        return Factors(1.0, 1.0)
    cells = _TABLE.unpack(table)
    cell = hour % HOURS
    of_day = [sum(cells[(cell % 24 + 24 * day) * 4 + part] for day in range(7)) for part in range(4)]
    share = (of_day[0] + SHARE_PRIOR) / (of_day[1] + SHARE_PRIOR)
    volume = (of_day[2] + VOLUME_PRIOR) / (of_day[3] + VOLUME_PRIOR)
    one = cells[cell * 4 : cell * 4 + 4]
    return Factors(
        (one[0] + SHARE_CELL_PRIOR * share) / (one[1] + SHARE_CELL_PRIOR),
        (one[2] + VOLUME_CELL_PRIOR * volume) / (one[3] + VOLUME_CELL_PRIOR),
    )


def learned(
    table: bytes, hour: int, *, share: float, share_weight: float, volume: float, volume_weight: float
) -> bytes:
    """The table after one more hour: its ratios to the overall level, each with the inverse of its variance."""
    cells = list(_TABLE.unpack(table)) if table else [0.0] * (HOURS * 4)
    at = hour % HOURS * 4
    news = (share_weight * share, share_weight, volume_weight * volume, volume_weight)
    for part, value in enumerate(news):
        cells[at + part] = min(cells[at + part] * MEMORY + value, _MOST)
    return _TABLE.pack(*cells)
