"""From a [[connector]] table to a connector that can run, or to every fault in the table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, cast, get_args

from connectors import connector as contract
from connectors.option import Misconfigured, Secret, options, read
from connectors.registry import Context, Declaration, UnknownConnector, declaration
from connectors.transport import Http
from pipeline.connector_tables import RESERVED
from pipeline.conversion import Origin
from pipeline.settings import Connector, Fault, SettingsError
from pipeline.settings_file import toml
from pipeline.settings_kinds import kind_of, seen

_NOWHERE: Final = Context(http=Http(cast(Any, None), lambda: datetime.now(UTC)), now=lambda: datetime.now(UTC))


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """A connector ready to run. `reader`, `receiver`: its sides, as far as the settings ask for them."""

    table: Connector
    declaration: Declaration
    origin: Origin
    reader: contract.Reader | None
    receiver: contract.Receiver | None

    @property
    def every_s(self) -> float:
        """Seconds from one poll to the next."""
        return self.table.every_s or self.declaration.every_s

    @property
    def repeated_s(self) -> float:
        """Seconds for which the service repeats a webhook's request that was not taken."""
        return self.declaration.repeats_s if self.table.repeats_s is None else self.table.repeats_s


def build(table: Connector, context: Context, environ: Mapping[str, str]) -> Built:
    """Build what a table describes. Raises SettingsError with every fault in it."""
    found = faults(table, environ)
    if found:
        raise SettingsError(found)
    declared = declaration(table.use)
    made = declared.build(read(declared.config, table.options, environ), context)
    modes = table.modes or declared.modes
    asked = isinstance(made, contract.Reader) and not {"poll", "stream"}.isdisjoint(modes)
    return Built(
        table=table,
        declaration=declared,
        origin=Origin(
            source=declared.name, instance=table.name, channel=declared.channel, workspace=table.workspace
        ),
        reader=made if asked and isinstance(made, contract.Reader) else None,
        receiver=made if "webhook" in modes and isinstance(made, contract.Receiver) else None,
    )


def faults(table: Connector, environ: Mapping[str, str]) -> list[Fault]:
    """Everything that is wrong with a table, secrets that are missing included; values of secrets are not shown."""

    def place(key: str) -> str:
        return table.origins.get(key) or table.origins.get("", "connector")

    try:
        declared = declaration(table.use)
    except UnknownConnector as error:
        expected = str(error).partition("; ")[2] or str(error)
        return [Fault(where=place("use"), key=f"connector.{table.name}.use", found=seen(table.use), expected=expected,
                      instead='use = "…", a name that `ovoz connectors` lists')]  # fmt: skip
    out = []
    if strange := [mode for mode in table.modes if mode not in declared.modes]:
        out.append(Fault(where=place("modes"), key=f"connector.{table.name}.modes", found=seen(strange[0]),
                         expected=f"a mode that {declared.name} has: {', '.join(declared.modes)}",
                         instead=f"modes = {toml([declared.modes[0]])}"))  # fmt: skip
    try:
        # What must hold between settings a connector says when it is made, which asks nobody anything.
        declared.build(read(declared.config, table.options, environ), _NOWHERE)
    except Misconfigured as error:
        about = options(declared.config)
        for one in error.faults:
            name = one.field.partition(".")[0]
            given = table.options.get(name)
            secret = False
            if name in about:
                kind = about[name][1]
                secret = Secret in (kind, *get_args(kind))
                example = about[name][0].example
                instead = f"{name} = {toml(example) if example is not None else '…'}"
            else:
                instead = f"one of {', '.join((*about, *RESERVED))}"
            found = "nothing" if name not in table.options else kind_of(given) if secret else seen(given)
            unknown = name not in about
            out.append(Fault(where=place(name), key=f"connector.{table.name}.{one.field}",
                             found="an unknown key" if unknown else found,
                             expected=one.reason.removeprefix("must be "), instead=instead))  # fmt: skip
    return out
