"""Salesforce's rules: client credentials, SOQL in batches with a next address, a log of deletions."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from aiohttp import web

from connectors.fakes.fake import Said, Verb, unknown
from connectors.fakes.limit import Limit
from connectors.fakes.oauth import TokenEndpoint, utc_now

CLIENT, SECRET = "3MVG9-key", "salesforce-secret"
DATA = "/services/data/v62.0"
_QUERY = re.compile(
    r"SELECT ([\w., ]+) FROM (Case|EmailMessage|CaseComment) WHERE SystemModstamp >= (\S+) "
    r"ORDER BY SystemModstamp ASC, Id ASC"
)


class FakeSalesforce:
    """See `fake.Fake`. `queries`: the SOQL it was asked. Cases only: there are no messages of them."""

    can: frozenset[Verb] = frozenset({"edit", "delete", "since"})

    def __init__(self) -> None:
        self.limits = [Limit(15_000, 86_400, _too_many, _usage, path="/services/data/")]
        self.queries: list[str] = []
        self.now: Callable[[], datetime] = utc_now
        self._cases: dict[str, dict[str, Any]] = {}
        self._log: list[tuple[str, datetime]] = []
        self._results: dict[str, list[dict[str, Any]]] = {}
        self._tokens = TokenEndpoint("client_credentials", lambda form, basic: basic == (CLIENT, SECRET))

    @property
    def environment(self) -> Mapping[str, str]:
        """Its secret."""
        return {"SALESFORCE_SECRET": SECRET}

    def table(self, url: str) -> dict[str, Any]:
        """Settings for this fake."""
        return {"base_url": url, "client_id": CLIENT, "client_secret": "env:SALESFORCE_SECRET"}

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        """Token, query, its next pages, deletions."""
        return [
            web.post("/services/oauth2/token", self._tokens.answer),
            web.get(f"{DATA}/query", self._query),
            web.get(f"{DATA}/query/{{locator}}", self._more),
            web.get(f"{DATA}/sobjects/{{object:Case|EmailMessage|CaseComment}}/deleted/", self._deleted),
        ]

    def say(self, said: Said) -> None:
        """A case."""
        self._cases[said.id] = case(said)

    def edit(self, id: str, text: str, at: datetime) -> None:
        """Its description changes."""
        self._cases[id] |= {"Description": text, "SystemModstamp": iso(at)}

    def delete(self, id: str, at: datetime) -> None:
        """It goes to the recycle bin."""
        self._log.append((self._cases.pop(id)["Id"], at))

    def expire(self) -> None:
        """Query locators are forgotten."""
        self._results.clear()

    def _refusal(self, request: web.Request) -> web.Response | None:
        return None if self._tokens.knows(request) else refusal(401, "INVALID_SESSION_ID", "Session expired or invalid")

    async def _query(self, request: web.Request) -> web.Response:
        if no := self._refusal(request) or unknown(request, "q"):
            return no
        match = _QUERY.fullmatch(request.query.get("q", ""))
        if match is None:
            return refusal(400, "MALFORMED_QUERY", "unexpected token")
        self.queries.append(match[0])
        names, since = match[1].split(", "), datetime.fromisoformat(match[3])
        known = self._cases.values() if match[2] == "Case" else ()
        found = sorted(
            (one for one in known if datetime.fromisoformat(one["SystemModstamp"]) >= since),
            key=lambda one: (one["SystemModstamp"], one["Id"]),
        )
        if set(names) - set(found[0] if found else names):
            return refusal(400, "INVALID_FIELD", "No such column on entity 'Case'")
        locator = f"01g{len(self._results):015d}"
        about = {"attributes": {"type": "Case"}}
        self._results[locator] = [about | {name: one[name] for name in names} for one in found]
        return self._page(request, locator, 0)

    async def _more(self, request: web.Request) -> web.Response:
        if no := self._refusal(request):
            return no
        locator, _, start = request.match_info["locator"].rpartition("-")
        if locator not in self._results:
            return refusal(400, "INVALID_QUERY_LOCATOR", "invalid query locator")
        return self._page(request, locator, int(start))

    def _page(self, request: web.Request, locator: str, start: int) -> web.Response:
        size = int(request.headers.get("Sforce-Query-Options", "batchSize=2000").partition("=")[2])
        if not 200 <= size <= 2_000:
            return refusal(400, "INVALID_BATCH_SIZE", "batchSize must be from 200 to 2000")
        found = self._results[locator]
        done = start + size >= len(found)
        answer: dict[str, Any] = {"totalSize": len(found), "done": done, "records": found[start : start + size]}
        if not done:
            answer["nextRecordsUrl"] = f"{DATA}/query/{locator}-{start + size}"
        return web.json_response(answer)

    async def _deleted(self, request: web.Request) -> web.Response:
        if no := self._refusal(request) or unknown(request, "start end"):
            return no
        start, end = (datetime.fromisoformat(request.query[name]) for name in ("start", "end"))
        if end - start <= timedelta(minutes=1) or start < self.now() - timedelta(days=15):
            return refusal(400, "INVALID_REPLICATION_DATE", "startDate must be within 15 days and before endDate")
        log = self._log if request.match_info["object"] == "Case" else []
        found = [{"id": key, "deletedDate": iso(at)} for key, at in log if start <= at <= end]
        return web.json_response(
            {"deletedRecords": found, "earliestDateAvailable": "2026-10-01T00:00:00.000+0000",
             "latestDateCovered": iso(end)}
        )  # fmt: skip


def _usage(limit: Limit, now: datetime) -> Mapping[str, str]:
    return {"Sforce-Limit-Info": f"api-usage={limit.used}/{limit.requests}"}


def _too_many() -> web.Response:
    return refusal(403, "REQUEST_LIMIT_EXCEEDED", "TotalRequests Limit exceeded.")


def iso(at: datetime) -> str:
    """A time as Salesforce writes it."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{at.microsecond // 1000:03d}+0000"


def case(said: Said) -> dict[str, Any]:
    """A case."""
    return {
        "Id": f"500Ux0000{said.id}IAU", "CreatedDate": iso(said.at), "SystemModstamp": iso(said.at), "Subject": None,
        "Description": said.text, "IsClosed": False, "ClosedDate": None, "Origin": "Web", "ContactId": None,
        "SuppliedEmail": "dilnoza@example.com",
    }  # fmt: skip


def refusal(status: int, code: str, message: str) -> web.Response:
    """A refusal in Salesforce's form."""
    return web.json_response([{"errorCode": code, "message": message}], status=status)
