"""The fault matrix: in each cell, one user's upstream call fails in one way; all run concurrently."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal

import requests
from werkzeug.http import http_date

from tests.support.admin_client import Admin, bearer, call, get_me
from tests.support.concurrency import timed
from tests.support.own_azure import OwnAzure
from tests.support.person import Person
from tests.support.rows import get_session, give_former_identity, wait_until_indexed
from tests.support.storage_proxy import Kind
from tests.support.upstream_calls import UpstreamCall, fail_call

TABLE = "upstream call: request"
TOO_LATE_SECONDS = 8.0
"""Longer than the service waits for any one call."""
SLOW_SECONDS = 0.5
AT_ONCE, SILENT_AT_ONCE = 4, 24
"""Few enough that no request runs out of time for want of a processor."""

About = Literal["object id", "identity", "session", "create"]
Request = Callable[[], requests.Response]
Check = Callable[[requests.Response], object]


@dataclass(frozen=True, kw_only=True)
class Column:
    """A kind of failure; a `silent` one takes seconds."""

    name: str
    kind: Kind = "status"
    status: int = 503
    retry_after: str | None = None
    seconds: float = 0.2
    silent: bool = False
    code: str | None = None


COLUMNS = (
    *(Column(name=str(status), status=status) for status in (400, 401, 403, 404, 409, 412, 429)),
    Column(name="404 own", status=404, code="IdentityNotFound"),
    Column(name="429 RA", status=429, retry_after="7"),
    Column(name="500", status=500),
    Column(name="503"),
    Column(name="503 RA", retry_after=http_date(time.time() + 3600)),
    Column(name="reset", kind="reset"),
    Column(name="half", kind="half"),
    Column(name="hang", kind="hang", silent=True),
    Column(name="drip", kind="drip", silent=True),
    Column(name="slow", kind="delay", seconds=SLOW_SECONDS, silent=True),
    Column(name="late", kind="delay", seconds=TOO_LATE_SECONDS, silent=True),
    Column(name="done 500", kind="fail-after-commit", status=500),
    Column(name="done hang", kind="hang-after-commit", silent=True),
)
AFTER_COMMIT = ("done 500", "done hang")


@dataclass(frozen=True, kw_only=True)
class Case:
    """A user and their request, one of whose upstream calls has `about` in its path or body."""

    person: Person
    about: str
    request: Request
    again: Request  # after recovery
    check: Check  # inspects the state, and the response after recovery
    gone: str = ""  # an identity that ACS had lost before


@dataclass(frozen=True)
class Users:
    """Creates a user for each cell, ready for a request whose upstream call will fail."""

    world: OwnAzure
    admin: Admin
    minutes: Iterator[int]

    def first_token(self, about: About = "object id", *, browser: bool = False) -> Case:
        """Only the token lifetime identifies a user's create, so each user has a different one."""
        person, minutes = self.world.new_person(), next(self.minutes)
        case = self._token(person, about, minutes, browser=browser)
        return replace(case, about=f'"expiresInMinutes": {minutes}') if about == "create" else case

    def warm_token(self, about: About) -> Case:
        return self._token(self._user(), about, 60, browser=True)

    def moving_token(self, about: About = "object id") -> Case:
        """A token of a user whose identity is still in a former resource."""
        person = self._user()
        if about == "session":
            person.signed_in()
        wait_until_indexed(self.world.tables, person.account.object_id)  # indexing writes the row, too
        gone = give_former_identity(self.world.tables, person)
        case = replace(self._token(person, about, 60, browser=False), gone=gone)
        return replace(case, about=gone.partition("_")[2]) if about == "identity" else case

    def sign_in(self) -> Case:
        person = self.world.new_person()
        request = partial(person.finish_sign_in, person.start_sign_in())

        def check(_response: requests.Response) -> None:
            # A session whose insert got no response may exist too, but no browser has its key.
            assert self.world.list_sessions(person)
            assert person.is_signed_in()

        return replace(self._case(person, "object id", request, check), again=person.sign_in)

    def sign_out(self) -> Case:
        person = self.world.new_person().signed_in()
        form = {"csrf_token": person.me()["csrfToken"]}
        # After the session has ended, only our own forms may redirect to Entra ID.
        request = partial(person.post, "/auth/sign-out", data=form, headers={"Origin": person.url})

        def check(_response: requests.Response) -> None:
            assert self.world.list_sessions(person) == []

        return self._case(person, "session", request, check)

    def revocation(self, about: About) -> Case:
        person = self._user()
        identity, token = self.world.identity_of(person), self.world.token_by_bearer(person).json()["token"]

        def check(_response: requests.Response) -> None:
            assert self.world.azure.check_token(token)["valid"] is False
            assert self.world.identity_of(person) == identity

        return self._case(person, about, self._by_bearer(person, "POST", "/api/me/revoke"), check)

    def block(self) -> Case:
        person = self._user()

        def check(response: requests.Response) -> None:
            assert response.json()["blocked"] is True
            assert get_me(person, bearer(self.world.azure, person)).status_code == 403

        return self._case(person, "object id", partial(self.admin.act, "api", person, "block"), check)

    def erasure(self, about: About) -> Case:
        person = self._user().signed_in()
        identity = self.world.identity_of(person)

        def check(_response: requests.Response) -> None:
            assert self.world.list_rows(person) == self.world.list_sessions(person) == []
            assert identity not in self.world.azure.list_identities()

        return self._case(person, about, self._by_bearer(person, "DELETE", "/api/me"), check)

    def export(self) -> Case:
        person = self._user()

        def check(response: requests.Response) -> None:
            assert response.json()["user"]["objectId"] == person.account.object_id

        return self._case(person, "object id", self._by_bearer(person, "GET", "/api/me/export"), check)

    def _user(self) -> Person:
        """Create a user with an identity and without a session."""
        person = self.world.new_person()
        response = self.world.token_by_bearer(person)
        assert response.status_code == 200, response.text
        return person

    def _token(self, person: Person, about: About, minutes: int, *, browser: bool) -> Case:
        body = {"expiresInMinutes": minutes}
        request: Request
        if browser:
            request = partial(person.token, body, csrf=person.signed_in().csrf_headers())
        else:
            request = self._by_bearer(person, "POST", "/api/token", json=body)

        def check(response: requests.Response) -> None:
            check = self.world.azure.check_token(response.json()["token"])
            identity = self.world.identity_of(person)
            assert identity == response.json()["user"]["communicationUserId"] == check["identity"]
            assert check["valid"] is True

        return self._case(person, about, request, check)

    def _by_bearer(self, person: Person, method: str, path: str, **options: Any) -> Request:
        headers = bearer(self.world.azure, person)
        return partial(call, method, person.url + path, headers=headers, **options)

    def _case(self, person: Person, about: About, request: Request, check: Check) -> Case:
        text = person.account.object_id
        if about == "identity":
            text = self.world.identity_of(person)
        elif about == "session":
            text = get_session(self.world.tables, person)["PartitionKey"]
        return Case(person=person, about=text, request=request, again=request, check=check)


@dataclass(frozen=True, kw_only=True)
class Row:
    """An upstream call of a request."""

    call: UpstreamCall
    request: str
    prepare: Callable[[Users], Case]
    good: int = 200  # the request's status without a fault
    otherwise: Mapping[str, int] = field(default_factory=dict)  # statuses of handled faults, by column
    page: bool = False  # the request is a browser's

    def __str__(self) -> str:
        return f"{self.call}: {self.request}"

    def columns(self) -> list[Column]:
        """Return the columns that apply: a read commits nothing, and an empty response has no half."""
        without: tuple[str, ...] = () if self.call.acs else ("404 own",)
        if self.call.method == "GET":
            without += AFTER_COMMIT
        elif self.call.method not in ("", "POST") or self.call.acs in ("revoke", "delete"):
            without += ("half",)
        return [column for column in COLUMNS if column.name not in without]


@dataclass(frozen=True, kw_only=True)
class Cell:
    """The response to the request whose call failed, and the state right after the failure."""

    case: Case
    response: requests.Response
    seconds: float
    rows: list[dict[str, Any]]  # of the person
    identities: set[str]  # of all users
    next_response: requests.Response  # after recovery


def run_cells(users: Users, rows: Sequence[Row]) -> dict[tuple[str, str], Future[Cell]]:
    """Run every cell; return finished futures, so that an exception in one cell fails no other."""
    world = users.world

    def run(row: Row, column: Column) -> Cell:
        case = row.prepare(users)
        # A delete finds no identity only after an earlier try has deleted it.
        kind = "fail-after-commit" if row.call.acs == "delete" and column.code else column.kind
        members: dict[str, Any] = {"status": column.status, "retry_after": column.retry_after}
        members |= {"seconds": column.seconds, "times": 1 if row.call.acs else None, "about": case.about}
        if row.call.acs:
            members["code"] = column.code
        fault = fail_call(world, row.call, kind, **members)
        response, seconds = timed(case.request)
        if fault is not None:
            world.storage.remove(fault)
        return Cell(
            case=case,
            response=response,
            seconds=seconds,
            rows=[dict(found) for found in world.list_rows(case.person)],
            identities=set(world.azure.list_identities()),
            next_response=case.again(),
        )

    with ThreadPoolExecutor(AT_ONCE) as quick, ThreadPoolExecutor(SILENT_AT_ONCE) as silent:
        return {
            (str(row), column.name): (silent if column.silent else quick).submit(run, row, column)
            for row in rows
            for column in row.columns()
        }
