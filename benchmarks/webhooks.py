"""How many signed webhooks one core takes, beside a bare aiohttp handler in the same run.

    python -m benchmarks.webhooks

Both servers run pinned to one core, one after the other, under the same load from the other cores: keep-alive
connections that send Slack events, each with a signature and id of its own. The bare handler reads the body and
answers; ours checks the signature, redacts, publishes and answers after the broker's acknowledgement.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import psutil
from aiohttp import web

from benchmarks.processes import Running
from benchmarks.servers import EmbeddedBroker
from connectors.fakes.fake import Said
from connectors.fakes.slack import FakeSlack
from pipeline.settings_file import toml

PATH: Final = "/v1/hooks/team"
CONNECTIONS: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """Requests answered in so many seconds; `slow_ms`: 99 of 100 took at most so long; `refused`: not with 200.

    `cpu_s`: processor time that the server took for them, all its threads.
    """

    requests: int
    seconds: float
    slow_ms: float
    refused: int
    cpu_s: float = 0.0

    @property
    def per_s(self) -> float:
        """Requests a second."""
        return self.requests / self.seconds

    @property
    def per_core_s(self) -> float:
        """Requests for each second of processor time: what a core does that does nothing else."""
        return self.requests / self.cpu_s


def events(count: int, first: int) -> list[bytes]:
    """Whole HTTP requests, signed now."""
    slack, now, out = FakeSlack(), datetime.now(UTC), []
    for number in range(first, first + count):
        said = Said(id=f"{number:06d}", text=f"The courier never came, order number {number}", at=now)
        request = slack.deliveries(said, PATH, now)[0]
        head = "".join(f"{name}: {value}\r\n" for name, value in request.headers.items())
        start = f"POST {PATH} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(request.body)}\r\n{head}\r\n"
        out.append(start.encode() + request.body)
    return out


async def fire(port: int, requests: Sequence[bytes]) -> Pace:
    """Send all over a few connections, each waiting for its answer before the next."""
    waiting, took, refused = iter(requests), list[float](), 0

    async def one() -> None:
        nonlocal refused
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for request in waiting:
            began = time.perf_counter()
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
            await reader.readexactly(length)
            took.append(time.perf_counter() - began)
            refused += not head.startswith(b"HTTP/1.1 200")
        writer.close()

    began = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(CONNECTIONS)))
    seconds = time.perf_counter() - began
    return Pace(requests=len(took), seconds=seconds, slow_ms=sorted(took)[len(took) * 99 // 100] * 1e3, refused=refused)


def bare() -> None:
    """The server to compare with: reads the body and answers."""

    async def handle(request: web.Request) -> web.Response:
        await request.read()
        return web.Response()

    async def serve() -> None:
        app = web.Application()
        app.router.add_post(PATH, handle)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        print(f"http://127.0.0.1:{runner.addresses[0][1]}", flush=True)
        await asyncio.Event().wait()

    asyncio.run(serve())


def measure(count: int, rounds: int, folder: Path) -> tuple[list[Pace], list[Pace]]:
    """(bare, ours) of each round, the two in turns."""
    fake, cores = FakeSlack(), sorted(os.sched_getaffinity(0))
    with EmbeddedBroker() as broker:
        config = folder / "ovoz.toml"
        own = "".join(f"{key} = {toml(value)}\n" for key, value in fake.table("").items())
        config.write_text(
            f'[kafka]\nbootstrap = "{broker.bootstrap}"\n[store]\nurl = "sqlite:///{folder}/ovoz.db"\n'
            f'[ingest]\nport = 0\ndata_dir = "{folder}"\n[[connector]]\nuse = "slack"\nname = "team"\n{own}'
        )
        os.environ.update(fake.environment)
        servers = [
            Running(folder / "bare.log", ["benchmarks.webhooks", "--bare"]),
            Running(folder / "ours.log", ["pipeline", "ingest", "--config", str(config)]),
        ]
        paces: tuple[list[Pace], list[Pace]] = ([], [])
        try:
            for server in servers:
                server.wait_ready()
                os.sched_setaffinity(server.pid, {cores[0]})
            os.sched_setaffinity(0, set(cores[1:]) or set(cores))
            time.sleep(1.0)
            for turn in range(rounds + 1):
                for found, server in zip(paces, servers, strict=True):
                    port = int(server.url.split(":")[2].split("/")[0])
                    requests, before = events(count, 1 + turn * count), _cpu_s(server.pid)
                    pace = asyncio.run(fire(port, requests))
                    found.append(replace(pace, cpu_s=_cpu_s(server.pid) - before))
        finally:
            for server in servers:
                server.stop()
            os.sched_setaffinity(0, set(cores))
    # The first round warms both up.
    return paces[0][1:], paces[1][1:]


def _cpu_s(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


def main() -> int:
    """Measure and print; exit status 1 when a request was refused."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0], prog="python -m benchmarks.webhooks")
    parser.add_argument("--requests", type=int, default=10_000, help="in each round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--bare", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.bare:
        bare()
        return 0
    with tempfile.TemporaryDirectory(prefix="ovoz-webhooks-") as folder:
        others, ours = measure(given.requests, given.rounds, Path(folder))
    rounds = list(zip(ours, others, strict=True))
    by_core = sorted(mine.per_core_s / other.per_core_s for mine, other in rounds)
    by_clock = sorted(mine.per_s / other.per_s for mine, other in rounds)
    for name, paces in (("bare aiohttp", others), ("ovoz ingest", ours)):
        middle = sorted(paces, key=lambda pace: pace.per_core_s)[len(paces) // 2]
        print(f"{name:<13} {middle.per_core_s:6.0f} requests for each second of processor time; as busy as the "
              f"machine was, {middle.per_s:.0f}/s, 99 of 100 within {middle.slow_ms:.0f} ms (median)")  # fmt: skip
    for name, ratios in (("processor time", by_core), ("the clock", by_clock)):
        span = f"{ratios[0]:.2f} to {ratios[-1]:.2f}"
        print(f"ratio         {ratios[len(ratios) // 2]:.2f} by {name} (of {len(ratios)} rounds, {span})")
    refused = sum(pace.refused for pace in (*others, *ours))
    if refused:
        print(f"{refused} requests were not answered with 200", file=sys.stderr)
    return 1 if refused else 0


if __name__ == "__main__":
    raise SystemExit(main())
