"""Feedback as customers write it, as much as is wanted: the lengths, languages and scripts of real use.

The demo's day and the sentences that the model is trained and validated on, cycled; in each further
cycle one word of every text is exchanged for a word of another, so that no text comes twice.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import orjson

ROOT: Final = Path(__file__).parent.parent
SOURCES: Final = (("google_play", "review"), ("telegram", "chat"), ("mastodon", "social"), ("intercom", "chat"))
WORKSPACES: Final = 4


def base() -> list[str]:
    """Every text once, in a fixed random order; none is empty, since those count nowhere."""
    found = [
        str(orjson.loads(line)["text"]) for line in (ROOT / "pipeline/demo/day.jsonl").read_bytes().splitlines() if line
    ]
    for path in sorted((ROOT / "models/sentences").glob("*/*.tsv")):
        found += [line.split("\t")[3] for line in path.read_text(encoding="utf-8").splitlines()]
    found = [text for text in found if text.strip()]
    random.Random(7).shuffle(found)
    return found


def texts(count: int, *, seed: int) -> list[str]:
    """`count` different texts; another seed gives others."""
    rng, originals = random.Random(seed), base()
    words = [text.split() for text in originals]
    made = []
    for index in range(count):
        mine = list(words[index % len(words)])
        mine[rng.randrange(len(mine))] = rng.choice(rng.choice(words))
        made.append(" ".join(mine))
    return made


def items(some: Sequence[str], prefix: str) -> Iterator[dict[str, str]]:
    """The texts as items for the intake, spread over sources and workspaces; their event time is their receipt."""
    for index, text in enumerate(some):
        source, channel = SOURCES[index % len(SOURCES)]
        yield {
            "source": source,
            "channel": channel,
            "workspace": f"w{index // len(SOURCES) % WORKSPACES}",
            "id": f"{prefix}-{index}",
            "text": text,
        }
