"""HTTP of a worker: `/metrics` for Prometheus, `/healthz` and `/readyz` for whoever keeps it running; `/quotes`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from aiohttp import web
from prometheus_client import generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from pipeline.metrics import WorkerMetrics
from pipeline.quotes_page import PATH, QuotesPage


class Exporter:
    """Serves the metrics of one worker; rendering happens off the event loop."""

    def __init__(
        self, metrics: WorkerMetrics, ready: Callable[[], str | None], quotes: QuotesPage | None = None
    ) -> None:
        self._quotes = quotes
        self._metrics = metrics
        self._ready = ready
        self._renderer = ThreadPoolExecutor(1, thread_name_prefix="metrics")
        self._runner: web.AppRunner | None = None

    async def start(self, host: str, port: int) -> str:
        """Listen, and return the URL of /metrics. Raises OSError where the address is taken."""
        app = web.Application()
        app.router.add_get("/metrics", self._render)
        app.router.add_get("/healthz", self._health)
        app.router.add_get("/readyz", self._readiness)
        if self._quotes is not None:
            app.router.add_get(PATH, self._quotes.handle)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, host, port)
        await site.start()
        bound = site._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]
        return f"http://{host}:{bound}/metrics"

    async def stop(self) -> None:
        """Close the server."""
        if self._runner is not None:
            await self._runner.cleanup()
        self._renderer.shutdown(wait=False)

    async def _render(self, _: web.Request) -> web.Response:
        loop = asyncio.get_running_loop()
        body = await loop.run_in_executor(self._renderer, generate_latest, self._metrics.registry)
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4})

    async def _health(self, _: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def _readiness(self, _: web.Request) -> web.Response:
        missing = self._ready()
        if missing is None:
            return web.json_response({"status": "ready"})
        return web.json_response({"status": "waiting", "for": missing}, status=503)
