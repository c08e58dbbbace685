"""What single review services do beyond the contract: quotas told in their own ways, links, tokens, translations."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta

import pytest

from connectors.connector import Permanent, Receiver, Refused, Request, Retryable
from connectors.fakes.fake import Fault, Hook
from connectors.fakes.google_business import FakeGoogleBusiness
from connectors.google import reasons
from connectors.oauth import Authorized, refresh_token
from connectors.option import Misconfigured, Secret, read
from connectors.registry import declaration
from connectors.reviews.google_business import original
from tests.connectors import NOW, bench, items, read_all

QUOTA = json.dumps({"error": {"code": 403, "errors": [{"reason": "quotaExceeded"}]}}).encode()
DENIED = json.dumps({"error": {"code": 403, "status": "PERMISSION_DENIED", "message": "no"}}).encode()


@pytest.mark.parametrize("name", ["google_business", "google_play"])
async def test_a_used_up_quota_of_google_passes_and_a_missing_permission_stays(name: str) -> None:
    async with bench(name) as at:
        at.say(1)
        await read_all(at.connector, None)  # So that a token is at hand.
        at.service.faults.append(Fault(status=403, body=QUOTA))
        with pytest.raises(Retryable):
            await read_all(at.connector, None)
        at.service.faults.append(Fault(status=403, body=DENIED))
        with pytest.raises(Permanent, match="403"):
            await read_all(at.connector, None)


@pytest.mark.parametrize("body", [b"", b"[", b"[]", b'{"error": 1}', b'{"error": {"errors": [1]}}', b'{"error": {}}'])
def test_a_refusal_in_another_form_has_no_reasons(body: bytes) -> None:
    assert reasons(body) == set()


async def test_a_token_that_was_revoked_is_renewed_once_and_unseen() -> None:
    async with bench("google_business") as at:
        fake = at.service.fake
        assert isinstance(fake, FakeGoogleBusiness)
        at.say(2)
        await read_all(at.connector, None)
        await read_all(at.connector, None)
        assert fake.tokens.given == 1, "a token is kept"
        fake.tokens.revoke()
        assert len(items(await read_all(at.connector, None))) == 2
        assert fake.tokens.given == 2
        at.clock.at += timedelta(hours=1)
        await read_all(at.connector, None)
        assert fake.tokens.given == 3, "and renewed before it ends"


async def test_many_requests_at_once_ask_for_one_token() -> None:
    async with bench("google_business") as at:
        fake = at.service.fake
        assert isinstance(fake, FakeGoogleBusiness)
        table = at.table
        grant = refresh_token(
            table["token_url"], table["client_id"], Secret(at.secrets["GOOGLE_CLIENT_SECRET"]),
            Secret(at.secrets["GOOGLE_REFRESH_TOKEN"]),
        )  # fmt: skip
        door = Authorized(at.context.http, at.clock, grant)
        tokens = await asyncio.gather(*(door.token() for _ in range(20)))
        assert len({token.value for token in tokens}) == fake.tokens.given == 1


@pytest.mark.parametrize(
    "answer",
    [
        b"{}",
        b'{"access_token": 7}',
        b'{"access_token": ""}',
        b'{"access_token": "a\\r\\nX: y"}',
        b'{"access_token": "x", "expires_in": "soon"}',
    ],
)
async def test_an_answer_without_a_usable_token_is_asked_for_again(answer: bytes) -> None:
    async with bench("google_business") as at:
        at.service.faults.append(Fault(status=200, body=answer))
        with pytest.raises(Retryable):
            await read_all(at.connector, None)


async def test_the_app_store_is_not_followed_to_another_server() -> None:
    async with bench("app_store") as at:
        link = {"data": [], "links": {"next": "https://evil.example/v1/apps/1/customerReviews?cursor=1"}}
        at.service.faults.append(Fault(status=200, body=json.dumps(link).encode()))
        with pytest.raises(Permanent, match="not followed"):
            await read_all(at.connector, {"floor": 1, "seen": "", "checked": 0})


async def test_the_app_stores_hourly_limit_is_told_with_each_page() -> None:
    async with bench("app_store") as at:
        at.say(1)
        (page,) = await read_all(at.connector, None)
        assert page.quota is not None
        assert (page.quota.remaining, page.quota.reset_at) == (3_499, NOW + timedelta(hours=1))


async def test_yelps_daily_limit_is_told_until_midnight_and_then_passes() -> None:
    async with bench("yelp") as at:
        at.say(1)
        (page,) = await read_all(at.connector, None)
        assert page.quota is not None and page.quota.remaining == 299
        assert page.quota.reset_at == NOW + timedelta(hours=12)
        at.service.fake.limits[0].requests = 0  # type: ignore[attr-defined]
        with pytest.raises(Retryable, match="ACCESS_LIMIT_REACHED") as refused:
            await read_all(at.connector, None)
        assert refused.value.retry_after_s == 12 * 3_600


@pytest.mark.parametrize("name", ["yelp", "tripadvisor"])
def test_a_sample_says_so_and_has_no_history(name: str) -> None:
    found = declaration(name)
    assert found.sample and "sample" in " ".join(found.limits)


@pytest.mark.parametrize("name", ["yelp", "tripadvisor"])
async def test_history_of_a_sample_is_refused_in_words(name: str) -> None:
    async with bench(name) as at:
        with pytest.raises(Permanent, match="no history"):
            at.connector.since(NOW)  # type: ignore[union-attr]


async def test_play_tells_a_gap_when_it_was_not_asked_for_more_than_seven_days() -> None:
    async with bench("google_play") as at:
        at.say(1)
        cursor = (await read_all(at.connector, None))[-1].cursor
        at.clock.at += timedelta(days=10)
        at.say(1, start=1, at=at.clock.at - timedelta(hours=1))
        pages = await read_all(at.connector, cursor)
        assert len(items(pages)) == 1
        ((gap,),) = [page.gaps for page in pages if page.gaps]
        assert (gap.since, gap.until) == (NOW, NOW + timedelta(days=3))


@pytest.mark.parametrize(
    ("comment", "said"),
    [
        ("(Translated by Google) Slow\n\n(Original)\nSekin", "Sekin"),
        ("Sekin\n\n(Translated by Google)\nSlow", "Sekin"),
        ("Plain", "Plain"),
        ("", ""),
        ("They wrote (Original) on the box", "They wrote (Original) on the box"),
        ("(Translated by Google) Slow", "(Translated by Google) Slow"),
    ],
)
def test_googles_translation_is_split_from_what_the_customer_wrote(comment: str, said: str) -> None:
    assert original(comment) == said


@pytest.mark.parametrize(
    ("name", "field", "wrong"),
    [
        ("google_business", "location", "accounts/1/../2"),
        ("google_play", "package", "a/b"),
        ("app_store", "app_id", "1/../../2"),
        ("tripadvisor", "location", "1?x"),
        ("trustpilot", "business_unit", "../x"),
    ],
)
async def test_an_id_that_would_change_the_address_is_refused(name: str, field: str, wrong: str) -> None:
    async with bench(name) as at:
        with pytest.raises(Misconfigured, match="form"):
            read(declaration(name).config, at.table | {field: wrong}, at.secrets)


def told(fake: Hook, kind: str, review: str) -> Request:
    body = {"events": [{"eventName": f"service-review-{kind}", "version": "1", "eventData": {"id": review}}]}
    return fake.signed(json.dumps(body).encode(), "https://hooks.example/x", NOW)


async def test_trustpilots_webhook_is_a_hint_only_what_counts_is_fetched() -> None:
    async with bench("trustpilot") as at:
        fake = at.service.fake
        assert isinstance(fake, Hook) and isinstance(at.connector, Receiver)
        said = at.say(1)[0]
        (item,) = (await at.connector.receive(told(fake, "created", said.id))).items
        assert (item.text, item.deleted) == (said.text, False)
        at.service.fake.edit(said.id, "It came after all", NOW - timedelta(minutes=1))
        (newer,) = (await at.connector.receive(told(fake, "updated", said.id))).items
        assert "It came after all" in newer.text and newer.version > item.version
        (gone,) = (await at.connector.receive(told(fake, "deleted", said.id))).items
        assert gone.deleted and gone.external_id == item.external_id and gone.version > newer.version
        at.service.fake.delete(said.id, NOW)
        assert (await at.connector.receive(told(fake, "updated", said.id))).items == (), "gone before it was fetched"
        at.service.faults.append(Fault(status=503))
        with pytest.raises(Retryable):
            await at.connector.receive(told(fake, "created", said.id))


@pytest.mark.parametrize("review", ["../business-units/x", "a/b", "a?b", "ａ", "", 7.5, None, ["x"]])
async def test_trustpilots_webhook_fetches_nothing_but_a_review(review: object) -> None:
    async with bench("trustpilot") as at:
        fake = at.service.fake
        assert isinstance(fake, Hook) and isinstance(at.connector, Receiver)
        with pytest.raises(Refused):
            await at.connector.receive(told(fake, "created", review))  # type: ignore[arg-type]
        assert not at.service.seen


async def test_an_answered_review_is_a_conversation_with_two_turns() -> None:
    async with bench("google_business") as at:
        said = at.say(1)[0]
        review = at.service.fake._reviews[said.id]  # type: ignore[attr-defined]
        cursor = (await read_all(at.connector, None))[-1].cursor
        review["reviewReply"] = {"updateTime": "2026-11-25T11:00:00Z", "reviewReplyState": "APPROVED"}
        (reply,) = items(await read_all(at.rebuilt(), cursor))
        assert (reply.turn, reply.conversation_id, reply.text) == ("agent_reply", said.id, "")
        assert reply.created_at == NOW - timedelta(hours=1)
        review["reviewReply"] |= {"updateTime": "2026-11-25T11:30:00Z", "reviewReplyState": "REJECTED"}
        assert not items(await read_all(at.rebuilt(), cursor))
