"""One suite over both notifiers, against a real HTTP receiver; then what each has of its own."""

from __future__ import annotations

import json
import logging
import socket
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import apprise
import pytest
import pytest_asyncio
from aiohttp import web

from alerts.alert import Alert
from alerts.engine import Engine
from alerts.notifiers import AlertmanagerNotifier, AppriseNotifier, Notifier
from alerts.rule import Rule
from alerts.verdict import NotDelivered, Permanent, Retryable
from tests import feed

# Apprise 2.3 imports it while it looks for its services.
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")

NOW = datetime(2026, 11, 2, 1, 0, tzinfo=UTC)
HOSTILE = (
    "@everyone <!channel> <script>alert(1)</script> http://evil.example/x www.evil.com "
    "[click](javascript:x) `rm` *b* \x00\x1b[31m\u202egnp.exe \ud800 " + "A" * 10_000
)


@dataclass
class Receiver:
    """Takes every POST; answers the statuses that a test puts into `answers`, then 200."""

    url: str = ""
    bodies: list[Any] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    refuse: str = ""
    hang: bool = False

    async def take(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.bodies.append(body)
        if self.hang:
            assert request.transport is not None
            request.transport.close()
        if self.refuse and self.refuse in json.dumps(body):
            return web.Response(status=400, text="label name is not valid")
        status = self.answers.pop(0) if self.answers else 200
        return web.Response(status=status, headers=self.headers, text="so it is")


@pytest_asyncio.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with serving(Receiver()) as running:
        yield running


class serving:
    """A receiver on a port of its own while the block runs."""

    def __init__(self, receiver: Receiver) -> None:
        self.receiver = receiver

    async def __aenter__(self) -> Receiver:
        application = web.Application()
        application.router.add_post("/{path:.*}", self.receiver.take)
        self.runner = web.AppRunner(application, shutdown_timeout=0.1)
        await self.runner.setup()
        site = web.TCPSite(self.runner, "127.0.0.1", 0)
        await site.start()
        host, port = self.runner.addresses[0]
        self.receiver.url = f"{host}:{port}"
        return self.receiver

    async def __aexit__(self, *_: object) -> None:
        await self.runner.cleanup()


def alert(topic: str = "delivery", *, resolved: bool = False, text: str = "", label: str = "") -> Alert:
    """What the engine makes of a rise in `topic`."""
    samples = [feed.sample(i, i / 10, negative=i % 4 == 0, topic=topic) for i in range(200)]
    samples += [feed.sample(1000 + i, 20 + i / 10, negative=True, topic=topic, text=text) for i in range(60)]
    if resolved:
        samples += [feed.sample(2000 + i, 26 + i / 10, negative=False, topic=topic) for i in range(60)]
    rule = Rule(name="rise", severity="critical", runbook_url="https://wiki.example.com/rise")
    (found,) = Engine([rule], dashboard_url="https://d.example.com").evaluate(samples, {}, NOW).alerts
    assert found.state == ("resolved" if resolved else "firing")
    return found


Make = Callable[[str], Notifier]
MAKERS: dict[str, Make] = {
    "alertmanager": lambda url: AlertmanagerNotifier([f"http://{url}"], 300, timeout_s=2),
    "apprise": lambda url: AppriseNotifier(f"json://user:hunter2@{url}?rto=2&cto=2"),
}


@pytest_asyncio.fixture(params=sorted(MAKERS))
async def notifier(request: pytest.FixtureRequest, receiver: Receiver) -> AsyncIterator[Notifier]:
    made = MAKERS[request.param](receiver.url)
    yield made
    await made.close()


# What holds for both.


async def test_it_delivers_with_numbers_and_quotes(notifier: Notifier, receiver: Receiver) -> None:
    firing = alert()
    await notifier.send([firing], NOW)
    (body,) = receiver.bodies
    said = json.dumps(body, ensure_ascii=False)
    assert firing.annotations["summary"] in said
    assert firing.annotations["description"] in said
    assert firing.evidence[0].text in said
    assert "https://wiki.example.com/rise" in said


async def test_nothing_to_send_sends_nothing(notifier: Notifier, receiver: Receiver) -> None:
    await notifier.send([], NOW)
    assert receiver.bodies == []


@pytest.mark.parametrize("status", [500, 503, 429, 408])
async def test_trouble_is_retryable_and_not_retried(notifier: Notifier, receiver: Receiver, status: int) -> None:
    receiver.answers = [status]
    with pytest.raises(Retryable):
        await notifier.send([alert()], NOW)
    assert len(receiver.bodies) == 1
    await notifier.send([alert()], NOW)
    assert len(receiver.bodies) == 2


async def test_a_broken_connection_is_retryable(notifier: Notifier, receiver: Receiver) -> None:
    receiver.hang = True
    with pytest.raises(Retryable):
        await notifier.send([alert()], NOW)


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
async def test_nobody_there_is_retryable(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        notifier = make(f"127.0.0.1:{taken.getsockname()[1]}")
        with caplog.at_level(logging.DEBUG), pytest.raises(Retryable) as told:
            await notifier.send([alert()], NOW)
        await notifier.close()
    assert "hunter2" not in str(told.value)


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
async def test_a_silent_receiver_times_out(make: Make) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        notifier = make(f"127.0.0.1:{silent.getsockname()[1]}")
        with pytest.raises(Retryable):
            await notifier.send([alert()], NOW)
        await notifier.close()


async def test_hostile_words_are_harmless(notifier: Notifier, receiver: Receiver) -> None:
    await notifier.send([alert(text=HOSTILE)], NOW)
    said = json.dumps(receiver.bodies, ensure_ascii=False)
    for danger in (
        "@everyone",
        "<!channel>",
        "<script",
        "http://evil",
        "www.evil.com",
        "](",
        "`",
        "\u202e",
        "\\u0000",
        "\x1b",
    ):
        assert danger not in said
    assert "everyone" in said and "AAAA" in said
    assert len(said) < 4000


async def test_it_can_be_closed_twice_and_before_use(notifier: Notifier) -> None:
    await notifier.close()
    await notifier.close()


@pytest.mark.parametrize("url", ["", "nonsense", "hunter2://x", "http://"])
def test_useless_urls_are_refused_without_being_repeated(url: str) -> None:
    for make in (lambda: AlertmanagerNotifier([url], 300), lambda: AppriseNotifier(url)):
        with pytest.raises(ValueError, match="URL"):
            make()
    with pytest.raises(ValueError, match="URL"):
        AlertmanagerNotifier([], 300)


# Alertmanager alone.


async def test_a_firing_alert_is_a_lease_and_a_resolved_one_ends_now(receiver: Receiver) -> None:
    notifier = AlertmanagerNotifier([f"http://{receiver.url}/prefix/"], 300)
    firing, resolved = alert(), alert("billing", resolved=True)
    await notifier.send([firing, resolved], NOW)
    await notifier.close()
    first, second = receiver.bodies[0]
    assert first["labels"] == {
        "alertname": "rise",
        "workspace": "default",
        "topic": "delivery",
        "severity": "critical",
    }
    assert datetime.fromisoformat(first["startsAt"]) == firing.starts_at
    assert datetime.fromisoformat(first["endsAt"]) == NOW + timedelta(seconds=300)
    assert first["generatorURL"] == "https://d.example.com"
    assert datetime.fromisoformat(second["startsAt"]) == resolved.starts_at
    assert datetime.fromisoformat(second["endsAt"]) == NOW


async def test_the_end_of_an_older_incident_does_not_end_the_newer_one(receiver: Receiver) -> None:
    notifier = AlertmanagerNotifier([f"http://{receiver.url}"], 300)
    older, newer = alert(resolved=True), replace(alert(), starts_at=NOW)
    assert older.fingerprint == newer.fingerprint
    await notifier.send([newer, older], NOW)
    await notifier.close()
    ((body,),) = receiver.bodies
    assert body["startsAt"] == NOW.isoformat()
    assert datetime.fromisoformat(body["endsAt"]) > NOW


async def test_a_start_ahead_of_the_clock_is_brought_back(receiver: Receiver) -> None:
    notifier = AlertmanagerNotifier([f"http://{receiver.url}"], 300)
    early = feed.START
    await notifier.send([alert(resolved=True)], early)
    await notifier.close()
    (body,) = receiver.bodies[0]
    assert body["startsAt"] == body["endsAt"] == early.isoformat()


async def test_one_bad_alert_is_named_and_the_good_ones_arrive(receiver: Receiver) -> None:
    receiver.refuse = '"billing"'
    notifier = AlertmanagerNotifier([f"http://{receiver.url}"], 300)
    good, bad, other = alert(), alert("billing"), alert("app")
    with pytest.raises(Permanent) as told:
        await notifier.send([good, bad, other], NOW)
    await notifier.close()
    assert told.value.incidents == (bad.incident,)
    assert "label name is not valid" in str(told.value)
    assert [len(body) for body in receiver.bodies] == [3, 1, 1, 1]


@pytest.mark.parametrize("status", [301, 401, 403, 404, 410])
async def test_a_wrong_receiver_is_permanent(receiver: Receiver, status: int) -> None:
    receiver.answers = [status]
    notifier = AlertmanagerNotifier([f"http://user:hunter2@{receiver.url}"], 300)
    with pytest.raises(Permanent, match=str(status)) as told:
        await notifier.send([alert()], NOW)
    await notifier.close()
    assert told.value.incidents == () and "hunter2" not in str(told.value)


@pytest.mark.parametrize(
    ("header", "seconds"), [("7", 7.0), ("soon", None), ("-3", 0.0), ("1e99", 3600.0), ("nan", None)]
)
async def test_retry_after_is_passed_on(receiver: Receiver, header: str, seconds: float | None) -> None:
    receiver.answers, receiver.headers = [503], {"Retry-After": header}
    notifier = AlertmanagerNotifier([f"http://{receiver.url}"], 300)
    with pytest.raises(Retryable) as told:
        await notifier.send([alert()], NOW)
    await notifier.close()
    assert told.value.retry_after_s == seconds


async def test_one_of_a_group_is_enough(receiver: Receiver) -> None:
    async with serving(Receiver(answers=[500, 401, 401])) as ill:
        notifier = AlertmanagerNotifier([f"http://{ill.url}", f"http://{receiver.url}"], 300)
        await notifier.send([alert()], NOW)
        await notifier.send([alert()], NOW)
        assert len(receiver.bodies) == len(ill.bodies) == 2
        receiver.answers = [503]
        with pytest.raises(Retryable):
            await notifier.send([alert()], NOW)
        await notifier.close()


# Apprise alone.


async def test_a_message_that_was_taken_is_not_sent_again_because_another_was_not(receiver: Receiver) -> None:
    notifier = AppriseNotifier(f"json://{receiver.url}")
    receiver.answers = [200, 500]
    both = [alert(), alert("billing")]
    with pytest.raises(Retryable, match="1 of 2"):
        await notifier.send(both, NOW)
    await notifier.send(both, NOW)
    await notifier.send([alert(resolved=True)], NOW)
    await notifier.close()
    assert [body["type"] for body in receiver.bodies] == ["warning", "warning", "warning", "success"]
    titles = [body["title"] for body in receiver.bodies]
    assert titles[0] == "Critical: More negative feedback than usual: topic delivery"
    assert titles[1] == titles[2] == "Critical: More negative feedback than usual: topic billing"
    assert titles[3].startswith("Resolved: ")


def test_a_service_has_a_name_of_its_own_that_shows_no_secret_and_stays() -> None:
    urls = [f"json://user:hunter2@127.0.0.1:{port}" for port in (8001, 8002)]
    names = [AppriseNotifier(url).name for url in urls]
    assert len(set(names)) == 2 and names == [AppriseNotifier(url).name for url in urls]
    assert all(name.startswith("json-") and len(name) == 13 and "hunter2" not in name for name in names)


@pytest.mark.parametrize("form", [apprise.NotifyFormat.HTML, apprise.NotifyFormat.MARKDOWN])
async def test_words_stay_harmless_in_services_with_markup(receiver: Receiver, form: apprise.NotifyFormat) -> None:
    notifier = AppriseNotifier(f"json://{receiver.url}?format={form.value}")
    await notifier.send([alert(text=HOSTILE)], NOW)
    await notifier.close()
    message = receiver.bodies[0]["message"]
    assert "<script" not in message and "<!channel" not in message and "@everyone" not in message


async def test_secrets_are_not_logged(receiver: Receiver, caplog: pytest.LogCaptureFixture) -> None:
    receiver.answers = [500]
    with caplog.at_level(logging.DEBUG):
        notifier = AppriseNotifier(f"json://user:hunter2@{receiver.url}")
        with pytest.raises(NotDelivered):
            await notifier.send([alert()], NOW)
        await notifier.close()
        with pytest.raises(ValueError, match="URL"):
            AppriseNotifier("json://user:hunter2@:bad:port/")
    assert "hunter2" not in caplog.text
