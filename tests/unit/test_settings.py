"""Settings: every fault is found, named and explained; defaults, file and environment in that order."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from pipeline.cli.template import settings_file
from pipeline.settings import Settings, SettingsError, load
from pipeline.settings_file import read

ROOT = Path(__file__).parents[2]
FAULTS = sorted((ROOT / "tests/faults").glob("*.toml"))


def faults(path: Path | None, **environ: str) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        load(path, environ)
    return [str(fault) for fault in caught.value.faults]


@pytest.mark.parametrize("file", FAULTS, ids=lambda file: file.stem)
def test_one_fault_a_file(file: Path) -> None:
    expected = file.read_text("utf-8").split("\n", 1)[0].removeprefix("# ")
    (fault,) = faults(file)
    assert expected in fault
    assert re.match(rf"{re.escape(str(file))}:\d+: ", fault)
    assert "s3cr3t" not in fault


def test_every_fault_of_file_and_environment_at_once(tmp_path: Path) -> None:
    file = tmp_path / "o.toml"
    file.write_text("[kafka]\npartitions = x\nreplication = 0\n[stor]\n")
    found = faults(file, OVOZ_STORE_RETENTION_DAYS="many", OVOZ_KAFKA_BOOTSTRP="a:1")
    assert [line.split(": ")[0].removeprefix(f"{file}:") for line in found] == [
        "2", "3", "4", "OVOZ_KAFKA_BOOTSTRP", "OVOZ_STORE_RETENTION_DAYS",
    ]  # fmt: skip
    assert "OVOZ_KAFKA_BOOTSTRAP" in found[3]
    assert found[4].endswith("write instead: OVOZ_STORE_RETENTION_DAYS=1")


def test_environment_overrides_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert load(None, {}) == Settings()
    Path("ovoz.toml").write_text("[kafka]\npartitions = 8\nreplication = 3\n")
    Path("secret").write_text("tgram://a/b\n")
    loaded = read(None, {
        "OVOZ_KAFKA_PARTITIONS": "9", "OVOZ_ALERTS_APPRISE_FILE": "secret", "OVOZ_MODEL_THREADS": "",
        "OVOZ_INGEST_TOKENS": f"shop:{'A' * 64}", "OVOZ_INGEST_SERVICE_HOST": "10.0.0.1", "OTHER": "1",
    })  # fmt: skip
    assert (loaded.settings.kafka.partitions, loaded.settings.kafka.replication) == (9, 3)
    assert loaded.settings.alerts.apprise == ("tgram://a/b",)
    assert loaded.settings.ingest.tokens[0].sha256 == "a" * 64
    assert loaded.origins["kafka", "partitions"] == "OVOZ_KAFKA_PARTITIONS"
    assert loaded.origins["kafka", "replication"] == "ovoz.toml:3"
    assert loaded.origins["kafka", "prefix"] == "default"


def test_postgresql_gets_its_driver_or_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    environ = {"OVOZ_STORE_URL": "postgresql://u:s3cr3t@db/ovoz"}
    assert load(None, environ).store.url == "postgresql+psycopg://u:s3cr3t@db/ovoz"
    monkeypatch.setattr("pipeline.settings_kinds.installed", lambda _: False)
    (fault,) = faults(None, **environ)
    assert "pip install 'ovoz[postgres]'" in fault and "s3cr3t" not in fault


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    assert "ovoz init --path" in faults(tmp_path / "none.toml")[0]
    assert "OVOZ_CONFIG" in faults(None, OVOZ_CONFIG=str(tmp_path / "none.toml"))[0]
    (tmp_path / "latin.toml").write_bytes(b"# a\n# \xe9\n")
    assert "latin.toml:2: found the byte 0xe9" in faults(tmp_path / "latin.toml")[0]


def test_the_written_file_loads_and_equals_the_defaults(tmp_path: Path) -> None:
    file = tmp_path / "ovoz.toml"
    file.write_text(settings_file())
    assert load(file, {}) == Settings()


def test_the_commented_examples_are_toml_with_known_keys(tmp_path: Path) -> None:
    text = re.sub(r"^# (\[\[|\w+ = )", r"\1", settings_file(), flags=re.MULTILINE)
    assert tomllib.loads(text)["ingest"]["tokens"]
    (tmp_path / "o.toml").write_text(text)
    assert all("does not exist" in fault or "this key with engine" in fault for fault in faults(tmp_path / "o.toml"))


def test_documents_are_up_to_date(tmp_path: Path) -> None:
    """Made by a process of its own: a command keeps the help option that it was first asked with."""
    made = [sys.executable, "-m", "pipeline.cli.document", str(tmp_path)]
    subprocess.run(made, check=True, cwd=ROOT, timeout=120)
    for name in ("configuration.md", "commands.md"):
        written = (ROOT / "docs" / name).read_text("utf-8")
        assert written == (tmp_path / name).read_text("utf-8"), "run `python -m pipeline.cli.document`"
