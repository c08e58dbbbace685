"""Each part of the way by itself, without broker and processes: what an item costs at least.

The functions run in a process of their own (see `apart`), so that no thread of a model stays behind
to disturb the next measurement.
"""

from __future__ import annotations

import multiprocessing
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, TypeVar

from alerts.engine import Engine
from benchmarks.texts import items
from connectors.feedback import parse
from models.load import load
from pipeline.classify import RawRecord, classify, scored_values
from pipeline.codec import decode_feedback, decode_scored, encode_feedback
from pipeline.live_rules import read_rules
from pipeline.records import RawPosition, Scored
from pipeline.settings import Settings
from pipeline.store.engine import connect, prepare
from pipeline.store.transaction import Arrival, Store

BATCH: Final = Settings().worker.classify_batch_items
T = TypeVar("T")


def apart(function: Callable[..., T], *arguments: Any) -> T:
    """Call it in a fresh process."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def model_rate(some: Sequence[str]) -> float:
    """Texts a second of the shipped model, as a worker loads and feeds it."""
    settings = Settings().model
    classifier = load(settings.engine, settings.path, settings.threads)
    classifier.classify(some[:BATCH])
    started = time.perf_counter()
    for start in range(0, len(some), BATCH):
        classifier.classify(some[start : start + BATCH])
    return len(some) / (time.perf_counter() - started)


def part_costs(some: Sequence[str]) -> dict[str, float]:
    """Milliseconds an item of each part that is not the model, on one core."""
    now, spent = datetime.now(UTC), dict.fromkeys(("decode", "encode", "decode scored", "fold transaction"), 0.0)
    records = [
        RawRecord(partition=0, offset=index, key=None, value=encode_feedback(parse(item, now=now)))
        for index, item in enumerate(items(some, "part"))
    ]

    def timed(part: str, call: Callable[[], T]) -> T:
        started = time.perf_counter()
        result = call()
        spent[part] += time.perf_counter() - started
        return result

    model = Settings().model
    classifier = load(model.engine, model.path, model.threads)
    with tempfile.TemporaryDirectory(prefix="ovoz-parts-") as folder:
        engine = connect(f"sqlite:///{Path(folder) / 'ovoz.db'}")
        prepare(engine)
        store = Store(
            engine,
            detection=Engine(read_rules(None), dashboard_url=None),
            retention=timedelta(days=90),
            late_after=timedelta(minutes=5),
            alert_max_age=timedelta(hours=6),
        )
        offset = 0
        for start in range(0, len(records), BATCH):
            batch = records[start : start + BATCH]
            for record in batch:
                timed("decode", lambda record=record: decode_feedback(record.value))  # type: ignore[misc]
            outcome = classify(batch, log="raw", classifier=classifier, partitions=4, clock=time.perf_counter, now=now)
            arrivals = []
            for partition, scored in outcome.scored.items():
                for value in timed("encode", lambda scored=scored: list(scored_values(scored))):  # type: ignore[misc]
                    back = timed("decode scored", lambda value=value: decode_scored(value))  # type: ignore[misc]
                    arrivals.append(_arrival(partition, offset, back))
                    offset += 1
            timed("fold transaction", lambda arrivals=arrivals: store.fold(arrivals, now=now))  # type: ignore[misc]
        engine.dispose()
    return {part: seconds * 1000 / len(records) for part, seconds in spent.items()}


def _arrival(partition: int, offset: int, scored: Sequence[Scored]) -> Arrival:
    assert all(isinstance(item.raw, RawPosition) for item in scored)
    return Arrival(
        log="scored", topic="feedback.scored", partition=partition, offset=offset, scored=tuple(scored), dead=None
    )
