"""Ingest dies again and again while customers speak at flaky services: see benchmarks/connectors.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.connectors import chaos, load

MOST_MB = 300


@pytest.mark.slow
async def test_kills_lose_no_item_count_none_twice_and_show_no_secret(tmp_path: Path) -> None:
    report = await chaos(8, 10, tmp_path, per_life=3)
    assert report.missing == [] and report.counted == report.said == 8 * 10 * 3
    assert report.secrets_shown == [] and report.faults > 0


@pytest.mark.slow
async def test_two_hundred_connectors_fit_one_small_process(tmp_path: Path) -> None:
    report = await load(200, tmp_path, seconds=15)
    assert report.rss_mb < MOST_MB and report.requests_per_s > 20
