"""`ovoz dead list|show|requeue`: what could not be read, and putting it back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from pipeline.cli.shared import DONE, FAILED, Failed, one_line, settings_of, with_config

if TYPE_CHECKING:
    import sqlalchemy as sa

    from pipeline.store.read import DeadEntry

ALL: Final = 1_000_000


@click.group("dead", short_help="List, show and put back dead letters.")
def dead() -> None:
    """Dead letters: everything that could not be read, kept whole, with the reason.

    \b
    Example:
        ovoz dead list --reason json
        ovoz dead show 4f1c
        ovoz dead requeue 4f1c
    """


@dead.command("list")
@click.option("--reason", help="Only those with this reason, such as json or schema.")
@click.option("--requeued/--waiting", default=None, help="Only those put back, or only those not; default: both.")
@click.option("--limit", type=click.IntRange(1, ALL), default=50, show_default=True, help="At most so many.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@with_config
def list_(reason: str | None, requeued: bool | None, limit: int, as_json: bool, config: Path | None) -> int:
    """List dead letters, newest first: id, time, stage, reason, origin, detail.

    \b
    Example:
        ovoz dead list --waiting --limit 10
    """
    import orjson

    from pipeline.store import read
    from pipeline.store.read import reading

    with _store(config) as engine, reading(engine) as connection:
        entries = read.dead_letters(connection, reason=reason, requeued=requeued, limit=limit)
        waiting = read.dead_count(connection)
    if as_json:
        for entry in entries:
            click.echo(orjson.dumps(fields_of(entry)))
        return DONE
    for entry in entries:
        put_back = " (put back)" if entry.requeued_at else ""
        click.echo(
            f"{entry.dead_id}  {entry.failed_at:%Y-%m-%d %H:%M:%S}Z  {entry.stage}  {entry.reason}  "
            f"{one_line(entry.origin, 80)}  {one_line(entry.detail, 100)}{put_back}"
        )
    click.echo(f"{len(entries)} shown, {waiting} wait", err=True)
    return DONE


@dead.command("show")
@click.argument("ids", nargs=-1, required=True, metavar="ID…")
@click.option("--raw", is_flag=True, help="Write the payload's bytes and nothing else.")
@with_config
def show(ids: tuple[str, ...], raw: bool, config: Path | None) -> int:
    """Show dead letters whole. ID may be the beginning of an id.

    \b
    Example:
        ovoz dead show 4f1c
        ovoz dead show --raw 4f1c > payload.bin
    """
    with _store(config) as engine:
        entries = _find(engine, ids)
    for entry in entries:
        if raw:
            click.echo(entry.payload, nl=False)
            continue
        for name, value in fields_of(entry).items():
            click.echo(f"{name}: {one_line(str(value), 100_000)}")
        click.echo("")
    return DONE


@dead.command("requeue")
@click.argument("ids", nargs=-1, metavar="[ID…]")
@click.option("--all", "everything", is_flag=True, help="All that wait, instead of ids.")
@click.option("--reason", help="With --all: only those with this reason.")
@with_config
def requeue(ids: tuple[str, ...], everything: bool, reason: str | None, config: Path | None) -> int:
    """Put dead letters back into the raw topic, for another try: after a fix, or a new release.

    The bytes go back as they were; what is still unreadable becomes a dead letter again. Lines that
    `ovoz replay` could not read, and what a connector could not read in a service's answer, cannot become
    readable here and are passed over: mend the file and replay it, or backfill the connector.

    \b
    Example:
        ovoz dead requeue --all --reason schema_version
    """
    if bool(ids) == everything:
        raise click.UsageError("name the ids to put back, or pass --all")
    from pipeline.bus import Bus
    from pipeline.store import read
    from pipeline.store.read import reading
    from pipeline.topics import Topics

    settings = settings_of(config)
    with _store(config) as engine:
        if everything:
            with reading(engine) as connection:
                entries = read.dead_letters(connection, reason=reason, requeued=False, limit=ALL)
        else:
            entries = _find(engine, ids)
        lines = [entry for entry in entries if entry.stage in ("replay", "connector")]
        entries = [entry for entry in entries if entry not in lines]
        bus = Bus(settings.kafka)
        try:
            for start in range(0, len(entries), 500):
                part = entries[start : start + 500]
                records = [(entry.key or entry.dead_id.encode(), entry.payload) for entry in part]
                for future in bus.send(Topics.of(settings.kafka).raw.name, records):
                    future.result(timeout=60)
                read.mark_requeued(engine, [entry.dead_id for entry in part], datetime.now(UTC))
        finally:
            bus.close()
    click.echo(f"put back {len(entries)}")
    if lines:
        what = "mend the files and replay them; what a connector could not read comes again with `ovoz backfill`"
        click.echo(f"passed over {len(lines)} that never were records: {what}", err=True)
    return FAILED if lines and not entries else DONE


def fields_of(entry: DeadEntry) -> dict[str, Any]:
    """A dead letter as it is printed; bytes that are no UTF-8 are shown escaped."""
    return {
        "id": entry.dead_id,
        "failed_at": entry.failed_at.isoformat(),
        "stage": entry.stage,
        "reason": entry.reason,
        "detail": entry.detail,
        "origin": entry.origin,
        "key": None if entry.key is None else entry.key.decode("utf-8", "backslashreplace"),
        "requeued_at": entry.requeued_at.isoformat() if entry.requeued_at else None,
        "payload": entry.payload.decode("utf-8", "backslashreplace"),
    }


@contextmanager
def _store(config: Path | None) -> Iterator[sa.Engine]:
    from pipeline.store.engine import connect, prepare

    engine = connect(settings_of(config).store.url)
    try:
        prepare(engine)
        yield engine
    finally:
        engine.dispose()


def _find(engine: sa.Engine, ids: tuple[str, ...]) -> list[DeadEntry]:
    from pipeline.store import read
    from pipeline.store.read import reading

    with reading(engine) as connection:
        found = read.dead_letters(connection, ids=ids, limit=len(ids))
        missing = [i for i in ids if i not in {entry.dead_id for entry in found}]
        # Few letters wait as a rule, and beginnings of ids are for people: looking through all is fine.
        everything = read.dead_letters(connection, limit=ALL) if missing else []
    for beginning in missing:
        matches = [entry for entry in everything if entry.dead_id.startswith(beginning)]
        if len(matches) != 1:
            what = "no dead letter has" if not matches else f"{len(matches)} dead letters have"
            raise Failed(f"{what} an id that begins with {one_line(beginning, 80)}: see `ovoz dead list`")
        found += matches
    return found
