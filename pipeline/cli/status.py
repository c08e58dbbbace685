"""`ovoz status`: how far the workers are, what comes in, from where, and what is wrong."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.cli.shared import DONE, FAILED, command, one_line, settings_of

if TYPE_CHECKING:
    from rich.table import Table

    from pipeline.settings import Settings


@command("status", short_help="Show lag, rates, sources and alerts.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of tables.")
def status(as_json: bool, config: Path | None) -> int:
    """Show the lag of each topic partition, the rates and last event of each source, and what is wrong.

    lag = records that the workers have still to do; unaccounted = raw records without an outcome in the
    store. Exit status 1 when broker or store is away; what can be read is shown nevertheless.

    \b
    Example:
        ovoz status
        ovoz status --json | jq .unaccounted
    """
    import orjson

    seen = gather(settings_of(config), datetime.now(UTC))
    if as_json:
        click.echo(orjson.dumps(seen, option=orjson.OPT_NON_STR_KEYS))
    else:
        _print(seen)
    for part in ("broker", "store"):
        if seen[part] != "ok":
            click.echo(f"ovoz: {part} is away: {one_line(seen[part])}", err=True)
    return DONE if seen["broker"] == seen["store"] == "ok" else FAILED


def gather(settings: Settings, now: datetime) -> dict[str, Any]:
    """Everything that is shown, as JSON would have it; what could not be read is None."""
    from pipeline.bus import BrokerAway, admin
    from pipeline.ledger import Ledger, size
    from pipeline.store import connectors, read
    from pipeline.store.engine import StoreAway, StoreError, connect, prepare
    from pipeline.topics import Topics

    seen: dict[str, Any] = {"at": now.isoformat(), "broker": "ok", "store": "ok", "lag": None, "sources": None,
                            "connectors": None, "gaps": None, "unaccounted": None, "dead_letters": None,
                            "alerts": None}  # fmt: skip
    topics, ends, log = Topics.of(settings.kafka), {}, None
    try:
        with admin(settings.kafka) as client:
            log, ends = client.log_identity(topics.raw.name), client.ends(topics.raw.name)
            seen["lag"] = [
                row
                for topic, stage in ((topics.raw, "classify"), (topics.scored, "fold"), (topics.dead, "fold"))
                for row in lag(
                    topic.name,
                    client.ends(topic.name),
                    client.committed(f"{settings.worker.group}-{stage}", topic.name),
                )
            ]
    except BrokerAway as error:
        seen["broker"] = str(error)
    try:
        engine = connect(settings.store.url)
        try:
            prepare(engine)
            with read.reading(engine) as connection:
                states = read.source_states(connection, now)
                seen["dead_letters"] = read.dead_count(connection)
                seen["alerts"] = [dict(alert.labels) for alert in read.alerts(connection, state="firing")]
                ledgers = read.ledgers(connection, log) if log is not None else None
                followed, missing = connectors.progress(connection), connectors.latest_gaps(connection)
        finally:
            engine.dispose()
    except (StoreAway, StoreError) as error:
        seen["store"] = str(error)
        return seen
    seen["sources"] = [
        {
            "workspace": state.workspace,
            "source": state.source,
            "last_event": state.last_event.isoformat(),
            "last_success": state.last_success.isoformat(),
            "per_minute_1m": float(state.items_1m),
            "per_minute_5m": state.items_5m / 5,
            "per_minute_1h": state.items_1h / 60,
        }
        for state in states
    ]
    seen["connectors"] = [
        {
            "connector": one.run.source,
            "name": one.run.instance,
            "run": one.run.purpose,
            "state": one.state,
            "message": one.message,
            "last_success": one.last_success and one.last_success.isoformat(),
            "last_event": one.last_event and one.last_event.isoformat(),
            "items": one.items,
        }
        for one in followed
    ]
    seen["gaps"] = [
        {
            "workspace": one.workspace,
            "connector": one.source,
            "name": one.instance,
            "since": one.since.isoformat(),
            "until": one.until.isoformat(),
            "reason": one.reason,
        }
        for one in missing
    ]
    if ledgers is not None:
        accounts = {partition: ledgers[partition][0] if partition in ledgers else Ledger(low=0) for partition in ends}
        seen["unaccounted"] = sum(size(accounts[p].holes(end)) for p, (_, end) in ends.items())
    return seen


def lag(topic: str, ends: Mapping[int, tuple[int, int]], committed: Mapping[int, int]) -> list[dict[str, Any]]:
    """One row a partition: records kept, where the workers stand, and how many they have still to do."""
    return [
        {
            "topic": topic,
            "partition": partition,
            "first": first,
            "end": end,
            "committed": committed.get(partition),
            "lag": max(0, end - min(end, max(first, committed.get(partition, first)))),
        }
        for partition, (first, end) in sorted(ends.items())
    ]


def _print(seen: dict[str, Any]) -> None:
    from rich.console import Console

    console = Console()
    if seen["lag"] is not None:
        table = _table("Lag", "topic", "partition", "end", "committed", "lag")
        for row in seen["lag"]:
            reached = "never" if row["committed"] is None else f"{row['committed']:,}"
            table.add_row(row["topic"], str(row["partition"]), f"{row['end']:,}", reached, f"{row['lag']:,}")
        console.print(table)
    if seen["sources"] is not None:
        table = _table("Sources (items a minute)", "source", "1 min", "5 min", "1 h", "last event")
        for state in seen["sources"]:
            rates = [f"{state[f'per_minute_{span}']:.1f}" for span in ("1m", "5m", "1h")]
            table.add_row(f"{state['workspace']}/{state['source']}", *rates, state["last_event"][:19] + "Z")
        console.print(table)
    if seen["connectors"]:
        table = _table("Connectors", "connector", "run", "state", "items", "last answer", "last event")
        for one in seen["connectors"]:
            times = [one[key][:19] + "Z" if one[key] else "never" for key in ("last_success", "last_event")]
            table.add_row(f"{one['connector']}/{one['name']}", one["run"], one["state"], f"{one['items']:,}", *times)
        console.print(table)
    for one in seen["connectors"] or ():
        if one["message"]:
            line = f"{one['connector']}/{one['name']} {one['state']}: {one['message']}"
            console.print(one_line(line, 400), markup=False, highlight=False)
    for one in seen["gaps"] or ():
        begin, end = f"{one['since'][:19]}Z", f"{one['until'][:19]}Z"
        line = f"gap of {one['connector']}/{one['name']} from {begin} to {end}: {one['reason']}"
        console.print(one_line(line, 400), markup=False, highlight=False)
    unknown = "unknown"
    unaccounted = unknown if seen["unaccounted"] is None else f"{seen['unaccounted']:,}"
    letters = unknown if seen["dead_letters"] is None else f"{seen['dead_letters']:,}"
    console.print(f"unaccounted {unaccounted}, dead letters waiting {letters}", highlight=False)
    for labels in seen["alerts"] or ():
        line = ", ".join(f"{name}={value}" for name, value in labels.items())
        console.print(f"firing: {one_line(line)}", markup=False, highlight=False)
    if seen["alerts"] == []:
        console.print("no active alerts")


def _table(title: str, first: str, *others: str) -> Table:
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    table.add_column(first)
    for name in others:
        table.add_column(name, justify="right")
    return table
