"""What every kind of rule is made of: a detector that learns from samples and gives verdicts.

A detector judges one series of one rule. It keeps its knowledge in a memory of its own (an immutable
value), knows nothing of incidents beyond the `Life` it is shown, and never looks at a clock: each call is
told the event time. alerts.series turns its verdicts into incidents, alike for all kinds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, Protocol

from alerts.alert import Sample
from alerts.life import Life
from alerts.rule import Rule


class Verdict(NamedTuple):
    """What a detector thinks after an item, or after time has passed.

    `holds`: the rule's condition is met now. `onset_s`: since when things have looked odd (event time),
    None when they do not: evidence is kept from then on and forgotten with it. `matched`: this item is one
    of those complained of, worth a quote. `speaks`: it keeps an open incident alive.
    """

    holds: bool
    onset_s: float | None = None
    matched: bool = False
    speaks: bool = False


CALM: Final = (Verdict(False), Verdict(False, matched=True))
"""Nothing is odd; by whether the item is one of those complained of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """A verdict in words. `figures`: annotations beyond the common ones, each a number or a short text."""

    title: str
    description: str
    figures: dict[str, str] = field(default_factory=dict)


class Detector(Protocol):
    """One kind of rule. Pure: the same calls give the same memories, cut into batches in any way.

    A memory is whatever `start` and `load` give. `life` is that of the series before the call; an incident
    is open while `life.since_s` is set.
    """

    @property
    def fades(self) -> bool:
        """Whether an incident ends once nothing spoke for it during the rule's `resolve_after`."""
        ...

    @property
    def takes_copies(self) -> bool:
        """Whether near-duplicates (`copy_of`) are items too. Otherwise they are counted as evidence only."""
        ...

    def ignores(self, rule: Rule, sample: Sample) -> bool:
        """Whether such an item leaves every memory as it is while nothing looks odd (no onset, no incident), and so
        need not be shown then."""
        ...

    def start(self) -> Any:
        """The memory of a series that has seen nothing."""
        ...

    def observe(self, memory: Any, rule: Rule, sample: Sample, at_s: float, life: Life) -> tuple[Any, Verdict]:
        """Take one more item, no earlier than the last one. For one that is a near-duplicate, and not taken,
        only the verdict's `matched` is used."""
        ...

    def tick(self, memory: Any, rule: Rule, now_s: float, life: Life, *, behind: bool) -> tuple[Any, Verdict]:
        """Let time pass. `behind`: items older than `now_s` may still be on their way."""
        ...

    def due_s(self, memory: Any, rule: Rule, life: Life) -> float | None:
        """When `tick` can matter next, or some time before; None: not before the next item."""
        ...

    def rest(self, memory: Any) -> Any:
        """The memory with all learning kept and any suspicion dropped, after an incident has ended."""
        ...

    def explain(self, memory: Any, rule: Rule, life: Life) -> Explanation:
        """The incident in words, as of `memory`."""
        ...

    def dump(self, memory: Any) -> Any:
        """The memory as plain JSON data."""
        ...

    def load(self, data: Any) -> Any:
        """The memory that `dump` made. Raises ValueError, TypeError or KeyError for anything else."""
        ...
