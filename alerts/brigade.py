"""The kind `brigade`: a burst of near-identical posts, most of them by authors never heard before.

It tells of a campaign, not of a crisis: near-duplicates count once for all other kinds, so that a hundred
copies page nobody, and this kind says what they are. It holds when one text has more than `min_items`
copies within `window`, by `min_authors` authors at least, of whom a share of `new_authors` was first heard
of within the day before. Where a source names no authors, the copies alone decide.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from alerts.alert import Sample, moment
from alerts.kind import Explanation, Verdict
from alerts.life import Life
from alerts.rule import Rule
from alerts.threshold import span

CLUSTERS: Final = 30
AUTHORS: Final = 50


class Cluster(NamedTuple):
    """Copies of one text since `first_s`, until a pause of `window`: `copies`, `new` of `known` authors."""

    original: str
    copies: int
    first_s: float
    last_s: float
    authors: tuple[str, ...]
    new: int


class Brigade:
    """The kind `brigade` (alerts.kind.Detector). Its memory: the clusters of the window, the newest last."""

    fades: Final = True
    takes_copies: Final = True

    def ignores(self, rule: Rule, sample: Sample) -> bool:
        """What is no copy."""
        return not sample.copy_of

    def start(self) -> tuple[Cluster, ...]:
        """No copies."""
        return ()

    def observe(
        self, memory: tuple[Cluster, ...], rule: Rule, sample: Sample, at_s: float, life: Life
    ) -> tuple[tuple[Cluster, ...], Verdict]:
        """Take one more item of the series."""
        open_ = life.since_s is not None
        if not sample.copy_of:
            return memory, Verdict(open_, life.onset_s)
        kept = [one for one in memory if at_s - one.last_s <= rule.window_s and one.original != sample.copy_of]
        held = next((one for one in memory if one.original == sample.copy_of), None)
        if held is None or at_s - held.last_s > rule.window_s:
            held = Cluster(sample.copy_of, 0, at_s, at_s, (), 0)
        held = held._replace(copies=held.copies + 1, last_s=at_s)
        author = sample.author[:16]
        if author and author not in held.authors and len(held.authors) < AUTHORS:
            held = held._replace(authors=(*held.authors, author), new=held.new + sample.new_author)
        speaks = _campaign(held, rule)
        onset_s = held.first_s if life.onset_s is None else life.onset_s
        return (*kept, held)[-CLUSTERS:], Verdict(open_ or speaks, onset_s, matched=speaks, speaks=speaks)

    def tick(
        self, memory: tuple[Cluster, ...], rule: Rule, now_s: float, life: Life, *, behind: bool
    ) -> tuple[tuple[Cluster, ...], Verdict]:
        """It goes on until it fades; what copies there were is forgotten after the window."""
        kept = tuple(one for one in memory if now_s - one.last_s <= rule.window_s)
        onset_s = life.onset_s if kept or life.since_s is not None else None
        return (memory if kept == memory else kept), Verdict(life.since_s is not None, onset_s)

    def due_s(self, memory: tuple[Cluster, ...], rule: Rule, life: Life) -> float | None:
        """When the last cluster leaves the window."""
        if life.since_s is not None or not memory:
            return None
        return max(one.last_s for one in memory) + rule.window_s + 1e-3

    def rest(self, memory: tuple[Cluster, ...]) -> tuple[Cluster, ...]:
        """No copies."""
        return ()

    def explain(self, memory: tuple[Cluster, ...], rule: Rule, life: Life) -> Explanation:
        """How many copies, by whom, since when."""
        largest = max(memory, key=lambda one: one.copies, default=Cluster("", 0, 0.0, 0.0, (), 0))
        if largest.authors:
            some = " at least" if len(largest.authors) == AUTHORS else ""
            who = f"by{some} {len(largest.authors)} authors, {largest.new} of them first heard of within a day"
        else:
            who = "by authors that the source does not name"
        return Explanation(
            title="Suspected brigade: near-identical posts",
            description=(
                f"{largest.copies} near-identical copies of one text since {moment(largest.first_s):%Y-%m-%d %H:%M} "
                f"UTC, {who}; the rule names {rule.min_items} within {span(rule.window_s)}. "
                "Copies count once in all other rules: this is a campaign more likely than a crisis."
            ),
            figures={
                "copies": str(largest.copies),
                "authors": str(len(largest.authors)),
                "new_authors": str(largest.new),
                "suspected": "brigade",
            },
        )

    def dump(self, memory: tuple[Cluster, ...]) -> Any:
        """The memory as a JSON array."""
        return [[one.original, one.copies, one.first_s, one.last_s, one.authors, one.new] for one in memory]

    def load(self, data: Any) -> tuple[Cluster, ...]:
        """Raises ValueError or TypeError for what `dump` did not make."""
        return tuple(
            Cluster(original, copies, first_s, last_s, tuple(authors), new)
            for original, copies, first_s, last_s, authors, new in data
        )


def _campaign(cluster: Cluster, rule: Rule) -> bool:
    if cluster.copies < rule.min_items:
        return False
    if not cluster.authors:
        return True
    many = len(cluster.authors) >= min(rule.min_authors, AUTHORS)
    return many and cluster.new >= rule.new_authors * len(cluster.authors)
