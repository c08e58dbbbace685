"""Since when a webhook has been open without a break."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from pipeline.presence import BEAT_S, SLACK, Presence
from pipeline.store.connectors import Run

NOW = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)
TEAM, LINE = Run(source="slack", instance="team"), Run(source="whatsapp", instance="line")


def at(beat: float) -> datetime:
    return NOW + timedelta(seconds=BEAT_S * beat)


def test_it_is_open_since_the_first_beat_at_which_it_was() -> None:
    presence = Presence()
    assert presence.seen([TEAM], at(0)) == {TEAM: at(0)}
    assert presence.seen([TEAM, LINE], at(1)) == {TEAM: at(0), LINE: at(1)}
    assert presence.seen([TEAM, LINE], at(2)) == {TEAM: at(0), LINE: at(1)}


def test_one_that_was_closed_for_a_beat_is_open_anew() -> None:
    presence = Presence()
    presence.seen([TEAM, LINE], at(0))
    assert presence.seen([LINE], at(1)) == {LINE: at(0)}
    assert presence.seen([TEAM, LINE], at(2)) == {LINE: at(0), TEAM: at(2)}


def test_a_process_that_slept_or_whose_clock_was_set_back_was_not_open() -> None:
    presence = Presence()
    presence.seen([TEAM], at(0))
    late = at(0) + SLACK
    assert presence.seen([TEAM], late) == {TEAM: at(0)}, "a busy machine is late"
    asleep = late + SLACK + timedelta(seconds=1)
    assert presence.seen([TEAM], asleep) == {TEAM: asleep}
    assert presence.seen([TEAM], at(1)) == {TEAM: at(1)}
