"""The OpenAPI file against the live server: schemathesis looks for an answer that the file does not foretell."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import requests
import schemathesis
import yaml
from hypothesis import HealthCheck, settings
from schemathesis import checks

from connectors.fakes.fake import Hook, Registering, Said, fake_of
from pipeline.broker import EmbeddedBroker
from pipeline.ingest import OPENAPI
from pipeline.settings import Connector
from tests.intake import ready, running

checks.load_all_checks()
config = schemathesis.Config.from_dict(
    {"checks": {"negative_data_rejection": {"expected-statuses": ["400", "401", "404", "405", "408", "413", "415"]}}}
)
described = yaml.safe_load(OPENAPI.read_text())
# Names that there are, so that more than the missing ones are tried.
(NAME,) = described["paths"]["/v1/hooks/{name}"]["parameters"]
NAME["schema"]["enum"] = ["team", "line", "trust", "nobody"]
schema = schemathesis.openapi.from_dict(described, config=config)
HOOKS = {"team": "slack", "line": "whatsapp", "trust": "intercom"}
FAKES = {name: fake_of(use) for name, use in HOOKS.items()}


@schemathesis.serializer("application/ndjson", "application/x-ndjson")
def as_sent(context: Any, value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogatepass")


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder, listening, found = tmp_path_factory.mktemp("intake"), threading.Event(), []
    ends: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    async def main(bootstrap: str, folder: Path) -> None:
        stop = asyncio.Event()
        tables = tuple(
            Connector(use=use, name=name, options=FAKES[name].table("http://127.0.0.1:1"), modes=("webhook",))
            for name, use in HOOKS.items()
        )
        environ = {key: value for fake in FAKES.values() for key, value in fake.environment.items()}
        async with running(folder, bootstrap, connectors=tables, environ=environ) as client:
            await ready(client)
            ends.append((asyncio.get_running_loop(), stop))
            found.append(str(client._base_url))
            listening.set()
            await stop.wait()

    with EmbeddedBroker() as broker:
        thread = threading.Thread(target=lambda: asyncio.run(main(broker.bootstrap, folder)))
        thread.start()
        assert listening.wait(30)
        yield found[0].rstrip("/")
        loop, stop = ends[0]
        loop.call_soon_threadsafe(stop.set)
        thread.join(15)


@schema.parametrize()
@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), database=None)
def test_every_answer_is_foretold(case: Any, url: str) -> None:
    # Left out: the file names a token that a server without tokens does not ask for; and what the schema
    # cannot say (min < max in a rating, the lines of NDJSON) is refused all the same.
    # Which methods a webhook takes depends on its vendor, and Allow names only those.
    vendor = ("allow_header_conformance",) if case.path.startswith("/v1/hooks") else ()
    left_out = [checks.CHECKS.get_one(name) for name in ("ignored_auth", "positive_data_acceptance", *vendor)]
    case.call_and_validate(base_url=url, excluded_checks=left_out)


@pytest.mark.parametrize("name", HOOKS)
def test_what_services_are_answered_is_foretold(name: str, url: str) -> None:
    fake, now = FAKES[name], datetime.now(UTC)
    assert isinstance(fake, Hook) and isinstance(fake, Registering)
    address = f"{url}/v1/hooks/{name}"
    said = Said(id="000001", text="The courier never came", at=now - timedelta(minutes=1))
    requests_sent = [*fake.deliveries(said, address, now), *(shake.request for shake in fake.handshakes(address, now)),
                     fake.signed(b"[]", address, now), fake.signed(b"", address, now)]  # fmt: skip
    statuses = set()
    for request in requests_sent:
        answer = requests.request(request.method, address, params=dict(request.query), data=request.body,
                                  headers=dict(request.headers), timeout=10)  # fmt: skip
        schema["/v1/hooks/{name}"][request.method].validate_response(answer)
        statuses.add(answer.status_code)
    assert statuses == {200, 400}
