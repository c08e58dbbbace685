"""One suite over every connector that has a fake: what the contract in connectors/connector.py promises."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from connectors import registry
from connectors.connector import (
    MAX_CURSOR_BYTES,
    Delivery,
    Permanent,
    Reader,
    Receiver,
    Refused,
    Request,
    Retryable,
    Verdict,
)
from connectors.fakes.fake import FAKES, Fake, Fault, Hook, Registering, fake_of
from connectors.option import Secret, options
from connectors.registry import declaration
from tests.connectors import NOW, bench, items, read_all
from tests.contract.test_recordings import ODD, places, replaced

ALL = registry.names()
ASKED = [name for name in ALL if {"poll", "stream"} & set(declaration(name).modes)]
OTHER_PROTOCOLS = ("folder", "imap", "kafka")
POLLED = [name for name in ASKED if name not in OTHER_PROTOCOLS]
"""Over HTTP, where anything may go wrong on the way."""
HOOKED = [name for name in ALL if "webhook" in declaration(name).modes]
BEFORE = NOW - timedelta(days=1)
HOOK_URL = "https://hooks.example/v1/hooks/x"
MANY = 230


@pytest.mark.parametrize("name", ALL)
def test_a_declaration_says_what_each_setting_means_and_hides_its_secrets(name: str) -> None:
    found = declaration(name)
    assert found.name == name and found.cursor and found.limits and found.source.startswith("https://")
    for field, (about, kind, _) in options(found.config).items():
        assert about.help, field
        secret = any(word in field for word in ("secret", "token", "password", "key"))
        if secret and not field.endswith(("_url", "_id", "_file")):
            assert kind == Secret or kind == Secret | None, f"{field} should be a Secret"


@pytest.mark.parametrize("name", ASKED)
async def test_what_was_said_since_comes_once_over_all_pages(name: str) -> None:
    async with bench(name) as at:
        if "since" not in at.service.fake.can:
            pytest.skip("the service gives a sample only")
        said = at.say(MANY)
        assert isinstance(at.connector, Reader)
        pages = await read_all(at.connector, at.connector.since(BEFORE))
        assert sorted(item.text for item in items(pages)) == sorted(one.text for one in said)
        assert len({item.external_id for item in items(pages)}) == MANY
        assert {item.created_at for item in items(pages)} == {one.at for one in said}


@pytest.mark.parametrize("name", ASKED)
async def test_from_any_cursor_nothing_is_lost(name: str) -> None:
    async with bench(name) as at:
        can = at.service.fake.can
        start = at.connector.since(BEFORE) if "since" in can and isinstance(at.connector, Reader) else None
        at.say(MANY if "since" in can else 3)
        pages = await read_all(at.connector, start)
        everything = {(item.external_id, item.version) for item in items(pages)}
        assert everything
        for stop in range(len(pages)):
            cursor = json.loads(json.dumps(pages[stop].cursor))
            assert len(json.dumps(cursor).encode()) <= MAX_CURSOR_BYTES
            rest = items(await read_all(at.rebuilt(), cursor))
            have = {(item.external_id, item.version) for item in items(pages[: stop + 1]) + rest}
            assert have == everything, f"after page {stop + 1} of {len(pages)}"
        after = await read_all(at.rebuilt(), pages[-1].cursor)
        assert not items(after) or "since" not in can, "caught up, and nothing new was said"


@pytest.mark.parametrize("name", ASKED)
async def test_only_what_is_new_comes_after_the_last_cursor(name: str) -> None:
    async with bench(name) as at:
        at.say(3)
        cursor = (await read_all(at.connector, at.start()))[-1].cursor
        new = at.say(2, start=10)
        found = {item.text for item in items(await read_all(at.rebuilt(), cursor))}
        assert {one.text for one in new} <= found
        if "since" in at.service.fake.can:
            assert len(found) == 2


@pytest.mark.parametrize("name", ASKED)
async def test_a_time_in_the_future_hides_nothing_that_comes_later(name: str) -> None:
    async with bench(name) as at:
        if getattr(at.service.fake, "own_clock", False):
            pytest.skip("the service dates every change itself and shows none before its time")
        at.say(1)
        ahead = at.say(1, start=50, at=NOW + timedelta(minutes=20))
        pages = await read_all(at.connector, at.start())
        assert ahead[0].text in {item.text for item in items(pages)}
        new = at.say(2, start=10)
        found = {item.text for item in items(await read_all(at.rebuilt(), pages[-1].cursor))}
        assert {one.text for one in new} <= found


@pytest.mark.parametrize("name", ASKED)
@pytest.mark.parametrize("verb", ["edit", "delete"])
async def test_an_edit_or_deletion_comes_as_a_newer_version(name: str, verb: str) -> None:
    async with bench(name) as at:
        if verb not in at.service.fake.can:
            pytest.skip(f"the service does not tell of a {verb}")
        said = at.say(3)
        pages = await read_all(at.connector, at.start())
        before = {item.text: item for item in items(pages)}[said[1].text]
        at.clock.at += timedelta(minutes=5)
        if verb == "edit":
            at.service.fake.edit(said[1].id, "It came after all", NOW + timedelta(minutes=1))
        else:
            at.service.fake.delete(said[1].id, NOW + timedelta(minutes=1))
        after = items(await read_all(at.rebuilt(), pages[-1].cursor))
        if any(item.turn == "deleted" and item.conversation_id == before.conversation_id for item in after):
            return  # the conversation is taken back as a whole
        newest = max((i for i in after if i.external_id == before.external_id), key=lambda item: item.version)
        assert newest.version > before.version
        assert newest.deleted if verb == "delete" else "It came after all" in newest.text


@pytest.mark.parametrize("name", POLLED)
@pytest.mark.parametrize("status", [401, 403, 404])
async def test_refusals_are_permanent_and_tell_no_secret(name: str, status: int) -> None:
    async with bench(name) as at:
        at.service.faults.extend([Fault(status=status)] * 3)
        with pytest.raises(Permanent) as refused:
            await read_all(at.connector, at.start())
        assert str(status) in str(refused.value)
        assert not any(secret in str(refused.value) + repr(refused.value) for secret in at.secrets.values())


@pytest.mark.parametrize("name", ASKED)
async def test_wrong_credentials_are_a_permanent_refusal_by_the_services_own_rules(name: str) -> None:
    async with bench(name) as at:
        if not at.secrets:
            pytest.skip("the service wants no credentials")
        at.say(1)
        stranger = at.rebuilt({key: f"wrong-{value}" for key, value in at.secrets.items()})
        with pytest.raises(Permanent):
            await read_all(stranger, at.start())


@pytest.mark.parametrize("name", POLLED)
@pytest.mark.parametrize(
    ("fault", "after"),
    [
        (Fault(status=429, headers={"Retry-After": "17"}), 17.0),
        (Fault(status=429), None),
        (Fault(status=500), None),
        (Fault(status=503, headers={"Retry-After": "Wed, 25 Nov 2026 12:00:30 GMT"}), 30.0),
        (Fault(kind="html"), None),
        (Fault(kind="cut"), None),
        (Fault(status=200, body=b"[[[["), None),
        (Fault(status=200, body=b"\xff\xfe\x00"), None),
        (Fault(status=200, body=b"[" * 100_000), None),
    ],
    ids=["429-after", "429", "500", "503-date", "html", "cut", "json", "binary", "deep"],
)
async def test_what_passes_is_retryable_and_nothing_is_lost(name: str, fault: Fault, after: float | None) -> None:
    async with bench(name) as at:
        said = at.say(3)
        at.service.faults.append(fault)
        with pytest.raises(Retryable) as failure:
            await read_all(at.connector, at.start())
        assert failure.value.retry_after_s == after or (after is None and fault.status != 429)
        found = {item.text for item in items(await read_all(at.connector, at.start()))}
        assert found == {one.text for one in said}


@pytest.mark.parametrize("name", POLLED)
async def test_silence_is_retryable(name: str) -> None:
    async with bench(name, timeout_s=0.2) as at:
        at.service.faults.append(Fault(kind="silent"))
        with pytest.raises(Retryable):
            await read_all(at.connector, at.start())


@pytest.mark.parametrize("name", POLLED)
async def test_cancelling_in_mid_page_ends_the_request(name: str) -> None:
    async with bench(name, timeout_s=30) as at:
        at.service.faults.append(Fault(kind="silent"))
        task = asyncio.ensure_future(read_all(at.connector, at.start()))
        async with asyncio.timeout(5):
            await at.service.wait_under_way(1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await at.service.wait_under_way(0)


@pytest.mark.parametrize("name", POLLED)
async def test_whatever_part_of_an_answer_is_odd_a_verdict_or_the_rest_comes_of_it(name: str) -> None:
    async with bench(name) as at:
        at.say(2)
        await read_all(at.connector, at.start())
        answers = list(at.service.answers)
        odd_ones = [
            (number, json.dumps(replaced(told, place, odd)).encode())
            for number, told in enumerate(map(as_json, answers))
            if told is not None
            for place in places(told)
            for odd in ODD
        ]
        chosen = random.Random(name).sample(odd_ones, min(len(odd_ones), 40))
        for number, body in chosen:
            at.service.faults = deque(Fault(status=200, body=answer) for answer in (*answers[:number], body))
            cursors = []
            with contextlib.suppress(Verdict):
                async with asyncio.timeout(10):
                    for page in await read_all(at.rebuilt(), at.start()):
                        assert len(json.dumps(page.cursor).encode()) <= MAX_CURSOR_BYTES, body
                        cursors.append(json.loads(json.dumps(page.cursor)))
            at.service.faults.clear()
            for cursor in cursors[-1:]:
                with contextlib.suppress(Verdict):
                    await read_all(at.rebuilt(), cursor)


def as_json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return None


@pytest.mark.parametrize("name", HOOKED)
async def test_a_webhook_believes_the_vendor_and_brings_what_was_said(name: str) -> None:
    async with bench(name) as at:
        assert isinstance(at.connector, Receiver)
        said = at.say(1)[0]
        fake = fake_hook(at.service.fake)
        found = []
        for request in fake.deliveries(said, HOOK_URL, NOW):
            delivery = await at.connector.receive(request)
            assert isinstance(delivery, Delivery) and delivery.status < 300
            found += [item.text for item in delivery.items]
        assert any(said.text in text for text in found)


@pytest.mark.parametrize("name", HOOKED)
async def test_a_webhook_refuses_strangers_and_replays(name: str) -> None:
    async with bench(name) as at:
        assert isinstance(at.connector, Receiver)
        said = at.say(1)[0]
        for request in fake_hook(at.service.fake).deliveries(said, HOOK_URL, NOW):
            for forged in forgeries(request):
                with pytest.raises(Refused) as refused:
                    await at.connector.receive(forged)
                assert refused.value.status in (400, 401, 403)


@pytest.mark.parametrize("name", HOOKED)
async def test_a_changed_body_is_refused_though_the_signature_was_right_before(name: str) -> None:
    async with bench(name) as at:
        assert isinstance(at.connector, Receiver)
        fake = fake_hook(at.service.fake)
        if "body" not in fake.covers:
            pytest.skip("the vendor's proof does not cover the body")
        for request in fake.deliveries(at.say(1)[0], HOOK_URL, NOW):
            for body in (request.body + b" ", request.body[:-1], b"", request.body.replace(b":", b" :", 1)):
                with pytest.raises(Refused) as refused:
                    await at.connector.receive(replace(request, body=body))
                assert refused.value.status == 401


@pytest.mark.parametrize("name", HOOKED)
async def test_a_request_recorded_and_sent_again_later_is_refused(name: str) -> None:
    async with bench(name) as at:
        assert isinstance(at.connector, Receiver)
        fake = fake_hook(at.service.fake)
        if "time" not in fake.covers:
            pytest.skip("the vendor's proof has no time")
        request = fake.deliveries(at.say(1)[0], HOOK_URL, NOW)[0]
        for later in (timedelta(minutes=6), timedelta(days=300), timedelta(minutes=-6)):
            with pytest.raises(Refused) as refused:
                await at.connector.receive(replace(request, received_at=NOW + later))
            assert refused.value.status == 401
        fresh = fake.signed(request.body, HOOK_URL, NOW + timedelta(hours=1))
        stamps = {key: value for key, value in fresh.headers.items() if "timestamp" in key}
        forged = replace(request, headers={**request.headers, **stamps}, received_at=NOW + timedelta(hours=1))
        with pytest.raises(Refused):
            await at.connector.receive(forged)


@pytest.mark.parametrize("name", HOOKED)
async def test_a_handshake_is_answered_as_the_vendor_wants_and_strangers_are_not(name: str) -> None:
    async with bench(name) as at:
        assert isinstance(at.connector, Receiver)
        if not isinstance(at.service.fake, Registering):
            pytest.skip("the vendor does not try a webhook")
        for shake in at.service.fake.handshakes(HOOK_URL, NOW):
            delivery = await at.connector.receive(shake.request)
            assert delivery.status < 300 and not delivery.items
            assert shake.answer is None or delivery.answer == shake.answer
            if shake.answer is not None:
                for forged in forgeries(shake.request):
                    given = shake.request.query
                    # Another challenge is as good as the first: it proves nothing, the answer does.
                    if not any(forged.query.get(name, given.get(name)) != given.get(name) for name in CHALLENGES):
                        with pytest.raises(Refused):
                            await at.connector.receive(forged)


CHALLENGES = ("hub.challenge", "crc_token")
ODD_HEADERS = ["", "\udcff", "é", "9" * 4_000, "1e999", "nan", "-1", "9999-12-31T23:59:59-23:59"]
HOSTILE = [
    b"", b"null", b"[]", b"{}", b"1", b"\"x\"", b"[[[[", b"{\"a\":", b"\xff\xfe", b"[" * 50_000, b"[null]", b"[[]]",
    b"{\"items\": 1}", b"<html></html>", b"a=b&c=d", b"1e999", b"NaN", b"{\"id\": \"\\ud800\"}", b"9" * 5_000,
]  # fmt: skip


@pytest.mark.parametrize("name", HOOKED)
async def test_a_signed_body_of_any_kind_is_refused_or_read_and_never_breaks_the_receiver(name: str) -> None:
    async with bench(name, timeout_s=5) as at:
        assert isinstance(at.connector, Receiver)
        fake = fake_hook(at.service.fake)
        for body in HOSTILE:
            outcome = await received(at.connector, fake.signed(body, HOOK_URL, NOW))
            if isinstance(outcome, Refused):
                assert outcome.status == 400, body
            assert not (isinstance(outcome, Delivery) and outcome.items), body
        for request in fake.deliveries(at.say(1)[0], HOOK_URL, NOW)[:1]:
            try:
                told = json.loads(request.body)
            except ValueError:
                continue
            for place in places(told):
                for odd in ODD:
                    body = json.dumps(replaced(told, place, odd)).encode()
                    outcome = await received(at.connector, fake.signed(body, HOOK_URL, NOW))
                    assert isinstance(outcome, Delivery | Refused | Verdict)


async def received(connector: Receiver, request: Request) -> Delivery | Refused | Verdict:
    try:
        return await connector.receive(request)
    except (Refused, Verdict) as outcome:
        return outcome


def fake_hook(fake: Fake) -> Hook:
    assert isinstance(fake, Hook), "a connector with a webhook needs a fake that calls it"
    return fake


def forgeries(request: Request) -> Iterator[Request]:
    """The same request without what proves its sender, and with proofs that are not right."""
    plain = {name: value for name, value in request.headers.items() if name in ("content-type", "host")}
    yield replace(request, headers=plain, query={})
    proofs = {name: value for name, value in request.headers.items() if name not in plain}
    for name in proofs:
        if "timestamp" in name or "signature" in name or "token" in name or "secret" in name:
            for wrong in ("0" * len(proofs[name]), *ODD_HEADERS):
                yield replace(request, headers={**request.headers, name: wrong})
    for name in request.query:
        for wrong in ("x", "", "\udcff"):
            yield replace(request, query={**request.query, name: wrong})


def test_every_connector_has_a_fake() -> None:
    assert set(FAKES) == set(ALL)
    for name in FAKES:
        fake = fake_of(name)
        assert fake.table("http://127.0.0.1:1")
