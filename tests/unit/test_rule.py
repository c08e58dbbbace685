"""Rule files: the shipped one is right, and each wrong one is told apart."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from alerts.rule import _READERS, DEFAULT_FILE, KINDS, Rule, RuleFault, parse
from connectors.feedback import CHANNELS
from models.classifier import TOPICS
from pipeline.toml_lines import line_of

FAULTY = sorted((Path(__file__).parents[1] / "faults_rules").glob("*.toml"))


def read(path: Path) -> tuple[tuple[Rule, ...], tuple[RuleFault, ...]]:
    text = path.read_text()
    return parse(path.name, tomllib.loads(text), line_of(text), topics=TOPICS, channels=CHANNELS)


def test_the_shipped_rules_say_what_the_code_has_as_defaults() -> None:
    rules, faults = read(DEFAULT_FILE)
    assert faults == ()
    named = {"name": "negative-spike", "summary": "More negative feedback than usual"}
    assert rules[0] == Rule(**{**named, **KINDS["spike"].defaults})
    assert len({rule.kind for rule in rules}) == len(rules)


def test_the_shipped_file_explains_every_setting() -> None:
    text = DEFAULT_FILE.read_text()
    missing = [key for key in _READERS if f"{key} = " not in text]
    assert not missing


@pytest.mark.parametrize("path", FAULTY, ids=lambda path: path.stem)
def test_one_fault(path: Path) -> None:
    line, key, fragment = path.read_text().splitlines()[0].removeprefix("# ").split(": ", 2)
    _, faults = read(path)
    assert [(str(fault.line), fault.key) for fault in faults] == [(line, key)]
    assert fragment in faults[0].reason
    assert str(faults[0]).startswith(f"{path.name}:{line}: {key}: ")


@pytest.mark.parametrize("key", sorted(_READERS))
def test_a_value_of_the_wrong_sort_is_told_with_the_line_of_its_key(key: str) -> None:
    wrong = {"name": "3", "by": '"soon"', "target": '"low"'}.get(key, "[{}]")
    kind = next((kind for kind, spec in KINDS.items() if key in spec.keys), "spike")
    named = [] if key == "name" else ['name = "a"']
    kinds = [] if key == "kind" else [f'kind = "{kind}"']
    text = "\n".join(["[[rule]]", *named, *kinds, "# what is wrong:", f"{key} = {wrong}"])
    _, faults = parse("f", tomllib.loads(text), line_of(text))
    told = [fault for fault in faults if fault.key == f"rule.{key}"]
    assert [fault.line for fault in told] == [len(text.splitlines())] and told[0].reason


def test_every_fault_is_told_and_good_rules_are_kept() -> None:
    text = (
        '[[rule]]\nname = "good"\n\n[[rule]]\nname = "bad"\nodds_ratio = 99\nseverity = 1\n'
        'wat = 1\n\n[[rule]]\nname = "fine"\n'
    )
    rules, faults = parse("f", tomllib.loads(text), line_of(text))
    assert [rule.name for rule in rules] == ["good", "fine"]
    assert [(fault.line, fault.key) for fault in faults] == [
        (6, "rule.odds_ratio"),
        (7, "rule.severity"),
        (8, "rule.wat"),
    ]


def test_settings_reach_the_rule() -> None:
    text = """
[[rule]]
name = "app"
group_by = ["topic", "source"]
sources = ["google_play"]
languages = ["uz"]
false_alarms_per_week = 1
half_life = "12h"
resolve_after = "90s"
severity = "critical"
team = "mobile"
labels = { product = "courier", area = "west" }
runbook_url = "https://wiki.example.com/x"
"""
    rules, faults = parse("f", tomllib.loads(text), line_of(text))
    assert faults == ()
    assert rules[0] == Rule(
        name="app",
        group_by=("topic", "source"),
        sources=("google_play",),
        languages=("uz",),
        false_alarms_per_week=1.0,
        half_life_s=43200.0,
        resolve_after_s=90.0,
        severity="critical",
        team="mobile",
        labels=(("area", "west"), ("product", "courier")),
        runbook_url="https://wiki.example.com/x",
    )
