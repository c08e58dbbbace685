"""What `parse` takes, what it refuses, and what it says."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from connectors.feedback import Faulty, Feedback, Survey, instant, parse

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


def faults(**fields: object) -> dict[str, str]:
    with pytest.raises(Faulty) as caught:
        parse({"source": "shop", "id": "1", **fields}, now=NOW)
    return {fault.field: fault.reason for fault in caught.value.faults}


def test_every_fault_is_named_at_once() -> None:
    assert set(faults(source="A", id="", version=-1, url="ftp://x", colour=1)) == {
        "source", "id", "version", "url", "colour",
    }  # fmt: skip


def test_null_means_absent() -> None:
    names = ("instance", "text", "created_at", "version", "deleted", "channel", "workspace", "rating", "url")
    got = parse({"source": "shop", "id": "1", **dict.fromkeys(names)}, now=NOW)
    assert got == parse({"source": "shop", "id": "1"}, now=NOW)


def test_a_clock_up_to_a_day_ahead_is_set_right_and_further_is_refused() -> None:
    ahead = (NOW + timedelta(hours=23)).isoformat()
    assert parse({"source": "s", "id": "1", "created_at": ahead}, now=NOW).created_at == NOW
    assert "24 hours" in faults(created_at=(NOW + timedelta(hours=25)).isoformat())["created_at"]


def test_updated_at_orders_versions() -> None:
    def version(at: str) -> int:
        return parse({"source": "s", "id": "1", "updated_at": at}, now=NOW).version

    assert version("2026-01-01T00:00:00Z") < version("2026-01-01T00:00:00.000001Z")
    assert version("2026-01-01T05:00:00+05:00") == version("2026-01-01T00:00:00Z")


@pytest.mark.parametrize(
    "value",
    ["2026-11-24", "2026-W48-2T09:00:00Z", "2026-11-24\ud80009:30:00Z", "2026-13-01T00:00:00Z",
     "", True, [], 1e400, 10**400],
)  # fmt: skip
def test_other_times_than_rfc_3339_are_refused(value: object) -> None:
    with pytest.raises(ValueError, match="must be"):
        instant(value)


def test_a_time_without_zone_says_what_to_add() -> None:
    assert "add Z" in faults(created_at="2026-11-24T09:30:00")["created_at"]


@pytest.mark.parametrize("bad", ["a\nb", "a\x00", "\ud800", "\u2028", "x" * 513])
def test_identifiers_are_one_bounded_line(bad: str) -> None:
    assert set(faults(id=bad, customer_id=bad)) == {"id", "customer_id"}


def test_text_keeps_joiners_and_direction_and_loses_control_characters() -> None:
    got = parse({"source": "s", "id": "1", "text": "\u202e\u200d\x00\ud800\n" + "x" * 20_000}, now=NOW)
    assert got.text.startswith("\u202e\u200d \ufffd\nxx") and len(got.text) == 10_000


def test_ratings_are_scaled_and_state_their_scale() -> None:
    got = parse({"source": "s", "id": "1", "rating": {"value": 4, "min": 1, "max": 5}}, now=NOW)
    assert got.rating == 0.75
    assert "scale" in faults(rating=4)["rating"]
    for bad in ({"value": 5, "min": 5, "max": 5}, {"value": -1, "max": 5}, {"value": 1, "max": 10**400}):
        assert set(faults(rating=bad)) == {"rating"}


def test_thousands_of_unknown_members_earn_a_short_answer() -> None:
    assert len(faults(**{f"k{n}": n for n in range(5000)})) == 6


def test_a_survey_states_its_scale_or_has_the_usual_one() -> None:
    def survey(**fields: object) -> Survey | None:
        return parse({"source": "s", "id": "1", "survey": fields}, now=NOW).survey

    assert survey(kind="nps", value=9) == Survey(kind="nps", value=9, low=0, high=10)
    assert survey(kind="csat", value=4) == Survey(kind="csat", value=4, low=1, high=5)
    assert survey(kind="ces", value=2, min=1, max=5) == Survey(kind="ces", value=2, low=1, high=5)
    wrongs = ({"kind": "nps", "value": 11}, {"kind": "x", "value": 1}, {"kind": "nps"}, 9, {"kind": [], "value": 1})
    for wrong in wrongs:
        assert "survey" in faults(survey=wrong)


def test_a_score_stands_for_the_rating_where_there_is_none() -> None:
    nps = {"kind": "nps", "value": 9}
    assert parse({"source": "s", "id": "1", "survey": nps}, now=NOW).rating == 0.9
    assert parse({"source": "s", "id": "1", "survey": nps, "rating": {"value": 1, "max": 2}}, now=NOW).rating == 0.5


def test_only_customers_speak() -> None:
    def item(**fields: object) -> Feedback:
        return parse({"source": "s", "id": "1", "conversation_id": "c", **fields}, now=NOW)

    assert item(text="late").speaks and item(text="late", turn="customer_message").speaks
    assert not item(text=" \n").speaks and not item(survey={"kind": "nps", "value": 9}).speaks
    for turn in ("agent_reply", "solved", "reopened"):
        assert not item(text="we are sorry", turn=turn).speaks
        assert item(text="we are sorry", turn=turn).text == "", "an agent's words are not kept"
    assert not item(text="late", deleted=True).speaks


def test_a_turn_is_known_and_belongs_to_a_conversation() -> None:
    assert "customer_message" in faults(turn="hello", conversation_id="c")["turn"]
    assert "turn" in faults(turn="solved")["conversation_id"]
