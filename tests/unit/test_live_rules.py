"""The rule file of a running worker: taken when it is right, kept out when it is not."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from pipeline.backlog import PATIENCE_S, Backlog
from pipeline.live_rules import LiveRules, RulesError

GOOD = '[[rule]]\nname = "a"\nodds_ratio = 2\n'


def write(path: Path, text: str) -> None:
    """As an editor does: a new file in the place of the old one."""
    new = path.with_suffix(".new")
    new.write_text(text)
    os.replace(new, path)


def test_a_changed_file_is_taken_once(tmp_path: Path) -> None:
    path = tmp_path / "rules.toml"
    path.write_text(GOOD)
    live = LiveRules(path)
    assert live.look() is None
    write(path, GOOD + 'severity = "critical"\n')
    assert live.look() is True and live.rules[0].severity == "critical"
    assert live.look() is None
    write(path, "# a remark\n" + GOOD + 'severity = "critical"\n')
    assert live.look() is None


def test_a_faulty_file_leaves_the_old_rules_in_force_and_says_why_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "rules.toml"
    path.write_text(GOOD)
    live = LiveRules(path)
    before = live.rules
    for text in ('[[rule]]\nname = "a"\nodds_raio = 2\n', "[[rule]\n"):
        caplog.clear()
        write(path, text)
        assert live.look() is False and live.rules is before
        assert f"{path}" in caplog.text
        assert live.look() is None
    path.unlink()
    assert live.look() is False and live.rules is before
    write(path, GOOD.replace("2", "3"))
    with caplog.at_level(logging.INFO):
        assert live.look() is True and live.rules[0].odds_ratio == 3
    assert "odds_raio" not in "".join(rule.name for rule in live.rules)


def test_the_first_file_must_be_right(tmp_path: Path) -> None:
    path = tmp_path / "rules.toml"
    path.write_text('[[rule]]\nname = "a"\nodds_raio = 2\n')
    with pytest.raises(RulesError, match="did you mean odds_ratio"):
        LiveRules(path)
    assert LiveRules(None).look() is None


def test_a_pipeline_is_behind_while_a_record_waits_longer_than_patience() -> None:
    backlog, place = Backlog(), ("raw", 0)
    assert backlog.behind(0)
    for second in range(0, 120, 5):
        backlog.observe({place: second * 10}, {place: max(0, second - 10) * 10}, second)
        assert backlog.behind(second) is False
    for second in range(120, 240, 5):
        backlog.observe({place: second * 10}, {place: 1100}, second)
    assert backlog.behind(240)
    assert not backlog.behind(240) or backlog.behind(241)
    backlog.observe({place: 2400}, {place: 2400}, 241)
    assert not backlog.behind(241)
    assert backlog.behind(241 + PATIENCE_S + 1)
