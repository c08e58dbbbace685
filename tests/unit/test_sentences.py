"""Our labelled sentences: their form, their spread, and that validation shares nothing with training."""

import random
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models import corpus, labelled
from models.classifier import TOPICS, ModelError

FOLDER = Path(corpus.__file__).parent / "sentences"
DATA = FOLDER.parents[2] / "shared" / "data"
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
        assert {row.urgent for row in own if row.topics is not None} == {True, False}, language


def test_no_text_stands_twice() -> None:
    marks = Counter((row.language, row.text.lower()) for row in TRAIN + VALIDATION)
    assert [mark for mark, count in marks.items() if count > 1] == []


def test_validation_is_no_echo_of_training() -> None:
    assert corpus.near_duplicates((row.text for row in TRAIN), (row.text for row in VALIDATION)) == []


def test_validation_is_no_echo_of_training_in_the_other_script_of_uzbek() -> None:
    def cyrillic(rows: list[corpus.Row]) -> list[str]:
        moved = [corpus.in_cyrillic(row).text for row in rows if row.language == "uz"]
        return moved + [row.text for row in rows if row.language == "uz-Cyrl"]

    assert corpus.near_duplicates(cyrillic(TRAIN), cyrillic(VALIDATION)) == []


WORDS = st.lists(
    st.sampled_from(("parcel", "late", "courier", "refund", "money", "broken", "login", "price", "never", "again")),
    min_size=4,
    max_size=9,
)


@given(st.lists(WORDS, min_size=1, max_size=12), st.randoms(use_true_random=False))
def test_no_near_duplicate_crosses_a_split_however_it_is_disguised(
    texts: list[list[str]], chance: random.Random
) -> None:
    rows = [
        corpus.Row(text=copy, language="en", source="x", sentiment=number % 3)
        for number, words in enumerate(texts)
        for copy in (" ".join(words), f"{' '.join(words).upper()}!!! {number}", "@user " + ", ".join(words))
    ]
    chance.shuffle(rows)
    train, validation, test = corpus.split(rows, 30, 30)
    for left, right in ((train, validation), (train, test), (validation, test)):
        assert corpus.near_duplicates((row.text for row in left), (row.text for row in right)) == []


@pytest.mark.slow
@pytest.mark.skipif(not DATA.is_dir(), reason="the training data is not here")
def test_no_near_duplicate_crosses_the_splits_of_the_data() -> None:
    files = sorted(DATA.glob("*.jsonl.gz"))
    train, validation, test = corpus.split((row for path in files for row in labelled.learnable(path)), 4, 4)
    assert min(map(len, (train, validation, test))) > 1_000
    for left, right in ((train, validation), (train, test), (validation, test)):
        assert corpus.near_duplicates((row.text for row in left), (row.text for row in right)) == []
    own = [row.text for row in VALIDATION]
    assert len(corpus.near_duplicates((row.text for row in train), own)) == 0


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
