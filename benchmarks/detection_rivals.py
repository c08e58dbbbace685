"""What others do, for `benchmarks.detection`: a fixed threshold, a z-score, Grafana-style bands; minute by minute.

Copies that were recognised are folded for them too: otherwise each campaign would be an alarm.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.detection_streams import DAY_S, Stream

QUIET_MINUTES: Final = 30
"""An alarm after so long without one is another one."""

THRESHOLDS: Final = tuple(np.round(np.arange(0.40, 1.0, 0.025), 3))
SIGMAS: Final = (2.0, 2.5, 3.0, 3.5, 4.0, 4.5, 5.0, 6.0, 7.0, 8.0)
WINDOWS: Final = ((5, 5), (5, 15), (15, 10), (15, 25), (30, 10), (30, 25), (60, 20))
"""Minutes, and the least number of items."""


def alarms(stream: Stream) -> Iterator[tuple[tuple[str, str], list[float]]]:
    """For each rival and each of its settings, the event times (seconds) of its alarms."""
    minutes = int(stream.days * DAY_S // 60)
    counted = ~stream.copy
    minute = np.minimum((stream.at_s[counted] // 60).astype(int), minutes - 1)
    items = np.bincount(minute, minlength=minutes).astype(float)
    bad = np.bincount(minute, weights=stream.negative[counted], minlength=minutes)
    for window, least in WINDOWS:
        n, k = _rolling(items, window), _rolling(bad, window)
        share, enough = k / np.maximum(n, 1), n >= least
        for line in THRESHOLDS:
            yield ("fixed threshold", f"{line:.0%} of {window} min, {least} items"), _starts(enough & (share >= line))
        # What is usual: of the week before, without the last hour, as one share.
        before, bads = _before(_rolling(items, 10080), 60), _before(_rolling(bad, 10080), 60)
        usual = np.clip(bads / np.maximum(before, 1), 0.01, 0.99)
        score = (share - usual) / np.sqrt(usual * (1 - usual) / np.maximum(n, 1))
        for sigmas in SIGMAS:
            yield ("z-score", f"{sigmas:g} of {window} min, {least} items"), _starts(enough & (score >= sigmas))
        # Mean and standard deviation of the windows' shares over the day before.
        known = np.where(enough, 1.0, 0.0)
        number = np.maximum(_before(_rolling(known, 1440), window), 1)
        mean = _before(_rolling(np.where(enough, share, 0), 1440), window) / number
        square = _before(_rolling(np.where(enough, share**2, 0), 1440), window) / number
        deviation = np.sqrt(np.maximum(square - mean**2, 1e-4))
        for sigmas in SIGMAS:
            yield (
                ("mean ± k·sigma", f"{sigmas:g} of {window} min, {least} items"),
                _starts(enough & (share >= mean + sigmas * deviation)),
            )


def _rolling(values: NDArray[Any], window: int) -> NDArray[np.float64]:
    total = np.concatenate([[0.0], np.cumsum(values)])
    end = np.arange(1, values.size + 1)
    result: NDArray[np.float64] = total[end] - total[np.maximum(end - window, 0)]
    return result


def _before(values: NDArray[np.float64], minutes: int) -> NDArray[np.float64]:
    return np.concatenate([np.zeros(minutes), values[:-minutes]])


def _starts(holds: NDArray[np.bool_]) -> list[float]:
    at = np.flatnonzero(holds)
    if not at.size:
        return []
    first = np.concatenate([[True], np.diff(at) > QUIET_MINUTES])
    # What a minute holds is known at its end.
    return [float(minute + 1) * 60 for minute in at[first]]
