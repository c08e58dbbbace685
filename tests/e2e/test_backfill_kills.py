"""A backfill is killed in the middle and goes on: see benchmarks/backfill.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.backfill import backfill


@pytest.mark.slow
@pytest.mark.parametrize("service", ["typeform", "zendesk"])
async def test_a_killed_backfill_goes_on_and_counts_everything_once_at_its_time_without_an_alert(
    service: str, tmp_path: Path
) -> None:
    report = await backfill(4, service, 600, tmp_path)
    assert report.kills == 4 and all(report.lives), "each was killed with some of it done"
    assert (report.missing, report.counted, report.odd_times, report.live) == (0, 600, 0, 0)
    assert report.published < 600 * 3, "it goes on instead of beginning anew"
    assert report.alerts == (0, 1), "history pages nobody, and the same words said now do"
