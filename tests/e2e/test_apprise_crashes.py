"""A worker killed with `kill -9` while it sends by Apprise: what the service hears, by `apprise_delivery`."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import orjson
import pytest
import sqlalchemy as sa

from pipeline.broker import EmbeddedBroker
from pipeline.codec import encode_feedback
from pipeline.store import incidents, schema
from pipeline.store.engine import connect, transaction
from pipeline.store.read import reading
from tests.feed import babble
from tests.plant import Plant, until
from tests.store import feedback

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

RULES = """
[[rule]]
name = "half-bad"
kind = "threshold"
group_by = []
window = "1h"
min_items = 10
share_above = 0.5
"""


class Service:
    """Takes messages; `at_a_post` is called before it has one (None: not at all) and decides whether it takes it."""

    def __init__(self) -> None:
        self.taken: list[dict[str, Any]] = []
        self.at_a_post: Callable[[], bool] | None = None


@contextmanager
def service() -> Iterator[tuple[str, Service]]:
    state = Service()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            act, state.at_a_post = state.at_a_post, None
            if act is None or act():
                state.taken.append(orjson.loads(body))
            if act is not None:
                return  # whoever sent it is dead
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_port}", state
        finally:
            server.shutdown()
            thread.join()


def said(first: int, count: int, mood: str) -> list[tuple[bytes, bytes]]:
    dice, now = random.Random(first), datetime.now(UTC)
    records = []
    for i in range(first, first + count):
        words = babble(dice)
        item = feedback(f"{i}", text=f"{mood} delivery {words}", created_at=now, received_at=now)
        records.append((item.feedback_id.encode(), encode_feedback(item)))
    return records


@pytest.mark.parametrize(
    ("policy", "arrived", "expected"),
    [
        ("at-least-once", True, ["Warning", "repeated"]),
        ("at-least-once", False, ["repeated"]),
        ("once", True, ["Warning"]),
        ("once", False, []),
    ],
)
def test_a_worker_killed_between_sending_and_recording_pages_as_the_setting_says(
    policy: str, arrived: bool, expected: list[str], broker: EmbeddedBroker, tmp_path: Path
) -> None:
    rules = tmp_path / "rules.toml"
    rules.write_text(RULES)
    with service() as (address, heard):
        alerts = f'rules = "{rules}"\napprise = ["json://{address}"]\napprise_delivery = "{policy}"'
        with Plant(tmp_path, broker.bootstrap, alerts=alerts) as plant:
            worker = plant.worker()
            killed = threading.Event()

            def kill() -> bool:
                worker.kill()
                killed.set()
                return arrived

            heard.at_a_post = kill
            plant.send(said(0, 20, "terrible"))
            assert killed.wait(30)
            until(lambda: not arrived or heard.taken, 5)

            engine = connect(plant.settings.store.url)
            with reading(engine) as connection:
                (row,) = connection.execute(sa.select(schema.delivery).where(schema.delivery.c.receiver != "topic"))
            assert (row.state, row.attempted_state) == ("", "firing"), "the intent was recorded before it was sent"
            with transaction(engine) as connection:  # as if the worker had been away for as long as an attempt takes
                earlier = schema.delivery.c.attempted_us - int(incidents.ATTEMPT.total_seconds() * 1e6)
                connection.execute(sa.update(schema.delivery).values(attempted_us=earlier))
            engine.dispose()

            worker.start()
            outcome = "repeated" if policy == "at-least-once" else "unknown"
            until(lambda: worker.total("feedback_alert_notifications_total", outcome=outcome) == 1, 20, worker.output)
            assert ("may not have heard" in worker.output()) == (policy == "once")
            titles = ["repeated" if "Perhaps a repetition" in one["message"] else one["title"].partition(":")[0]
                      for one in heard.taken]  # fmt: skip
            assert titles == expected

            # Whatever became of its beginning, its end is told, once and without doubt.
            plant.send(said(100, 100, "great"))
            until(lambda: len(heard.taken) == len(expected) + 1, 30, worker.output)
            assert heard.taken[-1]["title"].startswith("Resolved: ") and "repetition" not in heard.taken[-1]["message"]
            assert worker.stop() == 0
