"""The kind `severe`: one item is enough.

An item is severe when its urgency (of the model) reaches the rule's, when its words give away one of the
rule's concerns (safety, legal, data_loss, leaving: concerns.toml), or when it holds one of the rule's own
words; `require = "all"` wants all that the rule names, not any. A rule that names none of them takes every
negative item that passes its filters: together with `customers`, every complaint of a key customer.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from alerts.alert import NEGATIVE, Sample
from alerts.kind import Explanation, Verdict
from alerts.life import Life
from alerts.rule import Rule

_GAP = r"[\W_]+"


class Severe:
    """The kind `severe` (alerts.kind.Detector). Its memory: why the newest severe items were, newest first."""

    fades: Final = True
    takes_copies: Final = False
    _KEPT: Final = 5

    def ignores(self, rule: Rule, sample: Sample) -> bool:
        """What is not severe."""
        return reason(rule, sample) is None

    def start(self) -> tuple[str, ...]:
        """Nothing severe."""
        return ()

    def observe(
        self, memory: tuple[str, ...], rule: Rule, sample: Sample, at_s: float, life: Life
    ) -> tuple[tuple[str, ...], Verdict]:
        """Take one more item of the series."""
        why = reason(rule, sample)
        open_ = life.since_s is not None
        if why is None:
            return memory, Verdict(open_, life.onset_s)
        kept = (why, *(one for one in memory if one != why))[: self._KEPT]
        return kept, Verdict(True, at_s if life.onset_s is None else life.onset_s, matched=True, speaks=True)

    def tick(
        self, memory: tuple[str, ...], rule: Rule, now_s: float, life: Life, *, behind: bool
    ) -> tuple[tuple[str, ...], Verdict]:
        """It goes on until it fades."""
        return memory, Verdict(life.since_s is not None, life.onset_s)

    def due_s(self, memory: tuple[str, ...], rule: Rule, life: Life) -> None:
        """Never: this kind waits for items."""
        return

    def rest(self, memory: tuple[str, ...]) -> tuple[str, ...]:
        """Nothing severe."""
        return ()

    def explain(self, memory: tuple[str, ...], rule: Rule, life: Life) -> Explanation:
        """How many items, and why they are severe."""
        what = "1 item is" if life.matched == 1 else f"{life.matched} items are"
        reasons = "; ".join(memory)
        return Explanation(
            title="Severe feedback",
            description=f"{what} severe: {reasons}. One is enough for this rule.",
            figures={"severe": str(life.matched), "total": str(life.total), "reasons": reasons},
        )

    def dump(self, memory: tuple[str, ...]) -> Any:
        """The memory as a JSON array."""
        return memory

    def load(self, data: Any) -> tuple[str, ...]:
        """Raises TypeError for what `dump` did not make."""
        return tuple(map(str, data))


def reason(rule: Rule, sample: Sample) -> str | None:
    """Why an item is severe to a rule, in a few words without any of the customer's; None: it is not."""
    limit, urgency = rule.urgency, sample.urgency
    urgent = limit is not None and urgency is not None and urgency >= limit
    text = sample.text.casefold() if rule.concerns or rule.words else ""
    # Nearly always there is none: one search says so.
    concerned = rule.concerns and _concern(rule.concerns, sample.language).search(text)
    word = _pattern(rule.words).search(text) if rule.words else None
    if limit is None and not rule.concerns and not rule.words:
        return "negative feedback" if sample.sentiment == NEGATIVE else None
    if not urgent and not concerned and word is None:
        return None
    found: list[str | None] = []
    if limit is not None:
        found.append(f"urgency at least {limit:g}" if urgent else None)
    if rule.concerns:
        which = (name for name in rule.concerns if concern(name, sample.language).search(text))
        found.append(next(which, None) if concerned else None)
    if rule.words:
        # The word of the rule file, never the customer's.
        found.append(f'word "{_of(rule.words, word.group())}"' if word else None)
    if rule.require == "all" and None in found:
        return None
    return " and ".join(one for one in found if one) or None


@lru_cache(maxsize=256)
def concern(name: str, language: str) -> re.Pattern[str]:
    """What gives a concern away in a language (BCP 47; in any, where the list has none of it); for case-folded
    text. Raises KeyError for an unknown concern.
    """
    return _pattern(tuple(_stems(name, language)))


@lru_cache(maxsize=256)
def _concern(names: Sequence[str], language: str) -> re.Pattern[str]:
    return _pattern(tuple(stem for name in names for stem in _stems(name, language)))


def _stems(name: str, language: str) -> list[str]:
    by_language = _concerns()[name]
    return by_language.get(language.partition("-")[0]) or [one for some in by_language.values() for one in some]


@lru_cache(maxsize=1)
def _concerns() -> dict[str, dict[str, list[str]]]:
    return tomllib.loads(Path(__file__).with_name("concerns.toml").read_text("utf-8"))


@lru_cache(maxsize=256)
def _pattern(stems: Sequence[str]) -> re.Pattern[str]:
    return re.compile(r"\b(?:" + "|".join(_stem(stem) for stem in sorted(stems, key=len, reverse=True)) + ")")


def _stem(stem: str) -> str:
    # The Uzbek apostrophe is written in half a dozen ways.
    parts = (re.escape(part) for part in stem.casefold().split())
    return _GAP.join(re.sub(r"'|ʻ|ʼ|‘|’|`", "['ʻʼ‘’`]", part) for part in parts)


def _of(words: Sequence[str], found: str) -> str:
    return next((word for word in words if re.match(_stem(word), found)), words[0])
