"""What a setting may be: one kind a sort of value, which reads it or says what is wrong with it.

A kind never puts a secret into words: `found` is left out where a value may hold one.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import SplitResult, urlsplit

T = TypeVar("T")

_HOST: Final = re.compile(r"(?:[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])\Z")
_TOPIC: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,40}\Z")
_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,100}\Z")


class Wrong(ValueError):
    """A value that cannot be taken: what was found, what is expected, what to write instead.

    `instead` is a value, or advice where `advice` says so; `index` is the faulty element of a list.
    """

    def __init__(
        self, found: str, instead: object, *, expected: str = "", index: int | None = None, advice: bool = False
    ) -> None:
        super().__init__(found)
        self.found, self.instead, self.expected = found, instead, expected
        self.index, self.advice = index, advice


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One sort of value. `read` raises Wrong; `from_text` prepares the text of an environment variable."""

    expected: str
    read: Callable[[Any], Any]
    from_text: Callable[[str], object] = str
    secret: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """What is known of one setting besides its default: `example` stands in for a default that is empty."""

    help: str
    kind: Kind
    example: object = None


def setting(default: T, kind: Kind, help: str, *, example: object = None) -> T:
    """A dataclass field with its default, its kind and its help text."""
    return field(default=default, metadata={"key": Key(help=help, kind=kind, example=example)})


def installed(package: str) -> bool:
    """Whether a package can be imported; nothing is imported."""
    return find_spec(package) is not None


def whole(low: int, high: int) -> Kind:
    """A whole number within bounds."""

    def read(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            number = _as_number(value)
            raise Wrong(seen(value), min(max(int(number), low), high) if number is not None else low)
        if not low <= value <= high:
            raise Wrong(seen(value), low if value < low else high)
        return value

    return Kind(expected=f"a whole number from {low} to {high}", read=read, from_text=_int_or_text)


def number(low: float, high: float, unit: str = "") -> Kind:
    """A finite number within bounds; `unit` is named in errors."""

    def read(value: object) -> float:
        got = value if isinstance(value, int | float) and not isinstance(value, bool) else None
        if got is None:
            guess = _as_number(value)
            raise Wrong(seen(value), min(max(guess, low), high) if guess is not None else low)
        if not low <= got <= high:
            raise Wrong(seen(value), high if got > high else low)
        return float(got)

    expected = f"a number{' of ' + unit if unit else ''} from {low:g} to {high:g}"
    return Kind(expected=expected, read=read, from_text=_float_or_text)


def choice(*names: str) -> Kind:
    """One of a few words."""

    def read(value: object) -> str:
        if value not in names:
            near = [name for name in names if isinstance(value, str) and name[:1] == value[:1].lower()]
            raise Wrong(seen(value), (near or names)[0])
        return str(value)

    return Kind(expected=" or ".join(f'"{name}"' for name in names), read=read)


def name(what: str, example: str) -> Kind:
    """A short name that is safe in topic names and consumer groups."""

    def read(value: object) -> str:
        if not isinstance(value, str) or not _NAME.match(value) or value in (".", ".."):
            raise Wrong(seen(value), example)
        return value

    return Kind(expected=f"{what}: 1-100 characters of A-Z a-z 0-9 . _ -", read=read)


def host() -> Kind:
    """An address or host name to listen on."""

    def read(value: object) -> str:
        if not isinstance(value, str) or not (_HOST.match(value) or _is_address(value)):
            raise Wrong(seen(value), "127.0.0.1")
        return value

    return Kind(expected="an address or host name to listen on, without port", read=read)


def brokers() -> Kind:
    """Kafka's bootstrap servers: `host:port`, several with commas between."""

    def read(value: object) -> str:
        if not isinstance(value, str):
            raise Wrong(seen(value), "127.0.0.1:9092")
        for server in value.split(","):
            address, _, port = server.strip().rpartition(":")
            if "://" in server:
                _, _, bare = server.partition("://")
                raise Wrong(seen(hide_password(value)), bare.rpartition("@")[2].strip("/ ") or "127.0.0.1:9092")
            if not _HOST.match(address) or not _is_port(port):
                guess = f"{server.strip()}:9092" if _HOST.match(server.strip()) else "127.0.0.1:9092"
                raise Wrong(seen(value), guess)
        return ",".join(server.strip() for server in value.split(","))

    return Kind(expected="host:port, several with commas between", read=read)


def store_url() -> Kind:
    """A database URL; `postgresql://` becomes SQLAlchemy's `postgresql+psycopg://`."""

    def read(value: object) -> str:
        sqlite, postgres = "sqlite:///ovoz-data/ovoz.db", "postgresql://USER:PASSWORD@HOST:5432/ovoz"
        if not isinstance(value, str):
            raise Wrong(kind_of(value), sqlite)
        scheme, slashes, rest = value.partition("://")
        if scheme == "sqlite" and slashes:
            if not rest.startswith("/") or rest in ("/", "/:memory:"):
                expected = "sqlite:/// and a file (a database in memory cannot be shared by processes)"
                raise Wrong(seen(value), sqlite, expected=expected)
            return value
        if scheme not in ("postgresql", "postgres", "postgresql+psycopg") or not slashes:
            found = f"{scheme}:// …" if slashes and scheme.isascii() else kind_of(value)
            raise Wrong(found, postgres if scheme.startswith(("postgres", "psql")) else sqlite)
        url = _split(value)
        if url is None or not url.path.strip("/"):
            raise Wrong(hide_password(value), postgres, expected="postgresql://, a server and a database name")
        if not installed("psycopg"):
            raise Wrong(
                "postgresql://, but its driver psycopg is not installed",
                "pip install 'ovoz[postgres]'",
                expected="an installed driver",
                advice=True,
            )
        return f"postgresql+psycopg://{rest}"

    return Kind(expected="sqlite:///FILE or postgresql://USER:PASSWORD@HOST/DATABASE", read=read, secret=True)


def sha256() -> Kind:
    """The SHA-256 of a secret."""

    def read(value: object) -> str:
        if isinstance(value, str) and re.fullmatch("[0-9a-fA-F]{64}", value):
            return value.lower()
        raise Wrong(kind_of(value), "0123456789abcdef" * 4)

    return Kind(expected="the SHA-256 of a secret, 64 hex digits", read=read, secret=True)


def web_url() -> Kind:
    """One http or https address."""
    return Kind(expected="an address with http:// or https://", read=_web_url, secret=True)


def alertmanager_urls() -> Kind:
    """Base addresses of Alertmanager servers."""

    def read(value: object) -> str:
        url = _web_url(value)
        path = urlsplit(url).path.rstrip("/")
        if path.endswith(("/api/v2/alerts", "/api/v2", "/api/v1/alerts")):
            base = url[: url.index("/api/v")]
            raise Wrong(f"the path {path}", hide_password(base), expected="the base address, without /api/…")
        return url.rstrip("/")

    return _listed(Kind(expected="addresses with http:// or https://", read=read, secret=True))


def notify_urls() -> Kind:
    """Apprise URLs; they hold tokens, so none is ever shown."""

    def read(value: object) -> str:
        if not isinstance(value, str) or not re.match(r"[a-z][a-z0-9+.-]*://.", value):
            raise Wrong(kind_of(value), "tgram://BOT_TOKEN/CHAT_ID")
        return value

    return _listed(Kind(expected="Apprise URLs, such as tgram://BOT_TOKEN/CHAT_ID", read=read, secret=True))


def regions() -> Kind:
    """Countries by their two letters (ISO 3166-1 alpha-2)."""

    def read(value: object) -> str:
        if not isinstance(value, str) or not re.fullmatch("[A-Za-z]{2}", value):
            raise Wrong(seen(value), "UZ")
        return value.upper()

    return replace(_listed(Kind(expected="two-letter country codes", read=read)), secret=False)


def existing_file(what: str, example: str) -> Kind:
    """The path of a file that is there, relative to the current folder."""

    def read(value: object) -> Path:
        if not isinstance(value, str) or not value:
            raise Wrong(seen(value), example)
        path = Path(value)
        if path.is_dir():
            raise Wrong(f'"{value}", which is a folder', example)
        if not path.exists():
            raise Wrong(f'"{value}", which does not exist in {Path.cwd()}', example)
        return path

    return Kind(expected=f"{what}, an existing file", read=read)


def folder(example: str) -> Kind:
    """The path of a folder, made when it is missing."""

    def read(value: object) -> Path:
        if not isinstance(value, str) or not value:
            raise Wrong(seen(value), example)
        if Path(value).is_file():
            raise Wrong(f'"{value}", which is a file', example)
        return Path(value)

    return Kind(expected="a folder (made when it is missing)", read=read)


def model_path() -> Kind:
    """A model's folder or name; whether it must exist depends on the engine."""

    def read(value: object) -> str:
        if not isinstance(value, str) or not value:
            raise Wrong(seen(value), "models/mine")
        return value

    return Kind(expected="the folder of a model, or a checkpoint's name", read=read)


def mapping(*meanings: str) -> Kind:
    """A table from names to one of a few words, or to any topic; as sorted pairs."""
    word = meanings[0] if meanings else "delivery"

    def read(value: object) -> tuple[tuple[str, str], ...]:
        if not isinstance(value, dict) or not value:
            raise Wrong(kind_of(value) if not isinstance(value, dict) else "an empty table", {"LABEL_0": word})
        for label, meaning in value.items():
            known = meaning in meanings if meanings else isinstance(meaning, str) and bool(_TOPIC.match(meaning))
            if not known:
                raise Wrong(f"{seen(meaning)} for {seen(label)}", {label: word})
        return tuple(sorted(value.items()))

    def split(text: str) -> object:
        parts = [part.rpartition("=") for part in text.split(",") if part.strip()]
        return {label.strip(): meaning.strip() for label, _, meaning in parts}

    words = " or ".join(f'"{meaning}"' for meaning in meanings) or "a topic (a-z 0-9 _ -)"
    return Kind(expected=f"a table from labels to {words}", read=read, from_text=split)


def hide_password(url: str) -> str:
    """A URL that can be shown: user and password, query and fragment are left out."""
    scheme, slashes, rest = url.partition("://")
    if not slashes:
        return "…"
    address, _, _ = rest.partition("?")
    before, at, after = address.rpartition("@")
    return f"{scheme}://{'…@' if at and before else ''}{after}".partition("#")[0]


def kind_of(value: object) -> str:
    """What sort of TOML value this is, in words, without the value."""
    match value:
        case bool():
            return "a boolean"
        case str():
            return "an empty string" if not value else f"a string of {len(value)} characters"
        case int() | float():
            return "a number"
        case list():
            return "an array"
        case dict():
            return "a table"
    return "a date or time"


def seen(value: object) -> str:
    """A value as it was found, short enough for one line; only for values that hold no secret."""
    if isinstance(value, str):
        return f'"{value[:60]}{"…" if len(value) > 60 else ""}"'
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int | float) else kind_of(value)


def _listed(kind: Kind) -> Kind:
    def read(value: object) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise Wrong(kind_of(value), ["…"], expected=f"an array of {kind.expected}")
        found = []
        for index, element in enumerate(value):
            try:
                found.append(kind.read(element))
            except Wrong as wrong:
                wrong.index, wrong.expected = index, wrong.expected or kind.expected
                raise
        return tuple(found)

    def split(text: str) -> list[str]:
        return [part.strip() for part in text.split(",") if part.strip()]

    return Kind(expected=f"an array of {kind.expected}", read=read, from_text=split, secret=True)


def _web_url(value: object) -> str:
    if not isinstance(value, str):
        raise Wrong(kind_of(value), "http://127.0.0.1:9093")
    url = _split(value)
    if url is None or url.scheme not in ("http", "https"):
        bare = _HOST.match(value.partition(":")[0]) and "@" not in value
        guess = f"http://{value}" if bare and "://" not in value else "http://HOST:PORT"
        raise Wrong(kind_of(value) if "://" not in value else hide_password(value), guess)
    return value


def _split(url: str) -> SplitResult | None:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return None
    return parts if parts.netloc and (parts.hostname or "@" in parts.netloc) else None


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdigit() and 0 < int(text) < 65536


def _as_number(value: object) -> float | None:
    try:
        got = float(value) if isinstance(value, str | float) else math.nan
    except ValueError:
        return None
    return got if math.isfinite(got) else None


def _int_or_text(text: str) -> object:
    try:
        return int(text)
    except ValueError:
        return text


def _float_or_text(text: str) -> object:
    try:
        return float(text)
    except ValueError:
        return text
