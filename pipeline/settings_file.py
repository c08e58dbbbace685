"""From a TOML file and the environment to Settings, or to every fault in them."""

from __future__ import annotations

import ipaddress
import json
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import Field, dataclass, fields, is_dataclass, replace
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Any, Final

from pipeline.connector_tables import read_tables
from pipeline.settings import Connector, Fault, Settings, SettingsError, Token
from pipeline.settings_kinds import Key, Wrong, kind_of, seen
from pipeline.toml_lines import Path as Place
from pipeline.toml_lines import line_of

DEFAULT_FILE: Final = "ovoz.toml"
TOKEN_EXAMPLE: Final = "the lines that `ovoz token NAME` prints"
# Read by the project's own tests and benchmarks, not settings.
NOT_SETTINGS: Final = frozenset({"OVOZ_CONFIG", "OVOZ_KAFKA", "OVOZ_KAFKA_HOME"})

_SHA256: Final = re.compile(r"[0-9a-fA-F]{64}\Z")
_AT: Final = re.compile(r" \(at (?:line (\d+), column \d+|end of document)\)\Z")
_STATEMENT: Final = re.compile(r"\s*([A-Za-z0-9_\-.\"' ]+?)\s*=\s*(.*)")
_ONLY: Final = {"topics": "onnx", "sentiment_labels": "transformer", "topic_labels": "transformer",
                "unsure_below": "transformer"}  # fmt: skip
_KUBERNETES: Final = re.compile(r"_SERVICE_HOST\Z|_SERVICE_PORT(_|\Z)|_PORT_\d+_(TCP|UDP|SCTP)(_|\Z)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """Settings and where each key came from: `FILE:LINE`, a variable's name, or `default`."""

    settings: Settings
    file: Path | None
    origins: Mapping[tuple[str, str], str]


def sections() -> Iterator[tuple[str, Any]]:
    """The name and the class of each section, in order."""
    default = Settings()
    for section in fields(Settings):
        if is_dataclass(value := getattr(default, section.name)):
            yield section.name, type(value)


def keys(section: Any) -> Iterator[tuple[Field[Any], Key]]:
    """The keys of a section that are plain values, with what is known of each."""
    for key in fields(section):
        if "key" in key.metadata:
            yield key, key.metadata["key"]


def read(path: Path | None, environ: Mapping[str, str]) -> Loaded:
    """Settings with their origins. Raises SettingsError with every fault of file and environment."""
    named = environ.get("OVOZ_CONFIG")
    file: Path | None = path or Path(named or DEFAULT_FILE)
    reader = _Reader()
    if path is None and not named and not Path(DEFAULT_FILE).exists():
        file = None
    if file is not None:
        reader.take_file(file, "OVOZ_CONFIG" if path is None and named else str(file))
    reader.take_environment(environ)
    settings = reader.build()
    reader.check_together(settings)
    if reader.faults:
        raise SettingsError(reader.faults)
    return Loaded(settings=settings, file=file, origins=reader.origins)


def toml(value: object) -> str:
    """A value as TOML writes it, on one line; pairs are a table."""
    if isinstance(value, dict) or (isinstance(value, tuple) and value and all(isinstance(v, tuple) for v in value)):
        pairs = value.items() if isinstance(value, dict) else value
        return f"{{ {', '.join(f'{_quoted(key)} = {toml(item)}' for key, item in pairs)} }}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(toml, value))}]"
    if isinstance(value, bool | str | Path):
        return json.dumps(str(value) if isinstance(value, Path) else value, ensure_ascii=False)
    return f"{value:g}" if isinstance(value, float) and not value.is_integer() else str(value)


def _quoted(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else json.dumps(key, ensure_ascii=False)


def parse(source: str, file: str) -> tuple[dict[str, Any], list[Fault]]:
    """The data of a TOML source and its faults of syntax, as far as it can be read past them.

    A statement that is wrong in itself is left out and the rest read on; any other fault ends the reading.
    """
    lines = source.split("\n")
    faults: list[Fault] = []
    while True:
        try:
            return tomllib.loads("\n".join(lines)), faults
        except RecursionError:
            return {}, [*faults, Fault(where=file, key="", found="arrays nested too deep",
                        expected="a settings file", instead="fewer brackets")]  # fmt: skip
        except tomllib.TOMLDecodeError as error:
            at = _AT.search(str(error))
            number = int(at.group(1)) if at and at.group(1) else len(lines)
            text = lines[number - 1] if number <= len(lines) else ""
            statement = _STATEMENT.match(text)
            alone = bool(statement) and (_breaks(text) or "overwrite" in str(error))
            if faults and not alone:
                return {}, faults
            faults.append(_syntax(file, number, _AT.sub("", str(error)), statement))
            if not alone or not (at and at.group(1)) or len(faults) == 50:
                return {}, faults
            lines[number - 1] = ""


class _Reader:
    """Collects values, their origins and every fault on the way."""

    def __init__(self) -> None:
        self.faults: list[Fault] = []
        self.origins: dict[tuple[str, str], str] = {}
        self._values: dict[tuple[str, str], Any] = {}
        self._faulty: set[tuple[str, str]] = set()
        self._connectors: tuple[Connector, ...] = ()

    def take_file(self, file: Path, named_by: str) -> None:
        """Take what the file says."""
        raw = b""
        try:
            raw = file.read_bytes()
            source = raw.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            at = raw.count(b"\n", 0, error.start) + 1
            self._fault(f"{file}:{at}", "", f"the byte 0x{raw[error.start]:02x}", "UTF-8 text",
                        "the same file saved as UTF-8")  # fmt: skip
            return
        except OSError as error:
            found = "no such file" if isinstance(error, FileNotFoundError) else str(error.strerror)
            self._fault(named_by, "" if named_by == str(file) else str(file), found, "a settings file",
                        f"another path, or make it with `ovoz init --path {file}`")  # fmt: skip
            return
        data, faults = parse(source, str(file))
        self.faults += faults
        line = line_of(source)
        known = dict(sections())
        for name, table in data.items():
            where = f"{file}:{line((name,))}"
            if name == "connector":
                self._connectors, wrong = read_tables(table, lambda *at: f"{file}:{line(('connector', *at))}")
                self.faults += wrong
            elif name not in known:
                self._unknown_section(where, name, table, known)
            elif not isinstance(table, dict):
                self._fault(where, name, kind_of(table), "a section", f"[{name}] and its keys below")
            else:
                self._section(file, line, name, known[name], table)

    def _section(self, file: Path, line: Any, section: str, cls: Any, table: dict[str, Any]) -> None:
        specs = {field.name: key for field, key in keys(cls)}
        for name, value in table.items():
            place: Place = (section, name)
            where = f"{file}:{line(place)}"
            if (section, name) == ("ingest", "tokens"):
                self._tokens(value, lambda *at: f"{file}:{line(('ingest', 'tokens', *at))}")
            elif name not in specs:
                near = get_close_matches(name, [f.name for f in fields(cls)], 1, 0.6)
                elsewhere = [other for other, c in sections() if name in {f.name for f in fields(c)}]
                instead = f"[{elsewhere[0]}] {name}" if elsewhere else near[0] if near else "nothing: remove it"
                expected = f"a key of [{section}]: {', '.join(f.name for f in fields(cls))}"
                self._fault(where, f"{section}.{_short(name)}", "an unknown key", expected, instead)
            else:
                at = partial(_element, file, line, place)
                self._value(section, name, specs[name], value, where, at)

    def take_environment(self, environ: Mapping[str, str]) -> None:
        """Let `OVOZ_<SECTION>_<KEY>` override the file, and `…_FILE` where the value is a secret in a file."""
        specs = {f"OVOZ_{s}_{f.name}".upper(): (s, f.name, k) for s, c in sections() for f, k in keys(c)}
        for variable in sorted(environ):
            if not variable.startswith("OVOZ_") or variable in NOT_SETTINGS or not environ[variable]:
                continue
            text = environ[variable]
            if variable == "OVOZ_INGEST_TOKENS":
                pairs = [pair.strip().partition(":") for pair in text.split(",") if pair.strip()]
                entries = [{"name": n.strip(), "sha256": h.strip()} for n, _, h in pairs]
                self._tokens(entries, lambda *_: "OVOZ_INGEST_TOKENS")
                continue
            secret_file = variable.removesuffix("_FILE")
            if variable not in specs and secret_file in specs and specs[secret_file][2].kind.secret:
                try:
                    text = Path(text).read_text("utf-8").strip()
                except (OSError, UnicodeDecodeError):
                    self._fault(variable, "", f"{seen(text)}, which cannot be read", "a readable text file",
                                f"{variable}=FILE, or {secret_file}=VALUE")  # fmt: skip
                    continue
            elif variable in specs:
                secret_file = variable
            else:
                self._unknown_variable(variable, [*specs, "OVOZ_INGEST_TOKENS"])
                continue
            section, name, key = specs[secret_file]
            if text.startswith("tcp://") and name == "port":
                self._fault(variable, "", "an address that Kubernetes puts there for a Service of this name",
                            key.kind.expected, "enableServiceLinks: false in the pod's specification")  # fmt: skip
                continue
            self._value(section, name, key, key.kind.from_text(text), variable, lambda _i, v=variable: v)

    def _value(self, section: str, name: str, key: Key, value: object, where: str, element: Any) -> None:
        variable = where if where.startswith("OVOZ_") else None
        try:
            self._values[section, name] = key.kind.read(value)
            self.origins[section, name] = where
            self._faulty.discard((section, name))
        except Wrong as wrong:
            self._faulty.add((section, name))
            if wrong.advice:
                instead = str(wrong.instead)
            elif variable:
                shown = wrong.instead
                instead = f"{variable}={','.join(map(str, shown)) if isinstance(shown, list) else shown}"
            else:
                whole = wrong.instead if not isinstance(wrong.instead, list) or not key.example else key.example
                instead = f"{name} = {toml(whole)}" if wrong.index is None else toml(wrong.instead)
            at = where if wrong.index is None else element(wrong.index)
            index = "" if wrong.index is None else f"[{wrong.index}]"
            self._fault(at, f"{section}.{name}{index}", wrong.found, wrong.expected or key.kind.expected, instead)

    def _tokens(self, value: object, at: Any) -> None:
        self.origins["ingest", "tokens"] = at()
        if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
            self._faulty.add(("ingest", "tokens"))
            self._fault(at(), "ingest.tokens", kind_of(value), "tables, each headed [[ingest.tokens]]", TOKEN_EXAMPLE)
            return
        tokens: list[Token] = []
        before = len(self.faults)
        for index, entry in enumerate(value):
            key = f"ingest.tokens[{index}]"
            for unknown in entry.keys() - {"name", "sha256"}:
                near = get_close_matches(unknown, ["name", "sha256"], 1, 0.6)
                instead = near[0] if near else TOKEN_EXAMPLE
                where = at(index, unknown)
                self._fault(where, f"{key}.{_short(unknown)}", "an unknown key", "name and sha256", instead)
            name, sha256 = entry.get("name"), entry.get("sha256")
            if not isinstance(name, str) or not name:
                found = "nothing" if name is None else kind_of(name)
                instead = f'name = "shop-{index + 1}"'
                self._fault(at(index, "name"), f"{key}.name", found, "a name for this token", instead)
            elif name in [token.name for token in tokens]:
                self._fault(at(index, "name"), f"{key}.name", f"{seen(name)} a second time", "a name of its own",
                            f"name = {toml(f'{name}-2')}")  # fmt: skip
            if not isinstance(sha256, str) or not _SHA256.match(sha256):
                found = "nothing" if sha256 is None else kind_of(sha256)
                self._fault(at(index, "sha256"), f"{key}.sha256", found,
                            "the SHA-256 of the secret, 64 hex digits", TOKEN_EXAMPLE)  # fmt: skip
            elif sha256.lower() in [token.sha256 for token in tokens]:
                self._fault(at(index, "sha256"), f"{key}.sha256", "the same secret a second time",
                            "a secret for each token", TOKEN_EXAMPLE)  # fmt: skip
            tokens.append(Token(name=str(name), sha256=str(sha256).lower()))
        if len(self.faults) == before:
            self._values["ingest", "tokens"] = tuple(tokens)
            self._faulty.discard(("ingest", "tokens"))
        else:
            self._faulty.add(("ingest", "tokens"))

    def build(self) -> Settings:
        """Settings of what could be read; the rest has its default."""
        settings = Settings()
        for section, cls in sections():
            for field in fields(cls):
                self.origins.setdefault((section, field.name), "default")
            values = {name: value for (s, name), value in self._values.items() if s == section}
            settings = replace(settings, **{section: replace(getattr(settings, section), **values)})
        return replace(settings, connector=self._connectors)

    def check_together(self, settings: Settings) -> None:
        """Faults that only two keys together can have."""
        ingest, model = settings.ingest, settings.model
        if not loopback(ingest.host) and not ingest.tokens and ("ingest", "tokens") not in self._faulty:
            self._fault(self.origins["ingest", "host"], "ingest.host", f"{seen(ingest.host)} without tokens",
                        "a loopback address, or at least one token", TOKEN_EXAMPLE)  # fmt: skip
        if model.path is not None and ("model", "engine") not in self._faulty:
            checkpoint = model.engine == "transformer" and not model.path.startswith((".", "/", "~"))
            if not Path(model.path).exists() and not checkpoint:
                self._fault(self.origins["model", "path"], "model.path", f"{seen(model.path)}, which does not exist",
                            "the folder of a model", "no path at all, for the model that comes with Ovoz")  # fmt: skip
        if model.engine == "transformer" and not self._faulty & {("model", "path"), ("model", "engine")}:
            named = model.path or ""
            if not (Path(named).exists() if named else False) and not named.rpartition("@")[0]:
                self._fault(self.origins["model", "path" if named else "engine"], "model.path",
                            f"{seen(named)}, which names no exact weights" if named else "nothing",
                            "the folder of a checkpoint, or name@revision", 'path = "NAME@REVISION"')  # fmt: skip
        for key, engine in _ONLY.items():
            value = getattr(model, key)
            if value and model.engine != engine and ("model", "engine") not in self._faulty:
                self._fault(self.origins["model", key], f"model.{key}", f'this key with engine = "{model.engine}"',
                            f'engine = "{engine}"', f'engine = "{engine}", or no {key}')  # fmt: skip

    def _unknown_section(self, where: str, name: str, value: object, known: Mapping[str, Any]) -> None:
        if not isinstance(value, dict):
            homes = [section for section, cls in known.items() if name in {field.name for field in fields(cls)}]
            if homes:
                self._fault(where, name, "a key outside any section", f"this key in [{homes[0]}]",
                            f"the line [{homes[0]}] above it")  # fmt: skip
                return
        near = get_close_matches(name, list(known), 1, 0.5)
        self._fault(where, _short(name), "an unknown section" if isinstance(value, dict) else "an unknown key",
                    f"a section: {', '.join(known)}", f"[{near[0]}]" if near else "nothing: remove it")  # fmt: skip

    def _unknown_variable(self, variable: str, known: list[str]) -> None:
        ours = any(variable.startswith(f"OVOZ_{section.upper()}_") for section, _ in sections())
        near = get_close_matches(variable, known, 1, 0.6 if ours else 0.85)
        if _KUBERNETES.search(variable) or not (ours or near):
            return
        self._fault(variable, "", "an unknown variable", "OVOZ_<SECTION>_<KEY> of a setting",
                    near[0] if near else "nothing: unset it")  # fmt: skip

    def _fault(self, where: str, key: str, found: str, expected: str, instead: str) -> None:
        self.faults.append(Fault(where=where, key=key, found=found, expected=expected, instead=instead))


def loopback(host: str) -> bool:
    """Whether an address to listen on can be reached from this machine only."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def _syntax(file: str, number: int, message: str, statement: re.Match[str] | None) -> Fault:
    name = statement.group(1).strip() if statement else ""
    value = statement.group(2).strip() if statement else ""
    instead = 'key = "value", or [section]'
    if "overwrite" in message:
        instead = f"{name} once only"
    elif value.lower() in ("true", "false", "yes", "no", "on", "off"):
        instead = f"{name} = {'true' if value.lower() in ('true', 'yes', 'on') else 'false'}"
    elif not value and name:
        instead = f"{name} = and a value, or no such line"
    elif name and value[:1] not in "\"'[{":
        instead = f'{name} = "…", with quotes around text'
    elif name:
        instead = f"{name} = … with each quote and bracket closed"
    return Fault(where=f"{file}:{number}", key=name, found=message[:1].lower() + message[1:],
                 expected="TOML", instead=instead)  # fmt: skip


def _element(file: Path, line: Callable[[Place], int], place: Place, index: int) -> str:
    return f"{file}:{line((*place, index))}"


def _breaks(line: str) -> bool:
    try:
        tomllib.loads(line)
    except (tomllib.TOMLDecodeError, RecursionError):
        return True
    return False


def _short(name: str) -> str:
    return name[:40] + "…" if len(name) > 40 else name
