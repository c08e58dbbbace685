"""`Topic`: what a user writes into `topics.toml`, and every fault in such a file. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Final

from models import corpus, preprocess

LEAST_EXAMPLES: Final = 4
MOST_EXAMPLES: Final = 20
MOST_TOPICS: Final = 40
OTHER: Final = "other"
NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,40}\Z")
KEYS: Final = ("name", "description", "includes", "examples")

Place = tuple[str | int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Topic:
    """`examples`: cleaned texts in any language. `includes`: the model's own topics that this one replaces."""

    name: str
    description: str
    examples: tuple[str, ...]
    includes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A whole file. `name` of the set; `keep`: the model's own topics that stay; `topics`: the user's."""

    name: str
    keep: tuple[str, ...]
    topics: tuple[Topic, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicFault:
    """One thing that is wrong in a topics file: where it stands, and what would be right."""

    source: str
    line: int
    key: str
    reason: str

    def __str__(self) -> str:
        return f"{self.source}:{self.line}: {self.key}: {self.reason}"


class _Wrong(ValueError):
    """What a value should have been."""


def parse(
    source: str, data: dict[str, Any], line_of: Callable[[Place], int], *, known: Sequence[str]
) -> tuple[Wanted, tuple[TopicFault, ...]]:
    """What a decoded TOML file asks for, and every fault in it; a faulty topic is left out.

    `line_of` gives the line of a key, such as `("topic", 2, "examples", 0)`. `known`: the model's own topics.
    """
    faults: list[TopicFault] = []

    def fault(place: Place, reason: str) -> None:
        key = ".".join(str(part) for part in place if isinstance(part, str)) or "topic"
        faults.append(TopicFault(source=source, line=line_of(place), key=key, reason=reason))

    def taken(place: Place, read: Callable[[object], Any], value: object, default: Any) -> Any:
        try:
            return read(value)
        except _Wrong as wrong:
            fault(place, str(wrong))
            return default

    for unknown in data.keys() - {"name", "keep", "topic"}:
        near = "; topics start with [[topic]]" if not get_close_matches(unknown, ["keep", "name"]) else ""
        fault((unknown,), f"is not known here; known are name, keep and [[topic]]{near}")
    name = taken(("name",), _name, data.get("name", "topics"), "topics")
    tables = data.get("topic", [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        fault(("topic",), "must be a list of tables: write [[topic]] with two brackets")
        tables = []
    elif not tables:
        fault((), "has no topics: write at least one [[topic]]")
    if len(tables) > MOST_TOPICS:
        fault(("topic", MOST_TOPICS), f"is topic {MOST_TOPICS + 1} of {len(tables)}; at most {MOST_TOPICS} are told apart")
    topics: list[Topic] = []
    names: dict[str, int] = {}
    owners: dict[str, str] = {}
    for index, table in enumerate(tables):
        before, at = len(faults), ("topic", index)
        for unknown in table.keys() - set(KEYS):
            near = get_close_matches(unknown, KEYS, n=1)
            fault((*at, unknown), f"is not known of a topic; {f'did you mean {near[0]}?' if near else 'known are ' + ', '.join(KEYS)}")
        for key in ("name", "description", "examples"):
            if key not in table:
                fault(at, f"needs {_EXAMPLES[key]}")
        own = taken((*at, "name"), _name, table.get("name", "topic"), "")
        description = taken((*at, "description"), _line, table.get("description", "-"), "")
        includes = taken((*at, "includes"), _list, table.get("includes", []), ())
        if own in known and own != OTHER and own not in includes:
            includes = (own, *includes)  # more examples of a topic that the model has
        examples = _examples(table.get("examples", []), (*at, "examples"), fault) if "examples" in table else ()
        if own in names:
            fault((*at, "name"), f"{own} is already the topic in line {names[own]}; give it another name")
        elif own == OTHER:
            fault((*at, "name"), "other is what fits no topic, so it has no examples; choose another name")
        if "name" in table:
            names.setdefault(own, line_of((*at, "name")))
        for model in includes:
            if model not in known or model == OTHER:
                fault((*at, "includes"), f"{model} is none of the model's own topics: {', '.join(k for k in known if k != OTHER)}")
            elif model in owners:
                fault((*at, "includes"), f"{model} is included by {owners[model]} already")
            owners.setdefault(model, own)
        if len(faults) == before:
            topics.append(Topic(name=own, description=description, examples=examples, includes=includes))
    _apart(topics, tables, fault)
    keep = [topic for topic in known if topic not in owners and topic != OTHER]
    if "keep" in data:
        given = taken(("keep",), _list, data["keep"], ())
        for topic in given:
            if topic not in known:
                near = get_close_matches(topic, known, n=1)
                fault(("keep",), f"{topic} is none of the model's own topics; "
                      f"{f'did you mean {near[0]}?' if near else 'they are ' + ', '.join(known)}")  # fmt: skip
            elif topic in owners:
                fault(("keep",), f"{topic} cannot stay: {owners[topic]} of this file takes its place")
        keep = [topic for topic in keep if topic in given]
    wanted = Wanted(name=name, keep=tuple(keep), topics=tuple(topics))
    return wanted, tuple(sorted(faults, key=lambda f: (f.line, f.key, f.reason)))


def _examples(value: object, at: Place, fault: Callable[[Place, str], None]) -> tuple[str, ...]:
    if not isinstance(value, list):
        fault(at, f"must be a list of sentences, each in quotes; is {_shown(value)}")
        return ()
    found: list[str] = []
    for index, text in enumerate(value):
        cleaned = preprocess.clean(text) if isinstance(text, str) else ""
        if not preprocess.is_readable(cleaned):
            fault((*at, index), f"must be what a customer would write, in quotes; is {_shown(text)}")
        elif corpus.near_duplicates(found, [cleaned]):
            fault((*at, index), f"says the same as another example of this topic: {_shown(cleaned)}; write one that differs")
        else:
            found.append(cleaned)
    if not LEAST_EXAMPLES <= len(value) <= MOST_EXAMPLES:
        fault(at, f"has {len(value)}; needs {LEAST_EXAMPLES} to {MOST_EXAMPLES}, in the languages that you hear")
    return tuple(found)


def _apart(topics: Sequence[Topic], tables: Sequence[dict[str, Any]], fault: Callable[[Place, str], None]) -> None:
    """Every example that stands, almost word by word, under two topics."""
    places = {table.get("name"): index for index, table in enumerate(tables)}
    for number, topic in enumerate(topics):
        for earlier in topics[:number]:
            for _, text in corpus.near_duplicates(earlier.examples, topic.examples):
                at = ("topic", places[topic.name], "examples", topic.examples.index(text))
                fault(at, f"{_shown(text)} is an example of {earlier.name} too; leave it in one of them")


def _name(value: object) -> str:
    if not isinstance(value, str) or not NAME.match(value):
        raise _Wrong(f'must be 1-41 characters of a-z 0-9 _ -, such as "loyalty-points"; is {_shown(value)}')
    return value


def _line(value: object) -> str:
    if not isinstance(value, str) or not value.strip() or len(value) > 300 or not value.isprintable():
        raise _Wrong(f"must be a sentence of at most 300 characters, in quotes; is {_shown(value)}")
    return value.strip()


def _list(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise _Wrong(f'must be a list of topics, such as ["delivery", "price"]; is {_shown(value)}')
    if len(set(value)) < len(value):
        raise _Wrong("names the same topic twice")
    return tuple(value)


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:59] + "…"


_EXAMPLES: Final = {
    "name": 'a name, such as name = "loyalty-points"',
    "description": 'a description, such as description = "Points, bonus cards and levels."',
    "examples": f"examples: {LEAST_EXAMPLES} to {MOST_EXAMPLES} sentences, examples = [\"Where are my points?\", …]",
}
