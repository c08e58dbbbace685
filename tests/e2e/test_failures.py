"""What fails around a worker, each failure on real parts. docs/operations.md has a line for each of these tests."""

from __future__ import annotations

import json
import resource
import shutil
import signal
import sqlite3
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import psutil
import pytest
import sqlalchemy as sa

from benchmarks.servers import PostgresServer
from models.artifact import SHIPPED
from pipeline.broker import EmbeddedBroker, free_port
from pipeline.bus import admin
from pipeline.codec import encode_feedback
from pipeline.store import read, schema
from pipeline.store.engine import connect
from pipeline.store.read import reading
from pipeline.topics import Topics
from tests.command import ovoz
from tests.conftest import own_postgres
from tests.plant import Plant, Worker, suspended, until
from tests.store import feedback


def items(first: int, count: int, text: str = "terrible delivery") -> list[tuple[bytes, bytes]]:
    now = datetime.now(UTC)
    made = [feedback(f"{i}", text=text, created_at=now, received_at=now) for i in range(first, first + count)]
    return [(item.feedback_id.encode(), encode_feedback(item)) for item in made]


def waits_for(worker: Worker) -> str:
    """What /readyz says is missing; empty when nothing is or nobody answers yet."""
    try:
        status, body = worker.get("/readyz")
    except OSError:
        return ""
    return str(json.loads(body)["for"]) if status == 503 else ""


def lives(worker: Worker) -> bool:
    begun = time.monotonic()
    return worker.get("/healthz")[0] == 200 and time.monotonic() - begun < 5


def test_a_broker_that_is_away_at_start_is_waited_for(tmp_path: Path) -> None:
    broker = EmbeddedBroker(free_port())
    with Plant(tmp_path, broker.bootstrap) as plant:
        worker = plant.worker(ready=False)
        until(lambda: waits_for(worker) == "the broker", what=worker.output)
        with broker:
            plant.send(items(0, 20))
            until(lambda: worker.total("feedback_items") == 20, 60, worker.output)
            assert waits_for(worker) == ""


@pytest.mark.slow
def test_a_broker_that_comes_back_empty_begins_a_new_life_and_loses_no_count(tmp_path: Path) -> None:
    port = free_port()
    with Plant(tmp_path, f"127.0.0.1:{port}") as plant:
        with EmbeddedBroker(port):
            worker = plant.worker()
            plant.send(items(0, 50))
            until(lambda: worker.total("feedback_items") == 50)
        with EmbeddedBroker(port):
            # The same offsets again, other items: the positions of the former life must not hide them.
            plant.send(items(100, 50))
            until(lambda: worker.total("feedback_items") == 100, 90, worker.output)
            until(lambda: worker.total("feedback_unaccounted_items") == 0, 30)
            assert ovoz("audit", cwd=tmp_path).returncode == 0


@pytest.mark.slow
def test_a_broker_that_hangs_holds_up_and_loses_nothing(broker: EmbeddedBroker, tmp_path: Path) -> None:
    with Plant(tmp_path, broker.bootstrap) as plant:
        worker = plant.worker()
        plant.send(items(0, 20))
        until(lambda: worker.total("feedback_items") == 20)
        assert broker.pid is not None
        with suspended(psutil.Process(broker.pid)):
            deadline = time.monotonic() + 7
            while time.monotonic() < deadline:
                assert lives(worker)
                time.sleep(0.5)
        plant.send(items(20, 20))
        until(lambda: worker.total("feedback_items") == 40, 90, worker.output)


def test_a_worker_that_waits_ends_when_it_is_told(tmp_path: Path) -> None:
    with Plant(tmp_path, f"127.0.0.1:{free_port()}") as plant:
        worker = plant.worker(real=True, ready=False)
        until(lambda: waits_for(worker) == "the broker", what=worker.output)
        worker.signal(signal.SIGTERM)
        assert worker.process is not None and worker.process.wait(5) == 0


def test_a_disk_that_is_full_holds_up_and_loses_nothing(broker: EmbeddedBroker, tmp_path: Path) -> None:
    with Plant(tmp_path, broker.bootstrap) as plant:
        worker = plant.worker()
        plant.send(items(0, 20))
        until(lambda: worker.total("feedback_items") == 20)
        # No file of the worker may grow from here on.
        largest = max(file.stat().st_size for file in tmp_path.glob("ovoz.db*"))
        worker.ps().rlimit(resource.RLIMIT_FSIZE, (largest, resource.RLIM_INFINITY))
        for start in range(1000, 3000, 500):
            plant.send(items(start, 500, "x" * 5000))
        until(lambda: worker.total("feedback_store_retries_total") >= 2, what=worker.output)
        assert lives(worker)
        assert worker.total("feedback_items") < 2020
        worker.ps().rlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        until(lambda: worker.total("feedback_items") == 2020, 60, worker.output)
        worker.stop()
        assert ovoz("audit", cwd=tmp_path).returncode == 0


def test_a_store_set_back_to_a_backup_reads_again_what_it_lacks(broker: EmbeddedBroker, tmp_path: Path) -> None:
    with Plant(tmp_path, broker.bootstrap, worker="repair_after_s = 1\n") as plant:
        worker = plant.worker()
        plant.send([*items(0, 30), (b"bad", b"{")])
        until(lambda: worker.total("feedback_items") == 30 and worker.total("feedback_dead_letters_total") == 1)
        backup = tmp_path / "backup.db"
        with closing(sqlite3.connect(tmp_path / "ovoz.db")) as source, closing(sqlite3.connect(backup)) as target:
            source.backup(target)
        plant.send([*items(100, 30), (b"worse", b"[")])
        until(lambda: worker.total("feedback_items") == 60 and worker.total("feedback_dead_letters_total") == 2)
        worker.stop()
        for file in tmp_path.glob("ovoz.db*"):
            file.unlink()
        backup.rename(tmp_path / "ovoz.db")
        worker.start()
        until(lambda: worker.total("feedback_items") == 60, 60, worker.output)
        until(lambda: worker.total("feedback_unaccounted_items") == 0, 30)
        worker.stop()
        assert ovoz("audit", cwd=tmp_path).returncode == 0


@pytest.fixture(scope="module")
def database() -> Iterator[PostgresServer]:
    # Not in pytest's folder, which another run may close to the server's user meanwhile.
    with tempfile.TemporaryDirectory(prefix="ovoz-postgres-") as folder:
        server = own_postgres(Path(folder) / "failures")
        yield server
        server.stop()


@pytest.mark.postgres
def test_a_database_that_is_away_or_slow_is_waited_for(
    broker: EmbeddedBroker, database: PostgresServer, tmp_path: Path
) -> None:
    database.kill()
    with Plant(tmp_path, broker.bootstrap, database.url) as plant:
        worker = plant.worker(ready=False)
        until(lambda: waits_for(worker) == "the database", what=worker.output)
        database.start()
        until(lambda: waits_for(worker) == "" and lives(worker), 60)
        plant.send(items(0, 20))
        until(lambda: worker.total("feedback_items") == 20, 60, worker.output)

        database.kill()
        plant.send(items(20, 20))
        until(lambda: worker.total("feedback_store_retries_total") > 0, what=worker.output)
        assert lives(worker)
        database.start()
        until(lambda: worker.total("feedback_items") == 40, 60, worker.output)

        with slow(database.url):
            plant.send(items(40, 20))
            deadline = time.monotonic() + 4
            while time.monotonic() < deadline:
                assert lives(worker)
                assert worker.total("feedback_items") == 40
                time.sleep(0.5)
        until(lambda: worker.total("feedback_items") == 60, 60, worker.output)


@contextmanager
def slow(url: str) -> Iterator[None]:
    """Whoever writes positions waits meanwhile."""
    engine = connect(url)
    with engine.begin() as connection:
        connection.execute(sa.select(schema.position).with_for_update())
        alive = threading.Event()

        def keep_awake() -> None:
            while not alive.wait(1):
                connection.execute(sa.select(1))

        keeper = threading.Thread(target=keep_awake)
        keeper.start()
        try:
            yield
        finally:
            alive.set()
            keeper.join()
    engine.dispose()


@pytest.mark.parametrize("file", ["model.onnx", "tokenizer.json"])
def test_a_corrupt_model_is_refused_at_start_with_the_reason(broker: EmbeddedBroker, tmp_path: Path, file: str) -> None:
    folder = tmp_path / "model"
    shutil.copytree(SHIPPED, folder)
    (damaged,) = [path for path in folder.iterdir() if path.name == file]
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    with Plant(tmp_path, broker.bootstrap, model=f'path = "{folder}"') as plant:
        worker = plant.worker(real=True, ready=False)
        assert worker.process is not None and worker.process.wait(30) == 1
        assert file in worker.output() and "sha256" in worker.output().lower(), worker.output()
        assert "Traceback" not in worker.output()
    done = ovoz("classify", "hello", cwd=tmp_path, OVOZ_MODEL_PATH=str(folder))
    assert done.returncode == 1 and file.encode() in done.stderr


def test_a_port_that_is_taken_ends_the_worker_with_the_reason(broker: EmbeddedBroker, tmp_path: Path) -> None:
    with Plant(tmp_path, broker.bootstrap) as plant:
        first = plant.worker()
        port = first.url.split(":")[2].split("/")[0]
        done = ovoz("worker", cwd=tmp_path, OVOZ_WORKER_PORT=port)
        assert done.returncode == 1
        assert f"cannot serve /metrics on 127.0.0.1:{port}".encode() in done.stderr


def test_a_worker_that_can_read_nothing_stops_before_it_empties_the_topic(
    broker: EmbeddedBroker, tmp_path: Path
) -> None:
    lines = "dead_letter_fuse_items = 100\nclassify_batch_items = 20\n"
    with Plant(tmp_path, broker.bootstrap, worker=lines) as plant:
        plant.send([(f"{i}".encode(), b"{") for i in range(1000)])
        worker = plant.worker(real=True, ready=False)
        assert worker.process is not None and worker.process.wait(40) == 1
        assert "records were unreadable" in worker.output() and "ovoz dead list" in worker.output()
        assert "Traceback" not in worker.output()
        with admin(plant.settings.kafka) as client:
            assert sum(end for _, end in client.ends(Topics.of(plant.settings.kafka).dead.name).values()) <= 120
        patient = plant.worker(more="dead_letter_fuse_share = 1\n")
        engine = connect(plant.settings.store.url)

        def kept() -> int:
            with reading(engine) as connection:
                return read.dead_count(connection)

        until(lambda: kept() == 1000, 60, patient.output)
        engine.dispose()
