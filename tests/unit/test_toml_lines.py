"""Lines of paths in sources that a careless scanner would misread."""

from __future__ import annotations

from pipeline.toml_lines import line_of

SOURCE = '''# a comment with [brackets] and "quotes"
title = "x"

[kafka]
bootstrap = """
partitions = 7
[store]
"""  # partitions = 8
partitions = 4
"odd key".'sub.key' = 1

[[rules]]
name = "first"
topics = [
    "a",  # ]
    "b,c",
    { x = 1, y = ["z"] },
]
[[rules]]
name = 'second "]'
[rules.labels]
team = "care"
[[rules.routes]]
to = 1
'''


def test_lines() -> None:
    line = line_of(SOURCE)
    assert line(("title",)) == 2
    assert line(("kafka",)) == 4
    assert line(("kafka", "bootstrap")) == 5
    assert line(("kafka", "partitions")) == 9
    assert line(("kafka", "odd key", "sub.key")) == 10
    assert line(("rules",)) == line(("rules", 0)) == 12
    assert line(("rules", 0, "topics", 1)) == 16
    assert line(("rules", 0, "topics", 2, "y", 0)) == 17
    assert line(("rules", 1)) == 19
    assert line(("rules", 1, "name")) == 20
    assert line(("rules", 1, "labels", "team")) == 22
    assert line(("rules", 1, "routes", 0, "to")) == 24


def test_what_is_not_there_has_the_line_of_its_parent() -> None:
    line = line_of(SOURCE)
    assert line(("kafka", "prefix")) == 4
    assert line(("rules", 1, "severity")) == 19
    assert line(("nothing",)) == 1
    assert line(()) == 1


def test_a_broken_source_is_known_up_to_its_fault() -> None:
    line = line_of("a = 1\nb = 2\nc = = 3\nd = 4\n")
    assert (line(("a",)), line(("b",))) == (1, 2)
