"""A brigade of copies: named as such, and never paged as a crisis."""

from __future__ import annotations

from dataclasses import replace

from alerts.alert import Alert, Sample
from alerts.duplicates import Recent
from alerts.engine import Engine
from alerts.rule import Rule
from tests import feed

SPIKE = Rule(name="spike", false_alarms_per_week=1)
BRIGADE = Rule(
    name="copies", kind="brigade", group_by=(), window_s=3600, min_items=10, resolve_after_s=3600, severity="info"
)
TEXT = "This company steals from pensioners, tell everyone you know and never order here again"
CALM = [feed.sample(i, i / 10, negative=i % 4 == 0) for i in range(400)]


def copies(count: int, *, new: bool = True, authors: int = 100) -> list[Sample]:
    items = (feed.sample(1000 + i, 40 + i / 10, negative=True, text=f"{TEXT} {'!' * (i % 3)}") for i in range(count))
    return [replace(item, author=f"author-{i % authors}", new_author=new) for i, item in enumerate(items)]


def told(samples: list[Sample]) -> dict[str, Alert]:
    recent = Recent()
    marked = [recent.mark(sample) for sample in samples]
    result = Engine([SPIKE, BRIGADE]).evaluate(marked, {}, samples[-1].at)
    return {alert.rule: alert for alert in result.alerts}


def test_without_folding_the_same_posts_would_page() -> None:
    result = Engine([SPIKE]).evaluate([*CALM, *copies(60)], {}, CALM[-1].at.replace(hour=23))
    assert [alert.rule for alert in result.alerts] == ["spike"]


def test_a_brigade_is_named_and_pages_nobody() -> None:
    alerts = told([*CALM, *copies(60)])
    assert list(alerts) == ["copies"]
    notes = alerts["copies"].annotations
    assert notes["suspected"] == "brigade" and int(notes["authors"]) == int(notes["new_authors"]) >= 10
    assert "near-identical copies of one text since 2026-11-02 00:40 UTC" in notes["description"]
    assert len(alerts["copies"].evidence) == 1


def test_known_authors_or_one_loud_author_are_no_brigade() -> None:
    assert told([*CALM, *copies(60, new=False)]) == {}
    assert told([*CALM, *copies(60, authors=2)]) == {}
    assert told([*CALM, *copies(10)]) == {}


def test_a_crisis_with_some_copies_still_pages_and_counts_both_ways() -> None:
    crisis = [feed.sample(2000 + i, 40 + i / 10, negative=True) for i in range(60)]
    mixed = sorted([*crisis, *copies(30)], key=lambda sample: sample.at)
    alert = told([*CALM, *mixed])["spike"]
    notes = alert.annotations
    assert int(notes["raw_matched"]) > int(notes["negative"])
    assert "nearly word for word and do not count" in notes["description"]
    texts = [quote.text for quote in alert.evidence]
    assert sum("pensioners" in text for text in texts) <= 1
