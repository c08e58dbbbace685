"""The kind `new_topic`: items that fit no topic suddenly share words.

Looked at are items whose topic is `other` or less probable than `certainty_below`. Words (four letters or
more, by their first six, so that endings do not matter) are counted over the window and compared with how
often they came before. The surprise of a word that k of the window's items hold where L were expected is the
Poisson log-likelihood ratio k*ln(k/L) - (k-L); it must exceed ln(words * windows per week / allowed false
alarms per week), k must reach `min_items` by `min_authors` authors where they are known, and half of those
items must share a second such word: one word is a fashion, two are a subject.

Limits: words do not cross languages, so a subject must be dense in one of them; scripts that are written
without spaces are not taken apart; it needs 100 such items to have learned from first.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from alerts.alert import Sample
from alerts.duplicates import essence
from alerts.kind import Explanation, Verdict
from alerts.life import Life
from alerts.rule import Rule
from alerts.threshold import span

STEM: Final = 6
WORDS_PER_ITEM: Final = 16
VOCABULARY: Final = 1500
WINDOW_ITEMS: Final = 200
LEARNED_ITEMS: Final = 100
SHOWN: Final = 6
FORGET: Final = 0.5
NEWS: Final = 96

_WORD = re.compile(r"[^\W\d_]{4,}")
_WEEK_S: Final = 7 * 86400.0


class Item(NamedTuple):
    """One item of the window. `stems`: those of its words, sorted."""

    at_s: float
    author: str
    words: tuple[str, ...]
    stems: tuple[str, ...]

    @classmethod
    def of(cls, at_s: float, author: str, words: tuple[str, ...]) -> Item:
        """The item that holds these words."""
        return cls(at_s, author, words, tuple(sorted({word[:STEM] for word in words})))


class Counts(NamedTuple):
    """A number by stem, `size` of them: those of `base`, but for what `news` says otherwise. Only it is copied."""

    base: dict[str, float]
    news: dict[str, float]
    size: int

    @classmethod
    def of(cls, counts: dict[str, float]) -> Counts:
        """These."""
        return cls(counts, {}, len(counts))

    def whole(self) -> dict[str, float]:
        """All that are not 0."""
        return {stem: count for stem, count in {**self.base, **self.news}.items() if count}

    def get(self, stem: str) -> float:
        """0 where there is none."""
        found = self.news.get(stem)
        return self.base.get(stem, 0.0) if found is None else found

    def add(self, more: Iterable[str], less: Iterable[str] = ()) -> Counts:
        """With one more of some, and one less of others."""
        base, news, size = self.base, dict(self.news), self.size
        for stems, by in ((more, 1.0), (less, -1.0)):
            for stem in stems:
                before = news.get(stem)
                if before is None:
                    before = base.get(stem, 0.0)
                news[stem] = before + by
                size += (before == 0.0) - (before + by == 0.0)
        after = Counts(base, news, size)
        return Counts.of(after.whole()) if len(news) > NEWS else after


class Memory(NamedTuple):
    """Items of the window, oldest first, and how many hold each stem; the same of the past; what was found.

    `sharing`: items that share `words`.
    """

    window: tuple[Item, ...] = ()
    counts: Counts = Counts.of({})
    past: Counts = Counts.of({})
    items: float = 0.0
    stem: str = ""
    words: tuple[str, ...] = ()
    sharing: int = 0
    expected: float = 0.0


class NewTopic:
    """The kind `new_topic` (alerts.kind.Detector)."""

    fades: Final = True
    takes_copies: Final = False

    def ignores(self, rule: Rule, sample: Sample) -> bool:
        """What fits a topic."""
        return sample.topic != "other" and sample.certainty >= rule.certainty_below

    def start(self) -> Memory:
        """Nothing read yet."""
        return Memory()

    def observe(self, memory: Memory, rule: Rule, sample: Sample, at_s: float, life: Life) -> tuple[Memory, Verdict]:
        """Take one more item."""
        open_ = life.since_s is not None
        if self.ignores(rule, sample):
            return memory, Verdict(open_, life.onset_s)
        found = dict.fromkeys(_WORD.findall(essence(sample.text)))
        words = tuple(sorted(found, key=len, reverse=True)[:WORDS_PER_ITEM])
        new = Item.of(at_s, sample.author[:16], words)
        memory, stems = _slide(memory, at_s - rule.window_s, new), new.stems
        if open_:
            matched = memory.stem in stems
            if matched:
                memory = memory._replace(sharing=memory.sharing + 1)
            return memory, Verdict(True, life.onset_s, matched=matched, speaks=matched)
        limit = _limit(rule)
        best, surprise = _most_surprising(memory, stems) if memory.items >= LEARNED_ITEMS else ("", 0.0)
        if surprise < limit / 2:
            return memory, Verdict(False, _onset(memory, life))
        cluster = [item for item in memory.window if best in item.stems]
        authors = {item.author for item in cluster if item.author}
        second = _second(memory, cluster, best)
        holds = (
            surprise >= limit
            and len(cluster) >= rule.min_items
            and (not authors or len(authors) >= rule.min_authors)
            and second is not None
        )
        if holds:
            expected = _expected(memory, best)
            memory = memory._replace(
                stem=best, words=_telling(memory, cluster), sharing=len(cluster), expected=expected
            )
        return memory, Verdict(holds, cluster[0].at_s, matched=True, speaks=holds)

    def tick(self, memory: Memory, rule: Rule, now_s: float, life: Life, *, behind: bool) -> tuple[Memory, Verdict]:
        """It goes on until it fades."""
        return memory, Verdict(life.since_s is not None, life.onset_s)

    def due_s(self, memory: Memory, rule: Rule, life: Life) -> None:
        """Never: this kind waits for items."""
        return

    def rest(self, memory: Memory) -> Memory:
        """What was found becomes the past like all else."""
        return memory._replace(stem="", words=(), sharing=0, expected=0.0)

    def explain(self, memory: Memory, rule: Rule, life: Life) -> Explanation:
        """The words, and how many items hold them."""
        words = ", ".join(memory.words)
        return Explanation(
            title="Something new that fits no topic",
            description=(
                f"{memory.sharing} items that fit no topic share words within {span(rule.window_s)}: {words}. "
                f"About {memory.expected:.1f} were to be expected."
            ),
            figures={"terms": words, "total": str(memory.sharing), "expected": f"{memory.expected:.1f}"},
        )

    def dump(self, memory: Memory) -> Any:
        """The memory as a JSON array."""
        return [
            [[item.at_s, item.author, item.words] for item in memory.window], memory.past.whole(), memory.items,
            memory.stem, memory.words, memory.sharing, memory.expected,
        ]  # fmt: skip

    def load(self, data: Any) -> Memory:
        """Raises ValueError or TypeError for what `dump` did not make."""
        window, past, items, stem, words, sharing, expected = data
        held = tuple(Item.of(at_s, author, tuple(some)) for at_s, author, some in window)
        counts = Counts.of({}).add(stem for item in held for stem in item.stems)
        return Memory(
            window=held, counts=counts, past=Counts.of(dict(past)), items=items, stem=stem, words=tuple(words),
            sharing=sharing, expected=expected,
        )  # fmt: skip


def _slide(memory: Memory, first_s: float, new: Item) -> Memory:
    """Take an item in; what leaves the window becomes the past."""
    window = (*memory.window, new)
    leaving = max(len(window) - WINDOW_ITEMS, 0)
    while leaving < len(window) and window[leaving].at_s < first_s:
        leaving += 1
    gone, kept = window[:leaving], window[leaving:]
    left = [stem for item in gone for stem in item.stems]
    counts = memory.counts.add(new.stems, left)
    if not gone:
        return memory._replace(window=kept, counts=counts)
    past, items = memory.past.add(left), memory.items + len(gone)
    if past.size > VOCABULARY:
        # Half of the memory goes: what is rare first, of equals what comes later in the alphabet.
        whole = past.whole()
        keep = sorted(whole, key=lambda stem: (-whole[stem], stem))[: VOCABULARY // 2]
        past = Counts.of({stem: whole[stem] * FORGET for stem in keep})
        items *= FORGET
    return memory._replace(window=kept, counts=counts, past=past, items=items)


def _expected(memory: Memory, stem: str) -> float:
    return (memory.past.get(stem) + 1) / (memory.items + 1) * len(memory.window)


def _most_surprising(memory: Memory, stems: Iterable[str]) -> tuple[str, float]:
    """Of these stems, which are in the window, the first whose number is the least likely, and how unlikely."""
    best, most = "", 0.0
    counts, past, items, size = memory.counts, memory.past, memory.items + 1, len(memory.window)
    for stem in stems:
        count, expected = counts.get(stem), (past.get(stem) + 1) / items * size
        if count > expected:
            surprise = count * math.log(count / expected) - (count - expected)
            if surprise > most:
                best, most = stem, surprise
    return best, most


def _limit(rule: Rule) -> float:
    return math.log(VOCABULARY * max(_WEEK_S / rule.window_s, 1) / rule.false_alarms_per_week)


def _second(memory: Memory, cluster: list[Item], first: str) -> str | None:
    counts = Counter(stem for item in cluster for stem in item.stems)
    del counts[first]
    common = [
        stem for stem, count in counts.items() if 2 * count >= len(cluster) and count > 2 * _expected(memory, stem)
    ]
    return min(common, key=lambda stem: (-counts[stem], stem), default=None)


def _telling(memory: Memory, cluster: list[Item]) -> tuple[str, ...]:
    """The words that mark the cluster, as they were written most often."""
    counts = Counter(stem for item in cluster for stem in item.stems)
    share = {stem: count / (_expected(memory, stem) + 1) for stem, count in counts.items() if 3 * count >= len(cluster)}
    best = sorted(share, key=lambda stem: (-share[stem], stem))[:SHOWN]
    written = Counter(word for item in cluster for word in item.words)
    return tuple(min((w for w in written if w[:STEM] == stem), key=lambda w: (-written[w], w)) for stem in best)


def _onset(memory: Memory, life: Life) -> float | None:
    """Since when there was anything odd, while that still lies within the window."""
    if life.onset_s is None or not memory.window or life.onset_s < memory.window[0].at_s:
        return None
    return life.onset_s
