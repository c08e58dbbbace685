"""`ovoz connectors`: what there is to connect to, how to set it up, and whether it works."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.cli.shared import DONE, FAILED, Failed, one_line, settings_of, with_config

if TYPE_CHECKING:
    from datetime import datetime

    from connectors.connector import Item, Skipped
    from connectors.registry import Declaration
    from pipeline.connector_build import Built
    from pipeline.settings import Connector, Settings

MAX_PAGES = 5
"""Pages that are asked for until one has something in it."""


@click.group("connectors", invoke_without_command=True, short_help="List connectors, show and test them.")
@click.pass_context
def connectors(context: click.Context) -> int:
    """List what Ovoz can listen to; show how to set one up; try it out.

    \b
    Example:
        ovoz connectors
        ovoz connectors show trustpilot >> ovoz.toml
        ovoz connectors test trustpilot
    """
    return DONE if context.invoked_subcommand else _list()


@connectors.command("list", short_help="List every connector with its limits.")
def list_() -> int:
    """List every connector: kind, modes, what resuming can bring back, and what the service does not give."""
    return _list()


def _list() -> int:
    from connectors.registry import declaration, names
    from pipeline.connector_page import sample

    for name in names():
        found = declaration(name)
        click.echo(f"{name:<14} {found.kind:<8} {', '.join(found.modes):<16} {sample(found):<17} {found.title}")
        click.echo(f"{'':<14} resuming: {found.cursor}")
        for limit in found.limits:
            click.echo(f"{'':<14} limit: {limit}")
    return DONE


@connectors.command("show", short_help="Print a commented table for ovoz.toml.")
@click.argument("name")
def show(name: str) -> int:
    """Print a commented [[connector]] table for NAME, to be put into ovoz.toml.

    NAME is one that `ovoz connectors` lists, or `package.module:name` of a connector of your own.

    \b
    Example:
        ovoz connectors show trustpilot >> ovoz.toml
    """
    from pipeline.connector_page import config

    click.echo(config(_declared(name)), nl=False)
    return DONE


@connectors.command("test", short_help="Make one request and show what would be taken.")
@click.argument("name")
@click.option("--against-fake", is_flag=True, help="Ask a built-in imitation of the service; needs no settings.")
@click.option("--limit", type=click.IntRange(1, 1000), default=5, show_default=True, help="Items to show.")
@with_config
def test(name: str, against_fake: bool, limit: int, config: Path | None) -> int:
    """Ask a service once with the settings of the instance NAME and show what would be taken. Nothing is written.

    What is shown is what would reach Kafka: after personal data was taken out. With --against-fake NAME is a
    connector, and what is asked is a server on this machine that keeps the service's rules.

    \b
    Example:
        ovoz connectors test shop
        ovoz connectors test trustpilot --against-fake
    """
    settings = settings_of(config)
    if against_fake:
        return asyncio.run(_against_fake(name, settings, limit))
    return asyncio.run(_ask(table_of(settings, name), settings, os.environ, limit))


def table_of(settings: Settings, name: str) -> Connector:
    """The [[connector]] table of this name. Raises Failed."""
    for table in settings.connector:
        if table.name == name:
            return table
    there = ", ".join(table.name for table in settings.connector) or "none"
    raise Failed(
        f"no [[connector]] is named {name!r} in the settings; there are: {there}. "
        f"`ovoz connectors show {one_line(name, 60)}` prints a table to begin with"
    )


def _declared(name: str) -> Declaration:
    from connectors.registry import UnknownConnector, declaration

    try:
        return declaration(name)
    except UnknownConnector as error:
        raise Failed(str(error)) from None


async def _against_fake(name: str, settings: Settings, limit: int) -> int:
    from contextlib import AsyncExitStack
    from datetime import UTC, datetime, timedelta

    from connectors.fakes.fake import FAKES, Hook, OnBroker, Running, Said, fake_of
    from pipeline.broker import EmbeddedBroker
    from pipeline.settings import Connector

    declared = _declared(name)
    if name not in FAKES:
        raise Failed(f"there is no imitation of {name}: set it up and test that")
    fake, now = fake_of(name), datetime.now(UTC)
    at = now - timedelta(minutes=5)
    async with AsyncExitStack() as stack:
        if isinstance(fake, OnBroker):
            fake.bootstrap = stack.enter_context(EmbeddedBroker()).bootstrap
        service = await stack.enter_async_context(Running(fake))
        said = [
            Said(id=f"{100_000 + number}", text=text, at=at + timedelta(seconds=number))
            for number, text in enumerate(
                ("The courier never came, call me on +998 90 123 45 67", "Всё отлично, спасибо! Мой адрес a.b@mail.uz")
            )
        ]
        for one in said:
            fake.say(one)
        table = Connector(use=name, name=name, options=service.table)
        if "poll" in declared.modes or "stream" in declared.modes or not isinstance(fake, Hook):
            since = at - timedelta(minutes=1) if "since" in fake.can else None
            return await _ask(table, settings, fake.environment, limit, since)
        requests = [request for one in said for request in fake.deliveries(one, f"http://localhost/{name}", now)]
        return await _deliver(table, settings, fake.environment, requests, limit)


async def _deliver(
    table: Connector, settings: Settings, environ: Mapping[str, str], requests: list[Any], limit: int
) -> int:
    from dataclasses import replace
    from datetime import UTC, datetime

    async with _opened(table, environ) as built:
        if built.receiver is None:
            raise Failed(f"{table.name} has no webhook")
        items: list[Item] = []
        for request in requests:
            delivery = await built.receiver.receive(replace(request, received_at=datetime.now(UTC)))
            items += delivery.items
        return _shown(built, settings, items, [], limit)


async def _ask(
    table: Connector, settings: Settings, environ: Mapping[str, str], limit: int, since: datetime | None = None
) -> int:
    from contextlib import aclosing

    from connectors.connector import Retryable, Verdict

    async with _opened(table, environ) as built:
        if built.reader is None:
            click.echo(
                f"{table.name} is told by webhook and cannot be asked: its settings are right. Give the service the "
                f"address /v1/hooks/{table.name} of this intake, or try `ovoz connectors test "
                f"{built.declaration.name} --against-fake`"
            )
            return DONE
        items: list[Item] = []
        skipped: list[Skipped] = []
        asked = 0
        try:
            async with asyncio.timeout(60), aclosing(_pages(built, since)) as pages:
                async for page in pages:
                    items += page.items
                    skipped += page.skipped
                    if page.quota is not None:
                        reset = page.quota.reset_at
                        click.echo(f"quota: {page.quota.remaining} requests left until {reset:%H:%M:%S} UTC", err=True)
                    asked += 1
                    if items or skipped or asked == MAX_PAGES:
                        break
        except TimeoutError:
            raise Failed(f"{table.name}: no answer within 60 s") from None
        except Verdict as verdict:
            kind = "asks to try again later" if isinstance(verdict, Retryable) else "refuses"
            raise Failed(f"{table.name}: the service {kind}: {verdict}") from None
        return _shown(built, settings, items, skipped, limit)


def _pages(built: Built, since: datetime | None) -> Any:
    assert built.reader is not None  # noqa: S101
    return built.reader.pages(None if since is None else built.reader.since(since), follow=False)


def _shown(built: Built, settings: Settings, items: list[Item], skipped: list[Skipped], limit: int) -> int:
    import json
    from datetime import UTC, datetime

    from pipeline.codec import encode_feedback
    from pipeline.conversion import convert
    from pipeline.redact import Redactor

    redactor = Redactor(settings.privacy, b"shown, and kept nowhere")
    converted = convert(items, skipped, built.origin, redactor, now=datetime.now(UTC))
    for feedback in converted.feedback[:limit]:
        shown = {key: value for key, value in json.loads(encode_feedback(feedback)).items() if key != "v"}
        shown |= {"created_at": feedback.created_at.isoformat(), "received_at": feedback.received_at.isoformat()}
        click.echo(one_line(json.dumps(shown, ensure_ascii=False), 2000))
    for letter in converted.letters[:limit]:
        click.echo(one_line(f"unreadable, {letter.origin}: {letter.detail}"), err=True)
    total, bad = len(converted.feedback), len(converted.letters)
    click.echo(
        f"{built.table.name}: {total} item{'s' if total != 1 else ''} would be taken, {bad} could not be read; "
        "nothing was written",
        err=True,
    )
    return FAILED if bad and not total else DONE


class _opened:
    """`async with _opened(table, environ) as built:` a connector with a session of its own."""

    def __init__(self, table: Connector, environ: Mapping[str, str]) -> None:
        self._table = table
        self._environ = environ
        self._session: Any = None

    async def __aenter__(self) -> Built:
        from datetime import UTC, datetime

        import aiohttp

        from connectors.registry import Context
        from connectors.transport import Http
        from pipeline.connector_build import build

        def now() -> datetime:
            return datetime.now(UTC)

        self._session = aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar())
        try:
            return build(self._table, Context(http=Http(self._session, now), now=now), self._environ)
        except BaseException:
            await self._session.close()
            raise

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()
