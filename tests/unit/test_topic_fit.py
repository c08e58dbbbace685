"""Fitting topics on embeddings: on made-up ones, where it is known what must come out, and on the shipped model's."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from models import head, teach, topic_fit
from models.artifact import SHIPPED
from models.classifier import ModelError
from models.load import load, topics_of
from models.onnx import OnnxClassifier
from models.topic_fit import Encoded, Fitted, Labelled, describe, f1, minimise
from models.topics import Topic, Wanted
from pipeline.cli.root import run

KNOWN = ("delivery", "price", "other")
WIDTH = 24
PLACES = {name: i for i, name in enumerate((*KNOWN, "loyalty", "privacy"))}


def around(name: str, count: int, seed: int, noise: float = 0.25) -> Encoded:
    """Texts near a place of their own; the model's logits know only its own topics."""
    draws = np.random.default_rng(seed)
    embedding = draws.normal(scale=noise, size=(count, WIDTH))
    embedding[:, PLACES[name]] += 1
    return Encoded(embedding, 8 * embedding[:, : len(KNOWN)] - 4)


def labelled(count: int, seed: int) -> Labelled:
    parts = [around(name, count, seed + i) for i, name in enumerate(KNOWN)]
    texts = Encoded(np.concatenate([p.embedding for p in parts]), np.concatenate([p.logits for p in parts]))
    return Labelled(texts, [frozenset((name,)) for name in KNOWN for _ in range(count)])


def fitted(
    *topics: Topic, keep: tuple[str, ...] = ("delivery", "price"), places: dict[str, str] | None = None
) -> Fitted:
    where = places or {}
    examples = [around(where.get(t.name, t.name), len(t.examples), 50 + i) for i, t in enumerate(topics)]
    about = [around(where.get(t.name, t.name), 1, 90 + i) for i, t in enumerate(topics)]
    descriptions = Encoded(np.concatenate([a.embedding for a in about]), np.concatenate([a.logits for a in about]))
    return topic_fit.fit(
        Wanted(name="t", keep=keep, topics=topics), KNOWN, ours=labelled(150, 1), held=labelled(40, 20),
        examples=examples, descriptions=descriptions,
    )  # fmt: skip


def topic(name: str, *includes: str, count: int = 8) -> Topic:
    return Topic(name=name, description=name, examples=tuple(f"{name} {i}" for i in range(count)), includes=includes)


def test_new_topics_are_found_and_the_models_own_stay_as_good_as_they_were() -> None:
    found = fitted(topic("loyalty"), topic("privacy"))
    assert found.topics == ("delivery", "price", "loyalty", "privacy", "other")
    assert found.own == ("loyalty", "privacy") and found.confused == ()
    scores = {score.topic: score for score in found.scores}
    assert scores["loyalty"].before is None and scores["loyalty"].after > 0.8
    assert scores["delivery"].after >= (scores["delivery"].before or 0) - 0.02
    assert found.accuracy_after > found.accuracy_before + 0.05


def test_two_names_for_one_thing_are_refused_and_named() -> None:
    found = fitted(topic("loyalty", count=20), topic("bonus", count=20), places={"bonus": "loyalty"})
    assert [(pair.one, pair.other) for pair in found.confused] == [("loyalty", "bonus")]
    said = describe(found.confused[0], [topic("loyalty"), topic("bonus")], KNOWN)
    assert "loyalty and bonus cannot be told apart" in said and "make one topic of them" in said


def test_another_name_for_one_of_the_models_topics_is_refused_unless_it_includes_it() -> None:
    places = {"shipping": "delivery"}
    found = fitted(topic("shipping"), places=places)
    assert [(pair.one, pair.other) for pair in found.confused] == [("shipping", "delivery")]
    assert 'includes = ["delivery"]' in describe(found.confused[0], [topic("shipping")], KNOWN)
    taken = fitted(topic("shipping", "delivery"), keep=("price",), places=places)
    assert taken.confused == () and taken.topics == ("price", "shipping", "other")
    assert next(score for score in taken.scores if score.topic == "shipping").after > 0.9


def test_topics_that_do_not_stay_become_other() -> None:
    found = fitted(topic("loyalty"), keep=())
    assert found.topics == found.own == ("loyalty", "other")
    other = next(score for score in found.scores if score.topic == "other")
    assert other.texts == 3 * 40 and other.after > 0.9


def test_the_same_input_gives_the_same_weights() -> None:
    one, two = fitted(topic("loyalty")), fitted(topic("loyalty"))
    assert (one.weights == two.weights).all() and (one.bias == two.bias).all()


def test_f1_of_one_topic_by_hand() -> None:
    truth = [frozenset("a"), frozenset("ab"), frozenset("b"), frozenset("c")]
    assert f1("a", truth, ["a", "b", "a", "c"]) == pytest.approx(2 / 3)  # 1 hit, 1 false, and b is right of the second
    assert f1("d", truth, ["a", "b", "a", "c"]) == 0


def test_the_minimum_of_a_bowl_is_found() -> None:
    scale = np.array([1.0, 100.0, 0.01])
    found = minimise(lambda x: (float((scale * (x - 3) ** 2).sum()), 2 * scale * (x - 3)), np.zeros(3))
    assert found == pytest.approx(np.full(3, 3.0), abs=1e-2)


def example(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    assert run(["topics", "example"]) == 0
    file = tmp_path / "topics.toml"
    file.write_text(capsys.readouterr().out, "utf-8")
    return file


def test_the_example_is_fitted_served_and_traced(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = example(tmp_path, capsys)
    assert run(["topics", "check", str(file)]) == 0
    assert run(["topics", "fit", str(file)]) == 0
    said = capsys.readouterr().out
    assert "loyalty (yours)" in said and "F1 before" in said and "all, accuracy" in said
    first = (tmp_path / "topics.npz").read_bytes()
    assert run(["topics", "fit", str(file)]) == 0  # on embeddings from the cache
    assert (tmp_path / "topics.npz").read_bytes() == first
    assert len(list((tmp_path / "ovoz-data" / "cache").glob("embeddings-*.npz"))) == 2

    plain, own = load(), load(topics=tmp_path / "topics.npz")
    texts = ["Cashback has not been credited", "Box far too big, so much plastic", "Kuryer kelmadi", "😡", ""]
    was, now = plain.classify(texts), own.classify(texts)
    assert own.model != plain.model and own.model.startswith(plain.model.partition("@")[0] + "+topics@")
    mine = [{name for name, chance in p.topics.items() if chance > 0.5} for p in now[:3]]
    assert "loyalty" in mine[0] and "packaging" in mine[1] and mine[2] == {"delivery"}
    assert [p.sentiment for p in now] == [p.sentiment for p in was]
    assert all(p.topics[name] == q.topics[name] for p, q in zip(was[:3], now[:3], strict=True) for name in p.topics)
    assert now[3].topics["other"] == now[4].topics["other"] == 1

    monkeypatch.setenv("OVOZ_MODEL_TOPICS", "topics.npz")
    capsys.readouterr()
    assert run(["topics", "list"]) == 0
    assert "loyalty         Bonus points, cashback, cards and levels." in capsys.readouterr().out
    (tmp_path / "rules.toml").write_text('[[rule]]\nname = "a"\ntopics = ["loyalty", "loyalt"]\n')
    monkeypatch.setenv("OVOZ_ALERTS_RULES", "rules.toml")
    assert run(["check"]) == 1
    assert "loyalt is not a topic of the model; did you mean loyalty?" in capsys.readouterr().err


def test_a_file_with_faults_fits_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("t.toml").write_text('[[topic]]\nname = "a b"\nexamples = yes\n')
    assert run(["topics", "fit", "t.toml"]) == 1
    said = capsys.readouterr().err
    assert "t.toml:2: topic.name" in said and "t.toml:3: examples: " in said and "faults" in said
    assert not Path("t.npz").exists()
    assert run(["topics", "fit", "none.toml"]) == 1


@pytest.fixture
def made(tmp_path: Path) -> head.Head:
    model = OnnxClassifier()
    width = model.encode(["ok"])[0].shape[1]
    return head.write(
        tmp_path / "h.npz", name="mine", made_for=model.weights, topics=("price", "loyalty", "other"),
        descriptions={"loyalty": "Points."}, own=("loyalty",), weights=np.ones((1, width), np.float32),
        bias=np.zeros(1, np.float32),
    )  # fmt: skip


def test_a_head_of_other_weights_is_refused_with_a_remedy(tmp_path: Path, made: head.Head) -> None:
    assert load(topics=tmp_path / "h.npz").classify(["hm"])[0].topics.keys() == {"price", "loyalty", "other"}
    assert topics_of(topics=tmp_path / "h.npz") == made.topics
    with pytest.raises(ModelError, match="fit it again with `ovoz topics fit`"):
        head.read(tmp_path / "h.npz", made_for="0" * 64)
    with pytest.raises(ModelError, match="keeps topics that this model lacks"):
        head.read(tmp_path / "h.npz", known=("delivery", "other"))


def test_the_hash_changes_with_the_head_and_with_the_weights(tmp_path: Path, made: head.Head) -> None:
    other = replace(made, digest="f" * 64)
    assert len({made.identity("m", "a"), made.identity("m", "b"), other.identity("m", "a")}) == 3


@pytest.mark.parametrize("damage", ["none", "cut", "text", "npz"])
def test_a_file_that_is_no_head_is_refused(tmp_path: Path, made: head.Head, damage: str) -> None:
    path = tmp_path / "h.npz"
    if damage == "none":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[:500])
    elif damage == "text":
        path.write_text("not a head")
    else:
        np.savez(path, about=np.array(json.dumps({"format": 99})))
    with pytest.raises(ModelError, match="ovoz topics fit"):
        load(topics=path)


def test_a_damaged_cache_is_made_again(tmp_path: Path) -> None:
    few = tmp_path / "sentences"
    for part in ("train", "validation"):
        (few / part).mkdir(parents=True)
        lines = (SHIPPED.parent / "sentences" / part / "en.tsv").read_text("utf-8").splitlines()[:40]
        (few / part / "en.tsv").write_text("\n".join(lines), "utf-8")
    wanted = Wanted(name="t", keep=("delivery",), topics=(topic("loyalty"),))
    model = OnnxClassifier()
    first = teach.fit(wanted, model, cache=tmp_path / "cache", sentences=few)
    for file in (tmp_path / "cache").iterdir():
        file.write_bytes(b"damaged")
    again = teach.fit(wanted, model, cache=tmp_path / "cache", sentences=few)
    assert (first.weights == again.weights).all()
    (tmp_path / "blocked").write_text("a file where a folder should be")
    assert teach.fit(wanted, model, cache=tmp_path / "blocked", sentences=few).topics == first.topics


def test_missing_sentences_are_said_with_a_remedy(tmp_path: Path) -> None:
    wanted = Wanted(name="t", keep=(), topics=(topic("loyalty"),))
    with pytest.raises(ModelError, match="sentences that come with Ovoz are missing; reinstall it"):
        teach.fit(wanted, OnnxClassifier(), sentences=tmp_path)


def test_check_names_the_line_of_a_topics_file_that_cannot_be_used(
    tmp_path: Path, made: head.Head, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "o.toml"
    file.write_text(f'[model]\nthreads = 1\ntopics = "{tmp_path / "h.npz"}"\n')
    assert run(["check", "--config", str(file)]) == 0
    (tmp_path / "h.npz").write_bytes(b"damaged")
    capsys.readouterr()
    assert run(["check", "--config", str(file)]) == 1
    assert f"{file}:3: {tmp_path / 'h.npz'} is no topic head" in capsys.readouterr().err
