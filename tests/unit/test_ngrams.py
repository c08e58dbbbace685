"""The part that n-grams have in what the network says."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from models import artifact
from models.classifier import ModelError
from models.onnx import OnnxClassifier

TEXTS = [
    "Where is my parcel?",
    "Курьер опоздал на три дня",
    "Ilova juda yaxshi, rahmat!",
    "service ok mais trop cher 😡",
]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    shutil.copytree(artifact.SHIPPED, tmp_path / "model")
    return tmp_path / "model"


def said(folder: Path, shares: dict[str, dict[str, float]]) -> tuple[np.ndarray, np.ndarray]:
    """Sentiment [texts, 3] and topics [texts, 10] of a model whose baseline has these parts, without temperatures."""
    config = json.loads((folder / artifact.CONFIG).read_text(encoding="utf-8"))
    config["ngrams"] = shares
    for head in config["calibration"].values():
        head["temperature"] = {"und": 1.0}
    (folder / artifact.CONFIG).write_text(json.dumps(config), encoding="utf-8")
    artifact.seal(folder)
    predictions = OnnxClassifier(str(folder), 1).classify(TEXTS)
    return np.array([p.sentiment for p in predictions]), np.array([list(p.topics.values()) for p in predictions])


def test_half_of_the_ngrams_lies_half_way_from_the_network_to_them(model: Path) -> None:
    alone, topics = said(model, {})
    half, half_topics = said(model, {"sentiment": {"und": 0.5}, "topics": {"und": 0.5}})
    whole, whole_topics = said(model, {"sentiment": {"und": 1.0}, "topics": {"und": 1.0}})
    between = np.sqrt(alone * whole)
    assert half == pytest.approx(between / between.sum(axis=1, keepdims=True), abs=1e-4)
    assert whole_topics.sum(axis=1) == pytest.approx(1, abs=1e-3)

    def odds(chances: np.ndarray) -> np.ndarray:
        return np.log(chances / (1 - chances))

    assert odds(half_topics) == pytest.approx((odds(topics) + odds(whole_topics)) / 2, abs=1e-2)


def test_a_language_that_has_no_share_of_its_own_has_that_of_all_others(model: Path) -> None:
    alone, _ = said(model, {})
    some, _ = said(model, {"sentiment": {"ru": 0.5}})
    assert some[1] != pytest.approx(alone[1], abs=1e-3)
    assert some[[0, 2, 3]] == pytest.approx(alone[[0, 2, 3]], abs=1e-6)


def test_a_missing_baseline_that_has_a_part_is_told(model: Path) -> None:
    (model / artifact.BASELINE).unlink()
    with pytest.raises(ModelError, match="TF-IDF baseline"):
        said(model, {"sentiment": {"und": 0.3}})
    assert said(model, {})[0].shape == (4, 3)
