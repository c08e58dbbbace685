"""`ovoz demo`: what it shows without a terminal, how it ends, and that nothing of it stays behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.command import environment, ovoz
from tests.plant import until

pytestmark = pytest.mark.timeout(180)


def descendants(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


def start(folder: Path, *arguments: str) -> tuple[subprocess.Popen[bytes], Path]:
    log = folder / "said"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "pipeline", "demo", *arguments], cwd=folder, stdin=subprocess.DEVNULL,
            stdout=output, stderr=output, env=environment(TMPDIR=str(folder)), start_new_session=True,
        )  # fmt: skip
    return process, log


@pytest.mark.slow
def test_the_whole_day_ends_with_status_0_and_a_summary_in_plain_lines(tmp_path: Path) -> None:
    begun = time.monotonic()
    done = ovoz("demo", "--for", "60", cwd=tmp_path, timeout=100, TMPDIR=str(tmp_path))
    took = time.monotonic() - begun
    said = done.stdout.decode()
    assert done.returncode == 0, said + done.stderr.decode()
    assert 45 < took < 75
    assert "\x1b" not in said and "Traceback" not in said + done.stderr.decode()
    summary = said[said.index("Summary") :]
    for line in ("sent ", "counted ", "alert ", "every record accounted for", "latency ", "model ", "all well"):
        assert line in summary, summary
    assert "http://127.0.0.1:" in said and "/metrics" in said and "/v1/feedback" in said
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_within_5_s_and_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    process, log = start(tmp_path)
    until(lambda: b"/metrics" in log.read_bytes() and len(descendants(process)) >= 3, 60, log.read_text)
    family = descendants(process)
    if number == signal.SIGTERM:
        until(lambda: b"items" in log.read_bytes(), 60, log.read_text)
    process.send_signal(number)
    assert process.wait(5 if os.getloadavg()[0] < 4 else 10) == 130, log.read_text()
    assert not [one for one in family if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]
    assert "ended early" in log.read_text() or "Summary" in log.read_text()
    log.unlink()
    assert list(tmp_path.iterdir()) == []


def test_not_even_kill_9_leaves_a_process(tmp_path: Path) -> None:
    process, log = start(tmp_path)
    until(lambda: len(descendants(process)) >= 3, 60, log.read_text)
    family = descendants(process)
    process.kill()
    process.wait(5)
    until(lambda: not [one for one in family if one.is_running() and one.status() != psutil.STATUS_ZOMBIE], 10)


def test_a_part_that_dies_ends_it_with_the_reason_and_its_last_lines(tmp_path: Path) -> None:
    process, log = start(tmp_path)
    until(lambda: b"/metrics" in log.read_bytes(), 60, log.read_text)
    (worker,) = [one for one in descendants(process) if "worker" in one.cmdline()]
    worker.kill()
    assert process.wait(15) == 1
    assert "`ovoz worker` ended by itself with status -9" in log.read_text()
