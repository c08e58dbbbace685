"""Hostile words of a customer through a real Alertmanager and Apprise: harmless in every channel."""

from __future__ import annotations

import asyncio
import email
import email.policy
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web

from alerts.alert import Alert
from alerts.engine import Engine
from alerts.notifiers import AlertmanagerNotifier, AppriseNotifier
from alerts.rule import Rule
from tests import feed
from tests.e2e.test_alertmanager import Peer, opened, until

pytestmark = [
    pytest.mark.prometheus,
    pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning"),
]

HOSTILE = (
    "fire one <!channel> <!here> <@U12345> <#C12345> @everyone @here @room <@&99>",
    "fire two <script>alert(1)</script><img src=x onerror=alert(1)><a href='https://evil.example'>anchor</a> "
    "&lt;b&gt; &#x3c;b&#x3e; `rm -rf` ```code```",
    "fire three <https://evil.example|click> [click](https://evil.example) www.evil.example evil.example "
    "mailto:a@b.example evil\u3002example evil\uff61example",
    "fire four {{ .Labels }} {{ template \"x\" }} \x00\x07\x1b[31m\u202egnp.exe\u2066\u200b \ud800 "
    "\r\nSubject: x\r\n\r\n.\r\n end of mail",
    "fire five " + "A" * 10_000,
)
DANGERS = (
    "<!channel", "<!here", "<@", "<#", "@everyone", "@here", "@room", "<script", "<img", "<a href='https://evil",
    "https://evil", "www.evil.example", " evil.example",
    "evil\u3002example", "evil\uff61example", "mailto:a", "](", "`", "\x00", "\x07", "\x1b", "\u202e",
    "\u2066", "\r\nSubject: x",
)  # fmt: skip
TEXT = "{{ range .Alerts }}{{ .Labels.customer }} {{ .Annotations.summary }} {{ .Annotations.quotes }}{{ end }}"


class Channels(Peer):
    """An Alertmanager whose Slack, PagerDuty, Telegram, e-mail and webhook all end here."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.bodies: dict[str, Any] = {}
        self.mail: list[bytes] = []

    async def hook(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.bodies[request.path.strip("/").split("/")[0]] = body
        if request.path.startswith("/slack"):
            return web.Response(text="ok")
        return web.json_response({"ok": True, "status": "success", "result": {"message_id": 1, "chat": {"id": 1}}})

    async def smtp(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 here\r\n")
        while line := await reader.readline():
            if line.upper().startswith(b"DATA"):
                writer.write(b"354 go\r\n")
                lines = []
                while (line := await reader.readline()) != b".\r\n":
                    lines.append(line)
                self.mail.append(b"".join(lines))
            writer.write(b"250 ok\r\n")
            await writer.drain()
            if line.upper().startswith(b"QUIT"):
                break
        writer.close()

    async def open(self) -> None:
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", self.hook)
        self.runner = web.AppRunner(application, shutdown_timeout=0.1)
        await self.runner.setup()
        await web.TCPSite(self.runner, "127.0.0.1", 0).start()
        host, port = self.runner.addresses[0]
        self.http = f"http://{host}:{port}"
        self.post = await asyncio.start_server(self.smtp, "127.0.0.1", 0)
        self.smarthost = f"127.0.0.1:{self.post.sockets[0].getsockname()[1]}"
        told = [
            {"slack_configs": [{"api_url": f"{self.http}/slack", "channel": "#x", "text": TEXT, "title": TEXT}]},
            {"pagerduty_configs": [
                {"url": f"{self.http}/pagerduty", "routing_key": "k" * 32, "description": TEXT, "details": {"q": TEXT}}
            ]},
            {"telegram_configs": [
                {"api_url": f"{self.http}/telegram", "bot_token": "1:a", "chat_id": 1, "message": TEXT,
                 "parse_mode": "HTML"}
            ]},
            {"email_configs": [
                {"to": "a@b.example", "from": "o@b.example", "smarthost": self.smarthost, "require_tls": False,
                 "html": f"<p>{TEXT}</p>", "text": TEXT, "hello": "here"}
            ]},
            {"webhook_configs": [{"url": f"{self.http}/webhook"}]},
        ]  # fmt: skip
        receivers = [{"name": f"r{number}", **one} for number, one in enumerate(told)]
        routes = [{"receiver": one["name"], "continue": True} for one in receivers]
        config = {
            "route": {"receiver": "r0", "group_by": ["..."], "group_wait": "0s", "routes": routes},
            "receivers": receivers,
        }
        (self.folder / "alertmanager.yml").write_text(json.dumps(config))
        await self.start()

    async def close(self) -> None:
        await super().close()
        self.post.close()


@pytest_asyncio.fixture
async def channels(tmp_path: Path) -> AsyncIterator[Channels]:
    async with opened(Channels(tmp_path)) as running:
        yield running


def hostile() -> Alert:
    """An alert that quotes the worst that a customer can write, in the name of a customer no better."""
    rule = Rule(name="grave", kind="severe", words=("fire",), group_by=("customer",))
    now, customer = datetime.now(UTC), "<!channel> https://evil.example @everyone"
    items = [
        replace(feed.sample(i, 1, negative=True, text=text), customer=customer, at=now - timedelta(minutes=9 - i))
        for i, text in enumerate(HOSTILE)
    ]
    (alert,) = Engine([rule]).evaluate(items, {}, now).alerts
    assert len(alert.evidence) == len(HOSTILE)
    return alert


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.seen.append(tag)


def harmless(said: str) -> None:
    """None of it may reach a program that reads it, and people can still read it."""
    found = [danger for danger in DANGERS if danger in said]
    assert not found, found
    assert all(word in said for word in ("everyone", "anchor", "click", "end", "AAAA")) and "A" * 300 not in said


async def test_no_channel_of_alertmanager_is_misled(channels: Channels) -> None:
    notifier = AlertmanagerNotifier([channels.url], 60)
    await notifier.send([hostile()], datetime.now(UTC))
    await notifier.close()
    await until(lambda: {"slack", "pagerduty", "telegram", "webhook"} <= channels.bodies.keys() and channels.mail, 30)
    (attachment,) = channels.bodies["slack"]["attachments"]
    harmless(attachment["text"])
    harmless(attachment["title"])
    harmless(channels.bodies["pagerduty"]["payload"]["custom_details"]["q"])
    telegram = channels.bodies["telegram"]["text"]
    harmless(telegram)
    (alert,) = channels.bodies["webhook"]["alerts"]
    harmless(alert["annotations"]["quotes"])
    message = email.message_from_bytes(channels.mail[0], policy=email.policy.default)
    assert message["To"] == "a@b.example" and message.get_all("Subject") and len(message.get_all("Subject") or []) == 1
    for kind in ("html", "plain"):
        part = message.get_body((kind,))
        assert part is not None
        harmless(part.get_content())
    html = message.get_body(("html",))
    assert html is not None
    tags = Tags()
    tags.feed(html.get_content())
    assert tags.seen == ["p"]


def spoken(kind: str, body: Any) -> str:
    """The words of a message to a chat, and that nothing else in it is of the customer."""
    if kind == "discord":
        assert not {"embeds", "allow_mentions"} & body.keys()
        return str(body["content"])
    if kind == "telegram":
        if body["parse_mode"] == "HTML":
            tags = Tags()
            tags.feed(body["text"])
            assert set(tags.seen) <= {"b"}
        return str(body["text"])
    (attachment,) = body["attachments"]
    return f"{attachment.get('title', '')}\n{attachment['text']}"


@pytest.mark.parametrize(
    ("kind", "url", "longest"),
    [
        ("discord", "discord://1234567890/abcdefghijklmnop", 2000),
        ("discord", "discord://1234567890/abcdefghijklmnop?format=text", 2000),
        ("telegram", "tgram://123456789:abcdefghijklmnopqrstuvwxyzABCDEFG12/12345", 4096),
        ("telegram", "tgram://123456789:abcdefghijklmnopqrstuvwxyzABCDEFG12/12345?format=markdown", 4096),
        ("telegram", "tgram://123456789:abcdefghijklmnopqrstuvwxyzABCDEFG12/12345?format=text", 4096),
        ("slack", "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/#voice", 35_000),
    ],
)
async def test_no_chat_that_apprise_reaches_is_misled_or_refuses_what_is_too_long(
    channels: Channels, monkeypatch: pytest.MonkeyPatch, kind: str, url: str, longest: int
) -> None:
    monkeypatch.setattr("apprise.plugins.discord.NotifyDiscord.notify_url", f"{channels.http}/discord")
    monkeypatch.setattr("apprise.plugins.telegram.NotifyTelegram.notify_url", f"{channels.http}/telegram/bot")
    monkeypatch.setattr("apprise.plugins.slack.NotifySlack.webhook_url", f"{channels.http}/slack")
    notifier = AppriseNotifier(url)
    long = replace(hostile(), incident="long")
    query = "https://prometheus.example.com/graph?g0.expr=" + "x" * 700
    long = replace(long, annotations=long.annotations | {"query_url": query, "runbook_url": "https://w.example.com/r"})
    for alert in (hostile(), long):
        await notifier.send([alert], datetime.now(UTC))
        said = spoken(kind, channels.bodies.pop(kind))
        assert len(said) <= longest
        found = [danger for danger in DANGERS if danger in said]
        assert not found, found
        assert "everyone" in said and "A" * 300 not in said and "Workspace default" in said
    await notifier.close()


@pytest.mark.parametrize("form", ["text", "html", "markdown"])
async def test_no_channel_of_apprise_is_misled(channels: Channels, form: str) -> None:
    mail = f"mailto://{channels.smarthost}/?from=o@b.example&to=a@b.example&mode=insecure&format={form}"
    urls = [f"json://{channels.http.removeprefix('http://')}/json?format={form}", mail]
    for url in urls:
        notifier = AppriseNotifier(url)
        await notifier.send([hostile()], datetime.now(UTC))
        await notifier.close()
    harmless(channels.bodies["json"]["message"])
    message = email.message_from_bytes(channels.mail[0], policy=email.policy.default)
    for part in message.walk():
        if part.get_content_type() in ("text/plain", "text/html"):
            content = part.get_content()
            harmless(content)
            tags = Tags()
            tags.feed(content)
            assert set(tags.seen) <= {"p", "br", "html", "head", "body", "h1", "title", "meta"}
