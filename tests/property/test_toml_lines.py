"""Every path of any TOML document has the line that it was written on."""

from __future__ import annotations

import json
import tomllib

from hypothesis import event, given, settings
from hypothesis import strategies as st

from pipeline.toml_lines import Path, line_of

_TEXT = st.text(
    st.characters(min_codepoint=32, max_codepoint=0x2FF, exclude_categories=["Cc", "Cs"]), max_size=8
)
_BARE = st.text("abcXYZ019_-", min_size=1, max_size=5)
_PUZZLES = st.sampled_from(['a = 1', '[b]', '[[b]]', '# no', '"', "'", "]", "}", ",", "=", "''", '""'])


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


class _Writer:
    """Writes a document and keeps what it wrote, path by path, with its line."""

    def __init__(self, draw: st.DrawFn) -> None:
        self.draw = draw
        self.text = ""
        self.lines: dict[Path, int] = {}

    def put(self, text: str) -> None:
        self.text += text

    def note(self, path: Path) -> None:
        self.lines.setdefault(path, self.text.count("\n") + 1)

    def blank(self, newlines: bool) -> None:
        choices = ["", " ", "\t"] + (["\n", " # [x]\n", '# " \'\'\' """\n', "\r\n"] if newlines else [])
        self.put(self.draw(st.sampled_from(choices)))

    def key(self, name: str) -> str:
        styles = [_quoted(name)]
        if name and all(c.isascii() and (c.isalnum() or c in "_-") for c in name):
            styles.append(name)
        if "'" not in name:
            styles.append(f"'{name}'")
        return self.draw(st.sampled_from(styles))

    def value(self, path: Path, depth: int) -> None:
        kinds = ["scalar", "string", "multi", "literal"] + (["array", "table"] if depth else [])
        kind = self.draw(st.sampled_from(kinds))
        if kind == "scalar":
            self.put(self.draw(st.sampled_from(["1", "true", "1979-05-27 07:32:00Z", "-1.5e3", "inf", "0xff"])))
        elif kind == "string":
            self.put(_quoted(self.draw(_TEXT | _PUZZLES)))
        elif kind == "multi":
            body = self.draw(st.lists(_PUZZLES, max_size=4))
            inner = "\n".join(body).replace('"""', '""')
            self.put('"""' + inner.replace('""', '"\\"').removesuffix('"') + self.draw(
                st.sampled_from(["", '"', '""', '\\"', "\\\\", "\\\n   "])) + '"""')  # fmt: skip
        elif kind == "literal":
            body = "\n".join(self.draw(st.lists(_PUZZLES, max_size=4))).replace("''", "'").strip("'")
            self.put("'''" + body + self.draw(st.sampled_from(["", "'", "''"])) + "'''")
        elif kind == "array":
            self.put("[")
            count = self.draw(st.integers(0, 3))
            for index in range(count):
                self.blank(newlines=True)
                self.note((*path, index))
                self.value((*path, index), depth - 1)
                self.blank(newlines=True)
                if index < count - 1 or self.draw(st.booleans()):
                    self.put(",")
            self.blank(newlines=True)
            self.put("]")
        else:
            self.put("{")
            names = self.draw(st.lists(_BARE | _TEXT, max_size=3, unique=True))
            for index, name in enumerate(names):
                self.put(", " if index else " ")
                self.note((*path, name))
                self.put(f"{self.key(name)} = ")
                self.value((*path, name), depth - 1)
            self.put("}")

    def pairs(self, table: Path) -> None:
        for name in self.draw(st.lists(_BARE | _TEXT, max_size=3, unique=True)):
            self.blank(newlines=True)
            dotted = self.draw(st.booleans())
            self.note((*table, name))
            path = (*table, name)
            self.put(self.key(name))
            if dotted:
                self.blank(newlines=False)
                self.put(".")
                self.blank(newlines=False)
                self.note((*path, "inner key"))
                path = (*path, "inner key")
                self.put(self.key("inner key"))
            self.blank(newlines=False)
            self.put("=")
            self.blank(newlines=False)
            self.value(path, 2)
            self.put(self.draw(st.sampled_from(["\n", " # = [a]\n", "\r\n"])))


@st.composite
def _documents(draw: st.DrawFn) -> tuple[str, dict[Path, int]]:
    writer = _Writer(draw)
    writer.pairs(())
    for number in range(draw(st.integers(0, 4))):
        name, sub = f"table {number}", draw(_BARE)
        if draw(st.booleans()):
            for index in range(draw(st.integers(1, 3))):
                writer.blank(newlines=True)
                writer.note((name,))
                writer.note((name, index))
                writer.put(f"[[ {writer.key(name)} ]]\n")
                writer.pairs((name, index))
                if draw(st.booleans()):
                    writer.note((name, index, "below"))
                    writer.note((name, index, "below", sub))
                    writer.put(f"[{writer.key(name)}.below . {writer.key(sub)}] # x\n")
                    writer.pairs((name, index, "below", sub))
        else:
            writer.blank(newlines=True)
            writer.note((name,))
            writer.note((name, sub))
            writer.put(f"[{writer.key(name)}.{writer.key(sub)}]\n")
            writer.pairs((name, sub))
    return writer.text, writer.lines


def _paths(value: object, at: Path = ()) -> set[Path]:
    found = {at} if at else set()
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in children:
        found |= _paths(child, (*at, key))
    return found


@settings(max_examples=100, deadline=None)
@given(_documents())
def test_every_path_has_its_line(document: tuple[str, dict[Path, int]]) -> None:
    text, lines = document
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError:  # the drawn "below" key may stand there already
        event('refused by tomllib')
        return
    line = line_of(text)
    assert _paths(data) == set(lines)
    assert {path: line(path) for path in lines} == lines


@settings(max_examples=100, deadline=None)
@given(st.text(st.sampled_from('ab.= \n[]{}"\'#,\\1\r')))
def test_any_text_has_an_answer(text: str) -> None:
    line = line_of(text)
    assert 1 <= line(("a", 0, "b")) <= text.count("\n") + 1
