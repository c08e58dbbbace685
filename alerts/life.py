"""`Life`: how far the alert of one series has come, with the evidence for it. The same for all kinds."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final, NamedTuple

from alerts.alert import Quote, Sample, quote_from_data, quote_to_data
from alerts.quotes import remember

made: Final = tuple.__new__
"""`made(Kind, (…))` is `Kind(…)` of a NamedTuple, all fields given, in half the time: for what each item makes anew."""


QUOTED_EVERY: Final = timedelta(seconds=0.25)
"""Of one series: few of a faster stream's would be left a second later."""


class Life(NamedTuple):
    """Times `_s` are epoch seconds of event time.

    Since `onset_s`, the beginning of what looks odd: `matched` of `total` items were of those complained
    of, near-duplicates folded; `copies` more repeated a matched item, `copied` any; and the newest `quotes`, with
    QUOTED_EVERY between them. The condition holds since `since_s`; firing since `fired_s`, None while
    pending. `spoke_s`: the last item that spoke for the incident. `clear_s`: since when the condition is gone, while
    it still fires. `refreshed_s`: when the alert was last told anew. `ended_s`: when the last incident ended.
    """

    last_s: float = 0.0
    model: str = ""
    onset_s: float | None = None
    matched: int = 0
    total: int = 0
    copies: int = 0
    copied: int = 0
    quotes: tuple[Quote, ...] = ()
    since_s: float | None = None
    fired_s: float | None = None
    spoke_s: float = 0.0
    clear_s: float | None = None
    refreshed_s: float = 0.0
    ended_s: float | None = None

    @property
    def firing(self) -> bool:
        """Whether people have been told, or are about to be."""
        return self.fired_s is not None

    def dump(self) -> list[Any]:
        """As plain JSON data; `load` reads it back equal."""
        return [
            self.last_s, self.model, self.onset_s, self.matched, self.total, self.copies, self.copied,
            [quote_to_data(quote) for quote in self.quotes], self.since_s, self.fired_s, self.spoke_s,
            self.clear_s, self.refreshed_s, self.ended_s,
        ]  # fmt: skip

    @classmethod
    def load(cls, data: list[Any]) -> Life:
        """Raises ValueError or TypeError for what `dump` did not make."""
        (
            last_s, model, onset_s, matched, total, copies, copied, quotes,
            since_s, fired_s, spoke_s, clear_s, refreshed_s, ended_s,
        ) = data  # fmt: skip
        return cls(
            last_s=last_s, model=model, onset_s=onset_s, matched=matched, total=total, copies=copies,
            copied=copied, quotes=tuple(map(quote_from_data, quotes)), since_s=since_s, fired_s=fired_s,
            spoke_s=spoke_s, clear_s=clear_s, refreshed_s=refreshed_s, ended_s=ended_s,
        )  # fmt: skip


def gather(
    life: Life, onset_s: float | None, sample: Sample, at_s: float, *, matched: bool, speaks: bool = False
) -> Life:
    """Count an item as evidence, while there is anything odd; `speaks`: it keeps an incident alive."""
    if onset_s is None:
        if life.onset_s is not None and life.since_s is None:
            life = forget(life)
        calm = made(Life, (at_s, sample.model, *life[2:]))
        return calm._replace(spoke_s=at_s) if speaks else calm
    quotes = life.quotes
    if matched and (not quotes or sample.at - quotes[-1].at >= QUOTED_EVERY):
        quotes = remember(quotes, sample)
    # Quotes from before the onset can only be among them when either has changed.
    if (quotes is not life.quotes or onset_s != life.onset_s) and quotes and quotes[0].at.timestamp() < onset_s:
        quotes = tuple(quote for quote in quotes if quote.at.timestamp() >= onset_s) or quotes[-1:]
    return made(Life, (
        at_s, sample.model, onset_s, life.matched + matched, life.total + 1, life.copies, life.copied, quotes,
        life.since_s, life.fired_s, at_s if speaks else life.spoke_s, *life[11:],
    ))  # fmt: skip


def gather_copy(life: Life, at_s: float, *, matched: bool) -> Life:
    """Count a near-duplicate: in the raw counts only."""
    if life.onset_s is None:
        return life._replace(last_s=at_s)
    return life._replace(last_s=at_s, copies=life.copies + matched, copied=life.copied + 1)


def forget(life: Life) -> Life:
    """The life without evidence or incident; it remembers when the last one ended."""
    return Life(last_s=life.last_s, model=life.model, ended_s=life.ended_s)
