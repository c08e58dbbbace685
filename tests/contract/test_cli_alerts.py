"""`ovoz alerts`: what people see and whether a test message arrives."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from alerts.rule import Rule
from pipeline.cli.root import run
from pipeline.store import incidents
from pipeline.store.engine import transaction
from tests.store import NOW, arrival, opened, scored, store_on

RULE = Rule(name="grave", kind="severe", words=("fire",))


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "ovoz.toml"
    url = f"sqlite:///{tmp_path}/ovoz.db"
    path.write_text(f'[store]\nurl = "{url}"\n')
    with opened(url) as engine:
        store_on(engine, rules=[RULE]).fold([arrival(0, scored("a", text="it caught fire"))], now=NOW)
    return path


def test_list_and_show(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["alerts", "list", "--config", str(config)]) == 0
    line = capsys.readouterr().out
    assert "firing" in line and "grave" in line
    assert run(["alerts", "show", line[:8], "--config", str(config)]) == 0
    shown = capsys.readouterr().out
    assert "it caught fire" in shown and "revision 1" in shown and 'word "fire"' in shown
    assert "told" not in shown
    with opened(f"sqlite:///{config.parent}/ovoz.db") as engine, transaction(engine) as connection:
        ((alert, revision),) = incidents.due(connection, "tgram-1", ["default"], now=NOW, renew_after=None)
        incidents.claim(connection, "tgram-1", alert, now=NOW)
        incidents.delivered(connection, "alertmanager", [(alert, revision)], now=NOW)
    assert run(["alerts", "show", line[:8], "--config", str(config)]) == 0
    shown = capsys.readouterr().out
    assert re.search(r"told alertmanager +firing, revision 1, at 2026-11-24 12:00:00Z", shown)
    assert re.search(r"told tgram-1 +nothing yet; firing is being sent since 12:00:00Z", shown)
    assert run(["alerts", "show", "zzzz", "--config", str(config)]) == 1


def test_a_test_needs_a_rule_and_a_receiver(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["alerts", "test", "negative-spke", "--config", str(config)]) == 1
    assert "did you mean negative-spike?" in capsys.readouterr().err
    assert run(["alerts", "test", "negative-spike", "--config", str(config)]) == 1
    assert "no receiver is set" in capsys.readouterr().err
