"""Detectors, alerts and their outbox, inside the store's transactions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final, Literal

import sqlalchemy as sa

from alerts.alert import Alert, Sample
from alerts.engine import Engine, Evaluation, Key, Transition
from pipeline.store import connectors, memory, schema
from pipeline.store.connectors import Missing
from pipeline.store.engine import insert
from pipeline.store.memory import Remembered
from pipeline.windows import micros, moment

Pending = tuple[Alert, int]
"""An alert and the revision of it."""

RESOLVED_REPOSTS: Final = timedelta(minutes=15)
BEFORE_ALERT: Final = timedelta(hours=1)
"""What is missing of so long before an alert began is told with it."""
MAX_MISSING: Final = 3
ATTEMPT: Final = timedelta(seconds=30)
"""How long an attempt may take; an older one was given up by a worker that died."""

Claim = Literal["free", "taken", "unfinished"]
"""`taken`: another worker has sent it or is about to. `unfinished`: an earlier attempt may have arrived or not."""


def observe(
    connection: sa.Connection, engine: Engine, remembered: Mapping[str, Remembered], samples: Sequence[Sample]
) -> tuple[Transition, ...]:
    """Feed new items to the detectors: which alerts came into which status."""
    keyed = [(sample, engine.series_keys(sample)) for sample in samples]
    states = memory.load(connection, remembered, {key for _, keys in keyed for key in keys})
    now = max(sample.at for sample in samples)
    evaluation = engine.evaluate(samples, states, now)
    memory.journal(connection, remembered, (sample for sample, keys in keyed if keys))
    return _save(connection, engine, remembered, evaluation, now)


def tick(
    connection: sa.Connection, engine: Engine, held: Remembered, now: datetime, *, behind: bool, review: bool
) -> tuple[Transition, ...]:
    """Let stream time pass in a workspace: which alerts came into which status. Writes what waits to be written.

    `behind`: items older than `now` may still be on their way. `review`: look at every series, not only at
    those whose time has come; needed once after the rules have changed.
    """
    held.write(connection, engine)
    table = schema.detector
    alerts = _open(connection, held.workspace)
    query = sa.select(table.c.workspace, table.c.rule, table.c.series).where(table.c.workspace == held.workspace)
    if not review:
        query = query.where(table.c.due_us <= micros(now))
    keys = {Key(*row) for row in connection.execute(query)}
    if not alerts and not keys:
        return ()
    remembered = {held.workspace: held}
    keys |= {Key(held.workspace, alert.rule, alert.series) for alert in alerts}
    known = memory.load(connection, remembered, keys)
    evaluation = engine.tick(known, alerts, now, behind=behind)
    if review:
        evaluation = replace(evaluation, states={**known, **evaluation.states})
    transitions = _save(connection, engine, remembered, evaluation, now)
    held.write(connection, engine)
    return transitions


def due(
    connection: sa.Connection,
    receiver: str,
    workspaces: Sequence[str],
    *,
    now: datetime,
    renew_after: timedelta | None,
    all_changes: bool = False,
) -> list[Pending]:
    """Alerts that a receiver must hear of now, each with its revision.

    `renew_after`: a receiver that holds alerts on a lease (Alertmanager) hears of each again after so
    long, of every revision, and of the end for 15 minutes more, in case it was restarted; None: it hears
    of each transition once. An incident that was over before the receiver heard of it is not announced,
    and none is before its working hours begin. `all_changes`: it hears of every revision of everything.
    """
    alert, delivery = schema.alert, schema.delivery
    told = sa.and_(delivery.c.incident == alert.c.incident, delivery.c.receiver == receiver)
    # What may have been announced must be seen to end; what certainly was not is not announced when it is over.
    announced = sa.or_(delivery.c.state != "", delivery.c.attempted_state.is_not(None))
    changed: Any = sa.and_(delivery.c.state != alert.c.state, sa.or_(alert.c.state == "firing", announced))
    if renew_after is not None:
        # Told later than now: the clock was set back, and the lease would end before it comes there again.
        sent = delivery.c.sent_us
        stale = sa.or_(sent <= micros(now - renew_after), sent > micros(now + renew_after))
        ended_lately = alert.c.ends_us > micros(now - RESOLVED_REPOSTS)
        changed = sa.or_(
            changed,
            sa.and_(alert.c.state == "firing", sa.or_(delivery.c.revision != alert.c.revision, stale)),
            sa.and_(alert.c.state == "resolved", ended_lately, stale),
        )
    # To a receiver that knows an alert by its labels, the end of an earlier incident would end a newer one.
    newer = alert.alias("newer")
    overtaken = sa.exists().where(
        newer.c.workspace == alert.c.workspace,
        newer.c.fingerprint == alert.c.fingerprint,
        newer.c.starts_us > alert.c.starts_us,
    )
    wanted: Any = sa.or_(
        sa.and_(delivery.c.incident.is_(None), alert.c.state == "firing"),
        sa.and_(delivery.c.incident.is_not(None), changed),
    )
    if all_changes:
        wanted = sa.or_(delivery.c.incident.is_(None), delivery.c.revision != alert.c.revision)
    query = (
        sa.select(alert.c.workspace, alert.c.body, alert.c.revision, delivery.c.incident)
        .select_from(alert.outerjoin(delivery, told))
        .where(wanted, sa.or_(delivery.c.attempted_us.is_(None), sa.not_(_under_way(now))))
        .order_by(alert.c.starts_us)
    )
    if renew_after is not None:
        query = query.where(sa.not_(overtaken))
    found, ours = [], set(workspaces)
    for row in connection.execute(query):
        if row.workspace not in ours:
            continue
        one = replace(Alert.from_json(row.body), revision=row.revision)
        if all_changes or row.incident is not None or one.not_before is None or one.not_before <= now:
            found.append((one, row.revision))
    return found


def delivered(connection: sa.Connection, receiver: str, alerts: Sequence[Pending], *, now: datetime) -> None:
    """Note that a receiver has these alerts in these revisions."""
    if not alerts:
        return
    upsert = insert(connection)(schema.delivery)
    names = ("state", "revision", "sent_us", "attempted_state", "attempted_us")
    connection.execute(
        upsert.on_conflict_do_update(
            index_elements=["incident", "receiver"], set_={name: upsert.excluded[name] for name in names}
        ),
        [
            {
                "incident": alert.incident,
                "receiver": receiver,
                "state": alert.state,
                "revision": revision,
                "sent_us": micros(now),
                "attempted_state": None,
                "attempted_us": None,
            }
            for alert, revision in alerts
        ],
    )


def claim(connection: sa.Connection, receiver: str, alert: Alert, *, now: datetime) -> Claim:
    """Note that `alert` is about to be sent, for a receiver that cannot tell a repetition, and whether it may be.

    Whoever claims it settles it by `delivered` or `release`; what is left unsettled is `unfinished` to the next.
    """
    table = schema.delivery
    mine = _of(receiver, alert)
    fresh = {"incident": alert.incident, "receiver": receiver, "state": "", "revision": 0, "sent_us": 0}
    connection.execute(insert(connection)(table).values(fresh).on_conflict_do_nothing())
    under_way = sa.and_(table.c.attempted_us.is_not(None), _under_way(now))
    query = sa.select(table.c.state, table.c.attempted_state, under_way.label("under_way")).where(mine)
    row = connection.execute(query.with_for_update()).one()
    if row.state == alert.state or row.under_way:
        return "taken"
    connection.execute(table.update().where(mine).values(attempted_state=alert.state, attempted_us=micros(now)))
    return "unfinished" if row.attempted_state == alert.state else "free"


def release(connection: sa.Connection, receiver: str, alert: Alert, claimed: Claim) -> None:
    """Note that the receiver said no: it may be told at once, and that an `unfinished` claim stays one."""
    state = alert.state if claimed == "unfinished" else None
    values = {"attempted_state": state, "attempted_us": None}
    connection.execute(sa.update(schema.delivery).where(_of(receiver, alert)).values(values))


def prune(connection: sa.Connection, before: datetime) -> int:
    """Drop the incidents that ended before this moment, with the words that they quote: how many."""
    alert, delivery = schema.alert, schema.delivery
    past = sa.and_(alert.c.state == "resolved", alert.c.ends_us < micros(before))
    of_past = delivery.c.incident.in_(sa.select(alert.c.incident).where(past))
    connection.execute(sa.delete(delivery).where(of_past))
    return int(connection.execute(sa.delete(alert).where(past)).rowcount)


def told(connection: sa.Connection, incident: str) -> list[tuple[str, str]]:
    """What each receiver has been told of an incident, in words, by its name."""
    table, found = schema.delivery, []
    query = sa.select(table).where(table.c.incident == incident).order_by(table.c.receiver)
    for row in connection.execute(query):
        at = f"at {moment(row.sent_us):%Y-%m-%d %H:%M:%S}Z"
        said = f"{row.state}, revision {row.revision}, {at}" if row.state else "nothing yet"
        if row.attempted_state and row.attempted_us:
            said += f"; {row.attempted_state} is being sent since {moment(row.attempted_us):%H:%M:%S}Z"
        elif row.attempted_state:
            said += f"; {row.attempted_state} may have arrived"
        found.append((row.receiver, said))
    return found


def _of(receiver: str, alert: Alert) -> Any:
    """The delivery of an alert to a receiver."""
    return sa.and_(schema.delivery.c.incident == alert.incident, schema.delivery.c.receiver == receiver)


def _under_way(now: datetime) -> Any:
    # Also not after now: the clock was set back.
    return schema.delivery.c.attempted_us.between(micros(now - ATTEMPT), micros(now + ATTEMPT))


def _open(connection: sa.Connection, workspace: str) -> list[Alert]:
    table = schema.alert
    query = sa.select(table.c.body).where(table.c.state != "resolved", table.c.workspace == workspace)
    return [Alert.from_json(body) for body in connection.scalars(query)]


def _blind(connection: sa.Connection, engine: Engine, evaluation: Evaluation) -> dict[str, set[str]]:
    """By workspace, the sources that are silent now, as far as a rule watches for it."""
    rules = [rule.name for rule in engine.rules if rule.kind == "silence"]
    workspaces = {alert.workspace for alert in evaluation.alerts}
    if not rules or not workspaces:
        return {}
    table = schema.alert
    query = sa.select(table.c.body).where(
        table.c.state == "firing", table.c.rule.in_(rules), table.c.workspace.in_(sorted(workspaces))
    )
    known = {alert.incident: alert for alert in map(Alert.from_json, connection.scalars(query))}
    known |= {alert.incident: alert for alert in evaluation.alerts if alert.rule in rules}
    blind: dict[str, set[str]] = {}
    for alert in known.values():
        if alert.state == "firing":
            blind.setdefault(alert.workspace, set()).add(dict(alert.labels).get("source", "all"))
    return blind


def _unheard(connection: sa.Connection, evaluation: Evaluation, now: datetime) -> dict[str, list[Missing]]:
    """By workspace, what is known to be missing of the last hour before each alert, and connectors that are stopped.

    A gap ends as it is recorded; who is stopped or fails is missing from its last answer on.
    """
    starts: dict[str, datetime] = {}
    for alert in evaluation.alerts:
        starts[alert.workspace] = min(alert.starts_at, starts.get(alert.workspace, now))
    found = {}
    for name, start in starts.items():
        found[name] = connectors.gaps(connection, name, since=start - BEFORE_ALERT, until=now)
        found[name] += [
            Missing(workspace=name, source=one.run.source, instance=one.run.instance, since=one.last_success or start,
                    until=now, reason=one.message or one.state)
            for one in connectors.blind(connection, name, now=now)
        ]  # fmt: skip
    return found


def _told(one: Missing) -> str:
    begin, end = (f"{at:%Y-%m-%d %H:%M}" for at in (one.since, one.until))
    return f"{one.source} {one.instance} from {begin} to {end} UTC: {one.reason}"


def _save(
    connection: sa.Connection,
    engine: Engine,
    remembered: Mapping[str, Remembered],
    evaluation: Evaluation,
    now: datetime,
) -> tuple[Transition, ...]:
    memory.learn(remembered, evaluation.states)
    blind = _blind(connection, engine, evaluation)
    unheard = _unheard(connection, evaluation, now)
    for alert in evaluation.alerts:
        silent = {str(one) for one in blind.get(alert.workspace, set()) - {dict(alert.labels).get("source")}}
        missing = [one for one in unheard.get(alert.workspace, ()) if one.until >= alert.starts_at - BEFORE_ALERT]
        silent |= {one.source for one in missing}
        if silent and alert.state != "resolved":
            notes = {**alert.annotations, "blind_sources": ", ".join(sorted(silent))}
            if missing:
                notes["missing"] = "; ".join(map(_told, missing[-MAX_MISSING:]))
            alert = replace(alert, annotations=notes)
        row = {
            "incident": alert.incident,
            "fingerprint": alert.fingerprint,
            "workspace": alert.workspace,
            "rule": alert.rule,
            "state": alert.state,
            "starts_us": micros(alert.starts_at),
            "ends_us": None if alert.ends_at is None else micros(alert.ends_at),
            "body": alert.to_json(),
            "revision": 1,
        }
        upsert = insert(connection)(schema.alert).values(row)
        values = {name: upsert.excluded[name] for name in ("state", "ends_us", "body")}
        values["revision"] = schema.alert.c.revision + 1
        connection.execute(upsert.on_conflict_do_update(index_elements=["incident"], set_=values))
    return evaluation.transitions
