"""A folder in which another program writes a file of reviews, a line for each thing said."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from aiohttp import web

from connectors.fakes.fake import Said, Verb

NAME = "reviews.jsonl"


class FakeFolder:
    """See `fake.Fake` and `fake.Serving`. Its folder is gone when it is closed."""

    can: frozenset[Verb] = frozenset({"edit", "delete", "since"})

    def __init__(self) -> None:
        self._folder = ""

    @property
    def environment(self) -> Mapping[str, str]:
        """A folder needs no secret."""
        return {}

    def table(self, url: str) -> dict[str, Any]:
        """Settings for this fake."""
        return {"path": self._folder or "/nowhere", "fields": {"text": "body", "id": "review.id"}}

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        """None."""
        return []

    async def open(self) -> None:
        """Make the folder."""
        self._folder = tempfile.mkdtemp(prefix="ovoz-folder-")

    async def close(self) -> None:
        """Take it away."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def say(self, said: Said) -> None:
        """A line more."""
        self._write(review={"id": said.id}, body=said.text, created_at=said.at.isoformat(), author=said.author,
                    rating=said.rating, language=said.language)  # fmt: skip

    def edit(self, id: str, text: str, at: datetime) -> None:
        """A line more, of the same id."""
        self._write(review={"id": id}, body=text, created_at=at.isoformat(), updated_at=at.isoformat())

    def delete(self, id: str, at: datetime) -> None:
        """A line more, which says so."""
        self._write(review={"id": id}, created_at=at.isoformat(), updated_at=at.isoformat(), deleted=True)

    def expire(self) -> None:
        """What was written stays."""

    def _write(self, **record: Any) -> None:
        with (Path(self._folder) / NAME).open("a", encoding="utf-8") as file:
            file.write(json.dumps(record, ensure_ascii=False) + "\n")
