import json
import shutil
from pathlib import Path

import pytest

from models import artifact
from models.classifier import TOPICS, ModelError
from models.load import load
from models.onnx import OnnxClassifier


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(artifact.SHIPPED, tmp_path / "model"))


def test_shipped_model_is_sealed_and_small() -> None:
    artifact.verify(artifact.SHIPPED)
    config = artifact.read_config(artifact.SHIPPED)
    assert config.topics == TOPICS
    assert (artifact.SHIPPED / artifact.WEIGHTS).stat().st_size <= 30_000_000
    assert sum(path.stat().st_size for path in artifact.SHIPPED.iterdir()) <= 30_000_000


@pytest.mark.parametrize("name", [artifact.WEIGHTS, artifact.TOKENIZER, artifact.CONFIG, artifact.LANGUAGE])
def test_a_changed_file_is_named_with_both_hashes_and_a_remedy(copy: Path, name: str) -> None:
    expected = artifact.sha256(copy / name)
    with (copy / name).open("ab") as file:
        file.write(b" ")
    with pytest.raises(ModelError) as caught:
        OnnxClassifier(str(copy))
    said = str(caught.value)
    assert name in said and expected in said and artifact.sha256(copy / name) in said and "restore" in said


def test_a_missing_file_is_named(copy: Path) -> None:
    (copy / artifact.TOKENIZER).unlink()
    with pytest.raises(ModelError, match=r"tokenizer\.json is missing"):
        OnnxClassifier(str(copy))


def test_an_empty_folder_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"manifest\.json is missing"):
        OnnxClassifier(str(tmp_path))


def test_a_manifest_that_leaves_the_weights_out_is_refused(copy: Path) -> None:
    (copy / artifact.MANIFEST).write_text('{"files": {}}')
    with pytest.raises(ModelError, match="does not list"):
        OnnxClassifier(str(copy))


@pytest.mark.parametrize("text", ["", "[]", '{"files": 3}'])
def test_a_broken_manifest_is_refused(copy: Path, text: str) -> None:
    (copy / artifact.MANIFEST).write_text(text)
    with pytest.raises(ModelError, match="manifest"):
        OnnxClassifier(str(copy))


def test_other_cleaning_rules_are_refused(copy: Path) -> None:
    path = copy / artifact.CONFIG
    path.write_text(json.dumps(json.loads(path.read_text()) | {"cleaning": 0}))
    artifact.seal(copy)
    with pytest.raises(ModelError, match="cleaning version 0"):
        OnnxClassifier(str(copy))


def test_damaged_weights_with_a_right_hash_are_refused(copy: Path) -> None:
    (copy / artifact.WEIGHTS).write_bytes(b"not a graph")
    artifact.seal(copy)
    with pytest.raises(ModelError, match="cannot be loaded"):
        OnnxClassifier(str(copy))


def test_name_carries_the_hash_of_the_weights() -> None:
    digest = artifact.sha256(artifact.SHIPPED / artifact.WEIGHTS)
    assert load().model.endswith("@" + digest[:12])


@pytest.mark.parametrize(
    ("text", "hint", "language"),
    [
        ("Where is my parcel? It was due on Monday.", None, "en"),
        ("Где моя посылка? Должна была прийти в понедельник.", None, "ru"),
        ("Buyurtmam qani? Dushanba kuni kelishi kerak edi.", None, "uz"),
        ("Буюртмам қани? Душанба куни келиши керак эди.", None, "uz-Cyrl"),
        ("Илова яхши ишламаяпти, пулимни олиб бўлмаяпти", None, "uz-Cyrl"),
        ("Siparişim nerede? Pazartesi gelmesi gerekiyordu.", None, "tr"),
        ("Wo ist mein Paket? Es sollte am Montag kommen.", None, "de"),
        ("¿Dónde está mi paquete? Tenía que llegar el lunes.", None, "es"),
        ("Où est mon colis ? Il devait arriver lundi.", None, "fr"),
        ("Dov'è il mio pacco? Doveva arrivare lunedì.", None, "it"),
        ("Onde está a minha encomenda? Devia chegar na segunda.", None, "pt"),
        ("Де моя посилка? Її мали привезти в понеділок", None, "und"),
        ("我的包裹在哪里", None, "und"),
        ("ok", "tr", "tr"),
        ("ок", "ru", "ru"),
        ("Где моя посылка? Должна была прийти в понедельник.", "en", "ru"),
    ],
)
def test_language(text: str, hint: str | None, language: str) -> None:
    assert load().classify([text], [hint])[0].language == language
