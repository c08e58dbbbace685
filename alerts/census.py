"""How many series of a rule share its allowance of false alarms: the Bonferroni correction. Pure.

A series counts in each week of event time (since 1970) in which it has an item; the number is that of this week or
of the one before, whichever is greater, so that it does not fall on Mondays. It is kept as a state beside those of the
series, of the same workspace and rule, and changes with the order of the samples alone, as they do. All samples of
a workspace come in one partition, so one worker sees all series that share: no other one need be asked.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from alerts.alert import Sample
from alerts.kind import Explanation, Verdict
from alerts.life import Life
from alerts.rule import Rule

KIND: Final = "census"
SERIES: Final = "*"  # No grouping makes such a name.
SHARED: Final = ("spike", "volume")
"""The kinds of rule whose allowance is that of all series together."""

_WEEK_S: Final = 7 * 86400.0


def week_of(at_s: float) -> int:
    """The week of an event time."""
    return int(at_s // _WEEK_S)


class Count(NamedTuple):
    """Series with an item in `week`, and in the one before."""

    week: int = 0
    now: int = 0
    before: int = 0

    @property
    def number(self) -> int:
        """Of how many an allowance is shared."""
        return max(self.now, self.before, 1)

    def seen(self, week: int) -> Count:
        """With one more series that had its first item of a week."""
        if week > self.week:
            return Count(week, 1, self.now if week == self.week + 1 else 0)
        return Count(self.week, self.now + (week == self.week), self.before + (week == self.week - 1))


class Census:
    """A state that takes no samples and never alerts (alerts.kind.Detector): its memory is a `Count`."""

    fades: Final = False
    takes_copies: Final = False

    def ignores(self, rule: Rule, sample: Sample) -> bool:
        """All: the engine counts."""
        return True

    def start(self) -> Count:
        """None seen."""
        return Count()

    def observe(self, memory: Count, rule: Rule, sample: Sample, at_s: float, life: Life) -> tuple[Count, Verdict]:
        """Nothing: the engine counts."""
        return memory, Verdict(False)

    def tick(self, memory: Count, rule: Rule, now_s: float, life: Life, *, behind: bool) -> tuple[Count, Verdict]:
        """Nothing."""
        return memory, Verdict(False)

    def due_s(self, memory: Count, rule: Rule, life: Life) -> None:
        """Never."""
        return

    def rest(self, memory: Count) -> Count:
        """The same."""
        return memory

    def explain(self, memory: Count, rule: Rule, life: Life) -> Explanation:
        """How many there are."""
        return Explanation(title="Series", description=f"{memory.number} series share the allowance.")

    def dump(self, memory: Count) -> Any:
        """The memory as a JSON array."""
        return list(memory)

    def load(self, data: Any) -> Count:
        """Raises TypeError or ValueError for what `dump` did not make."""
        week, now, before = data
        return Count(week, now, before)
