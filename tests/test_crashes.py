"""The service is killed between any two upstream calls: nothing is lost but the answer, and nobody gets in.

Everybody is held at a boundary of their own, then one SIGKILL strikes them all and the service starts again.
The run prints for each boundary what the next request and `users repair` made of it.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest
import requests

from tests.support.crashes import Action, Boundary, Crash, Site, Victim, ask_for_token
from tests.support.desk import ROLE, Desk
from tests.support.former_resource import allow_former_resource
from tests.support.identity_rows import list_identity_rows
from tests.support.ledger_rows import find_orphans
from tests.support.own_azure import own_azure
from tests.support.problems import assert_problem
from tests.support.report import NoteCell
from tests.support.rows import list_sessions
from tests.support.service import Service

pytestmark = pytest.mark.timeout(300)  # for all crashes together, which the first test waits for

TABLE = "killed"

FIRST: Action = "first token"
HELD: dict[str, Any] = {"method": "PATCH", "table": "identities", "also": '"Switching": true'}
NAMED: dict[str, Any] = {"method": "PATCH", "table": "identities", "also": '"AcsUserId"'}
FIRST_TOKEN = [
    Boundary(action=FIRST, name="before the session is read", method="GET", table="sessions"),
    Boundary(action=FIRST, name="before the row is looked for", method="GET", table="identities"),
    Boundary(action=FIRST, name="before the create", acs="create"),
    Boundary(action=FIRST, name="after the create", acs="create", after=True, orphan=True),
    Boundary(action=FIRST, name="before the insert", method="POST", table="identities", orphan=True),
    Boundary(action=FIRST, name="after the insert", method="POST", table="identities", after=True),
    Boundary(
        action=FIRST, name="before the last look at the session", method="GET", table="sessions", skip=1
    ),
    Boundary(action=FIRST, name="before the session is noted", method="P", table="sessions", answered=True),
    Boundary(
        action=FIRST,
        name="before the deletion after a lost race",
        method="POST",
        table="identities",
        lost_race=True,
        orphan=True,
    ),
]
# In a group of their own: a process has four threads for what runs after a response.
AFTERWARDS = [
    Boundary(action=FIRST, name="before the ledger", method="POST", table="ledger", answered=True),
    Boundary(action=FIRST, name="before the index", table="$batch", answered=True),
]
INDEXED = [Boundary(action=FIRST, name="after the index", table="$batch", after=True, answered=True)]
MOVE = [
    Boundary(action="move", name="before the create", acs="create"),
    Boundary(action="move", name="after the create", acs="create", after=True, orphan=True),
    Boundary(action="move", name="before the hold", **HELD, orphan=True),
    Boundary(action="move", name="after the hold", **HELD, after=True, orphan=True),
    Boundary(action="move", name="before sessions forget", table="$batch", of_session=True, orphan=True),
    Boundary(
        action="move", name="after sessions forget", table="$batch", of_session=True, after=True, orphan=True
    ),
    Boundary(action="move", name="before the ledger", method="P", table="ledger", orphan=True),
    Boundary(action="move", name="in the ledger", method="P", table="ledger", skip=1, orphan=True),
    Boundary(action="move", name="before the row", **NAMED, orphan=True),
    Boundary(action="move", name="after the row", **NAMED, after=True),
    Boundary(action="move", name="before the index", table="$batch", answered=True),
]
BLOCK = [
    Boundary(action="block", name="before the intent", method="P", table="audit", cut=False),
    Boundary(action="block", name="before sessions are read", method="GET", table="sessions", cut=False),
    Boundary(
        action="block", name="before the session is ended", method="DELETE", table="sessions", cut=False
    ),
    Boundary(action="block", name="before the row", method="PATCH", table="identities", cut=False),
    Boundary(action="block", name="after the row", method="PATCH", table="identities", after=True),
    Boundary(action="block", name="before sessions are read again", method="GET", table="sessions", skip=1),
    Boundary(action="block", name="before the revocation", acs="revoke"),
    Boundary(action="block", name="after the revocation", acs="revoke", after=True),
    Boundary(action="block", name="before the index", table="$batch"),
    Boundary(action="block", name="after the index", table="$batch", after=True),
    Boundary(
        action="block", name="before it is done", method="PATCH", table="identities", also='"Blocking": false'
    ),
    Boundary(action="block", name="before the outcome", method="P", table="audit", skip=2),
]
UNBLOCK = [
    Boundary(action="unblock", name="before the intent", method="P", table="audit", cut=False),
    Boundary(action="unblock", name="before the row", method="PATCH", table="identities", cut=False),
    Boundary(action="unblock", name="after the row", method="PATCH", table="identities", after=True),
    Boundary(action="unblock", name="before the index", table="$batch"),
    Boundary(action="unblock", name="before the outcome", method="P", table="audit", skip=2),
]
DELETE = [
    Boundary(action="delete", name="before the intent", method="P", table="audit", cut=False),
    Boundary(action="delete", name="before sessions are read", method="GET", table="sessions", cut=False),
    Boundary(
        action="delete", name="before the session is ended", method="DELETE", table="sessions", cut=False
    ),
    Boundary(action="delete", name="before the row is marked", method="PATCH", table="identities", cut=False),
    Boundary(action="delete", name="after the row is marked", method="PATCH", table="identities", after=True),
    Boundary(action="delete", name="before the identity", acs="delete"),
    Boundary(action="delete", name="after the identity", acs="delete", after=True),
    Boundary(action="delete", name="before the ledger", method="P", table="ledger"),
    Boundary(action="delete", name="after the ledger", method="P", table="ledger", after=True),
    Boundary(action="delete", name="before the index", table="$batch"),
    Boundary(action="delete", name="after the index", table="$batch", after=True),
    Boundary(action="delete", name="before the row is removed", method="DELETE", table="identities"),
    Boundary(
        action="delete", name="after the row is removed", method="DELETE", table="identities", after=True
    ),
    Boundary(action="delete", name="before the outcome", method="P", table="audit", skip=2),
]
# The same steps by the users themselves; their own session is read first.
ERASE = [
    replace(step, action="erase", skip=step.skip + (step.method == "GET"))
    for step in DELETE
    if step.table != "audit"
]
CRASHES = [FIRST_TOKEN, AFTERWARDS, INDEXED, MOVE, BLOCK, UNBLOCK, DELETE, ERASE]
BOUNDARIES = [boundary for together in CRASHES for boundary in together]
FINISHED = ("before the outcome", "after the row is removed")
"""Where nothing is left to do but to say so."""


@dataclass(frozen=True)
class Aftermath:
    """All crashes as one, and what `users repair` then found by user: dry, really, and dry once more."""

    site: Site
    crash: Crash
    found: dict[str, set[str]]
    mended: dict[str, set[str]]
    left: dict[str, set[str]]
    orphans: set[str]

    def left_alone(self, boundary: Boundary) -> Victim:
        return self.crash.victims[boundary][1]


@pytest.fixture(scope="module")
def aftermath() -> Iterator[Aftermath]:
    with (
        own_azure({"TOKEN_LIFETIME_MINUTES": "1440"}) as world,
        Service(world.settings) as doomed,
    ):
        world.new_user()
        allow_former_resource(world.tables)
        administrator = world.new_person(roles=[ROLE]).at(doomed.url)
        assert administrator.sign_in().status_code == 302
        site = Site(world=world, doomed=doomed, desk=Desk(administrator))
        assert site.desk.csrf
        crashes = [site.crash(together) for together in CRASHES]
        crash = Crash(
            victims={key: value for crash in crashes for key, value in crash.victims.items()},
            during={key: value for crash in crashes for key, value in crash.during.items()},
            after={key: value for crash in crashes for key, value in crash.after.items()},
            cookie={key: value for crash in crashes for key, value in crash.cookie.items()},
        )
        world.storage.wait_until_quiet()
        found, mended, left = (site.repair(dry_run=dry_run) for dry_run in (True, False, True))
        yield Aftermath(site, crash, found, mended, left, find_orphans(world.azure, world.tables))


each = pytest.mark.parametrize("boundary", BOUNDARIES, ids=str)


@each
def test_crash_was_where_it_should_be(aftermath: Aftermath, boundary: Boundary) -> None:
    assert (aftermath.crash.during[boundary] is not None) == boundary.answered


@each
def test_next_request_after_a_crash_works_and_lets_nobody_in(
    aftermath: Aftermath, note_cell: NoteCell, boundary: Boundary
) -> None:
    answer, victim = aftermath.crash.after[boundary], aftermath.crash.victims[boundary][0]
    outcome = str(answer.status_code)
    if answer.status_code == 200 and victim.identity:
        identity = answer.json()["user"]["communicationUserId"]
        outcome += " same identity" if identity == victim.identity else " new identity"
    note_cell(TABLE, str(boundary), "session", str(aftermath.crash.cookie[boundary]))
    note_cell(TABLE, str(boundary), "next token", outcome)
    match boundary.action:
        case "block" | "unblock" if (boundary.action == "block") == boundary.cut:
            assert_problem(answer, 403, "blocked")
            assert aftermath.crash.cookie[boundary] == 401
        case "block" | "unblock":
            assert_token(aftermath, victim, answer, same=True)
        case "delete" | "erase":
            assert not boundary.cut or aftermath.crash.cookie[boundary] == 401
            assert_token(aftermath, victim, answer, same=not boundary.cut)
        case "first token" | "move":
            assert_token(aftermath, victim, answer, same=False)


def assert_token(aftermath: Aftermath, victim: Victim, answer: requests.Response, *, same: bool) -> None:
    """Check that the answer holds a good token for the one identity that the user's one row names."""
    azure, tables = aftermath.site.world.azure, aftermath.site.world.tables
    assert answer.status_code == 200, answer.text
    identity = answer.json()["user"]["communicationUserId"]
    check = azure.check_token(answer.json()["token"])
    (row,) = list_identity_rows(tables, victim.person)
    assert row["AcsUserId"] == identity == check["identity"]
    assert check["valid"] is True
    assert (identity == victim.identity) == same
    if not same:
        assert victim.identity not in azure.list_identities()


@each
def test_repair_finds_what_was_cut_short_and_mends_it(
    aftermath: Aftermath, note_cell: NoteCell, boundary: Boundary
) -> None:
    victim = aftermath.left_alone(boundary)
    found = aftermath.found.get(victim.person.key, set())
    note_cell(TABLE, str(boundary), "repair finds", ", ".join(sorted(found)) or "nothing")
    half = {"block": "half-blocked", "delete": "half-deleted", "erase": "half-deleted"}.get(boundary.action)
    begun = boundary.cut and boundary.name not in FINISHED
    assert found & {"half-blocked", "half-deleted"} == ({half} if half and begun else set())
    # What is put right on the way is found by a dry run only.
    assert aftermath.mended.get(victim.person.key, set()) <= found
    assert victim.person.key not in aftermath.left


@each
def test_repair_leaves_everybody_as_the_action_would_have(
    aftermath: Aftermath, note_cell: NoteCell, boundary: Boundary
) -> None:
    azure, tables = aftermath.site.world.azure, aftermath.site.world.tables
    victim = aftermath.left_alone(boundary)
    rows, sessions = list_identity_rows(tables, victim.person), list_sessions(tables, victim.person)
    assert len(rows) <= 1
    state = "no row" if not rows else "blocked" if rows[0]["Blocked"] else "active"
    note_cell(TABLE, str(boundary), "after it", state)
    if rows and rows[0]["AcsUserId"]:
        assert rows[0]["AcsUserId"] in azure.list_identities() or boundary.action == "move"
    match boundary.action:
        case "block" if boundary.cut:
            assert (state, sessions) == ("blocked", [])
            assert azure.check_token(victim.token)["valid"] is False
            assert_problem(ask_for_token(victim), 403, "blocked")
        case "delete" | "erase" if boundary.cut:
            assert (state, sessions) == ("no row", [])
            assert victim.identity not in azure.list_identities()
        case "unblock" if not boundary.cut:
            assert state == "blocked"
        case _:
            assert ask_for_token(victim).status_code == 200


def test_crashes_leave_orphans_only_where_the_contract_allows_them(aftermath: Aftermath) -> None:
    assert len(aftermath.orphans) <= 2 * sum(boundary.orphan for boundary in BOUNDARIES)
