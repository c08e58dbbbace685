"""`ovoz alerts list|show|test`: what fires, why, and whether a message would arrive."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from pipeline.cli.backtest import backtest, tune
from pipeline.cli.shared import DONE, FAILED, Failed, one_line, settings_of, with_config

if TYPE_CHECKING:
    from alerts.alert import Alert
    from alerts.rule import Rule
    from pipeline.settings import Settings

T = TypeVar("T")


@click.group("alerts", short_help="List, show, test, backtest and tune alerts.")
def alerts() -> None:
    """Alerts: what fires now and what did, with the evidence; and test messages.

    \b
    Example:
        ovoz alerts list --all
        ovoz alerts show 3fa9
        ovoz alerts test negative-spike
        ovoz alerts backtest --from 2026-11-01 --picture november.svg
    """


alerts.add_command(backtest)
alerts.add_command(tune)


@alerts.command("list")
@click.option("--all", "everything", is_flag=True, help="Resolved ones too.")
@click.option("--workspace", help="Only those of this workspace.")
@click.option("--limit", type=click.IntRange(1, 100_000), default=50, show_default=True, help="At most so many.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@with_config
def list_(everything: bool, workspace: str | None, limit: int, as_json: bool, config: Path | None) -> int:
    """List alerts, newest first: incident, state, since when, rule, summary.

    \b
    Example:
        ovoz alerts list
    """
    found = _read(settings_of(config))
    shown = [
        alert
        for alert in found
        if (everything or alert.state != "resolved") and workspace in (None, alert.workspace)
    ]
    for alert in shown[:limit]:
        if as_json:
            click.echo(alert.to_json())
        else:
            summary = one_line(alert.annotations.get("summary", ""), 100)
            click.echo(
                f"{alert.incident[:8]}  {alert.state:8}  {alert.starts_at:%Y-%m-%d %H:%M:%S}Z  "
                f"{alert.workspace}  {alert.rule}  {summary}"
            )
    click.echo(f"{min(len(shown), limit)} of {len(shown)} shown", err=True)
    return DONE


@alerts.command("show")
@click.argument("incident")
@with_config
def show(incident: str, config: Path | None) -> int:
    """Show one alert whole, with its quotes, and who has been told of it. INCIDENT may be the beginning of one.

    \b
    Example:
        ovoz alerts show 3fa9
    """
    settings = settings_of(config)
    found = [alert for alert in _read(settings) if alert.incident.startswith(incident)]
    if not found:
        raise Failed(f"no incident begins with {incident!r}: see `ovoz alerts list --all`")
    if len(found) > 1:
        raise Failed(f"{len(found)} incidents begin with {incident!r}: write more of it")
    (alert,) = found
    ended = f"{alert.ends_at:%Y-%m-%d %H:%M:%S}Z" if alert.ends_at else "still open"
    lines = [
        ("incident", alert.incident),
        ("state", f"{alert.state}, revision {alert.revision}"),
        ("from", f"{alert.starts_at:%Y-%m-%d %H:%M:%S}Z"),
        ("to", ended),
        ("rule", alert.rule),
        ("workspace", alert.workspace),
        *((f"label {name}", value) for name, value in alert.labels),
        *((name, value) for name, value in sorted(alert.annotations.items()) if name != "quotes"),
        *((f"told {receiver}", said) for receiver, said in _told(settings, alert.incident)),
        *(
            (f"quote {number}", f"[{quote.source}, {quote.language}, {quote.at:%Y-%m-%d %H:%M}Z] {quote.text}")
            for number, quote in enumerate(alert.evidence, start=1)
        ),
    ]
    width = max(len(name) for name, _ in lines)
    for name, value in lines:
        click.echo(f"{name:{width}}  {one_line(value, 2000)}")
    return DONE


@alerts.command("test")
@click.argument("rule")
@click.option("--resolve", is_flag=True, help="Send the end of an earlier test instead.")
@with_config
def test(rule: str, resolve: bool, config: Path | None) -> int:
    """Send a test message of RULE through every configured receiver; exit status 1 when one did not take it.

    The message says TEST, carries the label test="true" beside the rule's own, and touches no store: it
    shows which way a real one would go. In Alertmanager it ends by itself after the lease.

    \b
    Example:
        ovoz alerts test negative-spike
        ovoz alerts test negative-spike --resolve
    """
    from difflib import get_close_matches

    from pipeline.live_rules import read_rules
    from pipeline.receivers import people

    settings = settings_of(config)
    known = {one.name: one for one in read_rules(settings.alerts.rules)}
    if rule not in known:
        near = get_close_matches(rule, known, n=1)
        hint = f"did you mean {near[0]}?" if near else "known are " + ", ".join(known)
        raise Failed(f"there is no rule {rule}; {hint}")
    receivers = people(settings)
    if not receivers:
        raise Failed("no receiver is set: write [alerts] alertmanager or apprise into the settings")
    alert = message(known[rule], datetime.now(UTC), resolve=resolve, dashboard_url=settings.alerts.dashboard_url)
    return asyncio.run(_send(receivers, alert))


def message(rule: Rule, now: datetime, *, resolve: bool, dashboard_url: str | None) -> Alert:
    """A test message of a rule: its labels with `test` and a made-up series."""
    from alerts.alert import Alert, fingerprint, incident
    from alerts.wording import labels_of

    labels = tuple(sorted((*labels_of(rule, tuple((name, "test") for name in rule.group_by)), ("test", "true"))))
    # All tests of one day are one incident, so that --resolve ends what a test began.
    starts_at = now.replace(hour=0, minute=0, second=0, microsecond=0)
    annotations = {
        "summary": f"TEST: {rule.summary or rule.name}",
        "description": f"This is a test of the rule {rule.name}. Nothing has happened; nothing is to be done.",
    }
    if rule.runbook_url:
        annotations["runbook_url"] = rule.runbook_url
    if dashboard_url:
        annotations["dashboard_url"] = dashboard_url
    return Alert(
        rule=rule.name,
        workspace="test",
        labels=labels,
        annotations=annotations,
        state="resolved" if resolve else "firing",
        starts_at=starts_at,
        ends_at=now if resolve else None,
        evidence=(),
        incident=incident(fingerprint(rule.name, "test", labels), starts_at),
    )


async def _send(receivers: list[Any], alert: Alert) -> int:
    from alerts.verdict import NotDelivered

    status = DONE
    for receiver in receivers:
        notifier = receiver.notifier
        try:
            await notifier.send([alert], datetime.now(UTC))
            click.echo(f"{notifier.name}: taken")
        except NotDelivered as error:
            click.echo(f"{notifier.name}: not taken: {one_line(str(error), 300)}", err=True)
            status = FAILED
        finally:
            await notifier.close()
    return status


def _read(settings: Settings) -> list[Alert]:
    from pipeline.store import read

    return _asked(settings, read.alerts)


def _told(settings: Settings, incident: str) -> list[tuple[str, str]]:
    from pipeline.store import incidents

    return _asked(settings, lambda connection: incidents.told(connection, incident))


def _asked(settings: Settings, question: Callable[[Any], T]) -> T:
    from pipeline.store.engine import connect, prepare
    from pipeline.store.read import reading

    engine = connect(settings.store.url)
    try:
        prepare(engine)
        with reading(engine) as connection:
            return question(connection)
    finally:
        engine.dispose()
