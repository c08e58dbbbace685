"""Answers as the vendors document them, with the items they must become: tests/recordings/CONNECTOR/CASE.json.

A recording holds `answer` (what the service sends; a text where it is no JSON), `items` (what must come of it;
only what differs from an Item's defaults) and `skipped` (the places that cannot be read). The connector's module
has `parse(answer)`, or `parse(answer, now)` where the moment matters; `parse` names another function, `options`
what else it is called with.
"""

from __future__ import annotations

import importlib
import inspect
import json
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import pytest

from connectors.connector import Item, Skipped
from connectors.fields import Unreadable
from connectors.registry import SHIPPED, declaration
from tests.connectors import NOW

FOLDER = Path(__file__).parents[1] / "recordings"
FILES = sorted(FOLDER.glob("*/*.json"))
EVERY = {"normal", "empty", "last_page", "missing_fields", "unknown_fields", "wrong_types"}
ODD: list[Any] = [None, True, -1, 10**40, float("nan"), float("inf"), "", "x", "\ud800", [], [[]], {}, {"id": {}}]


def parse(recording: dict[str, Any], name: str, answer: Any) -> tuple[tuple[Item, ...], tuple[Skipped, ...]]:
    function = getattr(importlib.import_module(SHIPPED[name]), recording.get("parse", "parse"))
    wants_now = "now" in inspect.signature(function).parameters
    given = (answer, NOW) if wants_now else (answer,)
    found: tuple[tuple[Item, ...], tuple[Skipped, ...]] = function(*given, **recording.get("options", {}))
    return found


def told(item: Item) -> dict[str, Any]:
    """An item as a recording has it: only what differs from the defaults."""
    found = asdict(item)
    defaults = {field.name: field.default for field in fields(Item)}
    found["created_at"] = item.created_at.isoformat()
    if item.rating is not None:
        found["rating"] = {key: value for key, value in asdict(item.rating).items() if value is not None}
    return {key: value for key, value in found.items() if value != defaults[key]}


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_recorded_answer_becomes_exactly_its_items(path: Path) -> None:
    recording = json.loads(path.read_text(encoding="utf-8"))
    items, skipped = parse(recording, path.parent.name, recording["answer"])
    assert [told(item) for item in items] == recording["items"]
    assert [one.where for one in skipped] == recording.get("skipped", [])
    assert all(one.reason and one.payload for one in skipped)


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_an_answer_with_any_part_replaced_is_read_skipped_or_called_unreadable(path: Path) -> None:
    recording = json.loads(path.read_text(encoding="utf-8"))
    answer = recording["answer"]
    if isinstance(answer, str):
        pytest.skip("no JSON")
    for place in places(answer):
        for odd in ODD:
            changed = replaced(answer, place, odd)
            try:
                items, _ = parse(recording, path.parent.name, changed)
            except Unreadable:
                continue
            assert all(item.external_id and item.created_at.tzinfo is not None for item in items), (place, odd)


@pytest.mark.parametrize("name", sorted({path.parent.name for path in FILES}))
def test_a_connector_has_recordings_of_everything_that_can_differ(name: str) -> None:
    assert name in SHIPPED
    cases = {path.stem for path in FILES if path.parent.name == name}
    wanted = EVERY if set(declaration(name).modes) - {"webhook"} else EVERY - {"last_page"}
    assert cases >= wanted, f"missing: {sorted(wanted - cases)}"


def places(value: Any, here: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield here
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from places(inner, (*here, key))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from places(inner, (*here, number))


def replaced(value: Any, place: tuple[Any, ...], odd: Any) -> Any:
    if not place:
        return odd
    changed = deepcopy(value)
    inner = changed
    for step in place[:-1]:
        inner = inner[step]
    inner[place[-1]] = odd
    return changed
