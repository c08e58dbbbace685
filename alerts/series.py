"""One series of one rule of any kind: verdicts → pending → firing → resolved. Pure.

    calm ──condition holds──► pending ──for `for`──► firing ──gone for `keep_firing_for`──► resolved
                                 └──gone──► resolved, and nobody was told

An incident of a kind that fades (alerts.kind) also ends when nothing spoke for it during `resolve_after`.
Whatever time decides is decided as of the moment that it became true, not of the tick that noticed: the
same items give the same incidents, however often somebody ticks.
"""

from __future__ import annotations

import math
from typing import Any, Final, NamedTuple

import orjson

from alerts.alert import Sample, Status
from alerts.kind import Verdict
from alerts.kinds import KINDS
from alerts.life import Life, forget, gather, gather_copy, made
from alerts.rule import Rule

REFRESH_S: Final = 15.0
_FORMAT: Final = 2


class State(NamedTuple):
    """What is known of one series: what its detector remembers, and how far its alert has come."""

    kind: str
    memory: Any
    life: Life = Life()

    @property
    def firing(self) -> bool:
        """Whether an alert is firing."""
        return self.life.firing

    @property
    def open(self) -> bool:
        """Whether an incident is pending or firing."""
        return self.life.since_s is not None

    def to_json(self) -> str:
        """The state as JSON, for the store; `from_json` reads it back equal."""
        data = [_FORMAT, self.kind, KINDS[self.kind].dump(self.memory), self.life.dump()]
        return orjson.dumps(data).decode()

    @classmethod
    def from_json(cls, text: str) -> State:
        """Raises ValueError, TypeError or KeyError for what `to_json` of this format did not write."""
        data = orjson.loads(text)
        if not isinstance(data, list) or data[:1] != [_FORMAT]:
            raise ValueError(f"not a detector state of format {_FORMAT}")
        _, kind, memory, life = data
        return cls(kind=kind, memory=KINDS[kind].load(memory), life=Life.load(life))


_STARTS: Final = {kind: State(kind=kind, memory=detector.start()) for kind, detector in KINDS.items()}


class Change(NamedTuple):
    """An alert to tell of: `state` is the series as of `at_s`, for `resolved` as of just before its end.

    `turn`: the alert came into this status now; otherwise its numbers were refreshed.
    """

    status: Status
    state: State
    at_s: float
    turn: bool


def start(rule: Rule) -> State:
    """A series that has seen nothing."""
    return _STARTS[rule.kind]


def step(state: State, rule: Rule, sample: Sample, at_s: float) -> tuple[State, list[Change]]:
    """Take one more item of the series, at event time `at_s`; one that comes late counts as of the latest.

    The very same state comes back where the item says nothing to it.
    """
    kind, memory, life = state
    detector = KINDS[kind]
    calm = life.onset_s is None and life.since_s is None
    if calm and detector.ignores(rule, sample):
        return state, []
    if at_s < life.last_s:
        at_s = life.last_s
    changes: list[Change] = []
    due = detector.due_s(memory, rule, life) if calm else due_s(state, rule)
    if due is not None and due <= at_s:
        state, changes = tick(state, rule, at_s)
        _, memory, life = state
        # As it would have been, had somebody ticked before this item came.
        if life.onset_s is None and life.since_s is None and detector.ignores(rule, sample):
            return state, changes
    memory, verdict = detector.observe(memory, rule, sample, at_s, life)
    holds, onset_s, matched, speaks = verdict
    if sample.copy_of and not detector.takes_copies:
        return state._replace(life=gather_copy(life, at_s, matched=matched)), changes
    life = gather(life, onset_s, sample, at_s, matched=matched, speaks=speaks)
    state = made(State, (kind, memory, life))
    if life.since_s is None and not holds:
        return state, changes
    state, more = _advance(state, rule, verdict, at_s)
    if not more:
        state, more = _refresh(state, at_s)
    return state, changes + more


def tick(state: State, rule: Rule, now_s: float, *, behind: bool = False) -> tuple[State, list[Change]]:
    """Let time pass until `now_s`, from one moment that matters to the next.

    `behind`: items older than `now_s` may still be on their way (alerts.kind).
    """
    changes: list[Change] = []
    before_s = -math.inf
    while (at_s := due_s(state, rule)) is not None and before_s < at_s <= now_s:
        state, more = _tick(state, rule, at_s, behind=behind)
        changes += more
        before_s = at_s
    return state, changes


def due_s(state: State, rule: Rule) -> float | None:
    """When time alone can matter next, or some time before; None: not before the next item."""
    kind, memory, life = state
    detector = KINDS[kind]
    due = detector.due_s(memory, rule, life)
    if life.since_s is None:
        return due
    first = math.inf if due is None else due
    if life.fired_s is None:
        first = min(first, life.since_s + rule.for_s)
    elif life.last_s > life.refreshed_s:
        first = min(first, life.refreshed_s + REFRESH_S)
    if life.clear_s is not None:
        first = min(first, life.clear_s + rule.keep_firing_for_s)
    if detector.fades:
        first = min(first, life.spoke_s + rule.resolve_after_s)
    return None if first == math.inf else first


def rest(state: State) -> State:
    """The state with any suspicion or incident forgotten and all learning kept."""
    return state._replace(memory=KINDS[state.kind].rest(state.memory), life=forget(state.life))


def _tick(state: State, rule: Rule, at_s: float, *, behind: bool) -> tuple[State, list[Change]]:
    detector, life = KINDS[state.kind], state.life
    if detector.fades and life.since_s is not None and at_s >= life.spoke_s + rule.resolve_after_s:
        return _end(state, at_s)
    memory, verdict = detector.tick(state.memory, rule, at_s, life, behind=behind)
    if verdict.onset_s is None and life.onset_s is not None and life.since_s is None:
        life = forget(life)
    state, changes = _advance(State(kind=state.kind, memory=memory, life=life), rule, verdict, at_s)
    return (state, changes) if changes else _refresh(state, at_s)


def _refresh(state: State, at_s: float) -> tuple[State, list[Change]]:
    """Tell a firing alert anew, where there is more to tell and the last time is long enough ago."""
    life = state.life
    if life.fired_s is None or life.last_s <= life.refreshed_s or at_s < life.refreshed_s + REFRESH_S:
        return state, []
    state = state._replace(life=life._replace(refreshed_s=at_s))
    return state, [Change(status="firing", state=state, at_s=at_s, turn=False)]


def _advance(state: State, rule: Rule, verdict: Verdict, at_s: float) -> tuple[State, list[Change]]:
    """What a verdict makes of the alert, as of `at_s`."""
    life = state.life
    if life.since_s is None:
        # A new incident begins later than the last one ended: each has a start of its own.
        if not verdict.holds or (life.ended_s is not None and at_s <= life.ended_s):
            return state, []
        fired_s = None if rule.for_s else at_s
        life = life._replace(since_s=at_s, fired_s=fired_s, spoke_s=at_s, refreshed_s=at_s)
        status: Status = "pending" if rule.for_s else "firing"
    elif life.fired_s is None:
        if not verdict.holds:
            return _end(state, at_s)
        if at_s < life.since_s + rule.for_s:
            return state, []
        life, status = life._replace(fired_s=at_s, refreshed_s=at_s), "firing"
    elif verdict.holds:
        return (state if life.clear_s is None else state._replace(life=life._replace(clear_s=None))), []
    else:
        clear_s = at_s if life.clear_s is None else life.clear_s
        if at_s >= clear_s + rule.keep_firing_for_s:
            return _end(state, at_s)
        return state._replace(life=life._replace(clear_s=clear_s)), []
    state = state._replace(life=life)
    return state, [Change(status=status, state=state, at_s=at_s, turn=True)]


def _end(state: State, at_s: float) -> tuple[State, list[Change]]:
    return rest(state)._replace(life=forget(state.life)._replace(ended_s=at_s)), [
        Change(status="resolved", state=state, at_s=at_s, turn=True)
    ]
