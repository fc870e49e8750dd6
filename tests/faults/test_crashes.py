"""The service is killed between any two upstream calls: only the response is lost."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial

import pytest
import requests

from tests.support import upstream_calls as calls
from tests.support.admin_client import ROLE, Admin
from tests.support.crashes import Boundary, CrashSite, HeldUser, Outcome
from tests.support.own_azure import own_azure
from tests.support.problems import assert_problem
from tests.support.report import RecordCell
from tests.support.rows import allow_former_resource, find_orphans, list_identity_rows, list_sessions
from tests.support.service import Service

pytestmark = pytest.mark.timeout(300)  # the first test waits for all crashes

TABLE = "killed"
OUTCOME_WRITE = replace(calls.AUDIT_WRITE, skip=2)

first = partial(Boundary, "first token")
FIRST_TOKEN = [
    first("before the session is read", calls.SESSION_READ),
    first("before the row is read", calls.IDENTITY_READ),
    first("before the create", calls.CREATE),
    first("after the create", calls.CREATE, after=True, orphan=True),
    first("before the insert", calls.INSERT, orphan=True),
    first("after the insert", calls.INSERT, after=True),
    first("before the last look at the session", calls.LAST_LOOK),
    first("before the session is updated", calls.SESSION_WRITE, responded=True),
    first("before the deletion after a lost race", calls.INSERT, lost_race=True, orphan=True),
]
# Separate groups, as these block the few background threads of a process.
LEDGER_AND_INDEX = [
    first("before the ledger", calls.LEDGER_WRITE, responded=True),
    first("before the index", calls.BATCH, responded=True),
]
INDEXED = [first("after the index", calls.BATCH, after=True, responded=True)]

move = partial(Boundary, "move")
MOVE = [
    move("before the create", calls.CREATE),
    move("after the create", calls.CREATE, after=True, orphan=True),
    move("before the hold", calls.HOLD, orphan=True),
    move("after the hold", calls.HOLD, after=True, orphan=True),
    move("before sessions forget", calls.BATCH, of_session=True, orphan=True),
    move("after sessions forget", calls.BATCH, of_session=True, after=True, orphan=True),
    move("before the ledger", calls.LEDGER_WRITE, orphan=True),
    move("in the ledger", replace(calls.LEDGER_WRITE, skip=1), orphan=True),
    move("before the row", calls.SWITCH, orphan=True),
    move("after the row", calls.SWITCH, after=True),
    move("before the index", calls.BATCH, responded=True),
]
block = partial(Boundary, "block")
BLOCK = [
    block("before the intent", calls.AUDIT_WRITE, begun=False),
    block("before the row", calls.MERGE, begun=False),
    block("after the row", calls.MERGE, after=True),
    block("before sessions are read", calls.SESSION_READ),
    block("before the session is ended", calls.SESSION_DELETE),
    block("before the revocation", calls.REVOKE),
    block("after the revocation", calls.REVOKE, after=True),
    block("before the index", calls.BATCH),
    block("after the index", calls.BATCH, after=True),
    block("before it is done", calls.UNMARK_BLOCK),
    block("before the outcome", OUTCOME_WRITE),
]
unblock = partial(Boundary, "unblock")
UNBLOCK = [
    unblock("before the intent", calls.AUDIT_WRITE, begun=False),
    unblock("before the row", calls.MERGE, begun=False),
    unblock("after the row", calls.MERGE, after=True),
    unblock("before the index", calls.BATCH),
    unblock("before the outcome", OUTCOME_WRITE),
]
delete = partial(Boundary, "delete")
DELETE = [
    delete("before the intent", calls.AUDIT_WRITE, begun=False),
    delete("before sessions are read", calls.SESSION_READ, begun=False),
    delete("before the session is ended", calls.SESSION_DELETE, begun=False),
    delete("before the row is marked", calls.MERGE, begun=False),
    delete("after the row is marked", calls.MERGE, after=True),
    delete("before the identity", calls.DELETE),
    delete("after the identity", calls.DELETE, after=True),
    delete("before the ledger", calls.LEDGER_WRITE),
    delete("after the ledger", calls.LEDGER_WRITE, after=True),
    delete("before the index", calls.BATCH),
    delete("after the index", calls.BATCH, after=True),
    delete("before the row is removed", calls.REMOVE),
    delete("after the row is removed", calls.REMOVE, after=True),
    delete("before the outcome", OUTCOME_WRITE),
]
# The same steps as an erasure by the user, whose own session is read first.
ERASE = [
    replace(step, action="erase", call=replace(step.call, skip=step.call.skip + (step.call.method == "GET")))
    for step in DELETE
    if step.call.table != "audit"
]
CRASHES = [FIRST_TOKEN, LEDGER_AND_INDEX, INDEXED + UNBLOCK, MOVE, BLOCK, DELETE, ERASE]
BOUNDARIES = [boundary for together in CRASHES for boundary in together]
FINISHED = ("before the outcome", "after the row is removed")
"""Here only the record of the outcome is missing."""


@dataclass(frozen=True)
class Aftermath:
    """All crashes, and the findings of `users repair` by user: dry run, repair, dry run again."""

    site: CrashSite
    outcomes: dict[Boundary, Outcome]
    found: dict[str, set[str]]
    repaired: dict[str, set[str]]
    left: dict[str, set[str]]


@pytest.fixture(scope="module")
def aftermath() -> Iterator[Aftermath]:
    with own_azure({"TOKEN_LIFETIME_MINUTES": "1440"}) as world, Service(world.settings) as service:
        world.new_user()
        allow_former_resource(world.tables)
        admin = Admin(world.new_person(roles=[ROLE]).at(service.url).signed_in())
        site = CrashSite(world=world, service=service, admin=admin)
        assert site.admin.csrf
        outcomes: dict[Boundary, Outcome] = {}
        for together in CRASHES:
            outcomes |= site.crash(together)
        world.storage.wait_until_quiet()
        yield Aftermath(site, outcomes, *(site.repair(dry_run=dry_run) for dry_run in (True, False, True)))


each = pytest.mark.parametrize("boundary", BOUNDARIES, ids=str)


@each
def test_next_request_after_a_crash_works(
    aftermath: Aftermath, record_cell: RecordCell, boundary: Boundary
) -> None:
    crash = aftermath.outcomes[boundary]
    response, user = crash.response, crash.returning
    # The crash happened at the intended boundary.
    assert (crash.interrupted is not None) == boundary.responded
    outcome = str(response.status_code)
    if response.status_code == 200 and user.identity:
        identity = response.json()["user"]["communicationUserId"]
        outcome += " same identity" if identity == user.identity else " new identity"
    record_cell(TABLE, str(boundary), "session", str(crash.session_status))
    record_cell(TABLE, str(boundary), "next token", outcome)
    match boundary.action:
        case "block" | "unblock" if (boundary.action == "block") == boundary.begun:
            assert_problem(response, 403, "blocked")
            assert crash.session_status == 401
        case "block" | "unblock":
            assert_token(aftermath, user, response, same=True)
        case "delete" | "erase":
            assert not boundary.begun or crash.session_status == 401
            assert_token(aftermath, user, response, same=not boundary.begun)
        case "first token" | "move":
            assert_token(aftermath, user, response, same=False)


def assert_token(aftermath: Aftermath, user: HeldUser, response: requests.Response, *, same: bool) -> None:
    """Check that the response has a valid token for the identity in the user's only row."""
    azure, tables = aftermath.site.world.azure, aftermath.site.world.tables
    assert response.status_code == 200, response.text
    identity = response.json()["user"]["communicationUserId"]
    check = azure.check_token(response.json()["token"])
    (row,) = list_identity_rows(tables, user.person)
    assert row["AcsUserId"] == identity == check["identity"]
    assert check["valid"] is True
    assert (identity == user.identity) == same
    if not same:
        assert user.identity not in azure.list_identities()


@each
def test_repair_completes_interrupted_actions(
    aftermath: Aftermath, record_cell: RecordCell, boundary: Boundary
) -> None:
    azure, tables = aftermath.site.world.azure, aftermath.site.world.tables
    user = aftermath.outcomes[boundary].absent
    found = aftermath.found.get(user.person.key, set())
    record_cell(TABLE, str(boundary), "repair finds", ", ".join(sorted(found)) or "nothing")
    # The process that starts afterwards has finished the blocks.
    half = boundary.action in ("delete", "erase") and boundary.begun and boundary.name not in FINISHED
    assert found & {"half-blocked", "half-deleted"} == ({"half-deleted"} if half else set())
    # A repair also fixes some findings along with others, so only the dry run lists all of them.
    assert aftermath.repaired.get(user.person.key, set()) <= found
    assert user.person.key not in aftermath.left

    rows, sessions = list_identity_rows(tables, user.person), list_sessions(tables, user.person)
    assert len(rows) <= 1
    state = "no row" if not rows else "blocked" if rows[0]["Blocked"] else "active"
    record_cell(TABLE, str(boundary), "after it", state)
    if rows and rows[0]["AcsUserId"]:
        assert rows[0]["AcsUserId"] in azure.list_identities() or boundary.action == "move"
    match boundary.action:
        case "block" if boundary.begun:
            assert (state, sessions) == ("blocked", [])
            assert azure.check_token(user.token)["valid"] is False
            assert_problem(user.request_token(), 403, "blocked")
        case "delete" | "erase" if boundary.begun:
            assert (state, sessions) == ("no row", [])
            assert user.identity not in azure.list_identities()
        case "unblock" if not boundary.begun:
            assert state == "blocked"
        case _:
            assert user.request_token().status_code == 200


def test_crashes_leave_orphans_only_where_allowed(aftermath: Aftermath) -> None:
    orphans = find_orphans(aftermath.site.world.azure, aftermath.site.world.tables)
    assert len(orphans) <= 2 * sum(boundary.orphan for boundary in BOUNDARIES)
