"""Every call to Table Storage and Communication Services fails in every way: nothing is lost or hangs."""

import itertools
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial

import pytest
import requests

from tests.support import upstream_calls as calls
from tests.support.concurrency import timed, wait_until
from tests.support.fault_matrix import AFTER_COMMIT, TABLE, Cell, Column, Row, Users, run_cells
from tests.support.own_azure import OwnAzure, own_azure
from tests.support.pages import assert_error_page
from tests.support.problems import assert_problem
from tests.support.report import RecordCell
from tests.support.rows import allow_former_resource, find_orphans
from trusted_service.azure import deadlines

pytestmark = pytest.mark.timeout(300)  # the first test waits for all cells

LIMIT_SECONDS = 15.0
"""The contract's limit for response times, regardless of upstream faults."""
DEFAULT_RETRY_AFTER = "5"
LOST_CREATES = ("half", "late", *AFTER_COMMIT)

TOKEN, FIRST, ERASE = "POST /api/token", "first POST /api/token", "DELETE /api/me"
MOVE = "POST /api/token that moves"
REVOCATION, CALLBACK, SIGN_OUT = "POST /api/me/revoke", "GET /auth/callback", "POST /auth/sign-out"
DONE = dict.fromkeys(AFTER_COMMIT, 200)
"""Reading the row back shows that it was written."""

FORGET = replace(calls.BATCH, name="sessions forget", method="POST")
empty = partial(Row, good=204)
own, gone = partial(Row, otherwise={"404 own": 200}), partial(Row, good=204, otherwise={"404 own": 204})
browser = partial(Row, page=True)
ROWS = [
    Row(call=calls.SESSION_READ, request=TOKEN, prepare=lambda users: users.warm_token("session")),
    Row(call=calls.IDENTITY_READ, request=FIRST, prepare=lambda users: users.first_token(browser=True)),
    Row(call=calls.IDENTITY_READ, request=f"{FIRST}, bearer", prepare=Users.first_token),
    Row(call=calls.INSERT, request=FIRST, prepare=Users.first_token, otherwise=DONE | {"half": 200}),
    Row(
        call=calls.LAST_LOOK, request=FIRST, prepare=lambda users: users.first_token("session", browser=True)
    ),
    Row(call=calls.HOLD, request=MOVE, prepare=Users.moving_token),
    Row(call=FORGET, request=MOVE, prepare=lambda users: users.moving_token("session")),
    Row(call=calls.LEDGER_READ, request=MOVE, prepare=lambda users: users.moving_token("identity")),
    Row(call=calls.LEDGER_WRITE, request=MOVE, prepare=lambda users: users.moving_token("identity")),
    Row(call=calls.SWITCH, request=MOVE, prepare=Users.moving_token, otherwise=DONE),
    browser(call=calls.SESSION_INSERT, request=CALLBACK, prepare=Users.sign_in, good=302),
    browser(call=calls.IDENTITY_READ, request=CALLBACK, prepare=Users.sign_in, good=302),
    browser(call=calls.SESSION_DELETE, request=SIGN_OUT, prepare=Users.sign_out, good=303),
    Row(call=calls.MERGE, request="block", prepare=Users.block),
    Row(call=calls.AUDIT_QUERY, request="GET /api/me/export", prepare=Users.export),
    empty(call=calls.AUDIT_WRITE, request=REVOCATION, prepare=lambda users: users.revocation("object id")),
    empty(call=calls.SESSIONS_QUERY, request=ERASE, prepare=lambda users: users.erasure("session")),
    empty(call=calls.SESSION_DELETE, request=ERASE, prepare=lambda users: users.erasure("session")),
    empty(call=calls.MERGE, request=ERASE, prepare=lambda users: users.erasure("object id")),
    empty(call=calls.REMOVE, request=ERASE, prepare=lambda users: users.erasure("object id")),
    Row(call=calls.CREATE, request=FIRST, prepare=lambda users: users.first_token("create")),
    # Without a grace period the identity is replaced.
    own(call=calls.ISSUE, request=TOKEN, prepare=lambda users: users.warm_token("identity")),
    # An identity that is gone has no tokens to revoke, and needs no deletion.
    gone(call=calls.REVOKE, request=REVOCATION, prepare=lambda users: users.revocation("identity")),
    gone(call=calls.DELETE, request=ERASE, prepare=lambda users: users.erasure("identity")),
]
CELLS = [(row, column) for row in ROWS for column in row.columns()]


@dataclass(frozen=True)
class Matrix:
    """All cells by row and column, and the timed responses to another user during the run."""

    world: OwnAzure
    cells: dict[tuple[str, str], Future[Cell]]
    others: list[tuple[requests.Response, float]]


@pytest.fixture(scope="module")
def matrix() -> Iterator[Matrix]:
    """Run all cells while another user keeps sending requests."""
    with own_azure({"TOKEN_LIFETIME_MINUTES": "1440"}, workers=2) as world:
        other, admin = world.new_user(), world.new_admin()
        allow_former_resource(world.tables)
        csrf = other.csrf_headers()
        finished, responses = threading.Event(), list[tuple[requests.Response, float]]()

        def request_until_finished() -> None:
            while not finished.wait(0.2):
                responses.append(timed(partial(other.token, csrf=csrf)))
                responses.append(timed(partial(requests.get, f"{other.url}/healthz", timeout=LIMIT_SECONDS)))

        with ThreadPoolExecutor(1) as pool:
            requesting = pool.submit(request_until_finished)
            try:
                cells = run_cells(Users(world, admin, itertools.count(200)), ROWS)
            finally:
                finished.set()
            requesting.result()
        yield Matrix(world, cells, responses)


@pytest.mark.parametrize(("row", "column"), CELLS, ids=lambda value: getattr(value, "name", str(value)))
def test_failed_call_loses_nothing(matrix: Matrix, record_cell: RecordCell, row: Row, column: Column) -> None:
    cell = matrix.cells[str(row), column.name].result()
    response = cell.response
    expected = row.otherwise.get(column.name, row.good if column.name == "slow" else 503)
    throttled = expected == 503 and column.status == 429
    record_cell(TABLE, str(row), column.name, f"{response.status_code}{'t' if throttled else ''}")
    if expected == 503:
        if row.page:
            assert_error_page(response, 503)
        else:
            assert_problem(response, 503, "upstream_throttled" if throttled else "upstream_unavailable")
        assert response.headers["Retry-After"] == (column.retry_after or DEFAULT_RETRY_AFTER)
    assert response.status_code == expected, response.text
    assert cell.seconds < LIMIT_SECONDS
    # At most one row, whose identity exists unless it is being deleted.
    assert len(cell.rows) <= 1
    for found in cell.rows:
        assert found.get("Deleting") or found["AcsUserId"] in cell.identities | {cell.case.gone}
    # The first request after recovery succeeds, with the right result.
    assert cell.next_response.status_code == row.good, cell.next_response.text
    cell.case.check(cell.next_response)


def test_failing_calls_affect_no_other_user(matrix: Matrix) -> None:
    assert matrix.others
    assert {response.status_code for response, _ in matrix.others} == {200}
    assert max(seconds for _, seconds in matrix.others) < deadlines.CALL_SECONDS  # a hanging call's duration


def test_failing_calls_orphan_only_lost_creates(matrix: Matrix) -> None:
    world = matrix.world
    wait_until(lambda: len(find_orphans(world.azure, world.tables)) <= len(LOST_CREATES))
