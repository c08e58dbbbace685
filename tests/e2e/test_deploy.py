"""The deployment's real configuration in real servers, as far as that goes without a container engine."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlencode
from urllib.request import Request, urlopen

import pytest
import sqlalchemy as sa
import yaml
from prometheus_client import generate_latest

from alerts.alert import Alert
from pipeline.broker import free_port
from pipeline.metrics import WORKER, WorkerMetrics
from pipeline.settings import Labels
from pipeline.store.engine import connect
from pipeline.store.read import Snapshot, WindowSum

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
SERVICES = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))["services"]
T = TypeVar("T")
PASSWORD = "4c6f6e67207365637265742070617373"


def absent(what: str) -> Any:
    """Skip on a laptop, fail in CI."""
    say = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
    say(f"needs {what}, which is not here")


def program(*names: str) -> str:
    """The path of the first of these programs that is installed."""
    folders = [str(folder) for folder in sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)]
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), *folders])
    for name in names:
        if found := shutil.which(name, path=path):
            return found
    return str(absent(" or ".join(names)))


def run(*command: str | Path, **options: Any) -> str:
    """What a program prints; its failure shows all of it."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60, **options)
    assert done.returncode == 0, f"{command}: {done.stdout}"
    return done.stdout


@contextmanager
def serving(
    command: list[str], log: Path, end: signal.Signals = signal.SIGTERM, **options: Any
) -> Iterator[subprocess.Popen[bytes]]:
    """A server in the background, ended with the block."""
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, **options)
    try:
        yield process
    except AssertionError as error:
        error.add_note(log.read_text("utf-8", "replace")[-3000:])
        raise
    finally:
        process.send_signal(end)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def until(found: Callable[[], T | None], what: str, seconds: float = 20) -> T:
    """What `found` gives once it gives something; what is refused meanwhile is asked again."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if got := found():
                return got
        except OSError:
            pass
        time.sleep(0.1)
    raise AssertionError(f"{what}: not within {seconds:g} s")


def accepts(port: int) -> bool:
    """Whether something listens there."""
    with socket.create_connection(("127.0.0.1", port), timeout=1):
        return True


def get(url: str, **query: str) -> Any:
    """The JSON answer of a server on this machine."""
    with urlopen(f"{url}?{urlencode(query)}" if query else url, timeout=10) as answer:
        return json.load(answer)


def filled() -> WorkerMetrics:
    """A worker's metrics with something in every one of them."""
    now = datetime.now(UTC)
    shown = Snapshot(partitions=[0])
    for topic, sentiment, count in (("delivery", "negative", 3), ("delivery", "positive", 1), ("price", "neutral", 2)):
        shown.totals["shop", topic, sentiment] = count
        for window in ("5m", "1h", "24h"):
            entry = shown.windows.setdefault(("shop", topic, window), WindowSum())
            entry.count[sentiment] += count
            entry.score_e6 += count * (-500_000 if sentiment == "negative" else 250_000)
    labels = (("severity", "critical"), ("topic", "delivery"))
    shown.firing = [
        Alert(
            rule="negative-spike", workspace="default", labels=labels, annotations={}, state="firing",
            starts_at=now, ends_at=None, evidence=(), incident="1",
        )
    ]  # fmt: skip
    shown.spoken["uz", "review", "negative", "1h"] = 3
    shown.last_event = shown.last_success = {"shop": now}
    metrics = WorkerMetrics(Labels(), lambda: shown)
    touch(metrics)
    return metrics


def touch(metrics: WorkerMetrics) -> None:
    """Let a little happen to every metric that is not read from the store."""
    for one in WORKER:
        if one.stored:
            continue
        outcome = {"outcome": "refused"}
        named = [outcome.get(label, f"some-{label}") for label in one.labels]
        metric = metrics[one.name].labels(*named) if named else metrics[one.name]
        if one.kind == "histogram":
            metric.observe(0.1)
        elif one.kind == "counter":
            metric.inc()
        else:
            metric.set(1)


@pytest.mark.prometheus
def test_configuration_is_valid() -> None:
    run(program("promtool"), "check", "config", DEPLOY / "prometheus/prometheus.yml")
    run(program("promtool"), "check", "rules", DEPLOY / "prometheus/rules/pipeline.yml")
    run(program("amtool"), "check-config", DEPLOY / "alertmanager/alertmanager.yml")


@pytest.mark.prometheus
@pytest.mark.parametrize("file", sorted((DEPLOY / "prometheus/tests").glob("*.yml")), ids=lambda file: file.name)
def test_alert_rules_pass_their_own_tests(file: Path) -> None:
    run(program("promtool"), "test", "rules", file)


@pytest.mark.prometheus
def test_metrics_keep_to_the_conventions() -> None:
    text = generate_latest(filled().registry).decode()
    assert {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE ")} == {one.name for one in WORKER}
    assert run(program("promtool"), "check", "metrics", input=text) == ""


@pytest.mark.prometheus
@pytest.mark.parametrize(
    ("labels", "receiver"),
    [
        (("alertname=negative-spike", "severity=critical"), "on-call,support-leads"),
        (("alertname=negative-spike", "severity=warning"), "support-leads"),
        (("alertname=negative-spike", "severity=warning", "team=support"), "support-leads"),
        (("alertname=negative-spike", "severity=warning", "team=operators"), "operators"),
        (("alertname=negative-spike", "severity=critical", "team=operators"), "on-call"),
        (("alertname=copied-posts", "severity=info"), "record"),
        (("alertname=copied-posts", "severity=info", "team=operators"), "record"),
        (("alertname=OvozNoWorker", "component=pipeline", "severity=critical"), "on-call"),
        (("alertname=OvozLagGrowing", "component=pipeline", "severity=warning"), "operators"),
        (("alertname=OvozWatchdog", "component=pipeline", "severity=info"), "watchdog"),
    ],
)
def test_alerts_go_to_whom_they_concern(labels: tuple[str, ...], receiver: str) -> None:
    config = f"--config.file={DEPLOY / 'alertmanager/alertmanager.yml'}"
    # Above the answer, some releases warn of the flag.
    assert run(program("amtool"), "config", "routes", "test", config, *labels).split()[-1] == receiver


def settings_of(service: str, **changed: str) -> list[str]:
    """The flags that the compose file starts a service with, some of them changed for this machine."""
    flags = dict(flag.removeprefix("--").split("=", 1) for flag in SERVICES[service]["command"])
    assert not {"config.file", *changed} - {*flags, "web.listen-address"}
    return [f"--{name}={value}" for name, value in (flags | changed).items()]


@contextmanager
def alertmanager(folder: Path) -> Iterator[str]:
    """The address of an Alertmanager that runs the deployment's configuration."""
    port = free_port()
    changed = {
        "config.file": str(DEPLOY / "alertmanager/alertmanager.yml"),
        "storage.path": str(folder / "alertmanager"),
        "web.listen-address": f"127.0.0.1:{port}",
    }
    command = [program("alertmanager", "prometheus-alertmanager"), *settings_of("alertmanager", **changed)]
    with serving(command, folder / "alertmanager.log"):
        url = f"http://127.0.0.1:{port}"
        until(lambda: get(f"{url}/api/v2/status"), "Alertmanager answers")
        yield url


@pytest.mark.prometheus
def test_alertmanager_keeps_what_a_worker_tells_it(tmp_path: Path) -> None:
    with alertmanager(tmp_path) as url:
        alert = {"labels": {"alertname": "negative-spike", "severity": "warning", "topic": "delivery"}}
        body = json.dumps([alert]).encode()
        with urlopen(Request(f"{url}/api/v2/alerts", body, {"Content-Type": "application/json"}), timeout=10) as answer:
            assert answer.status == 200
        (kept,) = until(lambda: get(f"{url}/api/v2/alerts"), "the alert is kept")
        assert [one["name"] for one in kept["receivers"]] == ["support-leads"]
        # The container's health check.
        check = [part.replace("http://127.0.0.1:9093", url) for part in SERVICES["alertmanager"]["healthcheck"]["test"]]
        run(program("amtool"), *check[2:])


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    """The URL of a PostgreSQL that was made and is started as in its container."""
    given, command = SERVICES["postgres"]["environment"], SERVICES["postgres"]["command"]
    # Not under tmp_path, whose parents belong to the user that runs the tests alone.
    folder = Path(tempfile.mkdtemp(prefix="ovoz-postgres-"))
    options: dict[str, Any] = {"cwd": folder}
    data, port, secret = ["-D", str(folder / "data")], free_port(), folder / "secret"
    secret.write_text(PASSWORD + "\n", "utf-8")
    try:
        if os.geteuid() == 0:
            # PostgreSQL refuses to run as root.
            try:
                shutil.chown(folder, "postgres", "postgres")
            except LookupError:
                absent("the user postgres")
            options |= {"user": "postgres", "group": "postgres", "extra_groups": []}
        # What the image's entry point does at its first start.
        asked = shlex.split(given["POSTGRES_INITDB_ARGS"])
        run(program("initdb"), *data, f"--username={given['POSTGRES_USER']}", f"--pwfile={secret}", *asked, **options)
        with (folder / "data/pg_hba.conf").open("a") as rules:
            rules.write("host all all all scram-sha-256\n")
        local = ["-c", "listen_addresses=127.0.0.1", "-c", f"port={port}", "-c", f"unix_socket_directories={folder}"]
        assert command[0] == "postgres"
        # SIGINT, the compose file's stop signal, does not wait for clients to leave.
        with serving([program("postgres"), *data, *command[1:], *local], folder / "log", signal.SIGINT, **options):
            health = [program("pg_isready"), *SERVICES["postgres"]["healthcheck"]["test"][2:], f"--port={port}"]
            until(lambda: subprocess.run(health).returncode == 0, "PostgreSQL is ready")
            made = ("-h", str(folder), "-p", str(port), "-U", given["POSTGRES_USER"], given["POSTGRES_DB"])
            run(program("createdb"), *made)
            url = re.sub(r"\$\{[^}]*\}", PASSWORD, SERVICES["worker"]["environment"]["OVOZ_STORE_URL"])
            yield url.replace("@postgres:5432/", f"@127.0.0.1:{port}/")
    finally:
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def kafka_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an Apache Kafka that the compose file's variables configured."""
    home = os.environ.get("OVOZ_KAFKA_HOME") or absent("Apache Kafka in OVOZ_KAFKA_HOME")
    java, folder = [program("java"), "-cp", f"{home}/libs/*"], tmp_path_factory.mktemp("kafka")
    port, controller = free_port(), free_port()
    given: dict[str, str] = {}
    for variable, value in SERVICES["kafka"]["environment"].items():
        for name, here in (
            ("PLAINTEXT://:9092", f"PLAINTEXT://127.0.0.1:{port}"),
            ("kafka:9092", f"127.0.0.1:{port}"),
            ("127.0.0.1:9093", f"127.0.0.1:{controller}"),
            ("/var/lib/kafka/data", str(folder / "data")),
        ):
            value = value.replace(name, here)
        given[variable] = value
    for name in ("image", "mounted", "made"):
        (folder / name).mkdir()
    for name in ("server.properties", "log4j2.yaml", "tools-log4j2.yaml"):
        (folder / "image" / name).touch()
    # The image's entry point: variables become configuration, and an empty folder is formatted.
    folders = ["--default-configs-dir", "image", "--mounted-configs-dir", "mounted", "--final-configs-dir", "made"]
    run(*java, "kafka.docker.KafkaDockerWrapper", "setup", *folders, cwd=folder, env={**os.environ, **given})
    made = (folder / "made/server.properties").read_text("utf-8")
    assert "auto.create.topics.enable=false" in made and "heap" not in made
    start = [*java, *shlex.split(given["KAFKA_HEAP_OPTS"]), "kafka.Kafka", "made/server.properties"]
    with serving(start, folder / "log", cwd=folder):
        # The container's health check, without the script around it.
        check = [*java, "org.apache.kafka.tools.BrokerApiVersionsCommand", "--bootstrap-server", f"127.0.0.1:{port}"]
        until(lambda: accepts(port), "Kafka listens", 40)
        quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "timeout": 30}
        until(lambda: subprocess.run(check, **quiet).returncode == 0, "Kafka answers", 40)
        yield f"127.0.0.1:{port}"


@pytest.mark.postgres
def test_database_has_its_options_and_asks_for_its_password(database: str) -> None:
    url = database.replace("postgresql://", "postgresql+psycopg://")
    for password, lets_in in ((PASSWORD, True), ("wrong", False)):
        engine = connect(url.replace(PASSWORD, password))
        try:
            if lets_in:
                with engine.connect() as connection:
                    assert connection.scalar(sa.text("show max_connections")) == "200"
                    assert connection.scalar(sa.text("show data_checksums")) == "on"
            else:
                with pytest.raises(sa.exc.OperationalError, match="password authentication failed"):
                    engine.connect()
        finally:
            engine.dispose()


@pytest.mark.kafka
@pytest.mark.postgres
def test_services_count_an_item_with_their_own_commands_and_variables(
    database: str, kafka_broker: str, tmp_path: Path
) -> None:
    made = run("sh", DEPLOY / "make-env.sh", tmp_path / ".env")
    token = made.splitlines()[-1]
    answers = dict(line.split("=", 1) for line in (tmp_path / ".env").read_text("utf-8").splitlines())
    ports = {"ingest": free_port(), "worker": free_port()}

    def start(name: str) -> tuple[list[str], dict[str, str]]:
        given = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONSAFEPATH": "1"}
        for variable, value in SERVICES[name]["environment"].items():
            value = re.sub(r"\$\{(\w+)[^}]*\}", lambda found: answers[found[1]], value)
            # Files that the compose file mounts stand where it has them from.
            mounts = [one.split(":") for one in SERVICES[name].get("volumes", []) if one.startswith("./")]
            value = {there: str(ROOT / here) for here, there, *_ in mounts}.get(value, value)
            given[variable] = value.replace("kafka:9092", kafka_broker)
            for port in ("8080", "9108"):
                here = str(ports.get(name))
                given[variable] = re.sub(rf"(^|127\.0\.0\.1:){port}\b", rf"\g<1>{here}", given[variable])
        here = {"OVOZ_STORE_URL": database, "OVOZ_INGEST_DATA_DIR": "ingest", "OVOZ_WORKER_DATA_DIR": "worker"}
        # Nobody else on this network is to be let in while the test runs.
        here |= {"OVOZ_INGEST_HOST": "127.0.0.1", "OVOZ_WORKER_HOST": "127.0.0.1"}
        given |= {variable: value for variable, value in here.items() if variable in given}
        return [sys.executable, "-m", "pipeline", *SERVICES[name]["command"]], given

    def healthy(env: dict[str, str]) -> bool:
        check = [sys.executable, str(DEPLOY / "healthcheck.py")]
        return subprocess.run(check, env=env, capture_output=True).returncode == 0

    command, env = start("migrate")
    run(*command, cwd=tmp_path, env=env)
    ingest, ingest_env = start("ingest")
    worker, worker_env = start("worker")
    with (
        serving(ingest, tmp_path / "ingest.log", cwd=tmp_path, env=ingest_env),
        serving(worker, tmp_path / "worker.log", cwd=tmp_path, env=worker_env),
    ):
        until(lambda: healthy(ingest_env), "the intake is healthy", 40)
        item = json.dumps({"source": "shop", "id": "1", "text": "The courier came two hours late"}).encode()
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
        with urlopen(Request(f"http://127.0.0.1:{ports['ingest']}/v1/feedback", item, headers), timeout=20) as answer:
            assert answer.status == 202
        until(lambda: healthy(worker_env), "the worker is healthy", 60)

        def counted() -> list[str]:
            with urlopen(f"http://127.0.0.1:{ports['worker']}/metrics", timeout=10) as page:
                return re.findall(r'^feedback_items\{.*source="shop".*\} 1\.0$', page.read().decode(), re.MULTILINE)

        assert len(until(counted, "the item is counted", 40)) == 1


@pytest.fixture
def answering() -> Iterator[tuple[str, list[int]]]:
    """A server's URL, and the statuses that it will answer."""
    statuses: list[int] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(statuses.pop(0))
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/readyz", statuses
        server.shutdown()
        thread.join()


def test_health_check_is_the_answer_of_the_service(answering: tuple[str, list[int]]) -> None:
    url, statuses = answering
    statuses.extend((200, 503))

    def check(where: str) -> int:
        # A proxy that does not exist: the check must not ask it.
        env = {**os.environ, "HEALTHCHECK_URL": where, "http_proxy": "http://127.0.0.1:9"}
        return subprocess.run([sys.executable, DEPLOY / "healthcheck.py"], env=env, capture_output=True).returncode

    assert [check(url), check(url), check("http://127.0.0.1:9/")] == [0, 1, 1]
