"""Where things stand in a TOML source: the line of every table, key and array element.

tomllib parses but gives no positions. This walks the same source a second time, over syntax that
tomllib has already found valid, and notes on which line each path begins.
"""

from __future__ import annotations

import re
import tomllib
from bisect import bisect_right
from collections.abc import Callable
from typing import Final

Path = tuple[str | int, ...]

_BLANK: Final = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_PART: Final = r"""(?:[A-Za-z0-9_-]+|"(?:\\.|[^"\\\n])*"|'[^'\n]*')"""
_KEY: Final = re.compile(rf"{_PART}(?:[ \t]*\.[ \t]*{_PART})*")
_BARE_KEY: Final = re.compile(r"[A-Za-z0-9_-]+\Z")
# Up to two quotes may stand before the three that close a multi-line string.
_STRING: Final = re.compile(
    r'''"""(?:\\.|[^\\])*?""""{0,2}|\'\'\'.*?\'\'\'\'{0,2}|"(?:\\.|[^"\\\n])*"|'[^'\n]*\'''', re.DOTALL
)
_SCALAR: Final = re.compile(r"[^,\]}#\n]+")


def line_of(source: str) -> Callable[[Path], int]:
    """A function from a path, such as ("rules", 2, "name"), to its line in `source`, counted from 1.

    A path that does not stand there has the line of its nearest parent, and the root has line 1. Of a
    source that is not valid TOML, the part before the fault is known.
    """
    lines = _Walk(source).lines

    def line(path: Path) -> int:
        while path and path not in lines:
            path = path[:-1]
        return lines.get(path, 1)

    return line


class _Fault(Exception):
    """The source is no TOML from here on."""


class _Walk:
    """One pass over a source, noting the line of each path in `lines`."""

    def __init__(self, source: str) -> None:
        self.lines: dict[Path, int] = {}
        self._source = source
        self._at = 0
        self._breaks = [match.start() for match in re.finditer("\n", source)]
        self._elements: dict[Path, int] = {}
        try:
            self._document()
        except (_Fault, RecursionError):
            return

    def _document(self) -> None:
        table: Path = ()
        self._skip(_BLANK)
        while self._at < len(self._source):
            if self._source.startswith("[", self._at):
                table = self._header()
            else:
                self._pair(table)
            self._skip(_BLANK)

    def _header(self) -> Path:
        """`[a.b]` or `[[a.b]]`: the path of the table that it opens."""
        start, array = self._at, self._source.startswith("[[", self._at)
        self._at += 2 if array else 1
        self._skip(_BLANK)
        *parents, last = self._key()
        self._skip(_BLANK)
        self._expect("]]" if array else "]")
        path: Path = ()
        for part in parents:
            path = self._note((*path, part), start)
            if path in self._elements:
                path = (*path, self._elements[path])
        path = self._note((*path, last), start)
        if not array:
            self.lines[path] = self._line(start)
            return path
        self._elements[path] = self._elements.get(path, -1) + 1
        return self._note((*path, self._elements[path]), start)

    def _pair(self, table: Path) -> None:
        start = self._at
        path = table
        for part in self._key():
            path = self._note((*path, part), start)
        self._skip(_BLANK)
        self._expect("=")
        self._skip(_BLANK)
        self._value(path)

    def _value(self, path: Path) -> None:
        first = self._source[self._at : self._at + 1]
        if first == "[":
            self._at += 1
            index = 0
            while not self._closed("]"):
                self._note((*path, index), self._at)
                self._value((*path, index))
                index += 1
        elif first == "{":
            self._at += 1
            while not self._closed("}"):
                self._pair(path)
        else:
            self._take(_STRING if first in ("'", '"') else _SCALAR)

    def _closed(self, bracket: str) -> bool:
        """Skip blanks and one comma; True when the bracket follows, which is then skipped too."""
        self._skip(_BLANK)
        if self._source.startswith(",", self._at):
            self._at += 1
            self._skip(_BLANK)
        if not self._source.startswith(bracket, self._at):
            return False
        self._at += 1
        return True

    def _key(self) -> list[str]:
        text = self._take(_KEY)
        if _BARE_KEY.match(text):
            return [text]
        parts: list[str] = []
        try:
            inner: object = tomllib.loads(f"{text} = 0")
        except tomllib.TOMLDecodeError as error:
            raise _Fault from error
        while isinstance(inner, dict):
            ((part, inner),) = inner.items()
            parts.append(part)
        return parts

    def _note(self, path: Path, start: int) -> Path:
        self.lines.setdefault(path, self._line(start))
        return path

    def _line(self, at: int) -> int:
        return bisect_right(self._breaks, at - 1) + 1

    def _skip(self, pattern: re.Pattern[str]) -> None:
        match = pattern.match(self._source, self._at)
        self._at = match.end() if match else self._at

    def _take(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self._source, self._at)
        if match is None:
            raise _Fault
        self._at = match.end()
        return match.group()

    def _expect(self, text: str) -> None:
        if not self._source.startswith(text, self._at):
            raise _Fault
        self._at += len(text)
