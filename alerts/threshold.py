"""The kind `threshold`: too many negative items, or too large a share of them, within a sliding window.

It learns nothing and promises nothing about false alarms; for those who want a fixed line. The window is
kept as 60 slices, so it slides in steps of a sixtieth.
"""

from __future__ import annotations

from typing import Any, Final

from alerts.alert import NEGATIVE, Sample
from alerts.kind import Explanation, Verdict
from alerts.life import Life
from alerts.rule import Rule

SLICES: Final = 60

Slices = tuple[tuple[int, int, int], ...]
"""(number of the slice since 1970, items, negative items), oldest first, none without items."""


class Threshold:
    """The kind `threshold` (alerts.kind.Detector)."""

    fades: Final = False
    takes_copies: Final = False

    def ignores(self, rule: Rule, sample: Sample) -> bool:
        """None: each counts."""
        return False

    def start(self) -> Slices:
        """No items."""
        return ()

    def observe(self, memory: Slices, rule: Rule, sample: Sample, at_s: float, life: Life) -> tuple[Slices, Verdict]:
        """Take one more item of the series."""
        bad = sample.sentiment == NEGATIVE
        number = _slice(rule, at_s)
        kept = _within(memory, number)
        if kept and kept[-1][0] == number:
            _, items, negative = kept[-1]
            kept = (*kept[:-1], (number, items + 1, negative + bad))
        else:
            kept = (*kept, (number, 1, int(bad)))
        return kept, self._verdict(kept, rule, matched=bad)

    def tick(self, memory: Slices, rule: Rule, now_s: float, life: Life, *, behind: bool) -> tuple[Slices, Verdict]:
        """Let the window slide; it takes an item to begin an incident."""
        kept = _within(memory, _slice(rule, now_s))
        verdict = self._verdict(kept, rule)
        return kept, verdict._replace(holds=verdict.holds and life.since_s is not None)

    def due_s(self, memory: Slices, rule: Rule, life: Life) -> float | None:
        """When the oldest slice leaves the window."""
        if life.onset_s is None or not memory:
            return None
        return (memory[0][0] + SLICES) * rule.window_s / SLICES

    def rest(self, memory: Slices) -> Slices:
        """The window is what it is."""
        return memory

    def explain(self, memory: Slices, rule: Rule, life: Life) -> Explanation:
        """The counts within the window."""
        items, negative = _sums(memory)
        share = negative / max(items, 1)
        limits = []
        if rule.share_above is not None:
            limits.append(f"more than {rule.share_above:.0%}")
        if rule.count_above is not None:
            limits.append(f"more than {rule.count_above}")
        return Explanation(
            title="Too much negative feedback",
            description=(
                f"{negative} of {items} items were negative ({share:.0%}) within {span(rule.window_s)}; "
                f"the rule allows no {' and '.join(limits)}, from {rule.min_items} items on."
            ),
            figures={"negative": str(negative), "total": str(items), "share": f"{share:.3f}"},
        )

    def dump(self, memory: Slices) -> Any:
        """The memory as a JSON array."""
        return memory

    def load(self, data: Any) -> Slices:
        """Raises ValueError or TypeError for what `dump` did not make."""
        return tuple((int(number), int(items), int(negative)) for number, items, negative in data)

    def _verdict(self, memory: Slices, rule: Rule, *, matched: bool = False) -> Verdict:
        items, negative = _sums(memory)
        holds = (
            items >= rule.min_items
            and (rule.share_above is None or negative > rule.share_above * items)
            and (rule.count_above is None or negative > rule.count_above)
        )
        first = next((number for number, _, bad in memory if bad), None)
        onset_s = None if first is None else first * rule.window_s / SLICES
        return Verdict(holds, onset_s, matched=matched, speaks=matched)


def span(seconds: float) -> str:
    """A time in the largest unit that it fills: `15 minutes`, `1 day`."""
    for size, name in ((86400, "day"), (3600, "hour"), (60, "minute"), (1, "second")):
        if seconds >= size:
            count = f"{seconds / size:.3g}"
            return f"{count} {name}" if count == "1" else f"{count} {name}s"
    return f"{seconds:.3g} seconds"


def _slice(rule: Rule, at_s: float) -> int:
    # A moment that was computed as the beginning of a slice must not fall before it by rounding.
    return int((at_s * SLICES + 1e-3) // rule.window_s)


def _within(memory: Slices, number: int) -> Slices:
    first = number - SLICES
    if not memory or memory[0][0] > first:
        return memory
    return tuple(entry for entry in memory if entry[0] > first)


def _sums(memory: Slices) -> tuple[int, int]:
    return sum(items for _, items, _ in memory), sum(negative for _, _, negative in memory)
