"""The [[connector]] tables: what every one has, read by us; the rest, read by the connector that it names."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Any, Final

from pipeline.pace import seconds
from pipeline.settings import HOOK_BODY_BYTES, Connector, Fault
from pipeline.settings_kinds import kind_of, seen

RESERVED: Final = ("use", "name", "workspace", "every", "repeats", "modes", "max_body_bytes")
MODES: Final = ("poll", "stream", "webhook")
MAX_BODY: Final = 16 * 2**20
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_.-]{0,62}\Z")
_USE: Final = re.compile(r"[a-z0-9_]+\Z|[A-Za-z_][\w.]*:[a-z0-9_]+\Z")
_NAME_EXPECTED: Final = "1-63 characters of a-z 0-9 _ . -, beginning with a letter or digit"
HEAD: Final = "tables, each headed [[connector]], with use and name"


def read_tables(value: object, at: Callable[..., str]) -> tuple[tuple[Connector, ...], list[Fault]]:
    """The tables in order, and every fault that shows without asking the connectors themselves.

    `at` gives the place of an index and a key.
    """
    if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
        return (), [_fault(at(), "connector", kind_of(value), HEAD, "[[connector]]")]
    tables: list[Connector] = []
    faults: list[Fault] = []
    for index, entry in enumerate(value):
        table, found = _table(entry, index, at)
        if table is not None and table.name in [other.name for other in tables]:
            key = f"connector.{table.name}.name"
            where = at(index, "name") if "name" in entry else at(index)
            found.append(_fault(where, key, f"{seen(table.name)} a second time", "a name of its own",
                                f'name = "{table.name}-{index + 1}"'))  # fmt: skip
        faults += found
        if table is not None and not found:
            tables.append(table)
    return tuple(tables), faults


def _table(entry: Mapping[str, Any], index: int, at: Callable[..., str]) -> tuple[Connector | None, list[Fault]]:
    faults: list[Fault] = []
    use = entry.get("use")
    if not isinstance(use, str) or not _USE.match(use):
        found = "nothing" if use is None else seen(use)
        expected = "the name of a connector (`ovoz connectors` lists them), or package.module:name"
        near = get_close_matches("use", [key for key in entry if key not in RESERVED], 1, 0.5)
        where = at(index, "use") if use is not None else at(index, near[0]) if near else at(index)
        return None, [_fault(where, f"connector[{index}].use", found, expected, 'use = "trustpilot"')]
    own = use.rpartition(":")[2]
    name = entry.get("name", own)
    label = f"connector.{name if isinstance(name, str) else index}"

    def wrong(key: str, expected: str, instead: str) -> None:
        faults.append(_fault(at(index, key), f"{label}.{key}", seen(entry[key]), expected, instead))

    if not isinstance(name, str) or not _NAME.match(name):
        wrong("name", _NAME_EXPECTED, f'name = "{own}"')
    workspace = entry.get("workspace", "default")
    if not isinstance(workspace, str) or not _NAME.match(workspace):
        wrong("workspace", _NAME_EXPECTED, 'workspace = "default"')
    times: dict[str, float] = {}
    for key in ("every", "repeats"):
        if key in entry:
            try:
                times[key] = seconds(entry[key])
            except ValueError as error:
                wrong(key, str(error).removeprefix("must be ").replace("must lie", "a time"), f'{key} = "5m"')
    modes = entry.get("modes", [])
    if not isinstance(modes, list) or not set(map(str, modes)) <= set(MODES) or ("modes" in entry and not modes):
        wrong("modes", f"some of {', '.join(MODES)}", 'modes = ["poll"]')
    limit = entry.get("max_body_bytes", HOOK_BODY_BYTES)
    if isinstance(limit, bool) or not isinstance(limit, int) or not 1024 <= limit <= MAX_BODY:
        wrong("max_body_bytes", f"a whole number from 1024 to {MAX_BODY}", "max_body_bytes = 1048576")
    if faults:
        return None, faults
    return (
        Connector(
            use=use, name=str(name), workspace=workspace, modes=tuple(modes),
            every_s=times.get("every"), repeats_s=times.get("repeats"),
            max_body_bytes=limit, options={key: entry[key] for key in entry if key not in RESERVED},
            origins={key: at(index, key) for key in entry} | {"": at(index)},
        ),
        [],
    )  # fmt: skip


def _fault(where: str, key: str, found: str, expected: str, instead: str) -> Fault:
    return Fault(where=where, key=key, found=found, expected=expected, instead=instead)
