"""A real worker with one thing changed: another classifier, or a safeguard switched off.

`python -m benchmarks.worker --help`; used by the exactness proof and by the pipeline benchmark.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

from alerts.engine import Engine
from benchmarks.keyword import KeywordClassifier
from pipeline.settings import load
from pipeline.store import duplicates, incidents, memory
from pipeline.store.transaction import Safeguards
from pipeline.worker import RESTART, Worker, tune_interpreter


def main() -> int:
    """Run until SIGTERM."""
    names = [field.name for field in fields(Safeguards)]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--stage", default="all")
    parser.add_argument("--model", choices=("keyword", "settings"), default="keyword")
    parser.add_argument("--without", choices=names, action="append", default=[], help="switch a safeguard off")
    parser.add_argument("--delay-ms", type=float, default=0.0, help="least duration of a batch of the keyword model")
    parser.add_argument("--account", type=Path, help="file to keep writing processor seconds to, by part, as JSON")
    chosen = parser.parse_args()
    if chosen.account:
        _account(chosen.account)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    tune_interpreter()
    status = asyncio.run(_run(chosen))
    if status == RESTART:
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
    os._exit(status)


def _account(file: Path) -> None:
    """Measure the processor time of what alerts add, and of the process.

    `rules`: the engine; `states`: what it takes to keep what detectors know; `near-duplicates`: with their rows.
    """
    spent = {"rules": 0.0, "states": 0.0, "near-duplicates": 0.0}
    inside = [""]

    def timed(part: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(*arguments: Any, **named: Any) -> Any:
            outer, inside[0] = inside[0], part
            began = time.thread_time()
            try:
                return call(*arguments, **named)
            finally:
                took = time.thread_time() - began
                spent[part] += took
                inside[0] = outer
                if outer:
                    spent[outer] -= took

        return wrapper

    def write() -> None:
        while True:
            new = file.with_suffix(".new")
            new.write_text(json.dumps({**spent, "process": time.process_time()}))
            new.replace(file)
            time.sleep(0.2)

    Engine.evaluate = timed("rules", Engine.evaluate)  # type: ignore[method-assign]
    Engine.tick = timed("rules", Engine.tick)  # type: ignore[method-assign]
    incidents.observe = timed("states", incidents.observe)
    incidents.tick = timed("states", incidents.tick)
    memory.Memory.open = timed("states", memory.Memory.open)  # type: ignore[method-assign]
    memory.Remembered.write = timed("states", memory.Remembered.write)  # type: ignore[method-assign]
    duplicates.mark = timed("near-duplicates", duplicates.mark)
    threading.Thread(target=write, daemon=True).start()


async def _run(chosen: argparse.Namespace) -> int:
    safeguards = Safeguards(**{name: False for name in chosen.without})
    classifier = KeywordClassifier(chosen.delay_ms / 1000) if chosen.model == "keyword" else None
    settings = load(chosen.config, {})
    worker = Worker(settings, chosen.stage, classifier=classifier, safeguards=safeguards)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, worker.stop)
    return await worker.run(lambda url: print("ready", url, flush=True))


if __name__ == "__main__":
    sys.exit(main())
