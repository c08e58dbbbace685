"""The command line as people meet it: real processes, a real embedded broker, exit statuses."""

from __future__ import annotations

import gzip
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.author import author_hash, load_key
from pipeline.broker import EmbeddedBroker
from pipeline.bus import admin, read_offsets
from pipeline.cli.root import COMMANDS
from pipeline.codec import decode_dead, decode_feedback
from pipeline.records import DeadLetter
from pipeline.settings import Kafka
from pipeline.topics import Topics
from tests.command import environment, ovoz
from tests.hostile import GOOD as GOOD_NEIGHBOUR
from tests.hostile import ITEMS

GOOD = [
    {"source": "shop", "id": "1", "text": "The courier never came", "created_at": 1795510800, "author": "ann"},
    {"source": "shop", "id": "2", "text": "Зўр хизмат", "created_at": "2026-11-24T09:00:01Z"},
    {"source": "shop", "text": "no id"},
]
JSONL = "".join(json.dumps(item) + "\n" for item in GOOD).encode()


@pytest.fixture(scope="module")
def broker() -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker() as running:
        yield running


class Wire:
    """Topics of one test's own on the shared broker, and what stands in them."""

    def __init__(self, bootstrap: str, prefix: str, folder: Path) -> None:
        self.kafka = Kafka(bootstrap=bootstrap, prefix=prefix)
        self.folder = folder

    def replay(self, *arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        return ovoz("replay", *arguments, cwd=self.folder, stdin=stdin,
                    OVOZ_KAFKA_BOOTSTRAP=self.kafka.bootstrap, OVOZ_KAFKA_PREFIX=self.kafka.prefix)  # fmt: skip

    def values(self, topic: str) -> list[bytes]:
        with admin(self.kafka) as client:
            ends = client.ends(topic)
        return [
            value or b"" for partition, span in ends.items()
            for _, _, value in read_offsets(self.kafka, topic, partition, [span])
        ]  # fmt: skip

    def ids(self) -> list[str]:
        return sorted(decode_feedback(value).external_id for value in self.values(Topics.of(self.kafka).raw.name))

    def dead(self) -> list[DeadLetter]:
        return [decode_dead(value) for value in self.values(Topics.of(self.kafka).dead.name)]


@pytest.fixture
def wire(broker: EmbeddedBroker, tmp_path: Path, request: pytest.FixtureRequest) -> Wire:
    return Wire(broker.bootstrap, re.sub(r"\W", "-", request.node.name), tmp_path)


@pytest.mark.parametrize("name", ["", *COMMANDS])
def test_help(name: str, tmp_path: Path) -> None:
    done = ovoz(*([name] if name else []), "--help", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert b"ovoz " in done.stdout


@pytest.mark.parametrize(
    "arguments",
    [["nonsense"], ["replay"], ["replay", "none.jsonl"], ["worker", "--stage", "x"], ["dead", "requeue"],
     ["token", "a b"]],
)
def test_wrong_usage_is_status_2(arguments: list[str], tmp_path: Path) -> None:
    done = ovoz(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert b"Traceback" not in done.stderr and done.stderr


def test_init_then_check_then_a_fault(tmp_path: Path) -> None:
    assert ovoz("init", cwd=tmp_path).returncode == 0
    assert ovoz("init", cwd=tmp_path).returncode == 1
    assert ovoz("check", cwd=tmp_path).returncode == 0
    shown = ovoz("check", "--show", cwd=tmp_path, OVOZ_STORE_URL="postgresql://u:s3cr3t@db/ovoz").stdout
    assert b"# OVOZ_STORE_URL" in shown and b"s3cr3t" not in shown and b"# ovoz.toml:" in shown
    (tmp_path / "ovoz.toml").write_text("[kafka]\npartitions = 0\n[worker]\nprot = 1\n")
    done = ovoz("check", cwd=tmp_path)
    assert done.returncode == 1
    assert b"ovoz.toml:2:" in done.stderr and b"ovoz.toml:4:" in done.stderr and b"port" in done.stderr


def test_check_reads_the_rule_file(tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text('[[rule]]\nname = "a"\n[[rule]]\nname = "b"\nseverty = "x"\n')
    done = ovoz("check", cwd=tmp_path, OVOZ_ALERTS_RULES="r.toml")
    assert done.returncode == 1
    assert b"r.toml:5:" in done.stderr


def test_a_token_is_taken_by_the_settings(tmp_path: Path) -> None:
    done = ovoz("token", "shop", cwd=tmp_path).stdout.decode()
    (tmp_path / "ovoz.toml").write_text(done[done.index("[[") :])
    assert ovoz("check", cwd=tmp_path, OVOZ_INGEST_HOST="0.0.0.0").returncode == 0


def test_replay_sends_the_good_and_keeps_the_bad(wire: Wire) -> None:
    bad = [b"not json", b'{"source":"shop","id":"4","rating":7}', b"\xff\xfe", b'{"a":' * 5000, b"x" * 1_100_000]
    (wire.folder / "day.jsonl").write_bytes(JSONL + b"\n".join(bad) + b'\n\n{"source":"shop","id":"last"}')
    for times in (1, 2):
        done = wire.replay("day.jsonl")
        assert done.returncode == 0, done.stderr
        assert b"day.jsonl:4: json" in done.stderr and b"day.jsonl:6: encoding" in done.stderr
        assert len(wire.ids()) == 4 * times
        assert len(set(wire.ids())) == 4
    dead = wire.dead()
    assert len(dead) == 2 * len({letter.dead_id for letter in dead}) == 10
    assert {letter.origin for letter in dead} == {f"file:day.jsonl:{line}" for line in range(4, 9)}
    assert {letter.payload for letter in dead} == {line[:500_000] for line in bad}
    first = min(map(decode_feedback, wire.values(Topics.of(wire.kafka).raw.name)), key=lambda f: f.external_id)
    key = load_key(None, wire.folder / "ovoz-data")
    assert first.author_hash == author_hash(key, "ann")


def test_replay_of_hostile_lines_spares_their_neighbours(wire: Wire) -> None:
    good = [json.dumps({**GOOD_NEIGHBOUR, "id": f"good-{n}"}).encode() for n in range(len(ITEMS) + 1)]
    lines = [line for pair in zip(good, ITEMS.values(), strict=False) for line in pair] + good[-1:]
    (wire.folder / "hostile.jsonl").write_bytes(b"\n".join(lines))
    done = wire.replay("hostile.jsonl")
    assert done.returncode == 0 and b"Traceback" not in done.stderr, done.stderr
    assert {name for name in wire.ids() if name.startswith("good-")} == {f"good-{n}" for n in range(len(good))}
    refused = {int(letter.origin.rpartition(":")[2]) for letter in wire.dead()}
    assert refused and all(number % 2 == 0 for number in refused)
    assert len(wire.ids()) + len(refused) == len(lines)


def test_replay_of_a_damaged_gzip_file_sends_what_is_before_the_damage_and_says_so(wire: Wire) -> None:
    texts = [os.urandom(40).hex().encode() for _ in range(5000)]
    lines = b"".join(b'{"source":"shop","id":"%d","text":"%s"}\n' % one for one in enumerate(texts))
    (wire.folder / "cut.jsonl.gz").write_bytes(gzip.compress(lines)[:-20_000])
    done = wire.replay("cut.jsonl.gz")
    assert done.returncode == 1
    assert b"cut.jsonl.gz: " in done.stderr and b"Traceback" not in done.stderr
    assert 3000 < len(wire.ids()) < 5000


def test_replay_of_a_gzip_bomb_needs_little_memory(wire: Wire) -> None:
    (wire.folder / "bomb.gz").write_bytes(gzip.compress(b"x" * 1_000_000) * 1000)
    command = f"ulimit -v 800000; exec {sys.executable} -m pipeline replay bomb.gz --dry-run"
    done = subprocess.run(
        ["sh", "-c", command], cwd=wire.folder, env=environment(), capture_output=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert b"bomb.gz:1: too_long" in done.stderr and b"Traceback" not in done.stderr, done.stderr


def test_replay_of_gzip_and_stdin(wire: Wire) -> None:
    (wire.folder / "a.gz").write_bytes(gzip.compress(JSONL))
    assert wire.replay("a.gz").returncode == 0
    assert wire.replay("-", stdin=b'{"source":"shop","id":"in"}\n').returncode == 0
    assert len(wire.ids()) == 4
    (wire.folder / "cut.gz").write_bytes(gzip.compress(os.urandom(200_000).hex().encode())[:-900])
    assert wire.replay("cut.gz").returncode == 1


def test_replay_of_csv_spares_the_neighbours_of_a_bad_line(wire: Wire) -> None:
    (wire.folder / "r.csv").write_text(
        'review_id;body;stars;date\n1;"Zo\'r; rahmat";5;2026-01-02 10:00\n2;"open;1;2026-01-02 10:00\n'
        '3;"two\nlines";2;2026-01-03 10:00\n4;x\n', "utf-8"
    )  # fmt: skip
    maps = ["id=review_id", "text=body", "rating=stars", "created_at=date"]
    done = wire.replay("r.csv", "--source", "play", "--rating-scale", "1..5", "--zone", "Asia/Tashkent", "--backfill",
                       *(word for pair in maps for word in ("--map", pair)))  # fmt: skip
    assert done.returncode == 0, done.stderr
    items = {f.external_id: f for f in map(decode_feedback, wire.values(Topics.of(wire.kafka).raw.name))}
    assert items.keys() == {"1", "3"}
    assert items["1"].rating == 1.0 and items["1"].backfill
    assert items["1"].created_at.isoformat() == "2026-01-02T05:00:00+00:00"
    assert items["3"].text == "two\nlines"
    assert {letter.origin for letter in wire.dead()} == {"file:r.csv:3", "file:r.csv:6"}


def test_replay_says_when_nothing_can_be_read_or_the_broker_is_away(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x\ny\n")
    assert ovoz("replay", "a", "--dry-run", cwd=tmp_path).returncode == 1
    (tmp_path / "b").write_bytes(JSONL)
    assert ovoz("replay", "b", "--dry-run", cwd=tmp_path).returncode == 0
    done = ovoz("replay", "b", cwd=tmp_path, OVOZ_KAFKA_BOOTSTRAP="127.0.0.1:9")
    assert done.returncode == 1
    assert b"ovoz broker" in done.stderr and b"Traceback" not in done.stderr


def test_ctrl_c_ends_the_broker(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "pipeline", "broker", "--port", "0"], cwd=tmp_path, env=environment(),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None and b"broker on 127.0.0.1:" in process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=10)
    assert process.returncode == 130
    assert b"Traceback" not in errors


def test_classify_answers_every_line_whatever_its_bytes(tmp_path: Path) -> None:
    lines = [b"great", b"", b"\xff\xfe\x00", b'{"text":"slow"}', b'"quoted"', b'{"no":1}', b'{"text":"\\ud800"}',
             b"{" * 9999]  # fmt: skip
    done = ovoz("classify", "-", cwd=tmp_path, stdin=b"\n".join(lines))
    assert done.returncode == 0, done.stderr
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(answers) == len(lines)
    assert [a["text"] for a in answers[3:6]] == ["slow", "quoted", '{"no":1}']
    assert [a["label"] for a in answers[:3]] == ["positive", "unsure", "unsure"]
    for said in answers:
        assert abs(sum(said["sentiment"].values()) - 1) < 1e-3
        assert {"text", "label", "sentiment", "score", "topics", "language", "model"} <= said.keys()


def test_the_model_tells_nobody_what_it_does(tmp_path: Path) -> None:
    """onnxruntime's telemetry leaves its session in the folder for temporary files before it calls home."""
    assert ovoz("classify", "hello", cwd=tmp_path, TMPDIR=str(tmp_path)).returncode == 0
    assert list(tmp_path.iterdir()) == []
