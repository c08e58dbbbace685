"""docs/taxonomy.md is what the labels and the sentences say."""

import re

import pytest

from models import corpus, taxonomy
from models.classifier import LABELS, TOPICS
from models.teach import SENTENCES

ROWS = list(corpus.sentences(SENTENCES / "train"))
PAGE = taxonomy.FILE.read_text("utf-8")


def test_the_page_is_up_to_date() -> None:
    assert taxonomy.page() == PAGE, "run `python -m models.taxonomy`"


def test_every_label_is_defined() -> None:
    assert tuple(taxonomy.DEFINITIONS) == TOPICS
    for label in (*LABELS, *TOPICS):
        assert f"| `{label}` | " in PAGE


@pytest.mark.parametrize("topic", TOPICS)
def test_every_topic_has_an_example_in_every_language_and_it_is_about_nothing_else(topic: str) -> None:
    section = PAGE.partition(f"\n### {topic}\n")[2].split("\n## ")[0].split("\n### ")[0]
    examples = dict(re.findall(r"^\| ([a-zA-Z-]+) \| (.+) \|$", section, re.MULTILINE))
    labels = {(row.language, row.text): row for row in ROWS}
    assert set(examples) == set(corpus.LANGUAGES)
    for language, text in examples.items():
        row = labels[language, text.replace("&lt;", "<").replace("\\|", "|")]
        assert row.topics == {topic} and not row.urgent


def test_urgency_has_examples_in_every_language() -> None:
    section = PAGE.partition("\n## Urgency\n")[2].split("\n## ")[0]
    examples = dict(re.findall(r"^\| ([a-zA-Z-]+) \| (.+) \|$", section, re.MULTILINE))
    urgent = {row.text for row in ROWS if row.urgent}
    assert set(examples) == set(corpus.LANGUAGES)
    assert all(set(texts.split("<br>")) <= urgent and "<br>" in texts for texts in examples.values())
