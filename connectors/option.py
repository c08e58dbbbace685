"""Settings of a connector: a frozen dataclass whose fields say what they are; secrets that do not show.

The dataclass is parser, checker and documentation at once: `ovoz check`, `ovoz connectors show` and the
pages under docs/connectors are made from it.
"""

from __future__ import annotations

import dataclasses
import difflib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar, cast, get_args, get_origin, get_type_hints

from connectors.feedback import Fault

C = TypeVar("C")
_META: Final = "option"
_MISSING: Final = dataclasses.MISSING


class Secret:
    """A password or key: only `reveal` gives it away; text, repr, errors and logs never do."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The secret itself, for the request that needs it."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(***)"

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash((Secret, self._value))

    def __reduce__(self) -> Any:
        raise TypeError("a secret is not to be pickled or copied out")


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """What a field means to the person who sets it. `example`: what the commented config shows; `pattern`: what
    a text, or each of a list, must match as a whole; `instead_of`: the setting that must be set where this is not."""

    help: str
    example: Any
    least: float | None = None
    greatest: float | None = None
    choices: tuple[str, ...] = ()
    pattern: str | None = None
    instead_of: str | None = None


def option(
    help: str,
    *,
    example: Any = None,
    default: Any = _MISSING,
    least: float | None = None,
    greatest: float | None = None,
    choices: tuple[str, ...] = (),
    pattern: str | None = None,
    instead_of: str | None = None,
) -> Any:
    """A field of a connector's settings; without `default` it must be set."""
    shown = example if example is not None else (None if default is _MISSING else default)
    about = Option(
        help=help, example=shown, least=least, greatest=greatest, choices=choices, pattern=pattern,
        instead_of=instead_of,
    )  # fmt: skip
    meta = {_META: about}
    if default is _MISSING:
        return dataclasses.field(metadata=meta)
    return dataclasses.field(default=default, metadata=meta)


def options(config: type[Any]) -> dict[str, tuple[Option, Any, bool]]:
    """By field name: its Option, its type and whether it must be set."""
    hints = get_type_hints(config)
    return {
        entry.name: (
            cast(Option, entry.metadata[_META]),
            hints[entry.name],
            entry.default is _MISSING and entry.default_factory is _MISSING,
        )
        for entry in dataclasses.fields(config)
    }


def read(config: type[C], table: Mapping[str, Any], environment: Mapping[str, str] = os.environ) -> C:
    """The settings in `table`. Raises Misconfigured with every fault.

    A secret stands in the table as `env:NAME` or `file:PATH`, never as itself. What must hold between settings,
    the dataclass checks in its `__post_init__`.
    """
    known = options(config)
    faults: list[Fault] = []
    values: dict[str, Any] = {}
    for name in table:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]}?" if near else f"; known: {', '.join(known)}"
            faults.append(Fault(field=name, reason=f"is no setting of this connector{hint}"))
    for name, (about, kind, required) in known.items():
        if name not in table:
            if required:
                faults.append(Fault(field=name, reason=f"is required: {about.help}"))
            continue
        try:
            values[name] = _value(table[name], kind, about, environment)
        except ValueError as error:
            faults.append(Fault(field=name, reason=str(error)))
    if faults:
        raise Misconfigured(faults)
    return config(**values)


class Misconfigured(ValueError):
    """Raised by `read`; `faults` names every setting that is wrong, and what would be right."""

    def __init__(self, faults: list[Fault]) -> None:
        super().__init__("; ".join(f"{fault.field} {fault.reason}" for fault in faults))
        self.faults = faults


def _value(given: Any, kind: Any, about: Option, environment: Mapping[str, str]) -> Any:
    inner = [one for one in get_args(kind) if one is not type(None)]
    if type(None) in get_args(kind) and len(inner) == 1:
        kind = inner[0]
    if kind is Secret:
        return _secret(given, environment)
    if get_origin(kind) is tuple:
        if not isinstance(given, list) or not all(isinstance(one, str) and one for one in given):
            raise ValueError(f"must be a list of texts, such as {about.example!r}")
        for one in given:
            _match(one, about)
        return tuple(given)
    if get_origin(kind) in (dict, Mapping) or kind is Mapping:
        if not isinstance(given, Mapping) or not all(isinstance(one, str) for one in given.values()):
            raise ValueError("must be a table of texts")
        return dict(given)
    if kind is float and isinstance(given, int) and not isinstance(given, bool):
        given = float(given)
    if not isinstance(given, kind) or (isinstance(given, bool) and kind is not bool):
        raise ValueError(f"must be {_NAMES.get(kind, kind.__name__)}, such as {about.example!r}")
    if isinstance(given, str) and not given:
        raise ValueError("must not be empty")
    if isinstance(given, str):
        _match(given, about)
    if about.choices and given not in about.choices:
        near = difflib.get_close_matches(str(given), about.choices, n=1)
        raise ValueError(f"must be one of {', '.join(about.choices)}" + (f"; did you mean {near[0]}?" if near else ""))
    if isinstance(given, int | float) and not isinstance(given, bool):
        if about.least is not None and given < about.least:
            raise ValueError(f"must be at least {about.least:g}")
        if about.greatest is not None and not given <= about.greatest:
            raise ValueError(f"must be at most {about.greatest:g}")
    return given


def _match(given: str, about: Option) -> None:
    if about.pattern and not re.fullmatch(about.pattern, given):
        raise ValueError(f"is {given[:60]!r}, which is not of the form of {about.example!r}")


_NAMES: Final = {str: "a text", int: "a whole number", float: "a number", bool: "true or false"}


def _secret(given: Any, environment: Mapping[str, str]) -> Secret:
    place = "write env:NAME for an environment variable or file:PATH for a file"
    if not isinstance(given, str):
        raise ValueError(f"must say where the secret is: {place}")
    kind, _, where = given.partition(":")
    if kind == "env" and where:
        if not environment.get(where):
            raise ValueError(f"the environment variable {where} is not set")
        return Secret(environment[where])
    if kind == "file" and where:
        try:
            value = Path(where).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
            raise ValueError(f"the file {where} cannot be read: {reason}") from None
        if not value:
            raise ValueError(f"the file {where} is empty")
        return Secret(value)
    raise ValueError(f"a secret does not stand in the settings: {place}")
