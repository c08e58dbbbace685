"""Any service that posts JSON with a signature: a table says where each field stands."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from connectors import hook, mapping, signature
from connectors.connector import Delivery, Item, Request, Skipped
from connectors.feedback import Fault
from connectors.fields import Fields, Unreadable, skip
from connectors.option import Misconfigured, Secret, option
from connectors.registry import Context, connector
from connectors.surveys.score import Scale

NAMES: Final = ("timestamp", "body", "method", "url")


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook:
    """Settings."""

    secret: Secret = option("secret shared with the sender", example="env:WEBHOOK_SECRET")
    fields: Mapping[str, str] = option(
        "where each field stands in a record, by dots: " + ", ".join(mapping.TARGETS),
        example={"id": "response.id", "text": "response.comment", "rating": "response.score"},
    )
    records: str | None = option(
        "where the list of records stands in the body; without it the body is the record or the list",
        example="data.responses",
        default=None,
    )
    score: str | None = option(
        "what `rating` is: nps, csat or ces; another scale than 0-10, 1-5 and 1-7 behind it, as in csat:1-3. "
        "Without it a rating of 1 to 5 that is no survey",
        example="nps",
        default=None,
    )
    header: str = option("header that carries the signature", default="x-signature")
    proof: str = option(
        "hmac: the header is a digest of what `signed` says; token: it is the secret itself, and the body is not "
        "covered",
        default="hmac",
        choices=("hmac", "token"),
    )
    algorithm: str = option("hash of the HMAC", default="sha256", choices=("sha1", "sha256", "sha384", "sha512"))
    encoding: str = option("how the digest is written", default="hex", choices=("hex", "base64"))
    prefix: str | None = option("what stands before the digest", example="sha256=", default=None)
    signed: str = option(
        "what is signed: {body}, {timestamp}, {method}, {url} and other characters; without it {body}",
        example="{timestamp}.{body}",
        default="{body}",
    )
    timestamp_header: str | None = option(
        "header with the time of sending: seconds or milliseconds since 1970, or ISO 8601",
        example="x-timestamp",
        default=None,
    )
    tolerance_s: int = option("seconds that this time may be off", default=300, least=1, greatest=86_400)
    delivery_header: str | None = option(
        "header with the id of the delivery, by which repetitions are known", example="x-delivery-id", default=None
    )


@connector(
    name="webhook",
    title="Signed webhook of any service",
    kind="surveys",
    channel="survey",
    modes=("webhook",),
    cursor="None: what the sender does not repeat is lost.",
    limits=(
        "Without timestamp_header a recorded request can be sent again; it then brings what is known already.",
        "With proof = token nothing protects the body: use it only over TLS and where the sender cannot sign.",
        "Without an id or a time in the record, the record's own digest and the time of receipt are taken.",
    ),
    source="https://www.rfc-editor.org/rfc/rfc2104",
    config=Webhook,
)
class WebhookConnector:
    """See the declaration."""

    def __init__(self, config: Webhook, context: Context) -> None:
        self._config = config
        self._scale = _checked(config)

    async def receive(self, request: Request) -> Delivery:
        """See `Receiver.receive`."""
        hook.posted(request)
        config = self._config
        sent = request.headers.get(config.timestamp_header.lower(), "") if config.timestamp_header else ""
        self._prove(request, sent)
        if config.timestamp_header:
            _check_time(request, sent, timedelta(seconds=config.tolerance_s))
        items, skipped = hook.understood(
            lambda body: parse(
                body, request.received_at, fields=config.fields, records=config.records, scale=self._scale
            ),
            hook.body(request),
        )
        delivery = request.headers.get(config.delivery_header.lower()) if config.delivery_header else None
        return Delivery(items=items, skipped=skipped, delivery_id=delivery)

    def _prove(self, request: Request, sent: str) -> None:
        config, secret = self._config, self._config.secret.reveal()
        if config.proof == "token":
            signature.check(request, config.header.lower(), f"{config.prefix or ''}{secret}")
            return
        parts = {
            "timestamp": signature.octets(sent),
            "body": request.body,
            "method": signature.octets(request.method),
            "url": signature.octets(request.url),
        }
        mac = signature.digest(secret, _filled(config.signed, parts), config.algorithm, config.encoding)
        signature.check(request, config.header.lower(), f"{config.prefix or ''}{mac}")


def _checked(config: Webhook) -> Scale | None:
    """The scale of ratings. Raises Misconfigured with every setting that makes no sense."""
    faults = mapping.faults(config.fields)
    if config.proof == "hmac" and "{body}" not in config.signed:
        faults.append(Fault(field="signed", reason="must contain {body}, or anybody could change it"))
    if "{timestamp}" in config.signed and config.timestamp_header is None:
        faults.append(Fault(field="timestamp_header", reason="is required: signed names {timestamp}"))
    if config.timestamp_header and config.proof == "hmac" and "{timestamp}" not in config.signed:
        faults.append(Fault(field="signed", reason="must contain {timestamp}, or anybody could change it"))
    scale = None
    if config.score is not None:
        try:
            scale = Scale.read(config.score)
        except ValueError as error:
            faults.append(Fault(field="score", reason=str(error)))
    if faults:
        raise Misconfigured(faults)
    return scale


def _filled(template: str, parts: Mapping[str, bytes]) -> bytes:
    """The template with its parts, in one go: what stands in a part is never taken for a name."""
    found, rest = b"", template
    while rest:
        before, brace, behind = rest.partition("{")
        found += before.encode()
        name, closed, after = behind.partition("}")
        if brace and closed and name in NAMES:
            found, rest = found + parts[name], after
        else:
            found, rest = found + brace.encode(), behind
    return found


def _check_time(request: Request, sent: str, tolerance: timedelta) -> None:
    if sent.isascii() and sent.isdigit():
        seconds = int(sent[:18])
        signature.check_age(request, str(seconds / 1000 if seconds > 10**11 else seconds), tolerance)
    else:
        signature.check_iso_age(request, sent, tolerance)


def parse(
    answer: Any,
    now: datetime,
    *,
    fields: Mapping[str, str],
    records: str | None = None,
    scale: Scale | None = None,
    score: str | None = None,
) -> tuple[tuple[Item, ...], tuple[Skipped, ...]]:
    """A body → (items, what could not be read). Raises Unreadable where there are no records in it."""
    known = Scale.read(score) if score else scale
    found = Fields(answer, "the body").get(records) if records else answer
    listed = found if isinstance(found, list) else [found]
    if records and not isinstance(found, list):
        raise Unreadable(f"{records} is no list of records")
    items: list[Item] = []
    skipped: list[Skipped] = []
    for place, record in enumerate(listed):
        where = f"{records or 'record'}[{place}]"
        try:
            item = mapping.item(
                record,
                fields,
                default_id=_own_id(record),
                default_at=now.astimezone(UTC),
                scale=(known.low, known.high) if known else (1.0, 5.0),
                survey=known.survey if known else None,
            )
            if not (item.text or item.rating or item.deleted):
                raise Unreadable("it has no text, no rating and is no deletion: check the table `fields`")
            items.append(item)
        except Unreadable as error:
            skipped.append(skip(str(error), where, record))
    return tuple(items), tuple(skipped)


def _own_id(record: Any) -> str:
    """A digest of the record: the same record sent again is the same item."""
    text = json.dumps(record, sort_keys=True, ensure_ascii=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:32]
