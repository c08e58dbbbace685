# ruff: noqa: E501  (one fault a line)
"""A file of topics: what it may say, and every fault with its line and remedy."""

from __future__ import annotations

import tomllib

import pytest

from models.classifier import TOPICS
from models.topics import Wanted, parse
from pipeline.toml_lines import line_of

GOOD = '["where are my points", "cashback is missing", "не начислили баллы", "ballarim qani"]'
TOPIC = f'[[topic]]\nname = "loyalty"\ndescription = "Points."\nexamples = {GOOD}\n'


def read(text: str) -> tuple[Wanted, list[str]]:
    wanted, faults = parse("t.toml", tomllib.loads(text), line_of(text), known=TOPICS)
    return wanted, [str(fault) for fault in faults]


def test_a_topic_is_added_to_the_models_own() -> None:
    wanted, faults = read(TOPIC)
    assert faults == []
    assert (wanted.name, wanted.keep) == ("topics", tuple(t for t in TOPICS if t != "other"))
    (topic,) = wanted.topics
    assert (topic.name, len(topic.examples), topic.includes) == ("loyalty", 4, ())


def test_what_is_included_or_not_kept_goes() -> None:
    wanted, faults = read(TOPIC + 'includes = ["price", "billing"]\n')
    assert faults == [] and "price" not in wanted.keep and "billing" not in wanted.keep and "app" in wanted.keep
    assert read('keep = ["app"]\n' + TOPIC)[0].keep == ("app",)
    assert read("keep = []\n" + TOPIC)[0].keep == ()


def test_a_topic_with_the_name_of_one_of_the_models_adds_examples_to_it() -> None:
    wanted, faults = read(TOPIC.replace("loyalty", "price"))
    assert faults == [] and wanted.topics[0].includes == ("price",) and "price" not in wanted.keep


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "t.toml:1: topic: has no topics: write at least one [[topic]]"),
        ("[topic]\nname = 1", "t.toml:1: topic: must be a list of tables: write [[topic]] with two brackets"),
        ("topics = 1\n" + TOPIC, "t.toml:1: topics: is not known here; known are name, keep and [[topic]]"),
        ("name = 7\n" + TOPIC, "t.toml:1: name: must be 1-41 characters"),
        ('keep = ["delivry"]\n' + TOPIC, "t.toml:1: keep: delivry is none of the model's own topics; did you mean delivery?"),
        ('keep = ["price"]\n' + TOPIC + 'includes = ["price"]', "t.toml:1: keep: price cannot stay: loyalty of this file"),
        (TOPIC + 'keywords = ["x"]', "t.toml:5: topic.keywords: is not a setting of a topic; known are name, description"),
        (TOPIC + 'include = ["x"]', "t.toml:5: topic.include: is not a setting of a topic; did you mean includes?"),
        (TOPIC.replace('name = "loyalty"\n', ""), 't.toml:1: topic: needs a name, such as name = "loyalty-points"'),
        (TOPIC.replace('description = "Points."\n', ""), "t.toml:1: topic: needs a description"),
        (TOPIC.replace(f"examples = {GOOD}\n", ""), "t.toml:1: topic: needs 4 to 20 examples"),
        (TOPIC.replace("loyalty", "Loyalty Points"), "t.toml:2: topic.name: must be 1-41 characters of a-z 0-9 _ -"),
        (TOPIC.replace("loyalty", "other"), "t.toml:2: topic.name: other is what fits no topic"),
        (TOPIC.replace('"Points."', '"two\\nlines"'), "t.toml:3: topic.description: must be a sentence"),
        (TOPIC.replace(GOOD, '"one"'), "t.toml:4: topic.examples: must be a list of sentences, each in quotes; is 'one'"),
        (TOPIC.replace(GOOD, '["aa b", "cc d", "ee f"]'), "t.toml:4: topic.examples: holds 3 sentences; needs 4 to 20"),
        (TOPIC.replace('"ballarim qani"', "5"), "t.toml:4: topic.examples: must be what a customer would write"),
        (TOPIC.replace('"ballarim qani"', '"!!"'), "t.toml:4: topic.examples: must be what a customer would write"),
        (TOPIC.replace('"ballarim qani"', '"Where are my points?!"'), "says the same as another example"),
        (TOPIC + 'includes = "price"', 't.toml:5: topic.includes: must be a list of topics, such as ["delivery", "price"]'),
        (TOPIC + 'includes = ["cost"]', "t.toml:5: topic.includes: cost is none of the model's own topics; they are delivery"),
        (TOPIC + 'includes = ["price", "price"]', "t.toml:5: topic.includes: names the same topic twice"),
        (TOPIC + TOPIC, "t.toml:6: topic.name: loyalty is the topic in line 2 already; choose another name"),
        (TOPIC + TOPIC.replace("loyalty", "bonus"), "t.toml:8: topic.examples: 'where are my points' is an example of loyalty too"),
    ],
)  # fmt: skip
def test_each_fault_is_said_with_its_line_and_a_remedy(text: str, said: str) -> None:
    assert any(said in fault for fault in read(text)[1]), read(text)[1]


def test_one_example_a_line_is_named_by_its_own_line() -> None:
    text = '[[topic]]\nname = "a"\ndescription = "b"\nexamples = [\n"one thing",\n"two things",\n"",\n"more of it",\n]\n'
    assert [fault.split(": ")[0] for fault in read(text)[1]] == ["t.toml:7"]


def test_too_many_topics_are_refused() -> None:
    many = "".join(
        f'[[topic]]\nname = "t{i}"\ndescription = "x"\nexamples = ["aaa{i}b", "ccc{i}d", "eee{i}f", "ggg{i}h"]\n' for i in range(41)
    )
    assert "t.toml:161: topic: is one of 41 topics; at most 40 are told apart" in read(many)[1]
