"""Metrics: names as Prometheus wants them, labels that are bounded and tell nobody's secrets."""

from __future__ import annotations

import re
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import pytest
from prometheus_client import generate_latest

from pipeline import metrics
from pipeline.metrics import OTHER, WORKER, Bound, WorkerMetrics
from pipeline.settings import Labels
from pipeline.store.read import Snapshot, WindowSum

HARMLESS = {
    "source", "channel", "language", "topic", "sentiment", "window", "rule", "severity", "stage", "reason", "state",
    "partition", "receiver", "outcome", "label", "version", "model", "touchpoint",
}  # fmt: skip


@pytest.mark.parametrize("one", WORKER, ids=lambda one: one.name)
def test_names_follow_the_conventions_of_prometheus(one: metrics.Definition) -> None:
    assert re.fullmatch(r"feedback_[a-z][a-z0-9_]*[a-z0-9]", one.name)
    assert one.name.endswith("_total") == (one.kind == "counter")
    assert not re.search(r"_(count|sum|bucket|created|ms|millis|minutes|percent)$", one.name)
    assert bool(one.buckets) == (one.kind == "histogram")
    assert list(one.buckets) == sorted(set(one.buckets))
    assert one.help[0].isupper() and one.help.endswith(".")


@pytest.mark.parametrize("one", metrics.CONNECTOR, ids=lambda one: one.name)
def test_no_label_of_a_connector_hides_behind_those_of_prometheus(one: metrics.Definition) -> None:
    assert not set(one.labels) & {"le", "quantile", "job", "instance"}


@pytest.mark.parametrize("one", WORKER, ids=lambda one: one.name)
def test_no_label_is_made_for_text_author_or_id(one: metrics.Definition) -> None:
    assert set(one.labels) <= HARMLESS
    assert not set(one.labels) & {"le", "quantile", "job", "instance"}


def test_names_are_unique() -> None:
    assert len({one.name for one in WORKER}) == len(WORKER)


def shown(sources: int) -> Snapshot:
    names = [f"source-{n}" for n in range(sources)]
    return Snapshot(
        totals=Counter({(name, "delivery", "negative"): 2 for name in names}),
        windows={(name, "delivery", "5m"): WindowSum(Counter(negative=1), -500_000) for name in names},
        last_event={name: datetime(2026, 11, 24, tzinfo=UTC) for name in names},
    )


def test_sources_beyond_the_bound_are_shown_as_other_and_nothing_is_lost() -> None:
    made = WorkerMetrics(Labels(max_sources=3, max_topics=2), lambda: shown(10))
    text = generate_latest(made.registry).decode()
    items = dict(re.findall(r'feedback_items\{sentiment="negative",source="([^"]+)",topic="delivery"\} (\S+)', text))
    assert len(items) == 4 and items[OTHER] == "14.0"
    assert sum(map(float, items.values())) == 20
    (mean,) = re.findall(r'feedback_sentiment_score\{source="other",topic="delivery",window="5m"\} (\S+)', text)
    assert float(mean) == -0.5
    assert 'feedback_label_overflow_total{label="source"}' in generate_latest(made.registry).decode()


def test_a_bound_keeps_the_first_names_for_good() -> None:
    overflown: list[int] = []
    bound = Bound(2, lambda: overflown.append(1))
    assert [bound(name) for name in ("a", "b", "c", "a", OTHER, "c")] == ["a", "b", OTHER, "a", OTHER, OTHER]
    assert len(overflown) == 2


def test_what_a_dead_letter_says_of_itself_never_becomes_a_label() -> None:
    made = WorkerMetrics(Labels())
    made.buried("classify", "json")
    for n in range(100):
        made.buried(f"stage {n}", f"my phone is 99890{n}")
    text = generate_latest(made.registry).decode()
    assert "99890" not in text
    assert 'feedback_dead_letters_total{reason="json",stage="classify"} 1.0' in text
    assert 'feedback_dead_letters_total{reason="other",stage="other"} 100.0' in text


def test_every_reason_that_the_code_files_under_is_known() -> None:
    folder = Path(metrics.__file__).parent
    source = "\n".join(path.read_text() for path in folder.rglob("*.py"))
    reasons = set(re.findall(r'DecodeError\("(\w+)"', source)) | set(re.findall(r'reason="(\w+)"', source))
    assert reasons and reasons <= metrics.DEAD_REASONS
    assert set(re.findall(r'stage="(\w+)",\n', source)) <= metrics.DEAD_STAGES


def test_stored_numbers_are_absent_while_the_store_is_away() -> None:
    text = generate_latest(WorkerMetrics(Labels(), lambda: None).registry).decode()
    assert "feedback_items" not in text
    assert "feedback_unaccounted_items 0.0" in text


def test_counting_adds_up_by_labels() -> None:
    made = WorkerMetrics(Labels(max_topics=1))
    made.counted([("a", "chat", "delivery", "negative"), ("a", "chat", "refund", "negative")] * 3)
    text = generate_latest(made.registry).decode()
    assert 'feedback_scored_total{channel="chat",sentiment="negative",source="a",topic="delivery"} 3.0' in text
    assert 'feedback_scored_total{channel="chat",sentiment="negative",source="a",topic="other"} 3.0' in text


def test_touchpoints_are_counted_within_their_bound_and_their_absence_is_not() -> None:
    made = WorkerMetrics(Labels(max_touchpoints=1))
    made.met([("checkout", "negative"), ("", "negative"), ("ivr", "positive"), ("checkout", "negative")])
    text = generate_latest(made.registry).decode()
    lines = {line for line in text.splitlines() if line.startswith("feedback_touchpoint_scored_total{")}
    assert lines == {
        'feedback_touchpoint_scored_total{sentiment="negative",touchpoint="checkout"} 2.0',
        'feedback_touchpoint_scored_total{sentiment="positive",touchpoint="other"} 1.0',
    }
    assert 'feedback_label_overflow_total{label="touchpoint"} 1.0' in text


def test_label_values_are_escaped() -> None:
    odd = Snapshot(totals=Counter({('a"\n\\', "t", "negative"): 1}))
    text = generate_latest(WorkerMetrics(Labels(), lambda: odd).registry).decode()
    assert 'source="a\\"\\n\\\\"' in text
