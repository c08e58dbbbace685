"""Temperatures and thresholds: what a model may claim, and when it says `unsure`."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models import calibration
from models.artifact import Calibration
from models.classifier import LABELS, Prediction
from models.load import load


def answers(count: int, *, wrong_below: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Confidences from 0.34 to 1; under `wrong_below` one in five answers is right, above it nine in ten."""
    draws = np.random.default_rng(seed)
    confidence = draws.uniform(0.34, 1, count)
    right = draws.random(count) < np.where(confidence < wrong_below, 0.2, 0.9)
    return confidence, right


def test_the_threshold_lies_where_answers_begin_to_be_right_often_enough() -> None:
    confidence, right = answers(4_000, wrong_below=0.40)
    assert calibration.threshold(confidence, right) == pytest.approx(0.40, abs=0.02)


def test_at_most_15_percent_are_unsure_however_bad_the_model() -> None:
    confidence, right = answers(2_000, wrong_below=1.0)
    limit = calibration.threshold(confidence, right)
    assert 0.13 < (confidence < limit).mean() <= 0.15


def test_where_all_answers_are_good_only_what_lies_below_all_of_them_is_unsure() -> None:
    confidence, right = answers(500, wrong_below=0.0)
    assert calibration.threshold(confidence, right) == pytest.approx(confidence.min(), abs=1e-3)
    assert calibration.threshold(np.array([]), np.array([], bool)) == 0


def test_each_language_has_its_own_threshold_and_an_unknown_one_the_strictest() -> None:
    good, bad = answers(400, wrong_below=0.36), answers(400, wrong_below=0.43, seed=1)
    confidence, right = np.concatenate((good[0], bad[0])), np.concatenate((good[1], bad[1]))
    found = calibration.thresholds(confidence, right, ["en"] * 400 + ["uz"] * 400, ("en", "uz", "it"))
    assert found["en"] < found["it"] < found["uz"] == found["und"]
    assert found["it"] == calibration.threshold(confidence, right)


@given(st.lists(st.floats(0, 1), max_size=60))
def test_isotonic_rises_keeps_the_mean_and_changes_nothing_that_rises(values: list[float]) -> None:
    fitted = calibration.isotonic(np.array(values))
    assert len(fitted) == len(values)
    assert (np.diff(fitted) >= -1e-12).all()
    assert fitted.sum() == pytest.approx(sum(values), abs=1e-9)
    assert calibration.isotonic(np.array(sorted(values))) == pytest.approx(np.array(sorted(values)))


def test_temperature_finds_overconfidence() -> None:
    draws = np.random.default_rng(0)
    logits = draws.normal(size=(4_000, 3)).astype(np.float32)
    chances = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    labels = np.array([draws.choice(3, p=row / row.sum()) for row in chances.astype(np.float64)])
    assert calibration.temperature(logits * 3, labels, binary=False) == pytest.approx(3, rel=0.1)
    binary = (draws.random((4_000, 1)) < 1 / (1 + np.exp(-logits[:, :1]))).astype(np.int64)
    assert calibration.temperature(logits[:, :1] * 2, binary, binary=True) == pytest.approx(2, rel=0.15)


def test_a_label_is_unsure_only_where_it_is_said_to_be() -> None:
    sure = Prediction(sentiment=(0.4, 0.3, 0.3), topics={"other": 1.0}, language="en", model="m@0")
    unsure = Prediction(sentiment=(0.4, 0.3, 0.3), topics={"other": 1.0}, language="en", model="m@0", unsure=True)
    assert (sure.label, unsure.label, unsure.leaning, unsure.score) == ("negative", "unsure", "negative", sure.score)
    assert unsure.label in LABELS


def test_a_language_without_a_threshold_takes_that_of_unknown_ones_and_none_at_all_is_zero() -> None:
    assert Calibration(temperature={"und": 1.0}).least("en") == 0
    some = Calibration(temperature={"und": 1.0}, threshold={"und": 0.5, "en": 0.4})
    assert (some.least("en"), some.least("tr")) == (0.4, 0.5)


@pytest.mark.parametrize("text", ["", "a", "я.", "7/10", "!!!", "北", "\x00\x01"])
def test_a_text_too_short_to_read_is_unsure(text: str) -> None:
    (said,) = load().classify([text])
    assert (said.label, said.topic, said.language, said.score, said.urgency) == ("unsure", "other", "und", 0, 0)


@pytest.mark.parametrize("text", ["ok", "да", "😡", "a :(", "))))"])
def test_a_short_word_or_a_picture_is_read(text: str) -> None:
    (said,) = load().classify([text])
    assert said.sentiment != (0.25, 0.5, 0.25)


def test_the_baseline_gets_a_part_where_it_knows_more_and_none_where_it_knows_nothing() -> None:
    chance = np.random.default_rng(1)
    truth = chance.integers(0, 3, 400)
    said = np.eye(3, dtype=np.float32)[truth] * 2
    noise = chance.normal(0, 1.5, (2, 400, 3)).astype(np.float32)
    good, alike = said + noise[0], said + noise[1]
    tags = ["en"] * 200 + ["ru"] * 200
    others = np.concatenate((alike[:200], 3 * noise[1][200:]))
    shares = calibration.ngrams(good, others, truth, [*tags[:-1], "tr"], binary=False)
    assert shares["en"] >= 0.3 and shares["ru"] <= 0.1
    assert shares["und"] == 0 and shares["tr"] > 0  # too few of these to tell: what is best for all
