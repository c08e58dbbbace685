"""`ovoz broker`, `ingest`, `worker`, `demo`: what runs until it is stopped."""

from __future__ import annotations

import logging
import time
from pathlib import Path

import click

from pipeline.cli.shared import Failed, command, settings_of, stop_on_sigterm


@command("broker", short_help="Run the embedded broker.")
@click.option("--port", type=click.IntRange(0, 65535), default=9092, show_default=True, help="0 takes a free one.")
def broker(port: int, config: Path | None) -> int:
    """Run the embedded broker on 127.0.0.1 until Ctrl-C.

    It speaks Kafka's protocol and keeps everything in memory: good for a laptop and for tests; what it
    holds is gone when it ends. For anything that must last, run Apache Kafka and set [kafka] bootstrap.

    \b
    Example:
        ovoz broker --port 9092
    """
    from pipeline.broker import EmbeddedBroker

    stop_on_sigterm()
    with EmbeddedBroker(port) as running:
        click.echo(f"broker on {running.bootstrap} (in memory; Ctrl-C ends it)")
        while running.poll() is None:
            time.sleep(0.2)
        raise Failed(f"the broker ended by itself with status {running.poll()}: start it again")


@command("ingest", short_help="Run the HTTP intake and the connectors.")
def ingest(config: Path | None) -> int:
    """Take feedback in over HTTP until Ctrl-C: POST /v1/feedback with JSON or NDJSON.

    Items are acknowledged (202) once the broker has them. Without tokens it listens on loopback only;
    `ovoz token NAME` makes one. Every [[connector]] table of the settings is followed, and its webhook answered at
    /v1/hooks/NAME: see `ovoz connectors`.

    \b
    Example:
        ovoz ingest
        curl -d '{"source":"shop","id":"1","text":"The courier never came"}' \\
             -H 'Content-Type: application/json' http://127.0.0.1:8080/v1/feedback
    """
    settings = settings_of(config)
    _log()
    from pipeline.ingest import run

    return run(settings)


@command("worker", short_help="Run a worker: classify and count.")
@click.option("--stage", type=click.Choice(["classify", "fold", "all"]), default="all", show_default=True,
              help="classify runs the model, fold counts and alerts; all does both in one process.")  # fmt: skip
def worker(stage: str, config: Path | None) -> int:
    """Classify and count until Ctrl-C; numbers on http://127.0.0.1:9108/metrics.

    Several workers of one [worker] group share the load, at most one a partition. On one machine give
    each its own data_dir and port.

    \b
    Example:
        ovoz worker
        OVOZ_WORKER_DATA_DIR=ovoz-data/w2 OVOZ_WORKER_PORT=9109 ovoz worker --stage classify
    """
    settings = settings_of(config)
    _log()
    from pipeline.worker import run

    return run(settings, stage)


@click.command("demo", short_help="Show everything at work, on one machine.")
@click.option("--for", "seconds", type=click.FloatRange(min=5), metavar="SECONDS",
              help="End by itself within so many seconds; without it the demo runs until Ctrl-C.")  # fmt: skip
@click.option("--plain/--live", default=None, help="Lines or the live view; by default as the terminal allows.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, show_default=True,
              help="Port of the HTTP intake; 0 takes a free one.")  # fmt: skip
@click.option("--alertmanager", metavar="URL", help="Tell the alerts to this Alertmanager too.")
@click.option("--keep", type=click.Path(path_type=Path, file_okay=False), metavar="FOLDER",
              help="Keep settings, logs and database in this new folder.")  # fmt: skip
def demo(seconds: float | None, plain: bool | None, port: int, alertmanager: str | None, keep: Path | None) -> int:
    """Broker, intake, worker and a day of feedback in a minute or two, with an incident and its alert.

    Needs no settings and leaves nothing behind. With a terminal it shows a live view, without one plain
    lines. It ends with a summary: exit status 0 when the alert came and went and every record is accounted
    for, 1 when not, 130 when Ctrl-C ended it before the day was over.

    \b
    Example:
        ovoz demo
        ovoz demo --for 60
    """
    from pipeline.demo import run

    return run(seconds=seconds, plain=plain, alertmanager=alertmanager, keep=keep, port=port)


def _log() -> None:
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    # Ours speak; libraries only when something is wrong.
    logging.getLogger("ovoz").setLevel(logging.INFO)
