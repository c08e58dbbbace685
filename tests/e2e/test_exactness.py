"""Every number equals a truth computed apart, whatever is killed. The same runs as `python -m benchmarks.exactness`."""

from __future__ import annotations

import os

import pytest

from benchmarks.exactness import Plan, run
from benchmarks.servers import ServerMissing


def _prove(plan: Plan) -> None:
    try:
        result = run(plan)
    except ServerMissing as error:
        if os.environ.get("CI", "").lower() == "true":
            pytest.fail(str(error))
        pytest.skip(str(error))
    assert not result.differences
    assert result.facts["worker restarts"] >= plan.kills // 2


@pytest.mark.timeout(400)
def test_on_the_embedded_broker_and_sqlite_ten_kills_and_a_pause_change_no_number() -> None:
    _prove(Plan(items=20_000, kills=10, pauses=1))


@pytest.mark.kafka
@pytest.mark.postgres
@pytest.mark.timeout(500)
def test_on_kafka_and_postgresql_kills_of_workers_broker_and_database_change_no_number() -> None:
    servers = {"broker": "kafka", "store": "postgres"}
    _prove(Plan(items=20_000, kills=10, pauses=1, broker_kills=1, store_kills=1, rate=500, **servers))
