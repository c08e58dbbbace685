"""The deployment's receivers for Slack, e-mail and PagerDuty, in a real Alertmanager that sends to local servers."""

from __future__ import annotations

import email
import email.policy
import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from email.message import EmailMessage
from html.parser import HTMLParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit
from urllib.request import Request, urlopen

import pytest
import yaml
from aiosmtpd.controller import Controller

from alerts.engine import Engine
from alerts.rule import Rule
from pipeline.broker import free_port
from tests import feed
from tests.e2e.test_deploy import DEPLOY, program, run, serving, until

pytestmark = pytest.mark.prometheus

EVIL = (
    "<!channel> <!everyone> <http://evil.example|click> @everyone @channel http://evil.example/x www.evil.example "
    "mailto:a@evil.example evil\u3002example evil\uff0eexample "
    "[click](http://evil.example) <script>alert(1)</script> <img src=x onerror=alert(1)> "
    "</div></table> {{ .ExternalURL }} `code` &amp; \u202egnp.exe \x07\x1b[31m\x00\u200b"
)
LONG = "A" * 10_000
ANNOTATIONS = {
    "summary": f"More negative feedback than usual: topic delivery {EVIL}",
    "description": "38 of 51 items were negative (75 %) since 13:05; usual are 22 %. By chance alone this happens less "
    f"than once in 40 weeks. {EVIL}",
    "negative": "38",
    "total": "51",
    "share": "0.745",
    "baseline": "0.220",
    "expected": "11.2",
    "since": "2026-11-25T13:05:00Z",
    "raw_matched": "71",
    "raw_total": "99",
    "blind_sources": f"app_store {EVIL}",
    "missing": "app_store shop from 2026-11-25 12:50 to 2026-11-25 13:20 UTC: 401",
    "pipeline": "Records have waited for more than 30 seconds: what is counted is not up to date.",
    "query": 'sum by (sentiment) (feedback_window_items{topic="delivery",window="1h"})',
    "query_url": "http://127.0.0.1:9090/graph?g0.expr=sum%20by%20%28sentiment%29%20%28x%29&g0.tab=0",
    "model": "multilingual@3f2a9c",
    "quotes": f"[telegram, ru] курьер не приехал {EVIL}\n[google_play, en] charged twice {LONG}",
    "runbook_url": "https://wiki.example.com/runbooks/negative-spike",
    "dashboard_url": "http://127.0.0.1:3000/d/voice-of-the-customer",
}
SHOWN = (
    "38 of 51", "22 %", "once in 40 weeks", "0.745", "0.220", "11.2", "2026-11-25T13:05:00Z", "71", "99", "app_store",
    "app_store shop from 2026-11-25 12:50 to 2026-11-25 13:20 UTC: 401", "is not up to date", "multilingual@3f2a9c",
)  # fmt: skip
HIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
# What a program makes a link or a mention of.
FOLLOWED = re.compile(r"evil[.\u3002\uff0e\uff61]example|https?://evil|@(?:everyone|channel)|mailto:a")


def alert(severity: str, ended: bool = False, **annotations: str) -> dict[str, Any]:
    labels = {"alertname": "negative-spike", "workspace": "default", "topic": "delivery", "severity": severity}
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    made: dict[str, Any] = {"labels": labels, "annotations": ANNOTATIONS | annotations, "startsAt": at}
    return made | ({"endsAt": at} if ended else {})


def uncommented() -> dict[str, Any]:
    """The deployment's configuration as its reader makes it: the comment signs before three receivers taken away."""
    lines = (DEPLOY / "alertmanager/alertmanager.yml").read_text("utf-8").splitlines()
    begun = lines.index("receivers:")
    opened, kept = False, []
    for number, line in enumerate(lines):
        if number > begun and (found := re.match(r"    # (\w+_configs:)$", line)):
            opened = found[1] != "webhook_configs:"
        elif not line.startswith("    #   "):
            opened = False
        kept.append(line.replace("# ", "", 1) if opened else line)
    config: dict[str, Any] = yaml.safe_load("\n".join(kept))
    return config


class Inboxes:
    """What arrived: posts by path, and letters."""

    def __init__(self) -> None:
        self.posts: list[tuple[str, dict[str, Any]]] = []
        self.letters: list[EmailMessage] = []

    def to(self, path: str) -> list[dict[str, Any]]:
        return [body for at, body in self.posts if at == path]

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        letter = email.message_from_bytes(envelope.content, policy=email.policy.default)
        assert isinstance(letter, EmailMessage)
        self.letters.append(letter)
        return "250 OK"

    def handler(self) -> type[BaseHTTPRequestHandler]:
        posts = self.posts

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                posts.append((self.path, json.loads(self.rfile.read(int(self.headers["Content-Length"])))))
                answer = b"ok" if self.path == "/slack" else b"{}"
                self.send_response(200 if self.path == "/slack" else 202)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        return Handler


@contextmanager
def sending(folder: Path) -> Iterator[tuple[str, Inboxes]]:
    """The address of an Alertmanager with all receivers, and where they send."""
    inboxes = Inboxes()
    with ExitStack() as stack:
        http = stack.enter_context(ThreadingHTTPServer(("127.0.0.1", 0), inboxes.handler()))
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        stack.callback(thread.join)
        stack.callback(http.shutdown)
        smtp = Controller(inboxes, hostname="127.0.0.1", port=free_port())
        smtp.start()
        stack.callback(smtp.stop)
        config = uncommented()
        config["templates"] = [str(DEPLOY / "alertmanager" / one) for one in config["templates"]]
        receivers = {one["name"]: one for one in config["receivers"]}
        (slack,), (letter,) = (receivers["support-leads"][f"{kind}_configs"] for kind in ("slack", "email"))
        (pager,) = receivers["on-call"]["pagerduty_configs"]
        for one, key, value in (
            (slack, "api_url_file", f"http://127.0.0.1:{http.server_port}/slack"), (pager, "routing_key_file", "key"),
        ):  # fmt: skip
            (folder / key).write_text(value)
            one[key] = str(folder / key)
        pager["url"] = f"http://127.0.0.1:{http.server_port}/pagerduty"
        letter |= {"smarthost": f"127.0.0.1:{smtp.port}", "require_tls": False}
        for key in ("auth_username", "auth_password_file"):
            del letter[key]
        config["route"] |= {"group_wait": "0s", "group_interval": "1s"}
        path, at = folder / "alertmanager.yml", f"127.0.0.1:{free_port()}"
        path.write_text(yaml.safe_dump(config, allow_unicode=True), "utf-8")
        run(program("amtool"), "check-config", path)
        flags = {"config.file": path, "storage.path": folder / "data", "web.listen-address": at}
        command = [program("alertmanager", "prometheus-alertmanager"), "--cluster.listen-address="]
        command += [f"--{name}={value}" for name, value in flags.items()]
        stack.enter_context(serving(command, folder / "alertmanager.log"))
        until(lambda: urlopen(f"http://{at}/-/ready", timeout=5).status == 200, "Alertmanager is ready")
        yield f"http://{at}", inboxes


def post(url: str, *alerts: dict[str, Any]) -> None:
    request = Request(f"{url}/api/v2/alerts", json.dumps(alerts).encode(), {"Content-Type": "application/json"})
    with urlopen(request, timeout=10) as answer:
        assert answer.status == 200


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inboxes]:
    """What a hostile page, and its end, brought to each receiver."""
    with sending(tmp_path_factory.mktemp("alertmanager")) as (url, inboxes):
        post(url, alert("critical"))
        until(lambda: inboxes.to("/slack") and inboxes.letters and inboxes.to("/pagerduty"), "all are told", 40)
        post(url, alert("critical", ended=True))
        until(lambda: len(inboxes.to("/slack")) > 1 and len(inboxes.letters) > 1 and len(inboxes.to("/pagerduty")) > 1,
              "all are told of the end", 40)  # fmt: skip
        yield inboxes


def test_what_is_shown_below_is_all_that_an_alert_can_carry() -> None:
    samples = [feed.sample(i, i / 10, negative=i % 4 == 0 or i >= 200, topic="delivery") for i in range(260)]
    rule = Rule(name="rise", runbook_url="https://wiki.example.com/rise")
    engine = Engine([rule], dashboard_url="https://d.example.com", prometheus_url="https://p.example.com/")
    (made,) = engine.evaluate(samples, {}, samples[-1].at).alerts
    assert made.annotations.keys() | {"blind_sources", "missing", "pipeline"} == ANNOTATIONS.keys()
    assert "By chance" in made.annotations["description"]
    link = urlsplit(made.annotations["query_url"])
    assert (link.netloc, link.path) == ("p.example.com", "/graph")
    assert parse_qs(link.query)["g0.expr"] == [made.annotations["query"]]


def plain(text: str) -> str:
    """As a reader sees it: without the zero-width spaces that break links."""
    return text.replace("\u200b", "")


def test_slack_is_told_the_evidence_and_nothing_that_slack_acts_on(told: Inboxes) -> None:
    (first, second) = (body["attachments"][0] for body in told.to("/slack")[:2])
    assert first["color"] == "danger" and second["color"] == "good"
    assert first["title"].startswith("Critical: More negative") and second["title"].startswith("Resolved: More")
    assert first["title_link"] == ANNOTATIONS["dashboard_url"]
    for one in (first, second):
        words = "\n".join(one[key] for key in ("title", "text", "fallback"))
        assert all(figure in plain(words) for figure in SHOWN) and "курьер не приехал" in words
        links = set(re.findall(r"<[^>]*>", words))
        assert links == {f"<{ANNOTATIONS[f'{one.lower()}_url']}|{one}>" for one in ("Runbook", "Dashboard", "Query")}
        assert not FOLLOWED.search(words) and not HIDDEN.search(words) and "`" not in words
        assert len(one["title"]) < 500 and len(one["text"]) < 8_000
        assert re.search(r"^> \[google_play, en\] charged twice", one["text"], re.MULTILINE)
    assert not any("link_names" in body and body["link_names"] for body in told.to("/slack"))


class Seen(HTMLParser):
    """Tags, addresses and words of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.addresses: set[str | None] = set()
        self.words = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.addresses |= {value for name, value in attrs if name in ("href", "src")}

    def handle_data(self, data: str) -> None:
        self.words += data


def test_letters_show_the_evidence_in_both_parts_and_act_on_nothing(told: Inboxes) -> None:
    for letter in told.letters[:2]:
        subject = letter["Subject"]
        assert plain(subject).startswith(("Critical: More negative", "Resolved: More negative"))
        assert len(subject) < 500 and not HIDDEN.search(subject)
        html, text = letter.get_body(("html",)), letter.get_body(("plain",))
        assert html is not None and text is not None
        page = Seen()
        page.feed(html.get_content())
        assert page.tags == set(["html", "head", "meta", "title", "body", "div", "h1", "p", "table", "tr", "td", "a"])
        assert not {name for name in page.attributes if name.startswith("on")}
        assert page.addresses == {ANNOTATIONS[f"{one}_url"] for one in ("runbook", "dashboard", "query")}
        assert ANNOTATIONS["query_url"] in text.get_content().replace("\r\n", "\n")
        for words in (page.words.replace("\r\n", "\n"), text.get_content().replace("\r\n", "\n")):
            assert all(figure in plain(words) for figure in SHOWN) and "курьер не приехал" in words
            assert not FOLLOWED.search(words) and not HIDDEN.search(words)
            assert len(words) < 8_000
        assert "{{ .ExternalURL }}" in plain(page.words), "the words of customers are no template"


def test_pagerduty_is_told_the_evidence_and_the_end(told: Inboxes) -> None:
    (first, second) = told.to("/pagerduty")[:2]
    assert (first["event_action"], second["event_action"]) == ("trigger", "resolve")
    assert first["dedup_key"] == second["dedup_key"] and first["routing_key"] == "key"
    assert first["client_url"] == ANNOTATIONS["dashboard_url"]
    sent = first["payload"]
    assert sent["severity"] == "critical" and plain(sent["summary"]).startswith("Critical: More negative")
    details = sent["custom_details"]
    words = "\n".join((sent["summary"], *details.values()))
    assert all(figure in plain(words) for figure in SHOWN) and "курьер не приехал" in details["quotes"]
    assert details["runbook"] == ANNOTATIONS["runbook_url"] and details["query"] == ANNOTATIONS["query_url"]
    words = "\n".join((sent["summary"], details["evidence"], details["quotes"]))
    assert not FOLLOWED.search(words) and not HIDDEN.search(words) and len(sent["summary"]) <= 1_024
    assert len(details["quotes"]) < 4_000


@pytest.mark.parametrize("kind", ["text", "html"])
def test_templates_render_by_amtool_for_an_alert_with_nothing_but_its_name(kind: str, tmp_path: Path) -> None:
    bare = {"status": "firing", "labels": {"alertname": "bare"}, "annotations": {}, "startsAt": "2026-11-25T04:00:00Z"}
    data = {"status": "firing", "alerts": [bare] * 7, "commonLabels": {}, "commonAnnotations": {}, "groupLabels": {}}
    (tmp_path / "data.json").write_text(json.dumps(data))
    called = re.findall(r'template "(ovoz\.[\w.]+)"', (DEPLOY / "alertmanager/alertmanager.yml").read_text("utf-8"))
    assert {name.split(".")[1] for name in called} == {"slack", "email", "pagerduty"}
    for name in sorted(set(called)):
        said = run(
            program("amtool"), "template", "render", f"--template.glob={DEPLOY}/alertmanager/templates/*.tmpl",
            f'--template.text={{{{ template "{name}" . }}}}', f"--template.data={tmp_path}/data.json",
            f"--template.type={kind}",
        )  # fmt: skip
        assert "<no value>" not in said
        if name.endswith(("title", "subject", "description")):
            assert said.strip() == "Alert: bare and 6 more"
