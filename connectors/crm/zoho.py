"""Zoho CRM: cases, by polling and by its notification channels."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from connectors import hook, oauth, signature
from connectors.connector import Cursor, Delivery, Item, Page, Request, Retryable, Skipped, Verdict
from connectors.crm.ticket import Ticket, check_names, gone
from connectors.feedback import Fault
from connectors.fields import Fields, Unreadable, each, need
from connectors.option import Misconfigured, Secret, option
from connectors.recent import FIRST, Changed, Recent, changes, sift
from connectors.registry import Context, connector
from connectors.timestamp import micros

PAGE: Final = 200
MAX_DELETED_PAGES: Final = 500
LAG: Final = timedelta(minutes=5)
CHANNEL_LIFE: Final = timedelta(hours=24)
RENEW_BEFORE: Final = timedelta(hours=6)
FIELDS: Final = ("Created_Time", "Modified_Time", "Status", "Email", "Case_Origin", "Account_Name")


@dataclass(frozen=True, slots=True, kw_only=True)
class Zoho:
    """Settings."""

    client_id: str = option("client id of a Zoho self client", example="1000.ABCDEF")
    client_secret: Secret = option("its secret", example="env:ZOHO_SECRET")
    refresh_token: Secret = option("refresh token with the scopes ZohoCRM.modules.READ and ZohoCRM.notifications.ALL",
                                   example="env:ZOHO_REFRESH")  # fmt: skip
    module: str = option("module whose records are read", default="Cases")
    text_fields: tuple[str, ...] = option(
        "fields that hold the customer's words", default=("Subject", "Description")
    )
    solved: tuple[str, ...] = option("values of Status that mean solved", default=("Closed",))
    notify_url: str | None = option(
        "public address of this connector's webhook; with it a channel is opened and kept open",
        example="https://hooks.acme.example/v1/hooks/zoho",
        default=None,
    )
    hook_token: Secret | None = option(
        "token of the channel, at most 50 characters; it also stands in the address as ?secret=",
        example="env:ZOHO_HOOK",
        default=None,
    )
    channel_id: int = option("number of the channel, of your choice", default=1_000_000_068_001, least=1)
    base_url: str = option("address of the API in your data centre", default="https://www.zohoapis.com")
    accounts_url: str = option("address of Zoho's accounts in your data centre", default="https://accounts.zoho.com")


@connector(
    name="zoho",
    title="Zoho CRM cases",
    kind="crm",
    channel="crm",
    modes=("poll", "webhook"),
    cursor="Time of the newest change read and the changes of the five minutes before it, which are asked for again; "
    "the time of the last look at deletions; and until when the channel is open.",
    limits=(
        "Channels end: each is opened for a day and renewed by the poll six hours before; where that fails the poll "
        "says so and goes on polling. How long Zoho allows a channel to be open could not be confirmed.",
        "Zoho does not sign its calls: the token stands in body and address, and the records are fetched again.",
        "A case counts as solved when it was last changed with a solved status. Replies are not told.",
        "What was deleted comes from Zoho's list of deleted records.",
    ),
    source="https://www.zoho.com/crm/developer/docs/api/v8/get-records.html",
    config=Zoho,
)
class ZohoConnector:
    """See the declaration."""

    def __init__(self, config: Zoho, context: Context) -> None:
        check_names("module", [config.module])
        check_names("text_fields", config.text_fields)
        if config.notify_url and config.hook_token is None:
            raise Misconfigured([Fault(field="hook_token", reason="is required with notify_url")])
        if config.hook_token and not 16 <= len(config.hook_token.reveal()) <= 50:
            raise Misconfigured([Fault(field="hook_token", reason="must have from 16 to 50 characters")])
        self._config = config
        self._now = context.now
        grant = oauth.refresh_token(
            f"{config.accounts_url}/oauth/v2/token", config.client_id, config.client_secret, config.refresh_token
        )
        self._http = oauth.Authorized(context.http, context.now, grant, scheme="Zoho-oauthtoken")
        self._records = f"{config.base_url}/crm/v8/{config.module}"
        self._fields = ",".join(dict.fromkeys((*FIELDS, *config.text_fields)))

    async def pages(self, cursor: Cursor | None, *, follow: bool) -> AsyncIterator[Page]:
        """See `Reader.pages`. Deletions come first, and the channel is looked after last."""
        now = self._now()
        recent = Recent.of(cursor, now)
        told = datetime.fromisoformat(cursor["log"]) if cursor and "log" in cursor else now - FIRST
        until = str((cursor or {}).get("channel", ""))
        items = await self._deleted(told - LAG)
        done = recent

        def save(state: Recent) -> Cursor:
            nonlocal done
            done = state
            return {**state.cursor(), "log": now.isoformat(), "channel": until}

        if items:
            yield Page(items=items, cursor=save(recent))
        async for page in changes(self._changed, recent, self._now, LAG, ordered=True, save=save):
            yield page
        if self._config.notify_url and (not until or datetime.fromisoformat(until) - RENEW_BEFORE <= now):
            until = await self._open_channel(now + CHANNEL_LIFE)
            yield Page(cursor=save(done))

    def since(self, moment: datetime) -> Cursor:
        """See `Reader.since`."""
        return {**Recent.since(moment).cursor(), "log": moment.isoformat(), "channel": ""}

    async def _get(self, url: str, params: dict[str, str | int], since: datetime | None = None) -> Any | None:
        """The answer, or None where there is nothing: 204, or 304 for nothing changed since."""
        headers = {"If-Modified-Since": since.isoformat(timespec="seconds")} if since else {}
        answer = await self._http.get(url, params=params, headers=headers, expect=(304,))
        return None if answer.status in (204, 304) else answer

    async def _changed(self, start: datetime, recent: Recent, after: str | None) -> Changed:
        params: dict[str, str | int] = {
            "fields": self._fields, "per_page": PAGE, "sort_by": "Modified_Time", "sort_order": "asc",
        }  # fmt: skip
        # Each page begins at the last change of the one before: by number, a case that changes meanwhile and moves
        # to the end would make the listing skip another. By number only where a page is of one second.
        second, _, page = (after or f"{int(start.timestamp())}:1").partition(":")
        answer = await self._get(
            self._records, params | {"page": int(page)}, datetime.fromtimestamp(int(second), UTC)
        )
        if answer is None:
            return Changed(changes=(), items=())
        listed, more = answer.read(_listed)
        found, fresh = sift(recent, listed, _change)
        last = max((version // 1_000_000 for _, version in found), default=0)
        following = f"{last}:1" if last > int(second) else f"{second}:{int(page) + 1}"
        items, skipped = self._parse({"data": fresh})
        return Changed(changes=found, items=items, skipped=skipped, after=following if more else None)

    async def _deleted(self, since: datetime) -> tuple[Item, ...]:
        items: list[Item] = []
        for page in range(1, MAX_DELETED_PAGES + 1):
            params: dict[str, str | int] = {"type": "all", "per_page": PAGE, "page": page}
            answer = await self._get(f"{self._records}/deleted", params, since)
            if answer is None:
                break
            found, more = answer.read(deleted)
            items += found
            if not more:
                break
        return tuple(items)

    async def _open_channel(self, until: datetime) -> str:
        """Open the channel, or prolong it. A refusal is passed on as Retryable: polling goes on without it."""
        token = hook.needed(self._config.hook_token, "hook_token")
        watch = {
            "channel_id": self._config.channel_id,
            "events": [f"{self._config.module}.all"],
            "channel_expiry": until.isoformat(timespec="seconds"),
            "token": token,
            "notify_url": f"{self._config.notify_url}?secret={token}",
        }
        try:
            answer = await self._http.request(
                "POST", f"{self._config.base_url}/crm/v8/actions/watch", body={"watch": [watch]}
            )
            said = answer.read(lambda found: Fields(found).text("watch.0.code"))
        except Verdict as refusal:
            raise Retryable(f"the channel could not be renewed, its calls will end: {refusal}") from None
        if said != "SUCCESS":
            raise Retryable(f"the channel could not be renewed, its calls will end: Zoho said {said}")
        return until.isoformat()

    def _parse(self, answer: Any) -> tuple[tuple[Item, ...], tuple[Skipped, ...]]:
        return parse(answer, text_fields=self._config.text_fields, solved=self._config.solved)

    async def receive(self, request: Request) -> Delivery:
        """See `Receiver.receive`."""
        hook.posted(request)
        token = hook.needed(self._config.hook_token, "hook_token")
        if not signature.same(request.query.get("secret"), token):
            raise hook.stranger("the secret in the address is missing or wrong")
        told = hook.table(request)
        given, channel = hook.understood(lambda body: (body.text("token"), body.key("channel_id")), told)
        if not signature.same(given, token) or channel != str(self._config.channel_id):
            raise hook.stranger("token or channel_id in the body is not the one that was set")
        module, operation, ids = hook.understood(_told, told)
        if module != self._config.module or not ids:
            return Delivery()
        at = request.received_at
        if operation == "delete":
            return Delivery(items=tuple(item for key in ids for item in gone(key, at)))
        answer = await self._get(self._records, {"fields": self._fields, "ids": ",".join(ids)})
        if answer is None:
            return Delivery()
        items, skipped = answer.read(self._parse)
        return Delivery(items=items, skipped=skipped)


def _told(told: Fields) -> tuple[str, str, list[str]]:
    """Module, operation and ids of a notification."""
    ids = [str(key) for key in told.items("ids")]
    if len(ids) > PAGE or not all(key.isascii() and key.isdigit() for key in ids):
        raise Unreadable("ids holds what is no id")
    return told.text("module") or "", told.text("operation") or "", ids


def _change(record: Fields) -> tuple[str, int]:
    return record.key("id"), micros(need(record.iso("Modified_Time"), "Modified_Time"))


def _listed(answer: Any) -> tuple[list[Any], bool]:
    """The records of an answer, and whether there are more."""
    found = Fields(answer, "the answer")
    listed = found.get("data")
    if not isinstance(listed, list):
        raise Unreadable("there is no data in it")
    return listed, found.flag("info.more_records")


def deleted(answer: Any) -> tuple[tuple[Item, ...], bool]:
    """An answer that lists deleted records → (items, whether there are more). Raises Unreadable."""
    found = Fields(answer, "the answer")
    items: list[Item] = []
    for entry in found.items("data"):
        record = Fields(entry, "deleted record")
        items += gone(record.key("id"), need(record.iso("deleted_time"), "deleted_time"))
    return tuple(items), found.flag("info.more_records")


def parse(
    answer: Any, *, text_fields: Sequence[str] = ("Subject", "Description"), solved: Sequence[str] = ("Closed",)
) -> tuple[tuple[Item, ...], tuple[Skipped, ...]]:
    """An answer that lists records → (items, what could not be read). Raises Unreadable where it does not."""
    return each(_listed(answer)[0], lambda record: _items(record, text_fields, frozenset(solved)), "data")


def _items(record: Fields, text_fields: Sequence[str], solved: frozenset[str]) -> Iterator[Item]:
    modified = need(record.iso("Modified_Time"), "Modified_Time")
    account = record.inside("Account_Name")
    yield from Ticket(
        key=record.key("id"),
        created_at=need(record.iso("Created_Time"), "Created_Time"),
        version=modified,
        text="\n".join(words for name in text_fields if (words := (record.text(name) or "").strip())),
        author=record.text("Email"),
        customer_id=account.text("id") if account else None,
        touchpoint=record.text("Case_Origin"),
        solved_at=modified if record.text("Status") in solved else None,
    ).items()
