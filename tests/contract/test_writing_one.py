"""docs/connectors/writing-one.md: what stands there is run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/connectors/writing-one.md").read_text("utf-8")
FILES = dict(re.findall(r"```python\n# (\w+\.py)\n(.*?)```", PAGE, re.DOTALL))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, code in FILES.items():
        (tmp_path / name).write_text(code, "utf-8")
    return tmp_path


def run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{folder}"}
    called = [sys.executable, "-m", *command]
    return subprocess.run(
        called, cwd=folder, env=environ, capture_output=True, text=True, timeout=120, check=False
    )  # fmt: skip


def test_the_five_lines_of_test_pass(folder: Path) -> None:
    body = FILES["test_guestbook.py"].split("async def")[1].split("\n", 1)[1]
    assert len([line for line in body.splitlines() if line.strip()]) <= 5
    done = run(folder, "pytest", "-q", "-o", "asyncio_mode=auto", "test_guestbook.py")
    assert done.returncode == 0, done.stdout + done.stderr


def test_they_fail_where_the_connector_loses_something(folder: Path) -> None:
    code = FILES["guestbook.py"]
    broken = code.replace("if full else None", "if False else None")
    assert broken != code
    (folder / "guestbook.py").write_text(broken, "utf-8")
    (folder / "direct.py").write_text("import asyncio, test_guestbook\nasyncio.run(test_guestbook.test_guestbook())\n")
    done = run(folder, "direct")
    assert done.returncode == 1 and "everything that was said comes" in done.stderr


def test_the_commands_know_it(folder: Path) -> None:
    shown = run(folder, "pipeline", "connectors", "show", "guestbook:guestbook")
    assert shown.returncode == 0 and "api_key" in shown.stdout
    table = re.search(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    assert table is not None
    (folder / "ovoz.toml").write_text(table[1], "utf-8")
    done = run(folder, "pipeline", "check")
    assert done.returncode == 1 and "the environment variable GUESTBOOK_KEY is not set" in done.stderr
