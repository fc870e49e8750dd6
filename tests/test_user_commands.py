"""`flask users …`: what operators see and do, and what programs that run it get."""

import json
import os
import pwd
import socket
import subprocess
import sys
import uuid
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from azure.data.tables import TableServiceClient
from flask import Flask

from tests.support.commands import read_json, run_command
from tests.support.desk import SECTION_5A, Desk, assert_signed_out
from tests.support.identity_rows import change_identity_row, find_identity_row, get_identity
from tests.support.index_rows import list_index_keys, list_kinds, wait_until_indexed
from tests.support.local_azure import LocalAzure
from tests.support.person import Person
from tests.support.rows import list_rows, list_sessions
from tests.support.service import ROOT
from tests.support.settings import OF_ITS_OWN
from tests.support.storage_proxy import Fault, StorageProxy
from tests.support.together import wait_until
from tests.support.user_lists import find
from trusted_service.app import create_app
from trusted_service.config import Settings

SOMEBODY = "7c9e6679-7425-40de-944b-e07fc1f90ae7"

Run = Callable[..., Any]
Start = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(application: Flask) -> Run:
    """Run a command on users with --json, which must end with this code; what it prints, or None."""

    def do(*arguments: str, exit_code: int = 0) -> Any:
        done = run_command(application, "users", *arguments, "--json")
        assert done.exit_code == exit_code, done.output
        return read_json(done) if exit_code == 0 else None

    return do


@pytest.fixture
def start(settings: dict[str, str]) -> Start:
    """Run a command on users in a process of its own, as operators do."""

    def do(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "flask", "--app", "wsgi", "users", *arguments],
            cwd=ROOT,
            env={**os.environ, **settings, **OF_ITS_OWN},
            capture_output=True,
            text=True,
            check=False,
        )

    return do


def events_about(tables: TableServiceClient, person: Person, action: str) -> list[tuple[str, str]]:
    """Outcome and actor of each event, the newest first."""
    rows = list_rows(tables, "audit", "TargetObjectId", person.account.object_id)
    return [
        (row["Outcome"], row["ActorKey"])
        for row in rows
        if row["Action"] == action and row["PartitionKey"] == "all"
    ]


def test_list_is_an_array_of_users(run: Run, desk: Desk, settled: Person) -> None:
    listed = run("list")
    assert {tuple(user) for user in listed} == {tuple(SECTION_5A)}
    assert desk.get_user(settled) in listed
    times = [user["createdAt"] for user in listed]
    assert times == sorted(times, reverse=True)
    assert [user["objectId"] for user in listed] == find(desk)


def test_list_searches_as_the_page_does(
    run: Run, desk: Desk, tables: TableServiceClient, settled: Person
) -> None:
    for q in (settled.account.username.upper(), settled.account.object_id, get_identity(tables, settled)):
        assert run("list", "--q", q) == [desk.get_user(settled)]
        assert run("list", "--q", q, "--status", "blocked") == []
    assert run("list", "--q", f"nobody {uuid.uuid4()}") == []


def test_list_for_people_is_a_table(application: Flask, tables: TableServiceClient, settled: Person) -> None:
    done = run_command(application, "users", "list", "--q", settled.account.username)
    assert done.exit_code == 0
    header, line = done.stdout.splitlines()
    assert "Status" in header
    for part in (settled.account.username, settled.key, get_identity(tables, settled), "active"):
        assert part in line


def test_show_is_one_user(run: Run, desk: Desk, settled: Person, application: Flask) -> None:
    user = desk.get_user(settled)
    for name in (settled.key, settled.key.upper(), settled.account.object_id):
        assert run("show", name) == user
    shown = run_command(application, "users", "show", settled.key).stdout
    assert all(member in shown for member in SECTION_5A)


def test_block_and_unblock_work_on_the_next_request(
    start: Start, azure: LocalAzure, tables: TableServiceClient, settled: Person
) -> None:
    token = settled.token().json()["token"]
    done = start("block", settled.key, "--reason", "left", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["blocked"] is True, "there is nothing else on the standard output"
    assert_signed_out(settled, settled.url)
    assert azure.check_token(token)["valid"] is False
    row = find_identity_row(tables, settled)
    assert row is not None
    assert row["BlockReason"] == "left"
    done = start("unblock", settled.key)
    assert (done.returncode, done.stdout) == (0, "Unblocked.\n")
    assert settled.sign_in().status_code == 302
    operator = f"{pwd.getpwuid(os.getuid()).pw_name}@{socket.gethostname()}"
    for action in ("block", "unblock"):
        assert sorted(events_about(tables, settled, action)) == [("done", operator), ("started", operator)]


def test_somebody_who_never_came_is_blocked_and_let_in_again(
    run: Run, tables: TableServiceClient, person: Person
) -> None:
    user = run("block", person.key)
    assert (user["blocked"], user["communicationUserId"]) == (True, None)
    assert run("unblock", person.account.object_id)["blocked"] is False
    assert find_identity_row(tables, person) is None
    assert list_index_keys(tables, person.account.object_id) == []


def test_revoke_and_sign_out(run: Run, azure: LocalAzure, settled: Person) -> None:
    token = settled.token().json()["token"]
    run("revoke", settled.key)
    assert azure.check_token(token)["valid"] is False
    assert settled.get("/api/me").status_code == 200
    run("sign-out", settled.key)
    assert_signed_out(settled, settled.url)


def test_delete_leaves_nothing(
    run: Run, azure: LocalAzure, tables: TableServiceClient, settled: Person
) -> None:
    identity = get_identity(tables, settled)
    run("delete", settled.key, "--yes")
    assert find_identity_row(tables, settled) is None
    assert list_sessions(tables, settled) == []
    assert identity not in azure.list_identities()
    assert list_index_keys(tables, settled.account.object_id) == []
    run("delete", settled.key, "--yes")  # with or without a row


def test_delete_asks(application: Flask, tables: TableServiceClient, settled: Person) -> None:
    refused = run_command(application, "users", "delete", settled.key, typed="n\n")
    assert refused.exit_code == 1
    assert find_identity_row(tables, settled) is not None
    assert run_command(application, "users", "delete", settled.key, typed="").exit_code == 1
    assert find_identity_row(tables, settled) is not None
    agreed = run_command(application, "users", "delete", settled.key, typed="y\n")
    assert agreed.exit_code == 0
    assert find_identity_row(tables, settled) is None


def test_export_is_all_that_is_stored(
    run: Run, desk: Desk, tables: TableServiceClient, settled: Person
) -> None:
    wait_until(lambda: events_about(tables, settled, "identity-created") != [])
    exported = run("export", settled.key)
    assert exported["user"] == desk.get_user(settled)
    assert len(exported["sessions"]) == 1
    assert [event["action"] for event in exported["audit"]] == ["export", "identity-created"]
    everybody = run("export")
    assert settled.key in {f"{one['user']['tenantId']}/{one['user']['objectId']}" for one in everybody}


def test_export_of_somebody_without_an_identity_has_their_sessions(run: Run, person: Person) -> None:
    run("export", person.key, exit_code=1)
    person.sign_in()
    exported = run("export", person.key)
    assert exported["user"]["communicationUserId"] is None
    assert len(exported["sessions"]) == 1


@pytest.mark.parametrize("command", ["show", "unblock", "revoke", "export"])
def test_stranger_is_refused(
    application: Flask, tables: TableServiceClient, person: Person, command: str
) -> None:
    done = run_command(application, "users", command, person.key, "--json")
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr == "Error: There is no such user.\n"
    assert list_rows(tables, "audit", "TargetObjectId", person.account.object_id) == []


@pytest.mark.parametrize(
    "arguments",
    [
        ("show",),
        ("show", "somebody"),
        ("show", f"{SOMEBODY}/"),
        ("show", f"/{SOMEBODY}"),
        ("show", f"{SOMEBODY}/{SOMEBODY}/{SOMEBODY}"),
        ("show", f"{SOMEBODY}' or '1' eq '1"),
        ("list", "--status", "gone"),
        ("list", "more"),
        ("shout", SOMEBODY),
        ("block", SOMEBODY, "--yes"),
    ],
    ids=lambda arguments: " ".join(arguments)[:30],
)
def test_wrong_usage_ends_with_2(application: Flask, arguments: tuple[str, ...]) -> None:
    done = run_command(application, "users", *arguments)
    assert (done.exit_code, done.stdout) == (2, "")


def test_tenant_must_be_named_where_there_are_several(settings: Mapping[str, str], settled: Person) -> None:
    tenants = f"{settings['ENTRA_ALLOWED_TENANTS']},{uuid.uuid4()}"
    several = create_app(Settings.from_env({**settings, **OF_ITS_OWN, "ENTRA_ALLOWED_TENANTS": tenants}))
    alone = run_command(several, "users", "show", settled.account.object_id)
    assert alone.exit_code == 2
    assert "several tenants are allowed" in alone.stderr
    assert run_command(several, "users", "show", settled.key).exit_code == 0


@pytest.mark.parametrize("command", ["list", "show", "block", "delete", "export", "repair"])
def test_storage_that_fails_is_one_line_and_1(
    application: Flask, storage_proxy: StorageProxy, settled: Person, command: str
) -> None:
    arguments = [] if command in ("list", "repair") else [settled.key]
    storage_proxy.plant(Fault(kind="status"))
    yes = ["--yes"] if command == "delete" else []
    done = run_command(application, "users", command, *arguments, *yes)
    assert done.exit_code == 1
    assert done.stderr.splitlines()[-1].startswith("Error: Table Storage: HTTP 503")
    assert "Traceback" not in done.output


@pytest.fixture
def damaged(tables: TableServiceClient, settled: Person) -> Person:
    """Somebody whose block was interrupted, before the index was written."""
    wait_until_indexed(tables, settled.account.object_id)
    change_identity_row(tables, settled, Blocked=True, Blocking=True, Indexed=False)
    return settled


def test_repair_finds_and_mends_what_a_crash_left(
    run: Run, start: Start, tables: TableServiceClient, damaged: Person
) -> None:
    def findings(*options: str) -> list[str]:
        return [one["kind"] for one in run("repair", *options) if one["user"] == damaged.key]

    assert findings("--dry-run") == findings("--dry-run") == ["half-blocked"]
    done = start("repair")
    assert done.returncode == 0, done.stderr
    assert f"half-blocked  {damaged.key}" in done.stdout
    assert done.stdout.splitlines()[-1].endswith(" mended.")
    assert findings("--dry-run") == []
    assert list_kinds(tables, damaged.account.object_id) == {"n", "t", "bn", "bt"}


def test_repair_leaves_nothing_in_the_index_of_whom_it_deletes(
    run: Run, tables: TableServiceClient, settled: Person
) -> None:
    """As after a kill in the middle of a deletion."""
    wait_until_indexed(tables, settled.account.object_id)
    change_identity_row(tables, settled, Deleting=True)

    def findings(*options: str) -> list[str]:
        return [one["kind"] for one in run("repair", *options) if one["user"] == settled.key]

    assert findings("--dry-run") == findings() == ["half-deleted"]
    assert findings("--dry-run") == []
    assert list_index_keys(tables, settled.account.object_id) == []


def test_process_ends_with_the_code_of_the_command(start: Start) -> None:
    assert start("show", "nobody").returncode == 2
    done = start("show", str(uuid.uuid4()))
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "Error: There is no such user.\n")
