"""`flask users …`: output and effects for operators, JSON and exit codes for scripts."""

import json
import os
import pwd
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from azure.data.tables import TableServiceClient
from flask import Flask

from tests.support.admin_client import SECTION_5A, Admin, assert_signed_out
from tests.support.commands import read_json, run_command, start_users_command
from tests.support.concurrency import wait_until
from tests.support.person import Person
from tests.support.rows import (
    change_identity_row,
    find_identity_row,
    get_identity,
    get_session,
    list_kinds,
    list_rows,
    wait_until_indexed,
)
from tests.support.service import ROOT
from tests.support.settings import OWN_SETTINGS
from tests.support.storage_proxy import Fault, StorageProxy
from tests.support.user_lists import find
from trusted_service.app import create_app
from trusted_service.settings import Settings

USER_ID = "7c9e6679-7425-40de-944b-e07fc1f90ae7"
OPERATOR = f"{pwd.getpwuid(os.getuid()).pw_name}@{socket.gethostname()}"

Run = Callable[..., Any]
Start = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(application: Flask) -> Run:
    """Run a `users` command with --json; check that it succeeds and return its output."""

    def do(*arguments: str) -> Any:
        done = run_command(application, "users", *arguments, "--json")
        assert done.exit_code == 0, done.output
        return read_json(done)

    return do


@pytest.fixture
def start(settings: dict[str, str]) -> Start:
    """Run a `users` command in a separate process, as operators do."""

    def do(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "flask", "--app", "wsgi", "users", *arguments]
        env = {**os.environ, **settings, **OWN_SETTINGS, "LOGNAME": "ada"}
        return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)

    return do


def events_about(tables: TableServiceClient, person: Person, action: str) -> list[tuple[str, str]]:
    """Outcome and actor of each event, sorted."""
    rows = list_rows(tables, "audit", "TargetObjectId", person.account.object_id)
    about = [row for row in rows if row["Action"] == action and row["PartitionKey"] == "all"]
    return sorted((row["Outcome"], row["ActorKey"]) for row in about)


def test_list_matches_the_admin_page(
    run: Run, admin: Admin, tables: TableServiceClient, mapped_user: Person
) -> None:
    listed = run("list")
    assert {tuple(user) for user in listed} == {tuple(SECTION_5A)}
    times = [user["createdAt"] for user in listed]
    assert times == sorted(times, reverse=True)
    assert [user["objectId"] for user in listed] == find(admin)
    account, user = mapped_user.account, admin.get_user(mapped_user)
    assert user in listed
    for q in (account.username.upper(), account.object_id, get_identity(tables, mapped_user)):
        assert run("list", "--q", q) == [user]
        assert run("list", "--q", q, "--status", "blocked") == []
    assert run("list", "--q", f"nobody {uuid.uuid4()}") == []
    for name in (mapped_user.key, mapped_user.key.upper(), account.object_id):
        assert run("show", name) == user


def test_list_without_json_is_table(
    application: Flask, tables: TableServiceClient, mapped_user: Person
) -> None:
    done = run_command(application, "users", "list", "--q", mapped_user.account.username)
    assert done.exit_code == 0
    header, line = done.stdout.splitlines()
    assert "Status" in header
    shown = (mapped_user.account.username, mapped_user.key, get_identity(tables, mapped_user), "active")
    assert all(part in line for part in shown)
    one = run_command(application, "users", "show", mapped_user.key).stdout
    assert all(member in one for member in SECTION_5A)


def test_block_and_unblock_take_effect_immediately(
    start: Start, admin: Admin, storage_proxy: StorageProxy, tables: TableServiceClient, mapped_user: Person
) -> None:
    tokens, csrf = [mapped_user.get_token()], mapped_user.csrf_headers()
    held = Thread(target=lambda: tokens.append(mapped_user.token(csrf=csrf).json()["token"]))

    def hold_token() -> None:
        held.start()
        wait_until(lambda: not mapped_user.azure.list_faults())

    mapped_user.azure.plant_fault("acs", "issue", "delay", seconds=4.5)
    partition = get_session(tables, mapped_user)["PartitionKey"]
    storage_proxy.plant(Fault(kind="signal", table="sessions", about=partition, times=1, action=hold_token))
    reason = f"left\udcff\x1b in\r\n\u202eMay {tokens[0][:99]}"
    done = start("block", mapped_user.key, "--reason", reason, "--json")
    assert done.returncode == 0, done.stderr
    held.join()
    assert json.loads(done.stdout)["blocked"] is True, "standard output has the JSON only"
    assert_signed_out(mapped_user, mapped_user.url)
    assert [mapped_user.azure.check_token(token)["valid"] for token in tokens] == [False, False]
    row = find_identity_row(tables, mapped_user)
    assert row is not None
    assert row["BlockReason"] == "left in May [removed]"
    for path in ("audit", "audit.csv", f"users/{mapped_user.key}"):
        assert "left in May" in admin.person.get(f"/admin/{path}").text
    done = start("unblock", mapped_user.key)
    assert (done.returncode, done.stdout) == (0, "Unblocked.\n")
    mapped_user.signed_in()
    for action in ("block", "unblock"):
        assert events_about(tables, mapped_user, action) == [("done", OPERATOR), ("started", OPERATOR)]


@pytest.mark.parametrize("error", ["The block holds, but tokens in progress may stay valid.", "blocked, but"])
def test_block_without_last_sweep_exits_with_1(
    settings: dict[str, str], tables: TableServiceClient, mapped_user: Person, tmp_path: Path, error: str
) -> None:
    azure, identity = mapped_user.azure, get_identity(tables, mapped_user)
    if error == "blocked, but":
        azure.plant_fault("acs", "revoke", "status", skip=1, times=None, about=identity)
    process = start_users_command(settings | OWN_SETTINGS, "block", mapped_user.key, output=tmp_path)
    stdout = tmp_path / "stdout"
    wait_until(lambda: stdout.is_file() and stdout.read_text() == "Blocked.\n")
    if error != "blocked, but":
        time.sleep(0.5)
        os.kill(process.pid or 0, signal.SIGINT)
    process.join(30)
    assert process.exitcode == 1
    assert f"Error: {error}" in (tmp_path / "stderr").read_text()
    assert_signed_out(mapped_user, mapped_user.url)


def test_delete_prompts_first(application: Flask, tables: TableServiceClient, mapped_user: Person) -> None:
    for typed in ("n\n", ""):
        assert run_command(application, "users", "delete", mapped_user.key, typed=typed).exit_code == 1
        assert find_identity_row(tables, mapped_user) is not None
    assert run_command(application, "users", "delete", mapped_user.key, typed="y\n").exit_code == 0
    assert find_identity_row(tables, mapped_user) is None


def test_export_contains_all_user_data(
    run: Run, admin: Admin, tables: TableServiceClient, mapped_user: Person, new_person: Callable[..., Person]
) -> None:
    wait_until(lambda: events_about(tables, mapped_user, "identity-created") != [])
    exported = run("export", mapped_user.key)
    assert exported["user"] == admin.get_user(mapped_user)
    assert len(exported["sessions"]) == 1
    assert [event["action"] for event in exported["audit"]] == ["export", "identity-created"]
    all_users = run("export")
    assert mapped_user.key in {f"{one['user']['tenantId']}/{one['user']['objectId']}" for one in all_users}
    exported = run("export", new_person().signed_in().key)
    assert exported["user"]["communicationUserId"] is None
    assert len(exported["sessions"]) == 1


def test_unknown_user_is_refused(application: Flask, tables: TableServiceClient, person: Person) -> None:
    elsewhere = f"{USER_ID}/{person.account.object_id}"  # in a tenant that is not allowed
    commands = [(command, person.key) for command in ("show", "unblock", "revoke", "export")]
    for command in (*commands, ("block", elsewhere)):
        done = run_command(application, "users", *command, "--json")
        assert (done.exit_code, done.stdout, done.stderr) == (1, "", "Error: There is no such user.\n")
        assert list_rows(tables, "audit", "TargetObjectId", person.account.object_id) == []


def test_usage_error_exits_with_2(application: Flask, start: Start) -> None:
    assert [start("show", user).returncode for user in ("nobody", USER_ID)] == [2, 1]
    for arguments in (
        *(("show",), ("show", "somebody"), ("show", f"{USER_ID}/"), ("show", f"/{USER_ID}")),
        *(("show", "/".join([USER_ID] * 3)), ("show", f"{USER_ID}' or '1' eq '1")),
        *(("list", "--status", "gone"), ("list", "more"), ("shout", USER_ID), ("block", USER_ID, "--yes")),
        ("block", USER_ID, "--reason", "x" * 301),
    ):
        done = run_command(application, "users", *arguments)
        assert (done.exit_code, done.stdout) == (2, ""), arguments


def test_user_needs_tenant_if_several_are_allowed(settings: Mapping[str, str], mapped_user: Person) -> None:
    tenants = f"{settings['ENTRA_ALLOWED_TENANTS']},{uuid.uuid4()}"
    several = create_app(Settings.from_env({**settings, **OWN_SETTINGS, "ENTRA_ALLOWED_TENANTS": tenants}))
    alone = run_command(several, "users", "show", mapped_user.account.object_id)
    assert alone.exit_code == 2
    assert "several tenants are allowed" in alone.stderr
    assert run_command(several, "users", "show", mapped_user.key).exit_code == 0


def test_failing_storage_prints_one_line_and_exits_1(
    application: Flask, storage_proxy: StorageProxy, mapped_user: Person
) -> None:
    key = mapped_user.key
    storage_proxy.plant(Fault(kind="status"))
    about_one = (["show", key], ["block", key], ["export", key], ["delete", key, "--yes"])
    for command in (["list"], ["repair"], *about_one):
        done = run_command(application, "users", *command)
        assert done.exit_code == 1, command
        assert done.stderr.splitlines()[-1].startswith("Error: Table Storage: HTTP 503")
        assert "Traceback" not in done.output


def test_repair_completes_an_interrupted_block(
    run: Run, start: Start, tables: TableServiceClient, mapped_user: Person
) -> None:
    """The row is as after a kill during a block."""
    wait_until_indexed(tables, mapped_user.account.object_id)
    reason = "\udcff\x1b]0;why\x07\n"
    change_identity_row(tables, mapped_user, Blocked=True, Blocking=True, Indexed=False, BlockReason=reason)

    def find_kinds() -> list[str]:
        return [one["kind"] for one in run("repair", "--dry-run") if one["user"] == mapped_user.key]

    assert find_kinds() == find_kinds() == ["half-blocked"]
    done = start("repair")
    assert done.returncode == 0, done.stderr
    assert f"half-blocked  {mapped_user.key}  ]0;why\n" in done.stdout
    assert done.stdout.splitlines()[-1].endswith(" repaired.")
    assert find_kinds() == []
    assert list_kinds(tables, mapped_user.account.object_id) == {"n", "t", "bn", "bt"}
