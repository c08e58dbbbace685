"""Backtest against labels, tuning, the picture, and files of history."""

from __future__ import annotations

import gzip
import json
import random
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner
from scipy.stats import chi2

from alerts.alert import Sample
from alerts.backtest import Labelled, Replayed, judge, replay
from alerts.rule import Rule
from alerts.timeline import BARS, Counts, draw
from alerts.tune import SETTINGS, interval, proposed, trials
from pipeline.cli.alerts import alerts as commands
from tests import feed

RULE = Rule(name="rise")
DAY = timedelta(days=1)
HOUR = timedelta(hours=1)


def history(incidents: Sequence[float] = (1000.0,), minutes: float = 1400, seed: int = 3) -> list[Sample]:
    """Two items a minute, a quarter negative; from each of these minutes on, for an hour, 85 %."""
    dice, made, minute = random.Random(seed), [], 0.0
    while (minute := minute + dice.expovariate(2)) < minutes:
        bad = dice.random() < (0.85 if any(at <= minute < at + 60 for at in incidents) else 0.25)
        made.append(feed.sample(len(made), minute, negative=bad, text=f"{dice.getrandbits(160):x}"))
    return made


def label(minute: float, name: str = "couriers", **labels: str) -> Labelled:
    begin = feed.START + timedelta(minutes=minute)
    return Labelled(name=name, begin=begin, end=begin + HOUR, labels=labels)


def test_an_alert_in_a_labelled_incident_is_true_and_its_delay_is_told() -> None:
    replayed = replay([RULE], history())
    assert len(replayed.alerts) == 1
    verdict = judge(replayed, [label(1000, topic="delivery"), label(300, "never seen")])
    assert verdict.false == () and verdict.found == 1 and verdict.rate == 0
    assert verdict.delay is not None and timedelta(minutes=1) < verdict.delay < timedelta(minutes=20)
    assert verdict.delays["never seen"] is None


@pytest.mark.parametrize("labels", [{"topic": "billing"}, {"rule": "another"}])
def test_an_alert_about_something_else_is_false_and_the_incident_missed(labels: dict[str, str]) -> None:
    replayed = replay([RULE], history())
    verdict = judge(replayed, [label(1000, **labels)])
    assert len(verdict.false) == 1 and verdict.found == 0 and verdict.delay is None
    assert verdict.rate == pytest.approx(1 / replayed.weeks)


def test_what_came_before_teaches_and_is_not_shown() -> None:
    both = history((600.0, 1500.0), 1700)
    since = feed.START + timedelta(minutes=1200)
    whole, late = replay([RULE], both), replay([RULE], both, since=since)
    assert len(whole.alerts) == 2
    assert late.alerts == whole.alerts[1:]
    assert late.weeks < whole.weeks and late.items == whole.items


def test_the_interval_is_the_exact_one_of_poisson_counts() -> None:
    for count, weeks in ((0, 3.0), (1, 1.0), (7, 2.5), (60, 4.0)):
        low, high = interval(count, weeks)
        assert low == pytest.approx(chi2.ppf(0.025, 2 * count) / 2 / weeks if count else 0, abs=1e-6)
        assert high == pytest.approx(chi2.ppf(0.975, 2 * count + 2) / 2 / weeks, rel=1e-6)
    with pytest.raises(ValueError, match="no time"):
        interval(0, 0)


def test_tuning_proposes_the_greatest_setting_that_keeps_what_is_wanted() -> None:
    samples = history((1000.0,), seed=5)
    tried = trials(RULE, lambda rules: replay(rules, samples), [label(1000, rule="rise")])
    assert [trial.setting for trial in tried] == list(SETTINGS)
    rates = [trial.verdict.rate for trial in tried]
    assert all(trial.low <= trial.verdict.rate <= trial.high for trial in tried)
    assert tried[-1].verdict.found == 1
    best = proposed(tried, 0.1)
    assert best is not None and best.verdict.rate <= 0.1
    assert all(rate <= 0.1 for rate in rates[: SETTINGS.index(best.setting) + 1])
    assert proposed(tried, -1) is None
    with pytest.raises(ValueError, match="threshold"):
        trials(Rule(name="t", kind="threshold"), lambda rules: replay(rules, samples), [])


def test_the_picture_shows_each_alert_and_counts_each_item() -> None:
    samples = history()
    replayed = replay([RULE], samples)
    assert replayed.begin is not None and replayed.end is not None
    counts = Counts(begin=replayed.begin, end=replayed.end)
    for sample in samples:
        counts.add(sample)
    assert sum(counts.items) == len(samples) and len(counts.items) == BARS
    picture = draw(counts, replayed.alerts, [label(1000, "<couriers> & co")], 'A "title" <b>')
    root = ET.fromstring(picture)
    titles = [one.text or "" for one in root.iter("{http://www.w3.org/2000/svg}title")]
    assert any("items were negative" in text for text in titles) and "<couriers> & co" in titles
    ET.fromstring(draw(Counts(begin=feed.START, end=feed.START), (), (), "nothing"))


def files(folder: Path) -> tuple[Path, Path]:
    """A gzip file of scored lines, and a file of incidents."""
    lines = [
        json.dumps({"source": "shop", "id": one.feedback_id, "channel": "review", "text": one.text, "language": "en",
                    "created_at": one.at.isoformat(), "topic": one.topic, "sentiment": one.sentiment})
        for one in history()
    ]  # fmt: skip
    data, incidents = folder / "past.jsonl.gz", folder / "incidents.toml"
    data.write_bytes(gzip.compress("\n".join([*lines, "{broken"]).encode()))
    begin = feed.START + timedelta(minutes=1000)
    incidents.write_text(
        f'[[incident]]\nname = "couriers"\nfrom = {begin.isoformat()}\nto = {(begin + HOUR).isoformat()}\n'
        'labels = { topic = "delivery" }\n'
    )
    return data, incidents


def test_backtest_and_tune_on_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    data, incidents = files(tmp_path)
    rules = tmp_path / "rules.toml"
    rules.write_text('[[rule]]\nname = "rise"\n')
    other = tmp_path / "other.toml"
    other.write_text('[[rule]]\nname = "rise"\nfalse_alarms_per_week = 0.001\n')
    picture = tmp_path / "past.svg"
    run = CliRunner().invoke(
        commands,
        ["backtest", str(data), "--rules", str(rules), "--rules", str(other), "--incidents", str(incidents),
         "--picture", str(picture)],
        standalone_mode=False,
    )  # fmt: skip
    assert run.exception is None, run.exception
    assert "1 of" in run.output and "lines are unreadable" in run.output
    assert "couriers: found after" in run.output and "0.00 false alarms a week" in run.output
    assert "median delay" in run.output and "incidents found" in run.output
    assert ET.parse(picture).getroot().tag.endswith("svg")
    run = CliRunner().invoke(
        commands,
        ["tune", "rise", "--wanted", "1", "--rules", str(rules), "--incidents", str(incidents), str(data)],
        standalone_mode=False,
    )
    assert run.exception is None, run.exception
    assert "false_alarms_per_week = 5" in run.output and "95 %" in run.output


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "holds no incident"),
        ("[[incident]]\nname = 'a'\nto = 2026-11-02\n", "'from' is missing"),
        ("[[incident]]\nfrom = 2026-11-03\nto = 2026-11-02\n", "later than"),
        ("[[incident]]\nfrom = 'noon'\nto = 2026-11-02\n", "incident 1"),
        ("[[incident", "incidents.toml"),
    ],
)
def test_faults_of_an_incident_file_are_named(tmp_path: Path, text: str, said: str) -> None:
    from pipeline.cli.backtest import _labelled
    from pipeline.cli.shared import Failed

    file = tmp_path / "incidents.toml"
    file.write_text(text)
    with pytest.raises(Failed, match=said):
        _labelled(file)


def test_a_history_without_items_has_no_rate() -> None:
    empty = replay([RULE], [])
    assert empty == Replayed(alerts=(), items=0, begin=None, end=None, series=0)
    assert empty.weeks == 0


def test_times_that_are_a_clocks_only_take_the_day_given() -> None:
    from pipeline.history import _dated
    from pipeline.replay_item import Shape

    shape, day = Shape(mapping={"created_at": "at"}), date(2026, 11, 24)
    assert _dated({"at": "9:05"}, shape, day) == {"at": "2026-11-24T09:05Z"}
    assert _dated({"at": "13:05:09"}, shape, day) == {"at": "2026-11-24T13:05:09Z"}
    assert _dated({"at": "2026-01-01T10:00Z"}, shape, day) == {"at": "2026-01-01T10:00Z"}
