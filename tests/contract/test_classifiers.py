"""What every engine promises, held against each of them: the shipped model, a Hugging Face checkpoint, the lexicon."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

from models.classifier import LABELS, TOPICS, Classifier, ModelError, Prediction
from models.load import load

ODD = (
    "",
    "   ",
    "\x00\x01\x02",
    "\ud800 lone surrogate \udfff",
    "😡😡😡",
    ":)",
    "123 456 789",
    "!!!",
    "北京的外卖太慢了",
    "Привет hello salom سلام",
    "‮reversed‬ \u200b\ufeff",
    "a" * 100_000,
    "слово " * 20_000,
    "<script>alert(1)</script>",
    "\n".join("line" for _ in range(500)),
    "ў" * 9_000,
)


def tiny_checkpoint(folder: Path, labels: list[str]) -> str:
    """A BERT with two random layers, saved as any checkpoint is."""
    torch = pytest.importorskip("torch", reason="the transformer engine needs torch")
    transformers = pytest.importorskip("transformers", reason="the transformer engine needs transformers")
    torch.manual_seed(0)
    letters = [chr(c) for c in range(33, 127)] + [chr(c) for c in range(0x430, 0x450)]
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *("##" + c for c in letters)]
    (folder / "vocab.txt").write_text("\n".join(vocabulary), encoding="utf-8")
    transformers.BertTokenizerFast(vocab=str(folder / "vocab.txt")).save_pretrained(folder)
    config = transformers.BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=256,
        id2label=dict(enumerate(labels)),
        label2id={label: i for i, label in enumerate(labels)},
    )
    transformers.BertForSequenceClassification(config).save_pretrained(folder)
    return str(folder)


@pytest.fixture(
    scope="module", params=["onnx", "tfidf", "lexicon", "transformer", "transformer with topics", "transformer zero-shot"]
)
def classifier(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Classifier:
    engine, _, kind = request.param.partition(" ")
    if engine != "transformer":
        return load(engine)
    folder = tmp_path_factory.mktemp("checkpoint")
    if kind == "zero-shot":
        return load(engine, tiny_checkpoint(folder, ["contradiction", "neutral", "entailment"]))
    if kind == "with topics":
        described = folder / "described.json"
        labels = ["LABEL_0", "LABEL_1", "LABEL_2", "LABEL_3"]
        table = {"checkpoint": tiny_checkpoint(folder, labels)} | {
            "sentiment": {"LABEL_0": "negative", "LABEL_1": "positive"},
            "topics": {"LABEL_2": "delivery", "LABEL_3": "price"},
        }
        described.write_text(json.dumps(table), encoding="utf-8")
        return load(engine, str(described))
    return load(engine, tiny_checkpoint(folder, ["Negative", "Neutral", "Positive"]))


def check(prediction: Prediction, model: str) -> None:
    assert prediction.model == model
    assert math.isclose(sum(prediction.sentiment), 1, abs_tol=1e-9)
    assert all(0 <= chance <= 1 for chance in prediction.sentiment)
    assert tuple(prediction.topics) == TOPICS
    assert all(0 <= chance <= 1 for chance in prediction.topics.values())
    assert prediction.urgency is None or 0 <= prediction.urgency <= 1
    assert prediction.language in {"en", "ru", "uz", "uz-Cyrl", "tr", "de", "es", "fr", "it", "pt", "und"}
    assert -1 <= prediction.score <= 1
    assert prediction.label in LABELS
    assert prediction.topic in TOPICS


def test_model_names_its_weights(classifier: Classifier) -> None:
    name, _, digest = classifier.model.rpartition("@")
    assert name
    assert len(digest) == 12
    assert int(digest, 16) >= 0


def test_no_texts_no_predictions(classifier: Classifier) -> None:
    assert classifier.classify([]) == []


def test_any_text_gets_a_whole_prediction(classifier: Classifier) -> None:
    predictions = classifier.classify(ODD)
    assert len(predictions) == len(ODD)
    for prediction in predictions:
        check(prediction, classifier.model)


def test_order_is_kept_whatever_the_batches(classifier: Classifier) -> None:
    texts = [f"{'good ' * (i * 7 % 40)}or bad {i}" for i in range(24)]
    together = classifier.classify(texts)
    for index in (0, 9, 23):
        (alone,) = classifier.classify([texts[index]])
        # int8 quantises its inputs by the batch, so neighbours move a text a little
        assert alone.sentiment == pytest.approx(together[index].sentiment, abs=0.15)
        assert alone.language == together[index].language


def test_same_batch_same_answer(classifier: Classifier) -> None:
    texts = ["Where is my parcel?", "Отличный сервис", "Ilova ishlamayapti"]
    assert classifier.classify(texts) == classifier.classify(texts)


def test_fewer_hints_than_texts_is_fine(classifier: Classifier) -> None:
    assert len(classifier.classify(["hm", "ok", "да"], ["en", None])) == 3


def test_unreadable_text_leans_nowhere(classifier: Classifier) -> None:
    for prediction in classifier.classify(["", "\x00", "12345", "?!", "7/10", "z"]):
        assert prediction.score == 0
        assert prediction.label == "unsure"
        assert prediction.topic == "other"
        assert prediction.language == "und"


def test_unknown_engine_says_which_there_are() -> None:
    with pytest.raises(ModelError, match="onnx, transformer, tfidf, lexicon"):
        load("abacus")


def test_transformer_needs_an_exact_revision(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="the transformer engine needs torch")
    with pytest.raises(ModelError, match="exact revision"):
        load("transformer", "someone/something")
    with pytest.raises(ModelError, match="needs a path"):
        load("transformer")


def test_transformer_says_which_labels_it_cannot_place(tmp_path: Path) -> None:
    path = tiny_checkpoint(tmp_path, ["A", "B"])
    with pytest.raises(ModelError, match=r"labels \['A', 'B'\]"):
        load("transformer", path)
    described = tmp_path / "d.json"
    described.write_text(json.dumps({"checkpoint": path, "sentiment": {"A": "happy"}}), encoding="utf-8")
    with pytest.raises(ModelError, match="happy"):
        load("transformer", str(described))
    described.write_text(json.dumps({"checkpoint": path, "sentiment": {"C": "positive"}}), encoding="utf-8")
    with pytest.raises(ModelError, match=r"no labels \['C'\]"):
        load("transformer", str(described))


def test_shipped_engine_never_imports_torch() -> None:
    code = (
        "import sys; from models.load import load; load().classify(['ok']);"
        "assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2], timeout=60)
