"""Scored batch + what the store holds → what to write, as data. Pure.

Each item contributes its newest version exactly once: to one cell and to its total. An older or equal
version changes nothing; a newer one takes the old contribution back and adds its own; a deletion
takes it back.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from connectors.feedback import DELETED, Feedback
from pipeline.records import Scored
from pipeline.windows import Cell, Tally, minute_of, score_e6

Identity = tuple[str, str]
"""(workspace, feedback_id)."""
Conversation = tuple[str, str, str]
"""See Feedback.conversation."""
AFTER_DELETION: Final = timedelta(hours=1)
"""What is said in a conversation so long after its deletion came in belongs to it still: clocks differ. Later, it was
restored and went on."""


@dataclass(frozen=True, slots=True)
class Held:
    """What the store holds of an item: its version, and the cell it counts in, if it counts.

    `silent`: it is kept without a customer's words (a score, an agent's reply, a ticket solved), counted nowhere.
    """

    version: int
    cell: Cell | None
    score_e6: int
    silent: bool = False


@dataclass(frozen=True, slots=True)
class Horizon:
    """What the store knows of time in a workspace: minutes below `floor_minute` are past retention."""

    floor_minute: int
    watermark: datetime | None


@dataclass(slots=True)
class Talks:
    """What the store holds of the conversations in a batch.

    `deleted`: until when whatever was said in it is taken back. `members`: of those that the batch deletes, each item
    with the time at which it was said.
    """

    deleted: dict[Conversation, datetime] = field(default_factory=dict)
    members: dict[Identity, tuple[Conversation, datetime]] = field(default_factory=dict)


@dataclass(slots=True)
class Changes:
    """What one batch changes. `counted`: items whose newest version counts now for the first time. `withdrawn`: items
    that the store holds and that go with their conversation. `expires`: the last minute in which any of an item's
    versions would count; it is remembered for so long.
    """

    withdrawn: list[Identity] = field(default_factory=list)
    items: dict[Identity, tuple[Scored, Held]] = field(default_factory=dict)
    expires: dict[Identity, int] = field(default_factory=dict)
    cells: dict[Cell, Tally] = field(default_factory=lambda: defaultdict(Tally))
    watermarks: dict[str, datetime] = field(default_factory=dict)
    counted: list[Scored] = field(default_factory=list)
    replaced: int = 0
    retracted: int = 0
    unchanged: int = 0
    expired: int = 0
    silent: int = 0
    late: list[str] = field(default_factory=list)


def fold(
    batch: Iterable[Scored],
    held: Mapping[Identity, Held],
    horizons: Mapping[str, Horizon],
    *,
    late_after: timedelta,
    now: datetime,
    talks: Talks | None = None,
) -> Changes:
    """Apply scored items, in order, to what the store holds of their identities.

    An item whose minute lies below its workspace's retention floor is remembered but counts nowhere; one without
    a prediction is kept and counts nowhere, until a version with a customer's words comes.
    Items more than `late_after` behind the workspace's watermark are counted, and named as late.
    Backfilled items do not move the watermark, and nothing moves it beyond `now`. A conversation that was deleted
    takes with it what was said in it, in whatever order both come in.
    """
    changes = Changes()
    current = dict(held)
    deleted = dict(talks.deleted) if talks else {}
    members = dict(talks.members) if talks else {}
    for scored in batch:
        feedback = scored.feedback
        identity = (feedback.workspace, feedback.feedback_id)
        horizon = horizons[feedback.workspace]
        before = current.get(identity)
        if before is not None and before.version >= feedback.version:
            changes.unchanged += 1
            continue
        watermark = changes.watermarks.get(feedback.workspace, horizon.watermark)
        if watermark is not None and feedback.created_at < watermark - late_after and scored.prediction is not None:
            changes.late.append(feedback.source)
        heard = min(feedback.created_at, now)
        if not feedback.backfill and (watermark is None or heard > watermark):
            changes.watermarks[feedback.workspace] = heard
        if before is not None and before.cell is not None:
            changes.cells[before.cell].add(-1, -before.score_e6)
        talk = feedback.conversation
        if talk is not None:
            members[identity] = (talk, feedback.created_at)
        else:
            members.pop(identity, None)
        after = _contribution(scored, horizon.floor_minute)
        if talk is not None and feedback.turn != DELETED and talk in deleted and feedback.created_at <= deleted[talk]:
            after = Held(feedback.version, None, 0)
        if after.cell is not None:
            changes.cells[after.cell].add(1, after.score_e6)
        had = before is not None and before.cell is not None
        if after.cell is not None and (before is None or before.silent):
            changes.counted.append(scored)
        changes.replaced += had and after.cell is not None
        changes.retracted += had and after.cell is None
        changes.expired += after.cell is None and scored.prediction is not None
        changes.silent += after.silent
        current[identity] = after
        changes.items[identity] = (scored, after)
        last = _last_minute(scored, after)
        changes.expires[identity] = max(last, changes.expires.get(identity, last))
        if talk is not None and feedback.turn == DELETED:
            deleted[talk] = max(taken_back_until(feedback), deleted.get(talk, taken_back_until(feedback)))
            gone = [one for one, (of, at) in members.items() if of == talk and at <= deleted[talk] and one != identity]
            _withdraw(gone, current, changes)
    changes.cells = {cell: tally for cell, tally in changes.cells.items() if tally.count or tally.score_e6}
    return changes


def taken_back_until(feedback: Feedback) -> datetime:
    """Until when what was said in a conversation goes with its deletion."""
    return feedback.received_at + AFTER_DELETION


def _last_minute(scored: Scored, held: Held) -> int:
    feedback = scored.feedback
    if feedback.turn == DELETED:
        return minute_of(taken_back_until(feedback))
    if held.cell is not None:
        return held.cell.minute
    return minute_of(feedback.created_at if held.silent else feedback.received_at)


def _withdraw(identities: Iterable[Identity], current: dict[Identity, Held], changes: Changes) -> None:
    for identity in identities:
        before = current[identity]
        if before.cell is not None:
            changes.cells[before.cell].add(-1, -before.score_e6)
            changes.retracted += 1
        current[identity] = after = Held(before.version, None, 0)
        if identity in changes.items:
            changes.items[identity] = (changes.items[identity][0], after)
        else:
            changes.withdrawn.append(identity)


def _contribution(scored: Scored, floor_minute: int) -> Held:
    feedback, prediction = scored.feedback, scored.prediction
    minute = minute_of(feedback.created_at)
    if feedback.turn == DELETED:
        return Held(feedback.version, None, 0, silent=minute_of(taken_back_until(feedback)) >= floor_minute)
    if feedback.deleted or prediction is None or minute < floor_minute:
        silent = not feedback.deleted and prediction is None and minute >= floor_minute
        return Held(feedback.version, None, 0, silent)
    cell = Cell(
        workspace=feedback.workspace,
        minute=minute,
        source=feedback.source,
        channel=feedback.channel,
        topic=prediction.topic,
        language=prediction.language,
        sentiment=prediction.label,
    )
    return Held(feedback.version, cell, score_e6(prediction.score))
