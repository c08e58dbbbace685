"""What the rules of single CRMs ask for beyond the contract of all connectors."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any

import pytest

from connectors.connector import CursorExpired, Item, Permanent, Reader, Receiver, Retryable
from connectors.crm import dynamics, hubspot
from connectors.fakes.dynamics import FakeDynamics
from connectors.fakes.fake import Fault, Hook, Said
from connectors.fakes.hubspot import FakeHubSpot, event
from connectors.fakes.salesforce import FakeSalesforce
from connectors.fakes.zoho import CHANNEL, HOOK, FakeZoho
from connectors.signature import digest
from tests.connectors import NOW, bench, items, read_all

URL = "https://hooks.example/v1/hooks/x"


def test_hubspots_library_signs_as_we_do() -> None:
    """tests/spec/utils/test_signature.py of HubSpot/hubspot-api-python."""
    address = hubspot.address("https://www.example.com/webhook_uri")
    signed = f"POST{address}{{'example_field':'example_value'}}15000000"
    mac = digest("yyyyyyyy-yyyy-yyyy-yyyy-yyyyyyyyyyyy", signed.encode(), form="base64")
    assert mac == "HPW73RUtKmcYoEDADG0s6MmGFWUzWJKAW07r8RDgcQw="


def test_hubspot_signs_some_characters_of_the_address_as_themselves() -> None:
    assert hubspot.address("https://x/a%3Ab?c=%2F%40d%20e%3f") == "https://x/a:b?c=/@d%20e?"


async def test_a_search_of_hubspot_goes_on_where_its_results_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hubspot, "DEEPEST", 600)
    async with bench("hubspot") as at:
        assert isinstance(at.service.fake, FakeHubSpot) and isinstance(at.connector, Reader)
        at.service.fake.deepest = 600
        said = at.say(1_500)
        found = items(await read_all(at.connector, at.connector.since(NOW - timedelta(days=1))))
        assert {item.text for item in found} == {one.text for one in said}


async def test_a_privacy_deletion_at_hubspot_deletes_what_belongs_to_the_contact() -> None:
    async with bench("hubspot") as at:
        fake = at.service.fake
        assert isinstance(fake, FakeHubSpot) and isinstance(at.connector, Receiver)
        at.say(3)
        fake.contacts = {"1": "77", "3": "77", "2": "78"}
        body = json.dumps([event("contact.privacyDeletion", "77", NOW)]).encode()
        delivery = await at.connector.receive(fake.signed(body, URL, NOW))
        assert all(item.deleted for item in delivery.items)
        assert {item.external_id.partition(":")[0] for item in delivery.items} == {"1", "3"}


async def test_a_ticket_deleted_and_changed_in_one_batch_is_deleted() -> None:
    async with bench("hubspot") as at:
        fake = at.service.fake
        assert isinstance(fake, FakeHubSpot) and isinstance(at.connector, Receiver)
        at.say(1)
        body = json.dumps([event("ticket.deletion", "1", NOW), event("ticket.propertyChange", "1", NOW)]).encode()
        delivery = await at.connector.receive(fake.signed(body, URL, NOW))
        assert [item.deleted for item in delivery.items if item.external_id == "1"] == [True]


async def test_a_delta_link_of_dataverse_that_is_too_old_is_an_expired_cursor() -> None:
    async with bench("dynamics") as at:
        at.say(1)
        cursor = (await read_all(at.connector, None))[-1].cursor
        at.service.fake.expire()
        with pytest.raises(CursorExpired):
            await read_all(at.connector, cursor)


async def test_a_table_without_change_tracking_is_named() -> None:
    async with bench("dynamics") as at:
        assert isinstance(at.service.fake, FakeDynamics)
        at.service.fake.tracking = False
        at.say(1)
        with pytest.raises(Permanent, match="change tracking"):
            await read_all(at.connector, None)


@pytest.mark.parametrize("link", ["https://evil.example/api?$skiptoken=1", "//evil.example/x", "http:evil"])
async def test_no_credentials_follow_a_link_to_another_server(link: str) -> None:
    async with bench("dynamics") as at, bench("salesforce") as sales:
        body = json.dumps({"value": [], "@odata.nextLink": link}).encode()
        token = b'{"access_token": "t", "expires_in": 3600}'
        at.service.faults.extend([Fault(status=200, body=token), Fault(status=200, body=body)])
        with pytest.raises((Permanent, Retryable)):
            await read_all(at.connector, None)
        log = b'{"deletedRecords": [], "latestDateCovered": "2026-11-25T12:00:00.000+0000"}'
        more = json.dumps({"totalSize": 9, "done": False, "records": [], "nextRecordsUrl": link}).encode()
        sales.service.faults.extend(Fault(status=200, body=answer) for answer in (token, log, more))
        with pytest.raises((Permanent, Retryable)):
            await read_all(sales.connector, None)


def test_deltas_have_whole_records() -> None:
    assert all(set(dynamics.KEYS[name].split(",")) <= set(dynamics.COLUMNS[name].split(",")) for name in dynamics.KEYS)


async def test_a_channel_of_zoho_is_opened_renewed_before_its_end_and_a_refusal_is_said() -> None:
    async with bench("zoho") as at:
        fake = at.service.fake
        assert isinstance(fake, FakeZoho)
        at.table["notify_url"] = URL

        async def poll(cursor: Any) -> Any:
            return (await read_all(at.rebuilt(), cursor))[-1].cursor

        cursor = await poll(None)
        first = dict(fake.channels[CHANNEL])
        assert first["notify_url"] == f"{URL}?secret={HOOK}" and first["token"] == HOOK
        assert datetime.fromisoformat(first["channel_expiry"]) == NOW + timedelta(hours=24)
        at.clock.at += timedelta(hours=17)
        cursor = await poll(cursor)
        assert fake.channels[CHANNEL] == first
        at.clock.at += timedelta(hours=2)
        cursor = await poll(cursor)
        assert datetime.fromisoformat(fake.channels[CHANNEL]["channel_expiry"]) == at.clock.at + timedelta(hours=24)
        at.clock.at += timedelta(hours=20)
        said = at.say(1, at=at.clock.at - timedelta(minutes=1))
        fake.channels.clear()
        reader = at.rebuilt()
        assert isinstance(reader, Reader)
        got: list[Item] = []
        fake.refuse_channels = True

        async def poll_on() -> None:
            async for page in reader.pages(cursor, follow=False):
                got.extend(page.items)

        with pytest.raises(Retryable, match="could not be renewed"):
            await poll_on()
        assert [item.text for item in got] == [said[0].text], "the poll itself has worked"


@pytest.mark.parametrize("kind", ["EmailMessage", "CaseComment"])
async def test_salesforce_is_asked_for_messages_of_cases_in_soql_of_their_own(kind: str) -> None:
    async with bench("salesforce") as at:
        fake = at.service.fake
        assert isinstance(fake, FakeSalesforce)
        at.table["object"] = kind
        await read_all(at.rebuilt(), None)
        (asked,) = fake.queries
        assert f" FROM {kind} WHERE SystemModstamp >= 2026-11-24T12:00:00Z ORDER BY SystemModstamp ASC" in asked
        assert "Description" not in asked
        assert any(path.endswith(f"/sobjects/{kind}/deleted/") for path in at.service.seen)


@pytest.mark.parametrize("name", ["dynamics", "surveymonkey", "zendesk"])
async def test_what_a_webhook_names_and_nobody_knows_yet_is_no_deletion(name: str) -> None:
    """A deletion that was guessed would be newer than what is then read, and hide it for good."""
    async with bench(name) as at:
        fake = at.service.fake
        assert isinstance(fake, Hook) and isinstance(at.connector, Receiver)
        said = Said(id="000007", text="The courier never came", at=NOW - timedelta(minutes=5))
        (request, *_) = fake.deliveries(said, URL, NOW)
        with pytest.raises(Retryable, match="does not know"):
            await at.connector.receive(request)
        at.service.fake.say(said)
        delivery = await at.connector.receive(request)
        assert [item.text for item in delivery.items if item.text] == [said.text]
