"""`ovoz audit` and `ovoz store upgrade`."""

from __future__ import annotations

from pathlib import Path

import click

from pipeline.cli.shared import DONE, FAILED, command, settings_of, with_config


@command("audit", short_help="Compare broker, ledger, items and counts.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of lines.")
def audit(as_json: bool, config: Path | None) -> int:
    """Compare what the broker holds with the ledger, the items and their counts, and say what differs.

    Every cell is counted again from the items. While items are on their way, they differ: let the workers
    catch up first. Exit status 1 when anything differs.

    \b
    Example:
        ovoz audit && echo exact
    """
    import orjson

    from pipeline import audit as auditing
    from pipeline.store.engine import connect

    settings = settings_of(config)
    engine = connect(settings.store.url)
    try:
        result = auditing.audit(settings.kafka, engine)
    finally:
        engine.dispose()
    if as_json:
        click.echo(orjson.dumps({"facts": result.facts, "differences": result.differences}))
    else:
        width = max(map(len, result.facts), default=0)
        for fact, number in result.facts.items():
            click.echo(f"{fact:<{width}}  {number:>12,}")
        for difference in result.differences:
            click.echo(f"differs: {difference}")
        click.echo("exact" if not result.differences else f"{len(result.differences)} differences")
    return FAILED if result.differences else DONE


@click.group("store", short_help="Look after the database.")
def store() -> None:
    """Look after the database that [store] url names."""


@store.command("upgrade")
@with_config
def upgrade(config: Path | None) -> int:
    """Bring the database's schema to this version of Ovoz; an empty database gets it whole.

    Stop the workers first, and make a backup. It may be run again at any time.

    \b
    Example:
        OVOZ_STORE_URL=postgresql://ovoz:…@db/ovoz ovoz store upgrade
    """
    from pipeline.settings_kinds import hide_password
    from pipeline.store.engine import connect
    from pipeline.store.engine import upgrade as migrate

    settings = settings_of(config)
    engine = connect(settings.store.url)
    try:
        before, now = migrate(engine)
    finally:
        engine.dispose()
    where = hide_password(settings.store.url)
    click.echo(f"{where}: already at schema {now}" if before == now else f"{where}: schema {before or 'none'} → {now}")
    return DONE
