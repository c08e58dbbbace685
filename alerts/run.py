"""What the kinds `spike` and `volume` (alerts.detector) remember of one series, as values and as JSON."""

from __future__ import annotations

import base64
from typing import Any, NamedTuple

from alerts.baseline import Baseline, Hour, Wander
from alerts.window import Window, summed


class Run(NamedTuple):
    """The counts since `onset_s`, and what was usual then.

    `expected`: items by the usual rate. `usual`, `strength`: of the share; `near`, `near_strength`: of the share
    of the last hour; `shape`: of the number. `evidence`: now, `peak`: at its highest. `need`: h; None
    before the detector looks. `ease`: of recovery. `climb`: the quick CUSUM.
    """

    onset_s: float
    usual: float
    strength: float
    near: float
    near_strength: float
    shape: float
    negative: int = 0
    total: int = 0
    expected: float = 0.0
    evidence: float = 0.0
    peak: float = 0.0
    need: float | None = None
    ease: float = 0.0
    climb: float = 0.0


class Memory(NamedTuple):
    """What one series has learned; the run that goes on; the weeks of event time not yet staked; its last items."""

    baseline: Baseline = Baseline()
    run: Run | None = None
    unstaked: float = 0.0
    window: Window = Window()


def dump(memory: Memory) -> Any:
    """The memory as a JSON array."""
    base, run, hour = memory.baseline, memory.run, memory.baseline.hour
    return [
        [
            base.a, base.b, base.recent_negative, base.recent, base.items, base.last_s, base.volume_items,
            base.volume_hours, base.share_wander.total, base.share_wander.weight, base.volume_wander.total,
            base.volume_wander.weight,
        ],
        [hour.number, hour.negative, hour.items, hour.expected, hour.clean, hour.share, hour.rate],
        base64.b64encode(base.season).decode(),
        run and list(run),
        memory.unstaked,
        [*memory.window[:4], *memory.window.full],
    ]  # fmt: skip


def load(data: Any) -> Memory:
    """The memory that `dump` made. Raises ValueError or TypeError for anything else."""
    base, hour, table, run, unstaked, (until_s, slot_negative, slot_total, slot_usual, *slots) = data
    full = tuple((n, k, usual, awaited) for n, k, usual, awaited in slots)
    a, b, recent_negative, recent, items, last_s, volume_items, volume_hours, st, sw, vt, vw = base
    number, negative, total, expected, clean, share, rate = hour
    return Memory(
        baseline=Baseline(
            a=a, b=b, recent_negative=recent_negative, recent=recent, items=items, last_s=last_s,
            volume_items=volume_items, volume_hours=volume_hours,
            share_wander=Wander(total=st, weight=sw), volume_wander=Wander(total=vt, weight=vw),
            hour=Hour(number=number, negative=negative, items=total, expected=expected, clean=clean,
                      share=share, rate=rate),
            season=base64.b64decode(table),
        ),
        run=None if run is None else Run(*run),
        unstaked=unstaked,
        window=Window(until_s, slot_negative, slot_total, slot_usual, full, summed(full)),
    )  # fmt: skip
