"""A real worker with one thing changed: another classifier, or a safeguard switched off.

`python -m benchmarks.worker --help`; used by the exactness proof and by the pipeline benchmark.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import sys
from dataclasses import fields
from pathlib import Path

from benchmarks.keyword import KeywordClassifier
from pipeline.settings import load
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
    chosen = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    tune_interpreter()
    status = asyncio.run(_run(chosen))
    if status == RESTART:
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
    os._exit(status)


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
