"""Upstream calls and ways to fail: each cell is somebody of their own, whose call fails in that way.

Cells run side by side, so that silence, which costs seconds, costs them once.
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import requests

from tests.support.identity_rows import list_identity_rows
from tests.support.person import Person
from tests.support.together import timed
from tests.support.upstream_calls import Kind, UpstreamCall, Upstreams

if TYPE_CHECKING:
    from tests.support.fault_people import People

TABLE = "upstream call: request"
HTTP_DATE = "Wed, 21 Oct 2099 07:28:00 GMT"
TOO_LATE_SECONDS = 8.0
"""Longer than the service waits for any one call."""
SLOW_SECONDS = 1.0
SIDE_BY_SIDE, SILENT_SIDE_BY_SIDE = 5, 44


@dataclass(frozen=True, kw_only=True)
class Column:
    """A way to fail; `silent`: it takes seconds."""

    name: str
    kind: Kind = "status"
    status: int = 503
    retry_after: str | None = None
    seconds: float = 0.2
    silent: bool = False
    code: str | None = None

    @property
    def throttles(self) -> bool:
        return self.status == 429


COLUMNS = (
    *(Column(name=str(status), status=status) for status in (400, 401, 403, 404, 409, 412, 429)),
    Column(name="404 own", status=404, code="IdentityNotFound"),
    Column(name="429 RA", status=429, retry_after="7"),
    Column(name="500", status=500),
    Column(name="503"),
    Column(name="503 RA", retry_after=HTTP_DATE),
    Column(name="reset", kind="reset"),
    Column(name="half", kind="half"),
    Column(name="hang", kind="hang", silent=True),
    Column(name="drip", kind="drip", silent=True),
    Column(name="slow", kind="delay", seconds=SLOW_SECONDS, silent=True),
    Column(name="late", kind="delay", seconds=TOO_LATE_SECONDS, silent=True),
    Column(name="done 500", kind="fail-after-commit", status=500),
    Column(name="done hang", kind="hang-after-commit", silent=True),
)
SLOW = "slow"
AFTER_COMMIT = ("done 500", "done hang")
"""A read does nothing that could be done before it fails."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """Somebody, their request, and what its upstream call is about; `again` is what they do after recovery.

    `check` looks at what is so after that, given its answer. `gone` is an identity that ACS has lost before.
    """

    person: Person
    about: str
    ask: Callable[[], requests.Response]
    again: Callable[[], requests.Response]
    check: Callable[[requests.Response], object] = lambda _answer: None
    gone: str = ""


@dataclass(frozen=True, kw_only=True)
class Row:
    """A call as a request makes it. `good` is the request's status when all is well.

    `otherwise`: columns whose fault this call gets over, with the status that then comes of it.
    `page`: the request is a browser's, and fails with a page.
    """

    call: UpstreamCall
    request: str
    prepare: Callable[["People"], Case]
    good: int = 200
    otherwise: Mapping[str, int] = field(default_factory=dict)
    page: bool = False

    def __str__(self) -> str:
        """As it stands in the table."""
        return f"{self.call}: {self.request}"

    def columns(self) -> list[Column]:
        without: tuple[str, ...] = ()
        if self.call.method == "GET":
            without = AFTER_COMMIT
        elif self.call.method not in ("", "POST") or self.call.acs in ("revoke", "delete"):
            without = ("half",)  # a good answer has no body
        if not self.call.acs:
            without = (*without, "404 own")
        return [column for column in COLUMNS if column.name not in without]

    def status_of(self, column: Column) -> int:
        return self.otherwise.get(column.name, self.good if column.name == SLOW else 503)


@dataclass(frozen=True, kw_only=True)
class Fared:
    """How it went: the answer to the request whose call failed, its seconds, and the answer after recovery.

    `rows` are those of the person in `identities` right after the failure, `identities` all that live then.
    """

    case: Case
    answer: requests.Response
    seconds: float
    rows: list[dict[str, Any]]
    identities: set[str]
    next_answer: requests.Response


def run_cells(people: "People", rows: Sequence[Row]) -> dict[tuple[str, str], Future[Fared]]:
    """Run every cell; a future each, all done: what went wrong with one is no other's business."""

    upstreams = Upstreams(people.world.azure, people.world.storage)

    def run(row: Row, column: Column) -> Fared:
        case = row.prepare(people)
        fault = upstreams.plant(
            row.call,
            # Gone is gone: an identity that is not there to be deleted is so because it has been.
            "fail-after-commit" if row.call.acs == "delete" and column.code else column.kind,
            times=1 if row.call.acs else None,
            status=column.status,
            retry_after=column.retry_after,
            seconds=column.seconds,
            about=case.about,
            code=column.code,
        )
        answer, seconds = timed(case.ask)
        if fault is not None:
            upstreams.storage.remove(fault)
        return Fared(
            case=case,
            answer=answer,
            seconds=seconds,
            rows=[dict(found) for found in list_identity_rows(people.world.tables, case.person)],
            identities=set(people.world.azure.list_identities()),
            next_answer=case.again(),
        )

    with ThreadPoolExecutor(SIDE_BY_SIDE) as quick, ThreadPoolExecutor(SILENT_SIDE_BY_SIDE) as silent:
        return {
            (str(row), column.name): (silent if column.silent else quick).submit(run, row, column)
            for row in rows
            for column in row.columns()
        }
