"""The deployment as files: what can be known of it without a container engine."""

from __future__ import annotations

import json
import re
import runpy
import stat
import subprocess
import tomllib
from importlib.resources import files
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from urllib.parse import parse_qsl

import jsonschema
import pytest
import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

from deploy.grafana.asking import put, questions
from pipeline.ingest import Intake
from pipeline.intake_metrics import IntakeMetrics
from pipeline.metrics import CONNECTOR, WORKER
from pipeline.quotes_page import asked
from pipeline.settings import Ingest, Settings, load
from pipeline.settings_file import keys, sections

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
RULES = yaml.safe_load((DEPLOY / "prometheus/rules/pipeline.yml").read_text("utf-8"))
DASHBOARDS = {
    path.stem: json.loads(path.read_text("utf-8")) for path in sorted((DEPLOY / "grafana/dashboards").glob("*.json"))
}
PANELS = [panel for board in DASHBOARDS.values() for panel in board["panels"] if panel["type"] != "row"]
BUILT_IN = {"up", "ALERTS"}


@pytest.fixture(params=sorted(SERVICES))
def service(request: pytest.FixtureRequest) -> dict[str, Any]:
    return SERVICES[request.param] | {"name": request.param}


def test_compose_file_keeps_to_the_specification() -> None:
    schema = json.loads((files("check_jsonschema") / "builtin_schemas/vendor/compose-spec.json").read_text("utf-8"))
    jsonschema.Draft202012Validator(schema).validate(COMPOSE)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(schema).validate({"services": {"kafka": {"imagge": "x"}}})


def test_image_is_pinned(service: dict[str, Any]) -> None:
    name, _, tag = service["image"].rpartition(":")
    assert name and re.match(r"v?\d+\.\d+(\.\d+)?\b", tag), service["image"]


def test_our_image_has_the_version_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert {one["image"] for one in SERVICES.values() if "build" in one} == {f"ovoz:{project['version']}"}


def test_process_is_contained(service: dict[str, Any]) -> None:
    assert service["user"].split(":")[0] not in ("", "0", "root")
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    # Kafka's image writes its configuration at start, as docker-compose.yml says.
    assert service.get("read_only", False) is (service["name"] != "kafka")
    assert not service.get("privileged") and not service.get("cap_add")
    assert {"cpus", "memory", "pids"} <= service["deploy"]["resources"]["limits"].keys()
    assert service["logging"]["options"]["max-size"]


def test_process_is_kept_running(service: dict[str, Any]) -> None:
    once = service["name"] == "migrate"
    assert service["restart"] == ("on-failure:5" if once else "unless-stopped")
    assert once or service["healthcheck"]["test"][0] in ("CMD", "CMD-SHELL")


def test_ports_are_open_to_this_machine_only(service: dict[str, Any]) -> None:
    assert all(re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port) for port in service.get("ports", []))
    assert service.get("network_mode") != "host"


def test_broker_and_database_are_out_of_reach() -> None:
    assert COMPOSE["networks"]["data"] == {"internal": True}
    for name in ("kafka", "postgres"):
        assert SERVICES[name]["networks"] == ["data"] and "ports" not in SERVICES[name]


def test_workers_can_be_many() -> None:
    assert not {"ports", "container_name", "hostname"} & SERVICES["worker"].keys()
    scraped = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text("utf-8"))["scrape_configs"]
    found = {job["job_name"]: job.get("dns_sd_configs") for job in scraped}
    assert found["ovoz-worker"] == [{"names": ["worker"], "type": "A", "port": 9108, "refresh_interval": "5s"}]
    assert SERVICES["worker"]["environment"]["OVOZ_WORKER_PORT"] == "9108"
    assert set(SERVICES["worker"]["networks"]) & set(SERVICES["prometheus"]["networks"])


def test_dependencies_are_waited_for(service: dict[str, Any]) -> None:
    for name, how in service.get("depends_on", {}).items():
        once = name == "migrate"
        assert how == {"condition": "service_completed_successfully" if once else "service_healthy"}


def test_volumes_are_declared_and_used() -> None:
    mounted = {volume.split(":")[0] for one in SERVICES.values() for volume in one.get("volumes", [])}
    assert {name for name in mounted if not name.startswith(".")} == COMPOSE["volumes"].keys()
    assert all((ROOT / name).exists() for name in mounted if name.startswith("."))


def test_passwords_have_no_default_and_stand_in_no_command(service: dict[str, Any]) -> None:
    for variable, value in service.get("environment", {}).items():
        if re.search(r"PASSWORD|SECRET|TOKENS|STORE_URL", variable):
            assert re.search(r"\$\{[A-Z_]+:\?[^}]+\}", value), f"{variable} has a default"
    started = json.dumps([service.get(key) for key in ("command", "entrypoint", "healthcheck")])
    assert "$" not in started and "assword" not in started


def environment(name: str, answers: dict[str, str]) -> dict[str, str]:
    """The service's variables, with `${NAME…}` replaced by the answers."""
    put = re.compile(r"\$\{(\w+)(?::[?-][^}]*)?\}")
    given = SERVICES[name].get("environment", {})
    return {variable: put.sub(lambda found: answers.get(found[1], ""), value) for variable, value in given.items()}


@pytest.fixture
def made(tmp_path: Path) -> tuple[Path, str]:
    """What deploy/make-env.sh writes and prints."""
    file = tmp_path / ".env"
    run = subprocess.run(["sh", DEPLOY / "make-env.sh", file], check=True, capture_output=True, text=True)
    return file, run.stdout.splitlines()[-1]


def answers_of(file: Path) -> dict[str, str]:
    lines = [line for line in file.read_text("utf-8").splitlines() if line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)  # type: ignore[misc]


def test_env_file_is_private_random_and_never_overwritten(made: tuple[Path, str], tmp_path: Path) -> None:
    file, token = made
    answers = answers_of(file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert answers.keys() == answers_of(DEPLOY / "env.example").keys()
    assert not any(answers_of(DEPLOY / "env.example").values())
    assert token not in file.read_text("utf-8")
    assert len({answers["POSTGRES_PASSWORD"], answers["GRAFANA_ADMIN_PASSWORD"], token}) == 3
    assert all(re.fullmatch("[0-9a-f]{48}", value) for value in (answers["POSTGRES_PASSWORD"], token))
    before = file.read_text("utf-8")
    assert subprocess.run(["sh", DEPLOY / "make-env.sh", file], capture_output=True).returncode != 0
    assert file.read_text("utf-8") == before


def test_every_variable_asked_for_is_in_the_env_file(made: tuple[Path, str]) -> None:
    asked = set(re.findall(r"\$\{(\w+)", (ROOT / "docker-compose.yml").read_text("utf-8")))
    assert asked == answers_of(made[0]).keys()


def mounted_file(name: str, inside: str) -> Path:
    """The file here that stands at this path in the service's container."""
    (found,) = [v.split(":")[0] for v in SERVICES[name]["volumes"] if v.split(":")[1] == inside]
    return ROOT / str(found)


@pytest.mark.parametrize("name", [name for name, one in SERVICES.items() if "build" in one])
def test_ovoz_variables_are_settings_with_valid_values(name: str, made: tuple[Path, str]) -> None:
    given = environment(name, answers_of(made[0]))
    known = {f"OVOZ_{section}_{key.name}".upper() for section, cls in sections() for key, _ in keys(cls)}
    own = {"OVOZ_INGEST_TOKENS", "OVOZ_CONFIG"}
    assert {variable for variable in given if variable.startswith("OVOZ_")} <= known | own
    if config := given.get("OVOZ_CONFIG"):
        given["OVOZ_CONFIG"] = str(mounted_file(name, config))
    settings = load(None, given)
    assert settings != Settings()
    if name == "ingest":
        assert [token.name for token in settings.ingest.tokens] == ["first"]
    if name == "worker":
        assert settings.alerts.alertmanager == ("http://alertmanager:9093",)


def test_one_line_of_the_image_says_nobody_special_runs_it() -> None:
    lines = (DEPLOY / "Dockerfile").read_text("utf-8").splitlines()
    stages = [line for line in lines if line.startswith("FROM ")]
    assert len(stages) == 2 and all(re.match(r"FROM python:3\.11\.\d+-slim-", line) for line in stages)
    last = lines[lines.index(stages[-1]) :]
    assert "USER 10001:10001" in last and any(line.startswith("HEALTHCHECK ") for line in last)
    assert any("PYTHONSAFEPATH=1" in line for line in last)
    assert SERVICES["worker"]["user"] == "10001:10001"


def test_build_context_holds_what_the_image_copies() -> None:
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines() if line.startswith("!")}
    copied: set[str] = set()
    for line in (DEPLOY / "Dockerfile").read_text("utf-8").splitlines():
        if line.startswith("COPY ") and "--from" not in line:
            copied.update(line.split()[1:-1])
    assert kept == copied


def metrics_in(expression: str) -> set[str]:
    """The names of metrics in a PromQL expression that are ours or that are built in."""
    bare = re.sub(r"\{[^}]*\}", "", expression)
    bare = re.sub(r"\b(?:by|on|without|unless on)\s*\([^)]*\)", "", bare)
    return {word for word in re.findall(r"[a-zA-Z_][a-zA-Z0-9_:]*", bare) if word in BUILT_IN or "feedback_" in word}


def exported() -> dict[str, tuple[str, ...]]:
    """Every series name that a worker, a connector or the intake shows, with its labels."""
    shown, still = IntakeMetrics(), SimpleNamespace(items=0, bytes=0, away=None)
    Intake(Ingest(), cast(Any, still), shown, cast(Any, None), b"").close()
    families = list(shown.registry.collect())
    found: dict[str, tuple[str, ...]] = {f"{one.name}_total": ("status",) for one in families if one.type == "counter"}
    found |= {one.name: () for one in families if one.type == "gauge"}
    for one in (*WORKER, *CONNECTOR):
        suffixes = ("_bucket", "_sum", "_count") if one.kind == "histogram" else ("",)
        found |= {one.name + suffix: (*one.labels, "le") if suffix == "_bucket" else one.labels for suffix in suffixes}
    return found


RECORDED = {rule["record"] for group in RULES["groups"] for rule in group["rules"] if "record" in rule}
RULE_QUERIES = [rule["expr"] for group in RULES["groups"] for rule in group["rules"]]
PANEL_QUERIES = [target["expr"] for panel in PANELS for target in panel["targets"]]


@pytest.mark.parametrize("expression", [*RULE_QUERIES, *PANEL_QUERIES])
def test_queries_name_metrics_and_labels_that_exist(expression: str) -> None:
    names = metrics_in(expression)
    # The watchdog asks nothing of anybody.
    assert (names or expression == "vector(1)") and names <= exported().keys() | BUILT_IN | RECORDED
    target = {"job", "instance", "alertname", "alertstate", "severity", "component"}
    labels = {label for name in names for label in exported().get(name, ())} | target
    grouped = re.findall(r"\b(?:by|on|without)\s*\(([^)]*)\)", expression)
    used = {label.strip() for group in grouped for label in group.split(",")}
    used |= set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)\s*\"", expression))
    assert used <= labels


@pytest.mark.parametrize("rule", [one for group in RULES["groups"] for one in group["rules"] if "alert" in one])
def test_alert_says_what_to_do(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in ("critical", "warning", "info")
    assert rule["labels"]["component"] == "pipeline"
    assert {"summary", "description", "runbook_url"} == rule["annotations"].keys()
    assert rule["annotations"]["runbook_url"] == f"docs/runbooks/{rule['alert']}.md"


def test_every_alert_has_a_runbook_that_says_what_to_look_at_and_what_to_do() -> None:
    folder = ROOT / "docs" / "runbooks"
    alerts = {rule["alert"] for group in RULES["groups"] for rule in group["rules"] if "alert" in rule}
    assert {page.stem for page in folder.glob("Ovoz*.md")} == alerts
    index = (folder / "README.md").read_text("utf-8")
    for name in alerts:
        page = (folder / f"{name}.md").read_text("utf-8")
        assert page.startswith(f"# {name}\n") and f"[{name}]({name}.md)" in index
        assert re.findall(r"^## (.*)$", page, re.MULTILINE) == ["What it means", "What to look at", "What to do"]
        known = exported().keys() | RECORDED | {one.name for one in WORKER}
        assert {name for name in re.findall(r"\bfeedback_(?!intake_)\w+", page)} <= known
        for target in re.findall(r"\]\(([^)#]+)\)", page):
            assert (folder / target).exists(), target


def test_every_alert_is_tested_firing_and_quiet() -> None:
    cases = [yaml.safe_load(file.read_text("utf-8")) for file in (DEPLOY / "prometheus/tests").glob("*.yml")]
    checks = [check for case in cases for test in case["tests"] for check in test["alert_rule_test"]]
    firing = {check["alertname"] for check in checks if check.get("exp_alerts")}
    quiet = {check["alertname"] for check in checks if not check.get("exp_alerts")}
    alerts = {rule["alert"] for group in RULES["groups"] for rule in group["rules"] if "alert" in rule}
    assert firing == alerts and quiet == alerts - {"OvozWatchdog"}  # which is never quiet


def test_alerts_named_by_the_routes_exist() -> None:
    text = (DEPLOY / "alertmanager/alertmanager.yml").read_text("utf-8")
    alerts = {rule["alert"] for group in RULES["groups"] for rule in group["rules"] if "alert" in rule}
    named = set(re.findall(r"Ovoz[A-Z]\w+(?:\.\*)?", text))
    assert named and all(any(re.fullmatch(name, alert) for alert in alerts) for name in named)


def test_dashboards_are_what_their_generator_makes() -> None:
    made = dict(runpy.run_path(str(DEPLOY / "grafana/dashboards.py"))["files"]())
    boards = {path.stem for path in made if path.parent.name == "dashboards"}
    assert boards == set(DASHBOARDS) == {board["uid"] for board in DASHBOARDS.values()}
    there = set((DEPLOY / "grafana/dashboards").iterdir()) | set((DEPLOY / "grafana/runbooks").iterdir())
    assert there == made.keys()
    assert {path: path.read_text("utf-8") for path in made} == made


def kept(ours: Any, theirs: Any) -> bool:
    """Whether everything of `ours` is in `theirs`, which may have more: defaults that are spelt out."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        return all(name in theirs and kept(value, theirs[name]) for name, value in ours.items())
    if isinstance(ours, list) and isinstance(theirs, list):
        return len(ours) == len(theirs) and all(map(kept, ours, theirs))
    return bool(ours == theirs)


def test_every_alert_about_the_pipeline_has_its_runbook_in_grafana_where_its_row_links_to() -> None:
    (link,) = {
        one["url"]
        for panel in DASHBOARDS["alert-desk"]["panels"]
        for one in panel.get("fieldConfig", {}).get("defaults", {}).get("links", ())
    }
    for group in RULES["groups"]:
        for name in (rule["alert"] for rule in group["rules"] if "alert" in rule):
            board = json.loads((DEPLOY / f"grafana/runbooks/{name}.json").read_text("utf-8"))
            assert f"/d/{board['uid']}" == link.replace("${__data.fields.alertname}", name)
            (panel,) = board["panels"]
            content = panel["options"]["content"]
            page = (ROOT / f"docs/runbooks/{name}.md").read_text("utf-8")
            assert content.count("\n") > 8 and ".md)" not in content
            assert re.sub(r"/d/(Ovoz\w+)", r"\1.md", content) in page
            assert "$" not in content, "Grafana would take it for a variable"
            kept_all = json.loads(JSONEncoder().encode(Dashboard.from_json(board)))
            assert kept(board, kept_all)


@pytest.mark.parametrize("board", DASHBOARDS.values(), ids=DASHBOARDS)
def test_grafanas_own_model_reads_all_of_a_dashboard(board: dict[str, Any]) -> None:
    register_default_plugins()

    def read(found: dict[str, Any]) -> Any:
        return json.loads(JSONEncoder().encode(Dashboard.from_json(found)))

    assert kept(board, read(board))
    panel = board["panels"][1]
    wrong = board | {"panels": [panel | {"titel": panel["title"]}]}
    assert not kept(wrong, read(wrong)), "the model drops what it does not know"


@pytest.mark.parametrize("board", DASHBOARDS.values(), ids=DASHBOARDS)
def test_every_variable_of_a_dashboard_is_used_and_every_used_one_exists(board: dict[str, Any]) -> None:
    names = {one["name"] for one in board["templating"]["list"]}
    asked = " ".join(question.expression for question in questions(board))
    used = set(re.findall(r"\$(\w+)", asked)) - {"__rate_interval"}
    linked = set(re.findall(r"\$\{(\w+)\}", " ".join(links(board))))
    assert used | linked == names - {"datasource"}
    made = put(asked, dict.fromkeys(names, "x"), scrape_s=5)
    assert "$" not in made and ("[20s]" in made) is ("$__rate_interval" in asked)
    with pytest.raises(ValueError, match=r"\$nonsense is no variable"):
        put("up{job=\"$nonsense\"}", {}, scrape_s=5)


def links(board: dict[str, Any]) -> list[str]:
    """The addresses that a dashboard and its panels link to, apart from other dashboards."""
    fields = [panel.get("fieldConfig", {}).get("defaults", {}) for panel in board["panels"]]
    found = [one for field in fields for one in field.get("links", ())]
    return [one["url"] for one in (*found, *board["links"]) if one.get("url")]


def test_every_link_to_quotes_asks_what_the_page_of_a_worker_knows() -> None:
    found = links(DASHBOARDS["voice-of-the-customer"])
    assert len(found) >= 8
    picked = set()
    for url in found:
        base, _, query = url.partition("/quotes?")
        assert base == "${quotes}"
        filters, window = asked(dict(parse_qsl(query.replace("${window}", "24h"), strict_parsing=True)))
        assert window == "24h" and all(value.startswith("${__") for value in filters.values())
        picked |= filters.keys()
    assert picked == {"topic", "source", "language", "channel", "touchpoint"}


def test_rates_are_made_from_the_real_scrape_interval() -> None:
    source = yaml.safe_load((DEPLOY / "grafana/provisioning/datasources/prometheus.yml").read_text("utf-8"))
    scraped = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text("utf-8"))["global"]["scrape_interval"]
    assert source["datasources"][0]["jsonData"]["timeInterval"] == scraped


def test_templates_are_where_alertmanager_looks() -> None:
    config = yaml.safe_load((DEPLOY / "alertmanager/alertmanager.yml").read_text("utf-8"))
    mounts = dict(volume.split(":")[:2] for volume in SERVICES["alertmanager"]["volumes"])
    assert mounts["./deploy/alertmanager"] == "/etc/alertmanager"
    assert "--config.file=/etc/alertmanager/alertmanager.yml" in SERVICES["alertmanager"]["command"]
    assert config["templates"] == ["templates/*.tmpl"]  # relative to the file
    assert sorted((DEPLOY / "alertmanager").glob(config["templates"][0]))


def test_home_of_grafana_is_a_dashboard_that_is_mounted() -> None:
    home = SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    mounts = dict(volume.split(":")[:2] for volume in SERVICES["grafana"]["volumes"])
    folder, _, name = home.rpartition("/")
    assert folder == mounts["./deploy/grafana/dashboards"] and name.removesuffix(".json") in DASHBOARDS


def test_dashboard_is_where_grafana_looks() -> None:
    provider = yaml.safe_load((DEPLOY / "grafana/provisioning/dashboards/ovoz.yml").read_text("utf-8"))
    source = yaml.safe_load((DEPLOY / "grafana/provisioning/datasources/prometheus.yml").read_text("utf-8"))
    mounts = dict(volume.split(":")[:2] for volume in SERVICES["grafana"]["volumes"])
    paths = [one["options"]["path"] for one in provider["providers"]]
    assert paths == [mounts["./deploy/grafana/dashboards"], mounts["./deploy/grafana/runbooks"]]
    assert source["datasources"][0]["url"] == "http://prometheus:9090" and "prometheus" in SERVICES
    assert "/d/voice-of-the-customer" in SERVICES["worker"]["environment"]["OVOZ_ALERTS_DASHBOARD_URL"]


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_panel_explains_itself(panel: dict[str, Any]) -> None:
    assert panel["title"] and panel["description"].endswith(".")
    assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    queries = " ".join(target["expr"] for target in panel["targets"])
    share, seconds = " / " in queries and "sentiment=" in queries, "_seconds" in queries
    a_second = "rate(" in queries and not seconds
    ratio = re.search(r"rate\([^)]*\)\) / ", queries) is not None or "job:" in queries
    plain = ratio or "count(" in queries
    timed = {"s"} if seconds else {"cps"} if a_second else {"short", "none"}
    expected = {"percentunit"} if share else {"short", "none"} if plain else timed
    assert panel["fieldConfig"]["defaults"]["unit"] in expected


@pytest.mark.parametrize("board", DASHBOARDS.values(), ids=DASHBOARDS)
def test_panels_have_numbers_of_their_own_and_do_not_overlap(board: dict[str, Any]) -> None:
    numbers = [panel["id"] for panel in board["panels"]]
    assert len(numbers) == len(set(numbers))
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        at = panel["gridPos"]
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert not cells & taken and at["x"] + at["w"] <= 24
        taken |= cells


def test_page_of_metrics_is_made_from_the_table() -> None:
    made = runpy.run_path(str(DEPLOY / "document.py"))["page"]()
    assert (ROOT / "docs/metrics.md").read_text("utf-8") == made
