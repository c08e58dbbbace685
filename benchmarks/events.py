"""A stream with everything that makes counting hard, and its truth, computed apart from the pipeline.

Duplicates, edits, deletions, versions out of order, items that change their event time, many
workspaces, and records that cannot be read.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from connectors.feedback import parse
from models.classifier import Classifier
from pipeline.codec import encode_feedback

WORDS: Final = {
    "negative": ("terrible", "awful", "broken", "worst", "hate it"),
    "neutral": ("a question", "the order number", "on Tuesday", "how do I"),
    "positive": ("great", "excellent", "love it", "thank you", "perfect"),
}
TOPIC_WORDS: Final = ("delivery courier", "payment charged", "refund money", "app crash", "password login", "price")
SOURCES: Final = (("google_play", "review"), ("telegram", "chat"), ("mastodon", "social"), ("intercom", "chat"))
POISON: Final = (
    b"\xff\x00poison",
    b"{",
    b"[1, 2]",
    b'{"v": 99, "source": "x"}',
    b'{"v": 1, "source": "x"}',
    b'{"v": 1, "source": 5, "id": null}',
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One record to send; `item` is None where it is unreadable."""

    key: bytes
    value: bytes
    item: dict[str, Any] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """What must be in the store in the end. `cells`: (count, score in millionths) by cell fields."""

    cells: dict[tuple[str, int, str, str, str, str, str], tuple[int, int]]
    dead: int
    items: int


def events(count: int, *, now: datetime, seed: int = 7, hours: float = 20.0, unique: bool = False) -> list[Event]:
    """`count` records whose event times lie in the `hours` before `now` (UTC).

    `unique`: no duplicates, edits or further versions.
    """
    rng = random.Random(seed)
    items: list[dict[str, Any] | None] = []
    versions: dict[str, int] = {}
    base: dict[str, dict[str, Any]] = {}
    for index in range(count):
        draw = rng.random()
        if draw < 0.01:
            items.append(None)
            continue
        if draw < 0.2 and items and not unique:
            again = rng.choice(items[-2000:])
            if again is not None:
                items.append(again)
                continue
        if draw < 0.42 and versions and not unique:
            name = rng.choice(list(versions)[-500:])
        else:
            name = f"item-{index}"
            source, channel = rng.choice(SOURCES)
            base[name] = {"source": source, "channel": channel, "workspace": f"w{rng.randrange(12)}", "id": name}
        versions[name] = versions.get(name, 0) + 1
        created = now - timedelta(seconds=rng.random() * hours * 3600)
        mood = rng.choice(tuple(WORDS))
        items.append(
            {
                **base[name],
                "version": versions[name],
                "created_at": created.isoformat(),
                "deleted": rng.random() < 0.06,
                "text": f"{rng.choice(WORDS[mood])} {rng.choice(TOPIC_WORDS)} {rng.choice(WORDS[mood])} {index % 97}",
            }
        )
    for start in range(0, count, 100):
        window = items[start : start + 100]
        rng.shuffle(window)
        items[start : start + 100] = window
    made = []
    for index, item in enumerate(items):
        if item is None:
            made.append(Event(key=b"p%d" % index, value=rng.choice(POISON), item=None))
        else:
            feedback = parse(item, now=now)
            made.append(Event(key=feedback.feedback_id.encode(), value=encode_feedback(feedback), item=item))
    return made


def truth(sent: Sequence[Event], classifier: Classifier) -> Truth:
    """Newest version by (workspace, source, id), deletions taken out, counted by minute and labels.

    Written apart from pipeline.fold on purpose: it must not repeat its mistakes.
    """
    newest: dict[tuple[str, str, str], dict[str, Any]] = {}
    for event in sent:
        if event.item is not None:
            key = (event.item["workspace"], event.item["source"], event.item["id"])
            if key not in newest or newest[key]["version"] < event.item["version"]:
                newest[key] = event.item
    live = [item for item in newest.values() if not item["deleted"]]
    cells: dict[Any, list[int]] = defaultdict(lambda: [0, 0])
    for item, said in zip(live, classifier.classify([item["text"] for item in live]), strict=True):
        minute = int(datetime.fromisoformat(item["created_at"]).timestamp()) // 60
        names = (item["source"], item["channel"], said.topic, said.language, said.label)
        cell = cells[(item["workspace"], minute, *names)]
        cell[0] += 1
        cell[1] += round(said.score * 1_000_000)
    return Truth(
        cells={key: (count, score) for key, (count, score) in cells.items()},
        dead=sum(event.item is None for event in sent),
        items=len(live),
    )


def windows(cells: dict[Any, tuple[int, int]], at: datetime) -> dict[tuple[str, str, str, str], int]:
    """(source, topic, sentiment, window) → items of the windows that end with the minute of `at`."""
    last = int(at.timestamp()) // 60
    sums: dict[tuple[str, str, str, str], int] = defaultdict(int)
    for (_, minute, source, _, topic, _, sentiment), (count, _) in cells.items():
        for name, minutes in (("5m", 5), ("1h", 60), ("24h", 1440)):
            if last - minutes < minute <= last:
                sums[source, topic, sentiment, name] += count
    return dict(sums)
