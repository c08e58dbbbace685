"""What each label means, with an example in each language: `python -m models.taxonomy` writes docs/taxonomy.md.

The examples are sentences that the model learned from, so that page and model cannot drift apart.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from models import corpus, preprocess
from models.classifier import SENTIMENTS, TOPICS
from models.corpus import LANGUAGES, Row

DEFINITIONS: Final[Mapping[str, str]] = {
    "delivery": "Whether, when and in what state something arrives: couriers, parcels, tracking, pick-up points.",
    "billing": "Charges, payments, invoices and receipts: charged twice, card refused, wrong sum.",
    "refund": "Money back, returns, exchanges, cancellations and what becomes of them.",
    "quality": "The product itself, food included: broken, fake, tasty, lasting, as described or not.",
    "app": "The app or the website: crashes, updates, speed, how easy it is to use.",
    "account": "Signing in and the account: passwords, codes, blocked or hacked accounts, personal details.",
    "service": "People: staff, support, couriers' and waiters' manners, waiting for an answer, being helped.",
    "price": "What it costs: dear or cheap, fees, discounts, promotions, value for money.",
    "availability": "Whether it can be had: in stock, sold out, opening hours, closed branches, free tables and slots.",
    "other": "None of these, or nothing that says which.",
}
SENTIMENT_DEFINITIONS: Final[Mapping[str, str]] = {
    "negative": "Complaint, disappointment, anger, irony at the company's cost; a problem that is reported counts too.",
    "neutral": "A question, a fact, a wish; praise and blame in balance.",
    "positive": "Praise, thanks, satisfaction.",
}
FILE: Final = Path(__file__).parents[1] / "docs" / "taxonomy.md"
_SENTENCES: Final = Path(__file__).parent / "sentences" / "train"
_LENGTHS: Final = range(25, 90)
_URGENT_EXAMPLES: Final = 2


def example(rows: Iterable[Row], topic: str) -> str:
    """A sentence about nothing but `topic`, in no hurry and of a length to read; '' when there is none."""
    alone = [row for row in rows if row.topics == frozenset((topic,)) and not row.urgent]
    fitting = [row for row in alone if len(row.text) in _LENGTHS and row.sentiment != 1] or alone
    return fitting[0].text if fitting else ""


def urgent(rows: Iterable[Row]) -> list[str]:
    """Sentences that want somebody now, of different topics."""
    found: dict[frozenset[str], str] = {}
    for row in rows:
        if row.urgent and len(row.text) < 120 and row.topics is not None:
            found.setdefault(row.topics, row.text)
    return list(found.values())[:_URGENT_EXAMPLES]


def page() -> str:
    """docs/taxonomy.md, with examples from the first file of each language, so that more sentences do not move it."""
    every = list(corpus.sentences(_SENTENCES))
    by_language = {}
    for language in LANGUAGES:
        first = {line.split("\t")[-1] for line in (_SENTENCES / f"{language}.tsv").read_text("utf-8").splitlines()}
        known = {preprocess.clean(text) for text in first}
        by_language[language] = [row for row in every if row.language == language and row.text in known]
    return "\n".join(_lines(by_language)) + "\n"


def _lines(by_language: Mapping[str, Sequence[Row]]) -> Iterator[str]:
    yield _HEAD
    yield "| sentiment | meaning |\n|---|---|"
    for label in SENTIMENTS:
        yield f"| `{label}` | {SENTIMENT_DEFINITIONS[label]} |"
    yield _UNSURE
    yield "| topic | meaning |\n|---|---|"
    for topic in TOPICS:
        yield f"| `{topic}` | {DEFINITIONS[topic]} |"
    for topic in TOPICS:
        yield f"\n### {topic}\n\n| | example |\n|---|---|"
        for language, rows in by_language.items():
            yield f"| {language} | {_cell(example(rows, topic))} |"
    yield _URGENCY
    yield "| | examples |\n|---|---|"
    for language, rows in by_language.items():
        yield f"| {language} | {'<br>'.join(map(_cell, urgent(rows)))} |"
    yield _OWN


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


_HEAD: Final = """\
# What the labels mean

<!-- Made by `python -m models.taxonomy` from models/taxonomy.py and models/sentences/train. -->

Every text gets a sentiment, a probability for each topic, urgency, and a language. An item counts under one
sentiment and under its most probable topic; the others stay on the item.

## Sentiment

What the customer feels about the company, not about the world: "my grandmother died, and you were so kind" is
positive.
"""
_UNSURE: Final = """\
| `unsure` | None of the three is probable enough to be counted as one. |

### When an item is unsure

- **Not probable enough.** Probabilities are calibrated on texts that the model has not learned from. In each
  language the threshold is the confidence from which on answers were right in 55 % of cases or more, but never so
  high that more than 15 % of those texts would be unsure. The thresholds stand in the model's `config.json`. On the
  validation sentences, with an early model (2026-11-25), that made 13 % unsure, of which half leaned the right
  way, and lifted the accuracy of the rest from 0.735 to 0.769; a bound of 50 % made 0.3 % unsure and lifted nothing.
- **Too short**: fewer than two letters and no emoji or emoticon, such as "k", "7/10" or "!!!". Topic `other`,
  urgency 0, language `und`.
- **Not readable**: most of it is in a script that the model does not know. The same as too short.
- **In another language**, but in Latin or Cyrillic letters: the model tries, its language is `und`, and the
  strictest threshold of all holds, since nothing was measured.
- **Only emoji or emoticons**: they carry sentiment, so the model reads them, with the threshold of `und`; topic
  `other`, urgency 0. Slang and short words ("зачет", "zo'r", "meh") are words like any other.
- **Too long**: the beginning and the end are read, up to 3,000 characters and the model's limit of pieces.

An unsure item is an item: it is in every count and in the denominator of every share, and not negative. So the
negative share that alerts watch is of what is known to be negative. Its score is in the mean score.

## Topics

Several may be true of a text. What decides between near ones:

- Late or damaged on the way is `delivery`; broken because badly made is `quality`; both is both.
- Charged wrongly is `billing`; waiting for money to come back is `refund`; too dear is `price`.
- The app does not work is `app`; it does not let *me* in is `account`.
- A rude courier is `service`; if he is late as well, `delivery` too.
"""
_URGENCY: Final = """
## Urgency

The probability, 0 to 1, that somebody should read this now rather than with the rest:

- the customer asks for help now, and waiting makes it worse: stranded, locked out, money going, a deadline today;
- threatens to leave, to go to court, to the regulator or to the press, or says that they have left;
- health, safety or law: an injury, an allergen, a fire, medicine that does not come, stolen money, a data leak.

Anger alone is not urgent, nor is a capital letter. From 0.5 on a text counts as urgent in the reports. How good the
shipped model is at it, by language, stands in the rows of urgency in
[its card](../models/shipped/card.md) and comes from `ovoz evaluate` for your own texts.
"""
_OWN: Final = """
## Topics of your own

`ovoz topics fit` adds topics to these, puts them in the place of some of them, or replaces them all, from 4 to 20
example sentences each. `ovoz topics example` prints a file to start from.

- Your examples are judged by topics that were fitted without them (five parts, each left out in turn), the
  model's own topics by sentences that it has never seen; the table shows F1 before and after.
- Two topics are refused when texts of either fit the other about as well: less than 70 % right, averaged over
  both sides, or not better than chance would be. The message names both, and a sentence.
- Examples in each language that you hear help most. With 20 examples in four languages, so four of each language to
  learn from, F1 of four new topics lay between 0.3 and 0.6, and the accuracy over all texts rose from 0.67 to 0.70
  (2026-11-25). The more a topic differs from the model's own, the better; the table says what you have.
- The file is bound to the model's weights; the name on each score, `model+topics@hash`, changes with both.
"""


def main() -> None:
    """Write the page."""
    FILE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
