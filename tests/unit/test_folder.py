"""The folder connector: growing, shrinking, moved and broken files."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from connectors.connector import Cursor, Item, Page, Permanent
from connectors.files.folder import Folder, FolderConnector
from connectors.option import Misconfigured
from connectors.registry import Context
from tests.connectors import items, read_all

LATER = timedelta(minutes=1)


def of(folder: Path, *, after: timedelta = LATER, **settings: Any) -> FolderConnector:
    """A connector whose clock is `after` ahead: what was written now has been quiet for so long."""
    context = Context(http=None, now=lambda: datetime.now(UTC) + after)  # type: ignore[arg-type]
    return FolderConnector(Folder(path=str(folder), **settings), context)


def write(path: Path, ids: Sequence[int], *, mode: str = "a", end: str = "\n") -> None:
    lines = [json.dumps({"id": str(n), "text": f"text {n}", "created_at": "2026-11-25T10:00:00Z"}) for n in ids]
    with path.open(mode, encoding="utf-8") as file:
        file.write("\n".join(lines) + end)


def ids(found: list[Item]) -> list[int]:
    return [int(item.external_id) for item in found]


async def read(folder: Path, cursor: Cursor | None = None, **settings: Any) -> list[Page]:
    return await read_all(of(folder, **settings), cursor)


async def test_every_kind_of_file_gives_its_rows(tmp_path: Path) -> None:
    rows = [{"id": str(n), "text": f"t{n}", "created_at": "2026-11-25T10:00:00Z", "rating": n} for n in (1, 2, 3)]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    cells = "\n".join(["id,text,created_at,rating", *(",".join(map(str, row.values())) for row in rows), ""])
    (tmp_path / "a.jsonl").write_text(lines)
    (tmp_path / "b.csv").write_text("\ufeff" + cells, encoding="utf-8")
    (tmp_path / "c.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    (tmp_path / "d.csv.gz").write_bytes(gzip.compress(cells.encode()))
    parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "e.parquet")
    (tmp_path / "notes.txt").write_text("not ours")
    found = items(await read(tmp_path))
    assert sorted(ids(found)) == [1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 3, 3, 3, 3, 3]
    assert {(item.text, item.rating.value if item.rating else None) for item in found} == {
        ("t1", 1.0), ("t2", 2.0), ("t3", 3.0)
    }  # fmt: skip


async def test_a_file_that_grows_goes_on_where_it_was_and_its_half_line_waits(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    write(log, [1, 2])
    write(log, [3], end="")
    first = await read(tmp_path, after=timedelta(0))
    assert ids(items(first)) == [1, 2]
    with log.open("a") as file:
        file.write("\n")
    write(log, [4])
    second = await read(tmp_path, first[-1].cursor, after=timedelta(0))
    assert ids(items(second)) == [3, 4]
    assert not items(await read(tmp_path, second[-1].cursor))


async def test_a_last_line_without_an_end_is_read_once_the_file_is_quiet(tmp_path: Path) -> None:
    write(tmp_path / "log.jsonl", [1, 2], end="")
    assert ids(items(await read(tmp_path))) == [1, 2]


async def test_a_file_that_shrank_is_read_anew_and_an_old_one_that_is_moved_in_is_read(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    write(log, [1, 2, 3])
    cursor = (await read(tmp_path))[-1].cursor
    write(log, [9], mode="w")
    pages = await read(tmp_path, cursor)
    assert ids(items(pages)) == [9]
    old = tmp_path / "waiting"
    write(old, [5])
    os.utime(old, (1_000_000_000, 1_000_000_000))
    old.rename(tmp_path / "old.jsonl")
    assert ids(items(await read(tmp_path, pages[-1].cursor))) == [5]


async def test_unreadable_rows_are_kept_with_their_place_and_good_neighbours_go_in(tmp_path: Path) -> None:
    good = '{"id": "%d", "text": "ok", "created_at": 1764064800}\n'
    (tmp_path / "log.jsonl").write_bytes(
        (good % 1).encode() + b'{"id": \n\xff\xfe\n[1]\n{"text": 5, "id": "x"}\n' + b"[" * 99_999 + b"\n\n"
        + b"{" + b" " * 2_000_000 + b"}\n" + (good % 2).encode()
    )  # fmt: skip
    pages = await read(tmp_path)
    assert ids(items(pages)) == [1, 2]
    assert len([skipped for page in pages for skipped in page.skipped]) == 6
    (tmp_path / "cells.csv").write_text('id,text\n1,ok\n2\n3,"a ""quoted"" text"\n', encoding="utf-8")
    pages = await read(tmp_path, pattern="*.csv")
    assert [item.text for item in items(pages)] == ["ok", 'a "quoted" text']
    assert [skipped.where for page in pages for skipped in page.skipped] == ["cells.csv:2"]


async def test_a_damaged_file_gives_what_comes_before_the_damage_and_does_not_hold_up_the_next(tmp_path: Path) -> None:
    whole = gzip.compress("".join(json.dumps({"id": str(n), "text": "x" * n}) + "\n" for n in range(400)).encode())
    (tmp_path / "a.jsonl.gz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "b.jsonl.gz").write_bytes(b"no gzip at all")
    (tmp_path / "c.parquet").write_bytes(b"PAR1 and nothing else")
    write(tmp_path / "d.jsonl", [999])
    pages = await read(tmp_path)
    found = ids(items(pages))
    assert found[-1] == 999 and found[:-1] == list(range(len(found) - 1)) and len(found) > 20
    assert len([skipped for page in pages for skipped in page.skipped]) == 3
    assert not items(await read(tmp_path, pages[-1].cursor))


async def test_fields_are_mapped_by_dotted_paths_and_a_row_without_id_is_known_by_its_content(tmp_path: Path) -> None:
    record = {"review": {"body": "Kuryer kelmadi"}, "stars": "2", "day": "2026-11-24 09:00:00"}
    (tmp_path / "log.jsonl").write_text(json.dumps(record) + "\n" + json.dumps(record) + "\n")
    fields = {"text": "review.body", "rating": "stars", "created_at": "day"}
    one, two = items(await read(tmp_path, fields=fields))
    assert one == two and one.text == "Kuryer kelmadi" and one.rating and one.rating.value == 2
    assert one.created_at == datetime(2026, 11, 24, 9, tzinfo=UTC)


async def test_a_missing_folder_and_an_unknown_field_are_permanent(tmp_path: Path) -> None:
    with pytest.raises(Permanent, match="no folder"):
        await read(tmp_path / "nowhere")
    with pytest.raises(Misconfigured, match="txet"):
        of(tmp_path, fields={"txet": "body"})


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(st.integers(1, 700), max_size=3), min_size=1, max_size=4))
async def test_whatever_is_appended_and_wherever_reading_stops_nothing_is_lost(
    tmp_path_factory: pytest.TempPathFactory, rounds: list[list[int]]
) -> None:
    folder, cursor, number = tmp_path_factory.mktemp("folder"), None, 0
    written: list[int] = []
    read_ids: list[int] = []
    for sizes in rounds:
        for file, size in enumerate(sizes):
            some = list(range(number, number + size))
            write(folder / f"{file}.jsonl", some)
            written, number = written + some, number + size
        for page in (await read(folder, cursor))[:2]:  # stops early, as a crash would
            cursor = json.loads(json.dumps(page.cursor))
            assert len(json.dumps(cursor)) < 4_096
            read_ids += ids(list(page.items))
    read_ids += ids(items(await read(folder, cursor)))
    assert sorted(read_ids) == written
