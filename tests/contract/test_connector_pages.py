"""What is written about connectors, and the connectors: one cannot say what the other does not do."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from connectors import registry
from connectors.fakes.fake import FAKES
from connectors.option import options
from connectors.registry import declaration
from pipeline.cli.connectors import connectors
from pipeline.connector_build import faults
from pipeline.connector_page import config
from pipeline.connector_tables import RESERVED, read_tables

ALL = registry.names()


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("everything", [False, True], ids=["as shown", "every key"])
def test_the_commented_table_is_one_that_can_be_used(name: str, everything: bool, tmp_path: Path) -> None:
    shown = config(declaration(name))
    if everything:
        shown = re.sub(r"(?m)^# (\w+ = )", r"\1", shown)
        for other in [key for key, (about, _, _) in options(declaration(name).config).items() if about.instead_of]:
            shown = re.sub(rf"(?m)^{other} = .*$", "", shown)
    secret = tmp_path / "secret"
    secret.write_text("s3cr3t-of-24-characters--")
    data = tomllib.loads(re.sub(r'"file:[^"]*"', f'"file:{secret}"', shown))
    environ = dict.fromkeys(re.findall(r'"env:(\w+)"', shown), "s3cr3t-of-24-characters--")
    tables, wrong = read_tables(data["connector"], lambda *at: "ovoz.toml:1")
    assert wrong == [] and len(tables) == 1
    found = [str(fault) for fault in faults(tables[0], environ)]
    assert not [fault for fault in found if "does not exist" not in fault], found


@pytest.mark.parametrize("name", ALL)
def test_no_setting_hides_one_that_every_table_has(name: str) -> None:
    assert not set(options(declaration(name).config)) & set(RESERVED)


def test_the_list_says_where_a_service_gives_samples_only() -> None:
    shown = CliRunner().invoke(connectors, []).output
    rows = {line.split()[0]: line for line in shown.splitlines() if not line.startswith(" ")}
    assert sorted(rows) == ALL
    assert all(("samples" in rows[name]) == declaration(name).sample for name in ALL)
    assert {"yelp", "tripadvisor"} <= {name for name in ALL if declaration(name).sample}


@pytest.mark.parametrize("name", sorted(FAKES))
def test_a_test_against_the_imitation_shows_items_without_personal_data(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(connectors, ["test", name, "--against-fake"])
    assert done.exit_code in (0, None), done.output
    items = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert items and all(item["source"] == name for item in items)
    assert "123 45 67" not in done.stdout and "mail.uz" not in done.stdout and "Dilnoza" not in done.stdout
    assert list(tmp_path.iterdir()) == [], "nothing was written"


def test_a_test_says_what_the_service_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ovoz.toml").write_text(
        '[[connector]]\nuse = "trustpilot"\nname = "shop"\nbusiness_unit = "u"\napi_key = "env:KEY"\n'
        'base_url = "http://127.0.0.1:1"\n'
    )
    invoke: Any = CliRunner(env={"KEY": "s3cr3t"}).invoke
    done = invoke(connectors, ["test", "shop"])
    assert done.exit_code == 1 and "cannot be reached" in done.output and "s3cr3t" not in done.output
    done = invoke(connectors, ["test", "bank"])
    assert done.exit_code == 1 and "there are: shop" in done.output


def test_check_names_every_fault_of_a_table_with_its_line_and_what_to_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipeline.cli.check import check

    monkeypatch.chdir(tmp_path)
    (tmp_path / "ovoz.toml").write_text(
        '[[connector]]\nuse = "trustpilot"\nname = "shop"\nbusines_unit = "u"\napi_key = "s3cr3t-in-the-file"\n'
        'modes = ["stream"]\nhook_secret = "env:NOT_THERE"\nbase_url = 7\n'
        '[[connector]]\nuse = "trustpilott"\n'
    )
    done = CliRunner().invoke(check, [])
    faults = {line.split(": ")[0].rpartition(":")[2]: line for line in done.output.splitlines() if "connector." in line}
    assert "s3cr3t" not in done.output
    assert "did you mean business_unit?" in faults["4"]
    assert "env:NAME" in faults["5"] and "a mode that trustpilot has" in faults["6"]
    assert "NOT_THERE is not set" in faults["7"] and 'write instead: base_url = "https' in faults["8"]
    assert "business_unit: found nothing" in faults["1"] and "there are" in faults["10"]


@pytest.mark.parametrize(
    ("use", "lines", "line", "told"),
    [
        ("folder", ['path = "x"', 'fields = { txet = "body" }'], 4, "fields.txet: found a table, expected"),
        ("kafka", ['bootstrap = "h:9092"', 'topic = "t"', 'fields = { txet = "body" }'], 5, "no field of an item"),
        ("kafka", ['bootstrap = "http://h:9092"', 'topic = "t"'], 3, "host:port"),
        ("kafka", ['bootstrap = "h:9092"', 'topic = "t"', 'username = "u"'], 1, "password: found nothing"),
        ("imap", ['host = "mail.example"', 'user = "u"', 'password = "env:KEY"', 'security = "none"'], 6, "TLS"),
        ("imap", ['host = "mail.example"', 'user = "u"'], 1, "password: found nothing"),
        ("imap", ['host = "h"', 'user = "u"', 'password = "env:KEY"', 'token = "env:KEY"'], 5, "not both"),
        ("webhook", ['secret = "env:KEY"', 'fields = { txet = "body" }'], 4, "no field of an item"),
        ("hubspot", ['access_token = "env:KEY"', 'csat = "csat:x"'], 4, "csat"),
        ("reddit", ['client_id = "x"', 'client_secret = "env:KEY"', 'user_agent = "a:b:1 (by /u/x)"'], 1, "subreddits"),
    ],
)  # fmt: skip
def test_check_names_what_a_connector_itself_does_not_take(
    use: str, lines: list[str], line: int, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipeline.cli.check import check

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KEY", "s3cr3t")
    (tmp_path / "ovoz.toml").write_text("\n".join(["[[connector]]", f'use = "{use}"', *lines]) + "\n")
    done = CliRunner().invoke(check, [])
    shown = [row for row in done.output.splitlines() if row.startswith(f"ovoz.toml:{line}: connector.{use}.")]
    assert any(told in row for row in shown), done.output
    assert "s3cr3t" not in done.output
