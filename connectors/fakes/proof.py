"""What every connector must hold, for connectors that live in other packages: `await prove(name, fake)`.

The same promises as in the contract (connectors/connector.py); the project's own suite asks more of the shipped ones.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import aiohttp

from connectors.connector import MAX_CURSOR_BYTES, Connector, Cursor, Item, Page, Permanent, Reader, Retryable
from connectors.fakes.fake import Fake, Fault, Running, Said
from connectors.option import read
from connectors.registry import Context, declaration
from connectors.transport import Http

MANY = 230
PASSING = (
    Fault(status=429, headers={"Retry-After": "17"}), Fault(status=500), Fault(status=503), Fault(kind="html"),
    Fault(kind="cut"), Fault(status=200, body=b"[[[["), Fault(kind="silent"),
)  # fmt: skip


class Broken(AssertionError):
    """The connector breaks a promise; says which."""


async def prove(name: str, fake: Fake) -> None:
    """Run the connector `name` (shipped, or `package.module:name`) against a fake of its service. Raises Broken."""
    now = datetime.now(UTC)
    async with Running(fake) as service, aiohttp.ClientSession() as session:
        declared = declaration(name)
        context = Context(http=Http(session, lambda: datetime.now(UTC), 0.5), now=lambda: datetime.now(UTC))

        def made(environment: Mapping[str, str] = fake.environment) -> Connector:
            return declared.build(read(declared.config, service.table, environment), context)

        said = [
            Said(id=f"{n + 1:06d}", text=f"The courier never came, {n}", at=now - timedelta(hours=2, seconds=-n))
            for n in range(MANY if "since" in fake.can else 3)
        ]
        for one in said:
            fake.say(one)
        reader = _reader(made())
        start = reader.since(now - timedelta(days=1)) if "since" in fake.can else None
        pages = await _all(reader, start)
        found = _items(pages)
        _holds({item.text for item in found} == {one.text for one in said}, "everything that was said comes")
        _holds({item.created_at for item in found} <= {one.at for one in said}, "with the time at which it was said")
        every = {(item.external_id, item.version) for item in found}
        for stop, page in enumerate(pages):
            cursor = json.loads(json.dumps(page.cursor))
            size = len(json.dumps(cursor).encode())
            _holds(size <= MAX_CURSOR_BYTES, f"a cursor has at most {MAX_CURSOR_BYTES} bytes")
            rest = _items(await _all(_reader(made()), cursor))
            have = {(item.external_id, item.version) for item in _items(pages[: stop + 1]) + rest}
            _holds(have == every, f"nothing is lost when it goes on after page {stop + 1}")
        for fault in PASSING:
            service.faults.append(fault)
            await _raises(_reader(made()), Retryable, f"{fault.kind} {fault.status} passes, and is to be asked again")
            service.faults.clear()
        for status in (401, 403, 404):
            service.faults.extend([Fault(status=status)] * 3)
            await _raises(_reader(made()), Permanent, f"{status} is a refusal for good")
            service.faults.clear()
        if fake.environment:
            stranger = {key: f"wrong-{value}" for key, value in fake.environment.items()}
            told = await _raises(_reader(made(stranger)), Permanent, "wrong credentials are a refusal for good")
            shown = [secret for secret in stranger.values() if secret in told]
            _holds(not shown, "a secret is in no message")
        if "edit" in fake.can:
            fake.edit(said[1].id, "It came after all", now)
            after = _items(await _all(_reader(made()), pages[-1].cursor))
            newer = [item for item in after if "It came after all" in item.text]
            before = max(item.version for item in found if item.text == said[1].text)
            _holds(any(item.version > before for item in newer), "an edit comes as a newer version")


def _reader(made: Connector) -> Reader:
    if not isinstance(made, Reader):
        raise Broken("it has no pages(), so there is nothing to ask")
    return made


async def _all(reader: Reader, cursor: Cursor | None) -> list[Page]:
    return [page async for page in reader.pages(cursor, follow=False)]


def _items(pages: list[Page]) -> list[Item]:
    return [item for page in pages for item in page.items]


async def _raises(reader: Reader, kind: type[Exception], promise: str) -> str:
    try:
        await _all(reader, None)
    except kind as error:
        return f"{error}{error!r}"
    raise Broken(f"it does not hold that {promise}")


def _holds(true: bool, promise: str) -> None:
    if not true:
        raise Broken(f"it does not hold that {promise}")
