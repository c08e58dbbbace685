"""What every engine promises, held against each of them: the shipped model, a Hugging Face checkpoint, the lexicon."""

import math
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tokenizers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models import head
from models.classifier import LABELS, Classifier, ModelError, Prediction
from models.load import Labels, load, topics_of
from models.onnx import OnnxClassifier
from pipeline.model import classifier_of, labels_of
from pipeline.settings import load as read_settings

ROOT = Path(__file__).parents[2]
Topics = tuple[str, ...]
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


def tiny_roberta(folder: Path, labels: list[str]) -> str:
    """Another architecture, which reads 64 tokens at most, with a tokenizer of another kind."""
    torch = pytest.importorskip("torch", reason="the transformer engine needs torch")
    transformers = pytest.importorskip("transformers", reason="the transformer engine needs transformers")
    torch.manual_seed(1)
    pieces = ["<s>", "<pad>", "</s>", "<unk>", *map(chr, range(33, 127)), *map(chr, range(0x430, 0x450)), "▁"]
    built = tokenizers.Tokenizer(tokenizers.models.Unigram([(piece, -1.0) for piece in pieces], unk_id=3))
    built.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace()
    marks = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
    transformers.PreTrainedTokenizerFast(tokenizer_object=built, **marks).save_pretrained(folder)
    config = transformers.RobertaConfig(
        vocab_size=len(pieces),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=66,
        pad_token_id=1,
        id2label=dict(enumerate(labels)),
    )
    transformers.RobertaForSequenceClassification(config).save_pretrained(folder)
    return str(folder)


def own_topics(folder: Path) -> Path:
    """A head of two topics with weights of no meaning."""
    model = OnnxClassifier()
    width = model.encode(["ok"])[0].shape[1]
    draws = np.random.default_rng(0)
    head.write(
        folder / "topics.npz", name="own", made_for=model.weights, topics=("price", "loyalty", "other"),
        descriptions={}, own=("loyalty", "other"), weights=draws.normal(size=(2, width)).astype(np.float32),
        bias=np.zeros(2, np.float32),
    )  # fmt: skip
    return folder / "topics.npz"


ENGINES = (
    "onnx",
    "onnx with topics of one's own",
    "tfidf",
    "lexicon",
    "transformer",
    "transformer with labels",
    "transformer of another architecture",
    "transformer zero-shot",
    "transformer zero-shot with claims",
)
NLI = ["contradiction", "neutral", "entailment"]


@pytest.fixture(scope="module", params=ENGINES)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Classifier, Topics]:
    """A classifier and the topics that it is to say."""
    folder = tmp_path_factory.mktemp("model")
    labels = Labels()
    match request.param:
        case "onnx with topics of one's own":
            own = own_topics(folder)
            return load(topics=own), topics_of(topics=own)
        case "transformer":
            path = tiny_checkpoint(folder, ["Negative", "Neutral", "Positive"])
        case "transformer with labels":
            path = tiny_checkpoint(folder, [f"LABEL_{i}" for i in range(5)])
            labels = Labels(
                sentiment={"LABEL_0": "negative", "LABEL_1": "positive"},
                topics={"LABEL_2": "delivery", "LABEL_3": "loyalty", "LABEL_4": "loyalty"},
                unsure_below=0.55,
            )
        case "transformer of another architecture":
            path = tiny_roberta(folder, ["1 star", "2 stars", "3 stars", "4 stars", "5 stars"])
        case "transformer zero-shot":
            path = tiny_checkpoint(folder, NLI)
        case "transformer zero-shot with claims":
            path = tiny_checkpoint(folder, NLI)
            labels = Labels(topics={"This is about points.": "loyalty", "This is about a parcel.": "delivery"})
        case engine:
            return load(engine), topics_of(engine)
    return load("transformer", path, labels=labels), topics_of("transformer", path, labels=labels)


@pytest.fixture(scope="module")
def classifier(made: tuple[Classifier, Topics]) -> Classifier:
    return made[0]


@pytest.fixture(scope="module")
def topics(made: tuple[Classifier, Topics]) -> Topics:
    return made[1]


def check(prediction: Prediction, model: str, topics: Topics) -> None:
    assert prediction.model == model
    assert math.isclose(sum(prediction.sentiment), 1, abs_tol=1e-9)
    assert all(0 <= chance <= 1 for chance in prediction.sentiment)
    assert tuple(prediction.topics) == topics
    assert all(0 <= chance <= 1 for chance in prediction.topics.values())
    assert prediction.urgency is None or 0 <= prediction.urgency <= 1
    assert prediction.language in {"en", "ru", "uz", "uz-Cyrl", "tr", "de", "es", "fr", "it", "pt", "und"}
    assert -1 <= prediction.score <= 1
    assert prediction.label in LABELS
    assert prediction.topic in topics


def test_model_names_its_weights(classifier: Classifier) -> None:
    name, _, digest = classifier.model.rpartition("@")
    assert name
    assert len(digest) == 12
    assert int(digest, 16) >= 0


def test_no_texts_no_predictions(classifier: Classifier) -> None:
    assert classifier.classify([]) == []


def test_any_text_gets_a_whole_prediction(classifier: Classifier, topics: Topics) -> None:
    predictions = classifier.classify(ODD)
    assert len(predictions) == len(ODD)
    for prediction in predictions:
        check(prediction, classifier.model, topics)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.text(st.characters(codec=None), max_size=300) | st.sampled_from(ODD), max_size=5),
    st.lists(st.sampled_from(["en", "ru", "uz", "uz-Cyrl", "tlh", "", "!", None]), max_size=7),
)
def test_any_batch_with_any_hints_gets_an_answer_for_each(
    classifier: Classifier, topics: Topics, texts: list[str], hints: list[str | None]
) -> None:
    predictions = classifier.classify(texts, hints)
    assert len(predictions) == len(texts)
    for prediction in predictions:
        check(prediction, classifier.model, topics)


MONSTERS = ("ж" * 1_048_576, "\x00" * 1_048_576, "a b " * 262_144, "😡" * 262_144, "]" * 1_048_576)


@pytest.mark.parametrize("monster", MONSTERS, ids=["letters", "zeros", "words", "emoji", "brackets"])
def test_one_monster_neither_stalls_its_batch_nor_changes_the_others(classifier: Classifier, monster: str) -> None:
    texts = ["Where is my parcel?", monster, "Отличный сервис", "Ilova ishlamayapti"]
    started = time.process_time()
    first, huge, *rest = classifier.classify(texts)
    assert time.process_time() - started < 5
    assert huge.model == first.model
    calm = classifier.classify([text for text in texts if text is not monster])
    assert [p.language for p in (first, *rest)] == [p.language for p in calm]
    for alone, beside in zip(calm, (first, *rest), strict=True):
        assert beside.sentiment == pytest.approx(alone.sentiment, abs=0.15)


def test_only_a_part_of_a_long_text_is_read_its_beginning_and_its_end(classifier: Classifier) -> None:
    long = "good " * 5_000
    (one,), (other,) = classifier.classify([long]), classifier.classify([long + "good " * 5_000])
    assert one.sentiment == pytest.approx(other.sentiment, abs=0.15)


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


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (Labels(), r"labels \['A', 'B'\].*sentiment_labels = \{ \"A\" = \"negative\""),
        (Labels(sentiment={"A": "happy"}), "sentiment_labels: A means 'happy', which is none of negative, neutral"),
        (Labels(sentiment={"C": "positive"}), r"no labels \['C'\]; it has \['A', 'B'\]"),
        (Labels(sentiment={"A": "positive"}, topics={"B": "Two words"}), "topic_labels: B means 'Two words'"),
    ],
)  # fmt: skip
def test_transformer_says_which_labels_it_cannot_place_and_check_says_it_without_loading(
    tmp_path: Path, labels: Labels, said: str
) -> None:
    path = tiny_checkpoint(tmp_path, ["A", "B"])
    for ask in (load, topics_of):
        with pytest.raises(ModelError, match=said):
            ask("transformer", path, labels=labels)


def test_a_zero_shot_checkpoint_must_be_asked_for_each_sentiment(tmp_path: Path) -> None:
    labels = Labels(sentiment={"It is bad.": "negative", "It is good.": "positive"})
    with pytest.raises(ModelError, match="nothing is asked for neutral"):
        load("transformer", tiny_checkpoint(tmp_path, NLI), labels=labels)


def test_a_mapping_changes_the_name_of_a_checkpoint_and_so_does_another_one(tmp_path: Path) -> None:
    path = tiny_checkpoint(tmp_path, ["negative", "positive"])
    other = Labels(sentiment={"negative": "positive", "positive": "negative"})
    models = [load("transformer", path).model, load("transformer", path, labels=other).model,
              load("transformer", path, labels=Labels(unsure_below=0.5)).model]  # fmt: skip
    assert len(set(models)) == 3
    assert [name.partition("@")[0].endswith("+labels") for name in models] == [False, True, True]


def test_a_checkpoints_answer_below_the_bound_is_unsure(tmp_path: Path) -> None:
    path = tiny_checkpoint(tmp_path, ["negative", "neutral", "positive"])
    assert load("transformer", path, labels=Labels(unsure_below=0.99)).classify(["hm ok"])[0].label == "unsure"
    assert load("transformer", path).classify(["hm ok"])[0].label != "unsure"


def test_the_tiny_checkpoint_is_served_as_the_settings_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_checkpoint(tmp_path, ["LABEL_0", "LABEL_1", "LABEL_2"])
    file = tmp_path / "o.toml"
    file.write_text(
        f'[model]\nengine = "transformer"\npath = "{tmp_path}"\n'
        'sentiment_labels = { LABEL_0 = "negative", LABEL_1 = "positive" }\n'
        'topic_labels = { LABEL_2 = "loyalty" }\n'
    )
    settings = read_settings(file, {}).model
    assert labels_of(settings) == ("loyalty", "other")
    assert tuple(classifier_of(settings).classify(["points?"])[0].topics) == ("loyalty", "other")
    environ = {"OVOZ_MODEL_ENGINE": "transformer", "OVOZ_MODEL_PATH": str(tmp_path),
               "OVOZ_MODEL_SENTIMENT_LABELS": "LABEL_0=negative, LABEL_1=positive",
               "OVOZ_MODEL_TOPIC_LABELS": "LABEL_2=loyalty"}  # fmt: skip
    assert read_settings(None, environ).model == settings


@pytest.mark.slow
def test_a_checkpoint_of_a_hub_is_loaded_by_its_revision(tmp_path: Path) -> None:
    revision = "0123456789abcdef0123456789abcdef01234567"
    snapshot = tmp_path / "hub" / "models--someone--tiny" / "snapshots" / revision
    snapshot.mkdir(parents=True)
    tiny_checkpoint(snapshot, ["negative", "neutral", "positive"])
    code = (
        f"from models.load import load; c = load('transformer', 'someone/tiny@{revision}');"
        "assert len(c.classify(['ok', 'bad'])) == 2; print(c.model)"
    )
    env = os.environ | {"HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == f"someone/tiny@{revision[:12]}"


def test_shipped_engine_never_imports_torch() -> None:
    code = (
        "import sys; from models.load import load; load().classify(['ok']);"
        "assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, timeout=60)
