"""Labelled files of a user's own: what is read, and every fault with its line."""

import gzip
import json
from pathlib import Path

import pytest

from models.classifier import TOPICS, ModelError
from models.labelled import read

LINES = (
    {"text": "Kuryer kelmadi", "sentiment": "negative", "topics": ["delivery", "service"], "language": "uz",
     "urgent": True},
    {"text": "Great!", "label": "Positive", "lang": "en-GB", "source": "reviews"},
    {"text": "пул қайтмади", "topic": "refund", "language": "uz_Cyrl"},
    {"text": "bu qanaqasi", "topic": "other", "language": "kaa"},
)  # fmt: skip


def test_json_lines_are_read_with_their_aliases(tmp_path: Path) -> None:
    plain, packed = tmp_path / "mine.jsonl", tmp_path / "mine.jsonl.gz"
    plain.write_text("\n".join(json.dumps(line) for line in LINES) + "\n\n", "utf-8")
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    found = read(plain, TOPICS)
    assert found.faults == () and found == read(packed, TOPICS)
    first, second, third, fourth = found.rows
    assert (first.sentiment, first.topics, first.language, first.urgent) == (0, {"delivery", "service"}, "uz", True)
    assert (second.sentiment, second.topics, second.language, second.source) == (2, None, "en", "reviews")
    assert (third.language, third.topics, third.source) == ("uz-Cyrl", {"refund"}, "mine")
    assert fourth.language == "und"


def test_csv_is_read_with_quotes_line_breaks_and_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes('text,sentiment,topics,urgent\r\n"late, ""again""\nand cold",negative,"delivery,quality",1\r\nok,,price,no\r\n'.encode("utf-8-sig"))  # fmt: skip  # noqa: E501
    found = read(path, TOPICS)
    assert found.faults == ()
    assert [(row.text, row.urgent) for row in found.rows] == [('late, "again" and cold', True), ("ok", False)]
    assert found.rows[0].topics == {"delivery", "quality"}


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "is not JSON"),
        ("[1]", "must be a JSON object"),
        ('{"sentiment": "negative"}', "text: must be what a customer wrote; is None"),
        ('{"text": "hm"}', "has no label: needs sentiment, topics or urgent; has text"),
        ('{"text": "hm", "sentiment": "bad"}', "sentiment: must be negative, neutral, positive; is 'bad'"),
        ('{"text": "hm", "topics": "delivry"}', "topics: 'delivry' is no topic of the model; its topics are delivery"),
        ('{"text": "hm", "topics": {"a": 1}}', "topics: must be a topic"),
        ('{"text": "hm", "urgent": "maybe"}', "urgent: must be true or false; is 'maybe'"),
    ],
)
def test_each_fault_is_named_with_its_line_and_the_rest_is_read(tmp_path: Path, line: str, said: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "fine", "sentiment": "positive"}\n' + line + '\n{"text": "bad", "urgent": 0}\n')
    found = read(path, TOPICS)
    assert len(found.rows) == 2
    (fault,) = found.faults
    assert fault.startswith(f"{path}:2: ") and said in fault


def test_a_csv_line_with_too_many_columns_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,sentiment\nlate,negative\nlate,again,negative\n")
    found = read(tmp_path / "a.csv", TOPICS)
    assert len(found.rows) == 1 and "a.csv:3: has more columns than the first line" in found.faults[0]


def test_files_that_cannot_be_read_at_all(tmp_path: Path) -> None:
    (tmp_path / "a.xlsx").write_bytes(b"PK")
    with pytest.raises(ModelError, match=r"expected \.jsonl or \.csv"):
        read(tmp_path / "a.xlsx", TOPICS)
    (tmp_path / "a.csv").write_bytes(b"text\n\xff\n")
    with pytest.raises(ModelError, match="no UTF-8 at position 5"):
        read(tmp_path / "a.csv", TOPICS)
    (tmp_path / "a.jsonl.gz").write_bytes(b"plain")
    with pytest.raises(ModelError, match="cannot be unpacked"):
        read(tmp_path / "a.jsonl.gz", TOPICS)
