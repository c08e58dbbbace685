"""Our labelled sentences: their form, their spread, and that validation shares nothing with training."""

from collections import Counter
from pathlib import Path

import pytest

from models import corpus
from models.classifier import TOPICS, ModelError

FOLDER = Path(corpus.__file__).parent / "sentences"
TRAIN = list(corpus.sentences(FOLDER / "train"))
VALIDATION = list(corpus.sentences(FOLDER / "validation"))


@pytest.mark.parametrize("rows", [TRAIN, VALIDATION], ids=["train", "validation"])
def test_every_language_has_every_label(rows: list[corpus.Row]) -> None:
    assert {row.language for row in rows} == set(corpus.LANGUAGES)
    for language in corpus.LANGUAGES:
        own = [row for row in rows if row.language == language]
        topics = Counter(topic for row in own for topic in row.topics or ())
        assert set(topics) == set(TOPICS), language
        assert {row.sentiment for row in own} == {0, 1, 2}, language
        assert {row.urgent for row in own} == {True, False}, language


def test_no_text_stands_twice() -> None:
    marks = Counter((row.language, row.text.lower()) for row in TRAIN + VALIDATION)
    assert [mark for mark, count in marks.items() if count > 1] == []


def test_validation_is_no_echo_of_training() -> None:
    assert corpus.near_duplicates((row.text for row in TRAIN), (row.text for row in VALIDATION)) == []


def test_a_near_duplicate_would_be_found() -> None:
    pairs = corpus.near_duplicates(["The parcel came late, box crushed!"], ["the PARCEL came late - box crushed 2"])
    assert len(pairs) == 1


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("delivery\tnegative\t0", "3 columns"),
        ("delivry\tnegative\t0\tx", "unknown topic"),
        ("price\tbad\t0\tx", "sentiment"),
        ("price\tnegative\tyes\tx", "urgent"),
    ],
)
def test_a_broken_line_is_named(tmp_path: Path, line: str, said: str) -> None:
    (tmp_path / "en.tsv").write_text("price\tneutral\t0\thow much\n" + line + "\n", encoding="utf-8")
    with pytest.raises(ModelError, match=rf"en\.tsv:2: .*{said}"):
        list(corpus.sentences(tmp_path))
