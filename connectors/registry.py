"""Every connector by name, and the declaration from which commands and pages about it are made."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from connectors.connector import Clock, Connector, Kind, Mode
from connectors.option import read
from connectors.pace import Rate
from connectors.transport import Http

# Name → module. A new connector is its module and its line here.
SHIPPED: Final[Mapping[str, str]] = {
    "app_store": "connectors.reviews.app_store",
    "bluesky": "connectors.social.bluesky",
    "dynamics": "connectors.crm.dynamics",
    "folder": "connectors.files.folder",
    "google_business": "connectors.reviews.google_business",
    "google_play": "connectors.reviews.google_play",
    "hubspot": "connectors.crm.hubspot",
    "imap": "connectors.mail.imap",
    "intercom": "connectors.chat.intercom",
    "kafka": "connectors.files.kafka_topic",
    "mastodon": "connectors.social.mastodon",
    "matrix": "connectors.chat.matrix",
    "reddit": "connectors.social.reddit",
    "rss": "connectors.social.rss",
    "salesforce": "connectors.crm.salesforce",
    "slack": "connectors.chat.slack",
    "surveymonkey": "connectors.surveys.surveymonkey",
    "telegram": "connectors.chat.telegram",
    "tripadvisor": "connectors.reviews.tripadvisor",
    "trustpilot": "connectors.reviews.trustpilot",
    "typeform": "connectors.surveys.typeform",
    "webhook": "connectors.surveys.webhook",
    "whatsapp": "connectors.chat.whatsapp",
    "x": "connectors.social.x",
    "yelp": "connectors.reviews.yelp",
    "youtube": "connectors.social.youtube",
    "zendesk": "connectors.chat.zendesk",
    "zoho": "connectors.crm.zoho",
}

_declared: dict[str, Declaration] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What a connector is given to work with: the HTTP client and the time."""

    http: Http
    now: Clock


@dataclass(frozen=True, slots=True, kw_only=True)
class Declaration:
    """One connector: what it is, and what it honestly can do.

    `cursor`: what resuming can and cannot bring back. `limits`: what the service does not give; `sample`
    where what it gives is a sample of what was said and not the stream of it. `every_s`: seconds between
    polls that the service's quota bears. `repeats_s`: for so long the service repeats a webhook's request that was
    not taken. `at_most`: documented rates that the service does not tell in its answers; requests keep them by
    themselves. `source`: the vendor's own documentation.
    """

    name: str
    title: str
    kind: Kind
    channel: str
    modes: tuple[Mode, ...]
    cursor: str
    limits: tuple[str, ...]
    source: str
    config: type[Any]
    build: Callable[[Any, Context], Connector]
    sample: bool = False
    every_s: float = 60.0
    repeats_s: float = 0.0
    at_most: tuple[Rate, ...] = ()


class UnknownConnector(LookupError):
    """There is no connector of that name; the message says which there are."""


def connector(
    *,
    name: str,
    title: str,
    kind: Kind,
    channel: str,
    modes: tuple[Mode, ...],
    cursor: str,
    limits: tuple[str, ...],
    source: str,
    config: type[Any],
    sample: bool = False,
    every_s: float = 60.0,
    repeats_s: float = 0.0,
    at_most: tuple[Rate, ...] = (),
) -> Callable[[type[Any]], type[Any]]:
    """Declare the class below: it is built as `cls(config, context)`."""

    def declare(cls: type[Any]) -> type[Any]:
        def build(config: Any, context: Context) -> Connector:
            made: Connector = cls(config, replace(context, http=context.http.keeping(at_most)))
            return made

        _declared[name] = Declaration(
            name=name, title=title, kind=kind, channel=channel, modes=modes, cursor=cursor, limits=limits,
            source=source, config=config, build=build, sample=sample, every_s=every_s,
            repeats_s=repeats_s, at_most=at_most,
        )  # fmt: skip
        return cls

    return declare


def names() -> list[str]:
    """The names of all shipped connectors, in order."""
    return sorted(SHIPPED)


def declaration(name: str) -> Declaration:
    """The declaration of a shipped connector, or of `package.module:name`. Raises UnknownConnector."""
    module, colon, own = name.partition(":")
    key = own if colon else name
    if key not in _declared:
        try:
            importlib.import_module(module if colon else SHIPPED[name])
        except KeyError:
            raise UnknownConnector(f"no connector {name!r}; there are {', '.join(names())}") from None
        except ImportError as error:
            raise UnknownConnector(f"the module of connector {name!r} cannot be imported: {error}") from error
    if key not in _declared:
        raise UnknownConnector(f"{module} declares no connector {key!r}")
    return _declared[key]


def build(name: str, table: Mapping[str, Any], context: Context) -> Connector:
    """A connector from its table of settings. Raises UnknownConnector, option.Misconfigured."""
    found = declaration(name)
    return found.build(read(found.config, table), context)
