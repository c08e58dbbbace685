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
    reader = _Reader(source, line_of, [topic for topic in known if topic != OTHER])
    wanted = reader.take(data)
    return wanted, tuple(sorted(reader.faults, key=lambda f: (f.line, f.key, f.reason)))


class _Reader:
    """Collects topics, and every fault on the way."""

    def __init__(self, source: str, line_of: Callable[[Place], int], known: Sequence[str]) -> None:
        self.faults: list[TopicFault] = []
        self._source, self._line_of, self._known = source, line_of, known
        self._lines: dict[str, int] = {}
        self._owners: dict[str, str] = {}

    def take(self, data: dict[str, Any]) -> Wanted:
        for unknown in data.keys() - {"name", "keep", "topic"}:
            self._fault((unknown,), "is not known here; known are name, keep and [[topic]]")
        name = self._read(("name",), _name, data.get("name", "topics"), "topics")
        tables = data.get("topic", [])
        if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
            self._fault(("topic",), "must be a list of tables: write [[topic]] with two brackets")
            tables = []
        elif not tables:
            self._fault((), "has no topics: write at least one [[topic]]")
        if len(tables) > MOST_TOPICS:
            self._fault(("topic", MOST_TOPICS), f"is one of {len(tables)} topics; at most {MOST_TOPICS} are told apart")
        found = [(index, self._topic(("topic", index), table)) for index, table in enumerate(tables)]
        topics = [(index, topic) for index, topic in found if topic]
        self._apart(topics)
        keep = [topic for topic in self._known if topic not in self._owners]
        if "keep" in data:
            given = self._read(("keep",), _list, data["keep"], ())
            for topic in given:
                if topic in self._owners:
                    self._fault(("keep",), f"{topic} cannot stay: {self._owners[topic]} of this file takes its place")
                elif topic not in (*self._known, OTHER):
                    self._fault(("keep",), f"{topic} is none of the model's own topics; {self._near(topic)}")
            keep = [topic for topic in keep if topic in given]
        return Wanted(name=name, keep=tuple(keep), topics=tuple(topic for _, topic in topics))

    def _topic(self, at: Place, table: dict[str, Any]) -> Topic | None:
        before = len(self.faults)
        for unknown in table.keys() - _READERS.keys():
            near = get_close_matches(unknown, _READERS, n=1)
            known = f"did you mean {near[0]}?" if near else f"known are {', '.join(_READERS)}"
            self._fault((*at, unknown), f"is not a setting of a topic; {known}")
        for key, example in _NEEDED.items():
            if key not in table:
                self._fault(at, f"needs {example}")
        found = {key: self._read((*at, key), read, table[key], ()) for key, read in _READERS.items() if key in table}
        name = found.get("name", "")
        if name in self._lines:
            self._fault((*at, "name"), f"{name} is the topic in line {self._lines[name]} already; choose another name")
        elif name == OTHER:
            self._fault((*at, "name"), "other is what fits no topic, so it has no examples; choose another name")
        elif name:
            self._lines[name] = self._line_of((*at, "name"))
        includes = found.get("includes", ())
        if name in self._known and name not in includes:
            includes = (name, *includes)  # more examples of a topic that the model has
        for topic in includes:
            if topic not in self._known:
                self._fault((*at, "includes"), f"{topic} is none of the model's own topics; {self._near(topic)}")
            elif topic in self._owners:
                self._fault((*at, "includes"), f"{topic} is included by {self._owners[topic]} already")
            self._owners.setdefault(topic, name)
        examples = self._examples((*at, "examples"), found.get("examples", ()))
        if len(self.faults) > before:
            return None
        return Topic(name=name, description=found["description"], examples=examples, includes=includes)

    def _examples(self, at: Place, texts: Sequence[object]) -> tuple[str, ...]:
        found: list[str] = []
        for index, text in enumerate(texts):
            cleaned = preprocess.clean(text) if isinstance(text, str) else ""
            if not preprocess.is_readable(cleaned):
                self._fault((*at, index), f"must be what a customer would write, in quotes; is {_shown(text)}")
            elif corpus.near_duplicates(found, [cleaned]):
                self._fault((*at, index), f"{_shown(cleaned)} says the same as another example; write one that differs")
            else:
                found.append(cleaned)
        if texts and not LEAST_EXAMPLES <= len(texts) <= MOST_EXAMPLES:
            several = f"{LEAST_EXAMPLES} to {MOST_EXAMPLES}, in the languages that you hear"
            self._fault(at, f"holds {len(texts)} sentences; needs {several}")
        return tuple(found)

    def _apart(self, topics: Sequence[tuple[int, Topic]]) -> None:
        """Every example that stands, almost word by word, under two topics."""
        for number, (index, topic) in enumerate(topics):
            for _, earlier in topics[:number]:
                for _, text in corpus.near_duplicates(earlier.examples, topic.examples):
                    at = ("topic", index, "examples", topic.examples.index(text))
                    self._fault(at, f"{_shown(text)} is an example of {earlier.name} too; leave it in one of them")

    def _read(self, at: Place, read: Callable[[object], Any], value: object, default: Any) -> Any:
        try:
            return read(value)
        except _Wrong as wrong:
            self._fault(at, str(wrong))
            return default

    def _near(self, topic: str) -> str:
        near = get_close_matches(topic, self._known, n=1)
        return f"did you mean {near[0]}?" if near else f"they are {', '.join(self._known)}"

    def _fault(self, at: Place, reason: str) -> None:
        key = ".".join(str(part) for part in at if isinstance(part, str)) or "topic"
        self.faults.append(TopicFault(source=self._source, line=self._line_of(at), key=key, reason=reason))


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


def _sentences(value: object) -> tuple[object, ...]:
    if not isinstance(value, list) or not value:
        raise _Wrong(f"must be a list of sentences, each in quotes; is {_shown(value)}")
    return tuple(value)


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:59] + "…"


_READERS: Final[dict[str, Callable[[object], Any]]] = {
    "name": _name,
    "description": _line,
    "includes": _list,
    "examples": _sentences,
}
_NEEDED: Final = {
    "name": 'a name, such as name = "loyalty-points"',
    "description": 'a description, such as description = "Points, bonus cards and levels."',
    "examples": f'{LEAST_EXAMPLES} to {MOST_EXAMPLES} examples = ["Where are my points?", …]',
}
