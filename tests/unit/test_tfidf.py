"""The TF-IDF baseline: its n-grams, what it learns, and the file that it is served from."""

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models import corpus, tfidf
from models.artifact import BASELINE, SHIPPED
from models.classifier import TOPICS, ModelError
from models.corpus import Row
from models.load import load
from models.tfidf import TfidfClassifier

ROWS = [
    Row(text=text, language="en", source="x", sentiment=mood, topics=topics)
    for text, mood, topics in (
        ("the parcel came late and broken", 0, frozenset({"delivery", "quality"})),
        ("late parcel again, awful courier", 0, frozenset({"delivery"})),
        ("how much is the parcel", 1, frozenset({"price"})),
        ("what is the price of that", 1, frozenset({"price"})),
        ("lovely courier, came early", 2, frozenset({"delivery"})),
        ("lovely price, thank you", 2, frozenset({"price"})),
    )
]


@pytest.mark.parametrize("text", ["Курьер не-пришёл вовремя!", "banana bananas", "ўғил болалар 😡😡😡 keldilar"])
def test_ngrams_are_those_of_char_wb(text: str) -> None:
    sklearn = pytest.importorskip("sklearn.feature_extraction.text")
    wanted = Counter(sklearn.TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5)).build_analyzer()(text))
    _, _, times = tfidf.counts([text])
    assert Counter(times.tolist()) == Counter(wanted.values())


def test_text_without_likeness_and_likeness_without_text_share_nothing() -> None:
    one, other, foreign = (tfidf.counts([text])[1] for text in ("parcel", "parcels", "счёт"))
    assert len(np.intersect1d(one, other)) > len(one) / 2
    assert len(np.intersect1d(one, foreign)) == 0


@given(st.lists(st.text(max_size=40), min_size=1, max_size=6))
def test_texts_together_have_the_ngrams_that_each_has_alone(texts: list[str]) -> None:
    starts, buckets, times = tfidf.counts(texts)
    for number, text in enumerate(texts):
        own = slice(starts[number], starts[number + 1])
        _, alone, alone_times = tfidf.counts([text])
        assert buckets[own].tolist() == alone.tolist() and times[own].tolist() == alone_times.tolist()


def test_it_learns_what_its_rows_say_and_serves_it_from_a_file(tmp_path: Path) -> None:
    training = pytest.importorskip("models.train_tfidf", reason="training needs scikit-learn")
    training.train_tfidf(ROWS, tmp_path / "made.npz")
    made = TfidfClassifier(tmp_path / "made.npz")
    late, price = made.classify(["late and broken courier", "lovely price, thank you"])
    assert (late.label, late.topic, price.label, price.topic) == ("negative", "delivery", "positive", "price")
    assert tuple(late.topics) == TOPICS and sum(late.topics.values()) == pytest.approx(1)
    before = (tmp_path / "made.npz").stat().st_mtime_ns
    training.train_tfidf(ROWS, tmp_path / "made.npz")
    assert (tmp_path / "made.npz").stat().st_mtime_ns == before
    training.train_tfidf(ROWS[:4], tmp_path / "made.npz")
    assert TfidfClassifier(tmp_path / "made.npz").model != made.model


def test_rows_are_known_again_in_another_process() -> None:
    code = "from tests.unit.test_tfidf import ROWS; from models import corpus; print(corpus.digest(ROWS), end='')"
    seen = {
        subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": str(Path(tfidf.__file__).parents[1])},
            cwd=Path(tfidf.__file__).parents[1],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert seen == {corpus.digest(ROWS)}
    assert corpus.digest(ROWS[::-1]) not in seen


def test_two_classes_or_one_are_learned_too(tmp_path: Path) -> None:
    training = pytest.importorskip("models.train_tfidf", reason="training needs scikit-learn")
    two = [Row(text=r.text, language="en", source="x", sentiment=r.sentiment) for r in ROWS if r.sentiment != 1]
    training.train_tfidf(two, tmp_path / "two.npz")
    bad, good = TfidfClassifier(tmp_path / "two.npz").classify(["late parcel broken", "lovely price"])
    assert bad.label == "negative" and good.label == "positive"
    assert bad.sentiment[1] < 1e-3
    assert set(bad.topics.values()) == {1 / len(TOPICS)}


def test_the_shipped_baseline_is_small_and_better_than_guessing() -> None:
    assert (SHIPPED / BASELINE).stat().st_size < 1_000_000
    assert load("tfidf").model.startswith("tfidf@")
    texts = ["Ужасная доставка, курьер опоздал на три дня", "Great service, thank you so much!"]
    bad, good = load("tfidf").classify(texts)
    assert (bad.label, good.label) == ("negative", "positive")
    assert (bad.topic, good.topic) == ("delivery", "service")


def test_a_file_that_is_no_baseline_is_refused_with_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="ovoz train"):
        TfidfClassifier(tmp_path / "none.npz")
    (tmp_path / "cut.npz").write_bytes((SHIPPED / BASELINE).read_bytes()[:9_000])
    with pytest.raises(ModelError, match=r"cut\.npz is no TF-IDF baseline"):
        TfidfClassifier(tmp_path / "cut.npz")
    np.savez(tmp_path / "other.npz", idf=np.zeros(3))
    with pytest.raises(ModelError, match=r"other\.npz is no TF-IDF baseline"):
        TfidfClassifier(tmp_path / "other.npz")
