"""`flask --app wsgi users …`: what operators do to users from the command line."""

import json
import os
import pwd
import subprocess
import sys
import uuid
from collections.abc import Callable

import pytest
from azure.data.tables import TableServiceClient
from click.testing import Result
from flask import Flask

from tests.support.commands import read_json, run_command
from tests.support.desk import SECTION_5A, assert_signed_out, bearer, call
from tests.support.identity_rows import find_identity_row, get_identity, list_identity_rows
from tests.support.local_azure import LocalAzure
from tests.support.person import Person
from tests.support.problems import assert_problem
from tests.support.rows import list_rows
from tests.support.service import ROOT
from tests.support.settings import OF_ITS_OWN
from tests.support.storage_proxy import Fault, StorageProxy
from trusted_service import user_commands

Run = Callable[..., Result]

NOBODY = "f00d0000-0000-4000-8000-00000000c0de"


@pytest.fixture
def run(application: Flask, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run `users …` inside this process, as `flask --app wsgi` does; blocking sweeps at once."""
    monkeypatch.setattr(user_commands, "SWEEP_SECONDS", 0)

    def invoke(*arguments: str, typed: str = "") -> Result:
        return run_command(application, "users", *arguments, typed=typed)

    return invoke


def test_list_shows_users_newest_first_with_the_members_of_the_contract(run: Run, settled: Person) -> None:
    users = read_json(run("list", "--json"))
    assert isinstance(users, list)
    assert all(list(user) == SECTION_5A for user in users)
    created = [user["createdAt"] for user in users]
    assert created == sorted(created, reverse=True)
    assert [user for user in users if user["objectId"] == settled.account.object_id]


def test_list_finds_by_user_name_by_identity_and_by_status(
    run: Run, settled: Person, tables: TableServiceClient
) -> None:
    mine = settled.account.object_id
    for text in (settled.account.username.upper(), mine, get_identity(tables, settled)):
        found = read_json(run("list", "--json", "--q", text))
        assert isinstance(found, list)
        assert [user["objectId"] for user in found] == [mine]
        assert read_json(run("list", "--json", "--q", text, "--status", "blocked")) == []
    assert mine in run("list", "--q", mine).stdout


def test_show_prints_the_user_for_programs_and_for_people(run: Run, settled: Person) -> None:
    user = read_json(run("show", settled.key, "--json"))
    assert isinstance(user, dict)
    assert list(user) == SECTION_5A
    assert user["username"] == settled.account.username
    assert user["communicationUserId"] == settled.me()["communicationUserId"]
    # One tenant is allowed here, so that the object id alone will do, in whatever case.
    assert read_json(run("show", settled.account.object_id.upper(), "--json")) == user
    for_people = run("show", settled.key)
    assert for_people.exit_code == 0
    assert user["communicationUserId"] in for_people.stdout


@pytest.mark.parametrize("command", ["show", "unblock", "revoke", "export"])
def test_command_on_nobody_is_refused(run: Run, command: str) -> None:
    done = run(command, NOBODY)
    assert done.exit_code == 1
    assert done.stdout == ""
    assert done.stderr == "Error: There is no such user.\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ("show",),
        ("show", "nobody"),
        ("show", f"{NOBODY}/x"),
        ("show", f"a/{NOBODY}/{NOBODY}"),
        ("show", "8:acs:x_y"),
        ("block", "'; drop table users"),
        ("list", "--status", "gone"),
        ("list", NOBODY),
        ("delete", "--sure", NOBODY),
        ("evaporate", NOBODY),
    ],
)
def test_wrong_usage_exits_with_2(run: Run, arguments: tuple[str, ...]) -> None:
    done = run(*arguments)
    assert done.exit_code == 2
    assert done.stdout == ""
    assert "Usage:" in done.stderr
    assert "Traceback" not in done.stderr


def test_block_and_unblock_work_at_once_and_are_in_the_trail(
    run: Run, azure: LocalAzure, tables: TableServiceClient, settled: Person
) -> None:
    token = settled.token().json()["token"]
    blocked = read_json(run("block", settled.key, "--reason", "lost phone", "--json"))
    assert isinstance(blocked, dict)
    assert (list(blocked), blocked["blocked"]) == (SECTION_5A, True)
    assert_signed_out(settled, settled.url)
    assert settled.sign_in().status_code == 403
    presented = bearer(azure, settled)
    assert_problem(call("POST", f"{settled.url}/api/token", headers=presented), 403, "blocked")
    assert azure.check_token(token)["valid"] is False
    assert run("unblock", settled.key).stdout == "Unblocked.\n"
    assert settled.sign_in().status_code == 302
    assert settled.token().status_code == 200
    operator = pwd.getpwuid(os.getuid()).pw_name
    rows = list_rows(tables, "audit", "TargetObjectId", settled.account.object_id)
    trail = {(row["Action"], row["Outcome"], row["ActorKind"], row["ActorName"]) for row in rows}
    for action in ("block", "unblock"):
        for outcome in ("started", "done"):
            assert (action, outcome, "operator", operator) in trail


def test_somebody_who_never_came_can_be_blocked(run: Run, tables: TableServiceClient, person: Person) -> None:
    assert run("block", person.key).exit_code == 0
    row = find_identity_row(tables, person)
    assert row is not None
    assert (row["AcsUserId"], row["Blocked"]) == ("", True)
    assert person.sign_in().status_code == 403
    assert run("unblock", person.key).exit_code == 0
    assert list_identity_rows(tables, person) == []


def test_revoke_and_sign_out_do_one_thing_each(run: Run, azure: LocalAzure, settled: Person) -> None:
    token = settled.token().json()["token"]
    assert run("revoke", settled.key).exit_code == 0
    assert azure.check_token(token)["valid"] is False
    assert settled.get("/api/me").status_code == 200
    token = settled.token().json()["token"]
    assert run("sign-out", settled.key).exit_code == 0
    assert_signed_out(settled, settled.url)
    assert azure.check_token(token)["valid"] is True


def test_delete_asks_first_and_erases_then(
    run: Run, azure: LocalAzure, tables: TableServiceClient, settled: Person
) -> None:
    identity = get_identity(tables, settled)
    for answer in ("n\n", "\n", ""):
        assert run("delete", settled.key, typed=answer).exit_code == 1
        assert get_identity(tables, settled) == identity
    assert run("delete", settled.key, typed="y\n").exit_code == 0
    assert list_identity_rows(tables, settled) == []
    assert identity not in azure.list_identities()
    assert_signed_out(settled, settled.url)
    again = run("delete", settled.key, "--yes")
    assert (again.exit_code, again.stdout) == (0, "There was no such user.\n")


def test_export_writes_all_that_is_stored_of_one_and_of_everybody(run: Run, settled: Person) -> None:
    one = read_json(run("export", settled.key))
    assert isinstance(one, dict)
    own = settled.get("/api/me/export").json()
    assert one["user"] == own["user"]
    assert len(one["sessions"]) == 1
    everybody = read_json(run("export", "--json"))
    assert isinstance(everybody, list)
    (mine,) = [export for export in everybody if export["user"]["objectId"] == settled.account.object_id]
    assert (mine["user"], mine["sessions"]) == (one["user"], one["sessions"])
    secret = settled.http.cookies["session"]
    assert secret.split(".")[0] not in json.dumps(everybody)


def test_command_whose_storage_fails_says_so_and_changes_nothing(
    run: Run, tables: TableServiceClient, storage_proxy: StorageProxy, settled: Person
) -> None:
    storage_proxy.plant(Fault(kind="status", table="audit"))
    done = run("block", settled.key)
    assert done.exit_code == 1
    assert done.stderr == "Error: Table Storage: HTTP 503 PlantedFault\n"
    row = find_identity_row(tables, settled)
    assert row is not None
    assert row["Blocked"] is False


def test_repair_makes_a_lost_index_anew_and_then_finds_nothing(
    run: Run, tables: TableServiceClient, settled: Person, storage_proxy: StorageProxy
) -> None:
    storage_proxy.wait_until_quiet()
    index = tables.get_table_client("userindex")
    for row in index.list_entities():
        index.delete_entity(row["PartitionKey"], row["RowKey"])

    def findings(*options: str) -> list[str]:
        found = read_json(run("repair", "--json", *options))
        return [finding["kind"] for finding in found if finding["user"] == settled.key]

    assert findings("--dry-run") == ["not-indexed"]
    assert findings("--dry-run") == ["not-indexed"]
    assert findings() == ["not-indexed"]
    assert findings() == []


def test_commands_work_as_programs_of_their_own(settings: dict[str, str]) -> None:
    statuses = []
    for arguments in (("list", "--json", "--q", str(uuid.uuid4())), ("show", NOBODY), ("show", "x")):
        done = subprocess.run(
            [sys.executable, "-m", "flask", "--app", "wsgi", "users", *arguments],
            cwd=ROOT,
            env=os.environ | settings | OF_ITS_OWN,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        statuses.append((done.returncode, done.stdout))
    assert statuses == [(0, "[\n]\n"), (1, ""), (2, "")]
