"""A folder of JSONL, CSV and Parquet files, read as they come and as they grow."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any, Final

from connectors import mapping
from connectors.connector import Cursor, Item, Page, Permanent, Retryable, Skipped
from connectors.fields import Unreadable, skip
from connectors.files.rows import SUFFIXES, Row, rows
from connectors.option import option
from connectors.registry import Context, connector

PAGE_ROWS: Final = 500
REMEMBERED: Final = 30
QUIET: Final = timedelta(seconds=10)
MAX_NAME: Final = 80
UNFINISHED: Final = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Folder:
    """Settings."""

    path: str = option("folder to watch; folders inside it are not read", example="/var/lib/feedback")
    pattern: str = option("which files in it", example="reviews-*.csv", default="*")
    fields: Mapping[str, str] = option(
        "where each field stands: id, text, created_at, rating, … = column or dotted path; others go by their own name",
        example={"text": "body", "id": "review_id"},
        default=None,
    )
    rating_max: float = option("the best rating there is, with 1 as the worst", default=5.0, least=1.01)


@connector(
    name="folder",
    title="Folder of JSONL, CSV or Parquet files",
    kind="files",
    channel="other",
    modes=("poll",),
    cursor="Per file, how far it was read; a file that grows goes on from there, one that shrank is read anew.",
    limits=(
        "Rows without an id are known by their content: two equal rows of one folder count once.",
        "Compressed and Parquet files are read when they have not changed for ten seconds.",
        "Parquet needs the extra: pip install 'ovoz[parquet]'.",
    ),
    source="https://jsonlines.org",
    config=Folder,
    every_s=5.0,
)
class FolderConnector:
    """See the declaration."""

    def __init__(self, config: Folder, context: Context) -> None:
        self._config = config
        self._now = context.now
        mapping.check(config.fields or {})

    async def pages(self, cursor: Cursor | None, *, follow: bool) -> AsyncIterator[Page]:
        """See `Reader.pages`. Files in the order of their last change; a page has at most PAGE_ROWS rows."""
        state = _State.of(cursor)
        for file in await asyncio.to_thread(self._listed):
            place = state.place(file)
            if place is None:
                continue
            with closing(rows(file.path, place, whole=file.quiet(self._now()))) as reading:
                ended = False
                while not ended:
                    try:
                        some = await asyncio.to_thread(_take, reading)
                    except OSError as error:
                        raise Retryable(f"{file.path.name} cannot be read: {error}") from None
                    items, skipped = self._convert(file, some)
                    place = some[-1].place if some else place
                    ended = len(some) < PAGE_ROWS
                    state = state.reached(file, place, ended)
                    yield Page(items=items, skipped=skipped, cursor=state.cursor())

    def since(self, moment: datetime) -> Cursor:
        """See `Reader.since`: files changed since then, whatever their rows say."""
        return _State(done_ns=int(moment.timestamp() * 10**9)).cursor()

    def _listed(self) -> list[_File]:
        folder = Path(self._config.path)
        try:
            found = [
                _File(path=path, size=stat.st_size, changed_ns=max(stat.st_mtime_ns, stat.st_ctime_ns))
                for path in folder.glob(self._config.pattern)
                if path.name.lower().endswith(SUFFIXES) and path.is_file()
                for stat in (path.stat(),)
            ]
            if not folder.is_dir():
                raise Permanent(f"path: there is no folder {folder}; make it or name another")
        except (OSError, ValueError) as error:
            raise Retryable(f"the folder {folder} cannot be read: {error}") from None
        now = self._now()
        ready = (file for file in found if file.appendable or file.quiet(now))
        return sorted(ready, key=lambda file: (file.changed_ns, file.path.name))

    def _convert(self, file: _File, some: list[Row]) -> tuple[tuple[Item, ...], tuple[Skipped, ...]]:
        items: list[Item] = []
        skipped: list[Skipped] = []
        for row in some:
            where = f"{file.path.name}:{row.place}"
            if row.fault:
                skipped.append(skip(row.fault, where, row.raw))
                continue
            if row.record is None:
                continue
            try:
                items.append(
                    mapping.item(
                        row.record,
                        self._config.fields or {},
                        default_id=_content_id(row.record),
                        default_at=file.changed,
                        scale=(1.0, self._config.rating_max),
                    )
                )
            except Unreadable as error:
                skipped.append(skip(str(error), where, row.record))
        return tuple(items), tuple(skipped)


@dataclass(frozen=True, slots=True, kw_only=True)
class _File:
    """`changed_ns`: the later of content and place: a file may be moved in with an old time of change."""

    path: Path
    size: int
    changed_ns: int

    @property
    def changed(self) -> datetime:
        return datetime.fromtimestamp(self.changed_ns / 10**9, UTC)

    @property
    def appendable(self) -> bool:
        return not self.path.name.lower().endswith((".gz", ".parquet"))

    @property
    def key(self) -> str:
        """Its name, or a digest where that is long: a cursor has little room."""
        name = self.path.name
        return name if len(name) <= MAX_NAME else hashlib.sha256(name.encode()).hexdigest()[:24]

    def quiet(self, now: datetime) -> bool:
        return now - self.changed >= QUIET


@dataclass(frozen=True, slots=True, kw_only=True)
class _State:
    """`done_ns`: files changed before are read to their end; `files`: key → (size when read, place there).

    Sizes of files that were read to their end; UNFINISHED for the one being read."""

    done_ns: int = 0
    files: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    @classmethod
    def of(cls, cursor: Cursor | None) -> _State:
        if not cursor:
            return cls()
        files = {str(key): (int(size), int(place)) for key, (size, place) in cursor.get("files", {}).items()}
        return cls(done_ns=int(cursor.get("done_ns", 0)), files=files)

    def place(self, file: _File) -> int | None:
        """Where to go on in a file, None when there is nothing to read."""
        if file.key not in self.files:
            return None if file.changed_ns < self.done_ns else 0
        size, place = self.files[file.key]
        if size == UNFINISHED:
            return place
        if size == file.size:
            return None
        return place if file.size > size and file.appendable else 0

    def reached(self, file: _File, place: int, ended: bool) -> _State:
        files = {key: value for key, value in self.files.items() if key != file.key}
        files[file.key] = (file.size if ended else UNFINISHED, place)
        while len(files) > REMEMBERED:
            files.pop(next(iter(files)))
        # Older than every file that is remembered by name: what is forgotten was read to its end.
        return _State(done_ns=max(self.done_ns, file.changed_ns) if ended else self.done_ns, files=files)

    def cursor(self) -> Cursor:
        return {"done_ns": self.done_ns, "files": {key: list(value) for key, value in self.files.items()}}


def _take(reading: Iterator[Row]) -> list[Row]:
    return list(islice(reading, PAGE_ROWS))


def _content_id(record: Any) -> str:
    content = sorted(record.items()) if isinstance(record, dict) else record
    return hashlib.sha256(repr(content).encode("utf-8", "replace")).hexdigest()[:32]
