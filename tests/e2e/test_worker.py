"""Real workers on a real broker: what they do with the good, the hostile, with each other and with their time."""

from __future__ import annotations

import asyncio
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp
import pytest
from kafka.admin import ConfigResource, ConfigResourceType

from pipeline import worker as pipeline_worker
from pipeline.broker import EmbeddedBroker
from pipeline.bus import admin
from pipeline.codec import encode_feedback
from pipeline.store import read
from pipeline.store.engine import connect
from pipeline.store.read import reading
from pipeline.topics import Topics
from tests.hostile import BODIES
from tests.plant import Plant, until
from tests.store import feedback

TEXTS = ("The courier never came, terrible", "great service, thank you", "Курьер опоздал", "Yetkazib bermadi")


def records(names: Sequence[str], **fields: object) -> list[tuple[bytes, bytes]]:
    now = datetime.now(UTC)
    said = [(name, TEXTS[i % len(TEXTS)], now - timedelta(seconds=i % 50)) for i, name in enumerate(names)]
    items = [feedback(name, text=text, created_at=at, received_at=now, **fields) for name, text, at in said]
    return [(item.feedback_id.encode(), encode_feedback(item)) for item in items]


def test_hostile_records_become_dead_letters_with_a_reason_and_cost_no_neighbour(
    broker: EmbeddedBroker, tmp_path: Path
) -> None:
    hostile = [*BODIES.values(), b"\x1f\x8b\x08" + b"\x00" * 200]
    sent = records([f"{i}" for i in range(400)])
    # Each stands among good neighbours, on every partition; none may be larger than the broker takes.
    for i, body in enumerate(hostile):
        sent[3 * i : 3 * i] = [(f"bad-{i}".encode(), body[:6_000_000])]
    with Plant(tmp_path, broker.bootstrap) as plant:
        worker = plant.worker()
        plant.send(sent)
        until(lambda: worker.total("feedback_items") == 400, what=worker.output)
        until(lambda: worker.total("feedback_dead_letters_total") == len(hostile))
        until(lambda: worker.total("feedback_unaccounted_items") == 0)
        plant.send(records(["after"]))
        until(lambda: worker.total("feedback_items") == 401)
        assert worker.process is not None and worker.process.poll() is None
        assert "Traceback" not in worker.output()
        engine = connect(plant.settings.store.url)
        with reading(engine) as connection:
            letters = read.dead_letters(connection, limit=1000)
        engine.dispose()
    assert {letter.reason for letter in letters} <= {"json", "schema", "schema_version", "empty"}
    assert all(letter.detail for letter in letters)
    kept = sorted(bytes(letter.payload) for letter in letters)
    assert kept == sorted(body[:4_000_000] for body in hostile)


@pytest.mark.slow
def test_workers_share_the_load_and_take_over_what_another_leaves(broker: EmbeddedBroker, tmp_path: Path) -> None:
    with Plant(tmp_path, broker.bootstrap, worker="classify_batch_items = 8") as plant:
        first, second = plant.worker(), plant.worker()

        def shares() -> list[int]:
            """Raw partitions by worker."""
            held = [{dict(pairs).get("partition") for (name, pairs), _ in worker.metrics().items()
                     if name == "feedback_consumer_lag_records" and dict(pairs)["topic"].endswith(".raw")}
                    for worker in (first, second)]  # fmt: skip
            return [len(one) for one in held]

        sent = 0

        def all_counted() -> bool:
            return first.total("feedback_items") + second.total("feedback_items") == sent

        # Whoever came second has its part with the next rebalance at the latest.
        while shares() != [2, 2]:
            plant.send(records([f"a{sent + i}" for i in range(40)]))
            sent += 40
            until(all_counted)
        assert first.total("feedback_model_batch_items_count") > 0 < second.total("feedback_model_batch_items_count")

        # One leaves in order, the other has everything, and nothing twice.
        assert second.stop() == 0
        plant.send(records([f"c{i}" for i in range(200)]))
        until(lambda: first.total("feedback_items") == sent + 200)

        # It comes back, the other dies: the same.
        second.start()
        first.kill()
        plant.send(records([f"d{i}" for i in range(200)]))
        until(lambda: second.total("feedback_items") == sent + 400)
        until(lambda: second.total("feedback_unaccounted_items") == 0)


def test_the_stages_run_apart_too(broker: EmbeddedBroker, tmp_path: Path) -> None:
    with Plant(tmp_path, broker.bootstrap) as plant:
        classify, fold = plant.worker(stage="classify"), plant.worker(stage="fold")
        plant.send(records([f"{i}" for i in range(100)]))
        until(lambda: fold.total("feedback_items") == 100)
        assert classify.total("feedback_model_batch_items_sum") == 100
        assert fold.total("feedback_model_batch_items_sum") == 0
        assert classify.total("feedback_items") == 0
        assert classify.get("/readyz")[0] == fold.get("/readyz")[0] == 200


def test_ctrl_c_ends_a_worker_within_five_seconds_and_nothing_is_lost(broker: EmbeddedBroker, tmp_path: Path) -> None:
    with Plant(tmp_path, broker.bootstrap) as plant:
        worker = plant.worker(real=True)
        plant.send(records([f"{i}" for i in range(600)]))
        until(lambda: worker.total("feedback_items") > 0)
        worker.signal(signal.SIGINT)
        assert worker.process is not None
        assert worker.process.wait(8) == 0
        worker.start()
        until(lambda: worker.total("feedback_items") == 600, 90)


@pytest.mark.prometheus
def test_a_scrape_of_a_busy_worker_passes_promtool(broker: EmbeddedBroker, tmp_path: Path) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed (Debian: prometheus)")
    with Plant(tmp_path, broker.bootstrap) as plant:
        worker = plant.worker(real=True)
        plant.send([*records([f"{i}" for i in range(300)]), (b"bad", b"{"), *records(["1"], deleted=True)])
        until(lambda: worker.total("feedback_dead_letters_total") == 1)
        until(lambda: worker.total("feedback_scored_total") == 300)
        status, text = worker.get()
    assert status == 200
    done = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    for name in (
        "feedback_scored_total", "feedback_items", "feedback_unaccounted_items", "feedback_sentiment_score",
        "feedback_end_to_end_latency_seconds_bucket", "feedback_model_inference_seconds_bucket",
        "feedback_model_batch_items_bucket", "feedback_queue_items", "feedback_consumer_lag_records",
        "feedback_dead_letters_total", "feedback_late_items_total", "feedback_source_last_event_timestamp_seconds",
        "feedback_source_last_success_timestamp_seconds",
    ):  # fmt: skip
        assert f"\n{name}" in text or f"# TYPE {name.removesuffix('_bucket')} " in text, name
    assert "courier" not in text and "shop::" not in text


@pytest.mark.kafka
def test_topics_are_made_with_their_partitions_and_retention(kafka_bootstrap: str, tmp_path: Path) -> None:
    lines = (
        'prefix = "made"\npartitions = 3\nraw_retention_hours = 5\nscored_retention_hours = 6\ndead_retention_hours = 7'
    )
    with Plant(tmp_path, kafka_bootstrap, kafka=lines, session_timeout_s=6) as plant:
        plant.worker()
        with admin(plant.settings.kafka) as client:
            topics = Topics.of(plant.settings.kafka)
            for topic, hours in ((topics.raw, 5), (topics.scored, 6), (topics.dead, 7)):
                assert len(client.starts(topic.name)) == 3
                found = client._client.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic.name)])
                assert f"'{hours * 3_600_000}'" in repr(found), found
            found = client._client.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topics.alerts.name)])
            assert "'compact,delete'" in repr(found), found


@pytest.mark.kafka
def test_a_session_timeout_that_the_broker_forbids_ends_the_worker_with_the_remedy(
    kafka_bootstrap: str, tmp_path: Path
) -> None:
    with Plant(tmp_path, kafka_bootstrap, kafka='prefix = "short"', session_timeout_s=3) as plant:
        worker = plant.worker(real=True, ready=False)
        assert worker.process is not None and worker.process.wait(60) == 1
        assert "session_timeout_s to what the broker allows" in worker.output()


async def test_nothing_on_the_event_loop_computes_for_50_ms(
    broker: EmbeddedBroker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Processor time of the loop's own thread in each callback, which a busy machine does not change."""
    spent: list[tuple[float, str]] = []
    run = asyncio.Handle._run

    def timed(handle: asyncio.Handle) -> None:
        begun = time.thread_time()
        run(handle)
        if threading.current_thread() is threading.main_thread():
            spent.append((time.thread_time() - begun, repr(handle)))

    with Plant(tmp_path, broker.bootstrap) as plant:
        worker = pipeline_worker.Worker(plant.settings, "all")
        ready = asyncio.Event()
        running = asyncio.create_task(worker.run(lambda url: ready.set()))
        await asyncio.wait_for(ready.wait(), 60)
        await asyncio.to_thread(plant.send, records(["warm"]))
        monkeypatch.setattr(asyncio.Handle, "_run", timed)
        await asyncio.to_thread(plant.send, [*records([f"{i}" for i in range(1500)]), (b"x", b"{" * 2_000_000)])

        def done() -> bool:
            with reading(worker._engine) as connection:
                return sum(read.totals(connection).values()) == 1501 and read.dead_count(connection) == 1

        deadline = time.monotonic() + 90
        while not await asyncio.to_thread(done):
            assert time.monotonic() < deadline
            async with aiohttp.ClientSession() as client, client.get(str(worker.url)) as got:
                assert got.status == 200
            await asyncio.sleep(0.2)
        worker.stop()
        assert await running == 0
    assert len(spent) > 1000
    assert max(spent)[0] < 0.05, sorted(spent)[-5:]
