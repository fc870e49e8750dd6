"""Each call to Table Storage and Communication Services fails in each way: nothing is lost, nobody waits.

The run prints the table. Entra ID's part of it comes from tests/test_sign_in_faults.py.
"""

import itertools
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import pytest
import requests

from tests.support.fault_matrix import AFTER_COMMIT, HTTP_DATE, TABLE, Column, Fared, Row, run_cells
from tests.support.fault_people import People
from tests.support.former_resource import allow_former_resource
from tests.support.ledger_rows import find_orphans
from tests.support.own_azure import OwnAzure, own_azure
from tests.support.pages import assert_error_page
from tests.support.problems import assert_problem
from tests.support.report import NoteCell
from tests.support.together import timed, wait_until
from tests.support.upstream_calls import (
    CREATE,
    IDENTITY_READ,
    INSERT,
    ISSUE,
    LAST_LOOK,
    SESSION_READ,
    UpstreamCall,
)
from trusted_service import upstream

pytestmark = pytest.mark.timeout(300)  # for all cells together, which the first test waits for

LIMIT_SECONDS = 15.0
"""What the contract lets an answer take, whatever an upstream does."""
LOST_CREATES = ("half", "late", *AFTER_COMMIT)

HOLD = UpstreamCall(name="identity hold", method="PATCH", table="identities", also='"Switching": true')
FORGET = UpstreamCall(name="sessions forget", method="POST", table="$batch")
LEDGER_READ = UpstreamCall(name="ledger read", method="GET", table="ledger")
LEDGER_WRITE = UpstreamCall(name="ledger write", method="P", table="ledger")
SWITCH = UpstreamCall(name="identity switch", method="PATCH", table="identities", also='"AcsUserId"')
MERGE = UpstreamCall(name="identity merge", method="PATCH", table="identities")
REMOVE = UpstreamCall(name="identity delete", method="DELETE", table="identities")
SESSION_INSERT = UpstreamCall(name="session insert", method="POST", table="sessions")
SESSION_DELETE = UpstreamCall(name="session delete", method="DELETE", table="sessions")
SESSIONS_QUERY = UpstreamCall(name="sessions query", method="GET", table="sessions")
AUDIT = UpstreamCall(name="audit insert", method="PUT", table="audit")
AUDIT_QUERY = UpstreamCall(name="audit query", method="GET", table="audit")
REVOKE = UpstreamCall(name="revoke", acs="revoke")
DELETE = UpstreamCall(name="delete", acs="delete")

TOKEN, FIRST, ERASE = "POST /api/token", "first POST /api/token", "DELETE /api/me"
MOVE = "POST /api/token that moves"
REVOCATION, CALLBACK, SIGN_OUT = "POST /api/me/revoke", "GET /auth/callback", "POST /auth/sign-out"
DONE = dict.fromkeys(("half", *AFTER_COMMIT), 200)
"""The row is read back, and shows that it was written."""

ROWS = [
    Row(call=SESSION_READ, request=TOKEN, prepare=lambda to: to.warm_token(about_session=True)),
    Row(call=IDENTITY_READ, request=FIRST, prepare=lambda to: to.first_token(browser=True)),
    Row(call=IDENTITY_READ, request=f"{FIRST}, bearer", prepare=lambda to: to.first_token()),
    Row(call=INSERT, request=FIRST, prepare=lambda to: to.first_token(), otherwise=DONE),
    Row(call=LAST_LOOK, request=FIRST, prepare=lambda to: to.first_token_of_session()),
    Row(call=HOLD, request=MOVE, prepare=lambda to: to.token_that_moves()),
    Row(call=FORGET, request=MOVE, prepare=lambda to: to.token_that_moves(about_session=True)),
    Row(call=LEDGER_READ, request=MOVE, prepare=lambda to: to.token_that_moves(about_identity=True)),
    Row(call=LEDGER_WRITE, request=MOVE, prepare=lambda to: to.token_that_moves(about_identity=True)),
    Row(
        call=SWITCH,
        request=MOVE,
        prepare=lambda to: to.token_that_moves(),
        otherwise=dict.fromkeys(AFTER_COMMIT, 200),
    ),
    Row(call=SESSION_INSERT, request=CALLBACK, prepare=lambda to: to.sign_in(), good=302, page=True),
    Row(call=IDENTITY_READ, request=CALLBACK, prepare=lambda to: to.sign_in(), good=302, page=True),
    Row(call=SESSION_DELETE, request=SIGN_OUT, prepare=lambda to: to.sign_out(), good=303, page=True),
    Row(call=MERGE, request="block", prepare=lambda to: to.block()),
    Row(call=AUDIT_QUERY, request="GET /api/me/export", prepare=lambda to: to.export()),
    Row(call=AUDIT, request=REVOCATION, prepare=lambda to: to.revocation("object id"), good=204),
    Row(call=SESSIONS_QUERY, request=ERASE, prepare=lambda to: to.erasure("session"), good=204),
    Row(call=SESSION_DELETE, request=ERASE, prepare=lambda to: to.erasure("session"), good=204),
    Row(call=MERGE, request=ERASE, prepare=lambda to: to.erasure("object id"), good=204),
    Row(call=REMOVE, request=ERASE, prepare=lambda to: to.erasure("object id"), good=204),
    Row(call=CREATE, request=FIRST, prepare=lambda to: to.first_token(about_create=True)),
    Row(
        call=ISSUE,
        request=TOKEN,
        prepare=lambda to: to.warm_token(about_session=False),
        otherwise={"404 own": 200},  # there is no grace period here: replaced
    ),
    Row(
        call=REVOKE,
        request=REVOCATION,
        prepare=lambda to: to.revocation("identity"),
        good=204,
        otherwise={"404 own": 204},  # there is nothing to revoke
    ),
    Row(
        call=DELETE,
        request=ERASE,
        prepare=lambda to: to.erasure("identity"),
        good=204,
        otherwise={"404 own": 204},
    ),
]
CELLS = [(row, column) for row in ROWS for column in row.columns()]


@dataclass(frozen=True)
class Matrix:
    """How each cell fared, by row and column, and how everybody else did meanwhile."""

    world: OwnAzure
    cells: dict[tuple[str, str], Future[Fared]]
    bystanders: list[tuple[requests.Response, float]]


@pytest.fixture(scope="module")
def matrix() -> Iterator[Matrix]:
    """Run all cells, while somebody else goes on as if nothing were."""
    with own_azure({"TOKEN_LIFETIME_MINUTES": "1440"}, workers=2) as world:
        bystander, desk = world.new_user(), world.new_desk()
        allow_former_resource(world.tables)
        csrf = bystander.csrf_headers()
        people = People(world, desk, itertools.count(100))
        finished, meanwhile = threading.Event(), list[tuple[requests.Response, float]]()

        def go_on() -> None:
            while not finished.wait(0.2):
                meanwhile.append(timed(partial(bystander.token, csrf=csrf)))
                meanwhile.append(
                    timed(partial(requests.get, f"{bystander.url}/healthz", timeout=LIMIT_SECONDS))
                )

        with ThreadPoolExecutor(1) as pool:
            going_on = pool.submit(go_on)
            try:
                cells = run_cells(people, ROWS)
            finally:
                finished.set()
            going_on.result()
        yield Matrix(world, cells, meanwhile)


@pytest.mark.parametrize(("row", "column"), CELLS, ids=lambda value: getattr(value, "name", str(value)))
def test_failing_call_is_answered_plainly_and_loses_nothing(
    matrix: Matrix, note_cell: NoteCell, row: Row, column: Column
) -> None:
    fared = matrix.cells[str(row), column.name].result()
    answer, expected = fared.answer, row.status_of(column)
    throttled = expected == 503 and column.throttles
    note_cell(TABLE, str(row), column.name, f"{answer.status_code}{'t' if throttled else ''}")
    if expected == 503:
        if row.page:
            assert_error_page(answer, 503)
        else:
            assert_problem(answer, 503, "upstream_throttled" if throttled else "upstream_unavailable")
        retry_after = answer.headers["Retry-After"]
        assert retry_after == (column.retry_after or retry_after)
        assert retry_after.isdigit() or retry_after == HTTP_DATE
    assert answer.status_code == expected, answer.text
    assert fared.seconds < LIMIT_SECONDS
    # Nothing lost: at most one row, and an identity that it names is there, unless it is being deleted.
    assert len(fared.rows) <= 1
    for found in fared.rows:
        assert found.get("Deleting") or found["AcsUserId"] in fared.identities | {fared.case.gone}
    # The very next request after recovery works, and does what it should.
    assert fared.next_answer.status_code == row.good, fared.next_answer.text
    fared.case.check(fared.next_answer)


def test_failing_calls_affect_nobody_else(matrix: Matrix) -> None:
    assert matrix.bystanders
    assert {answer.status_code for answer, _ in matrix.bystanders} == {200}
    assert (
        max(seconds for _, seconds in matrix.bystanders) < upstream.CALL_SECONDS
    )  # what a call that hangs takes


def test_failing_calls_leave_no_identity_but_where_the_answer_to_a_create_was_lost(
    matrix: Matrix,
) -> None:
    world = matrix.world
    wait_until(lambda: len(find_orphans(world.azure, world.tables)) <= len(LOST_CREATES))
