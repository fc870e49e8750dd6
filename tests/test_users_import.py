"""`flask users import`: mappings of another system are taken in once, checked, and overwrite nothing."""

import os
import subprocess
import sys
import uuid
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest
from azure.data.tables import TableEntity, TableServiceClient
from flask import Flask

from tests.seed import create_identities
from tests.support.commands import read_json, run_command
from tests.support.desk import Desk, assert_signed_out
from tests.support.identity_rows import get_identity
from tests.support.ledger_rows import find_entry
from tests.support.local_azure import LocalAzure
from tests.support.person import Person
from tests.support.rows import list_rows
from tests.support.service import ROOT
from tests.support.settings import OF_ITS_OWN
from tests.support.storage_proxy import Fault, StorageProxy
from tests.support.together import run_together, wait_until
from tests.support.user_lists import find
from trusted_service.csv_file import UnreadableList
from trusted_service.mapping_file import read_mappings

HEADER = "objectId,communicationUserId"
RESOURCE = str(uuid.uuid4())
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
TENANT = str(uuid.uuid4())

Write = Callable[..., str]


def new_id(resource: str = RESOURCE) -> str:
    return f"8:acs:{resource}_{uuid.uuid4()}"


@pytest.fixture
def new_own_id(azure: LocalAzure, regular: Person) -> Callable[[], str]:
    """Make the id of an identity of our resource, which the storage is pinned to."""
    return azure.new_unknown_identity


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a file of these lines; return its path."""

    def put(*lines: str, header: str = HEADER) -> str:
        path = tmp_path / "mappings.csv"
        path.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
        return str(path)

    return put


def rows_of(tables: TableServiceClient, object_id: str) -> list[TableEntity]:
    return list_rows(tables, "identities", "PartitionKey", object_id.lower())


def results(application: Flask, path: str, *options: str, exit_code: int = 0) -> list[tuple[str, str]]:
    """The result and the detail of each row."""
    done = run_command(application, "users", "import", path, "--json", *options)
    assert done.exit_code == exit_code, done.output
    return [(row["result"], row["detail"]) for row in read_json(done)]


def test_users_come_in_with_all_that_is_known(
    application: Flask,
    tables: TableServiceClient,
    desk: Desk,
    settings: Mapping[str, str],
    write: Write,
    new_own_id: Callable[[], str],
) -> None:
    object_id, acs_user_id, name = str(uuid.uuid4()), new_own_id(), f"'@Zoë {uuid.uuid4().hex}"
    tenant = settings["ENTRA_ALLOWED_TENANTS"]
    path = write(
        f"{tenant},{object_id.upper()},{name},zoe@contoso.example,{acs_user_id},2020-01-02T03:04:05+01:00,,true",
        header="tenantId,objectId,name,username,communicationUserId,createdAt,lastTokenAt,blocked",
    )
    assert results(application, path) == [("imported", "")]
    user = desk.get_user(f"{tenant}/{object_id}")
    assert user == {
        "tenantId": tenant,
        "objectId": object_id,
        "name": name[1:],
        "username": "zoe@contoso.example",
        "communicationUserId": acs_user_id,
        "createdAt": "2020-01-02T02:04:05Z",
        "lastTokenAt": None,
        "blocked": True,
    }
    for q in (name[1:], acs_user_id, object_id):
        assert find(desk, q=q, status="blocked") == [object_id]
    events = list_rows(tables, "audit", "PartitionKey", "all")
    mine = [event for event in events if event["Action"] == "import" and event["Detail"] == acs_user_id]
    assert sorted(event["Outcome"] for event in mine) == ["done", "started"]
    assert {event["ActorKind"] for event in mine} == {"operator"}


def test_identity_is_used_from_then_on(
    application: Flask, azure: LocalAzure, settings: Mapping[str, str], person: Person, write: Write
) -> None:
    """Somebody who was mapped elsewhere to an identity of our resource keeps it at their first token."""
    acs_user_id = create_identities(settings, 1)[0]
    assert results(application, write(f"{person.account.object_id},{acs_user_id}")) == [("imported", "")]
    person.sign_in()
    assert person.token().json()["user"] == {"communicationUserId": acs_user_id}


def test_dry_run_writes_nothing(
    application: Flask, tables: TableServiceClient, write: Write, new_own_id: Callable[[], str]
) -> None:
    object_id = str(uuid.uuid4())
    path = write(f"{object_id},{new_own_id()}", "x,y")
    audited = len(list_rows(tables, "audit", "PartitionKey", "all"))
    found = results(application, path, "--dry-run", exit_code=1)
    assert found == [("imported", ""), ("invalid", "tenantId and objectId must be GUIDs")]
    assert rows_of(tables, object_id) == []
    assert len(list_rows(tables, "audit", "PartitionKey", "all")) == audited


def test_second_time_skips_what_is_there(
    application: Flask, write: Write, new_own_id: Callable[[], str]
) -> None:
    path = write(*(f"{uuid.uuid4()},{new_own_id()}" for _ in range(5)))
    assert results(application, path) == [("imported", "")] * 5
    assert results(application, path) == [("present", "")] * 5


def test_nothing_that_is_here_is_overwritten(
    application: Flask,
    tables: TableServiceClient,
    settled: Person,
    desk: Desk,
    new_person: Callable[..., Person],
    write: Write,
    new_own_id: Callable[[], str],
) -> None:
    blocked = new_person()
    desk.do("api", blocked, "block")
    before, mine = rows_of(tables, settled.account.object_id), get_identity(tables, settled)
    path = write(
        f"{settled.account.object_id},{new_own_id()}",
        f"{uuid.uuid4()},{mine}",
        f"{blocked.account.object_id},{new_own_id()}",
    )
    assert results(application, path, exit_code=1) == [
        ("conflict", f"the user has {mine}"),
        ("conflict", f"the identity is that of {settled.key}"),
        ("conflict", "the user has a block and no identity"),
    ]
    assert rows_of(tables, settled.account.object_id) == before


def test_block_in_the_file_is_not_passed_over(
    application: Flask, tables: TableServiceClient, settled: Person, write: Write
) -> None:
    path = write(
        f"{settled.account.object_id},{get_identity(tables, settled)},true", header=f"{HEADER},blocked"
    )
    assert results(application, path, exit_code=1) == [("conflict", "blocked in the file, and not here")]


def test_blocked_user_of_the_file_is_out_on_the_next_request(
    application: Flask, signed_in: Person, write: Write, new_own_id: Callable[[], str]
) -> None:
    line = f"{signed_in.account.object_id},{new_own_id()},true"
    assert results(application, write(line, header=f"{HEADER},blocked")) == [("imported", "")]
    assert_signed_out(signed_in, signed_in.url)


def test_export_can_be_imported(application: Flask, desk: Desk, settled: Person, tmp_path: Path) -> None:
    path = tmp_path / "users.csv"
    path.write_bytes(desk.person.get("/admin/users.csv").content)
    done = run_command(application, "users", "import", str(path), "--json", "--dry-run")
    rows = {row["user"]: row["result"] for row in read_json(done)}
    assert rows[settled.key] == "present"
    assert "imported" not in rows.values()


def test_interrupted_import_goes_on_where_it_ended(
    application: Flask,
    tables: TableServiceClient,
    storage_proxy: StorageProxy,
    write: Write,
    new_own_id: Callable[[], str],
) -> None:
    object_ids = [str(uuid.uuid4()) for _ in range(40)]
    path = write(*(f"{object_id},{new_own_id()}" for object_id in object_ids))
    storage_proxy.plant(Fault(kind="status", method="POST", table="identities", skip=12))
    done = run_command(application, "users", "import", path)
    assert done.exit_code == 1
    assert "Error: Table Storage: HTTP 503" in done.stderr
    storage_proxy.clear()
    found = [result for result, _ in results(application, path)]
    assert (found.count("present"), found.count("imported")) == (12, 28)
    assert all(len(rows_of(tables, object_id)) == 1 for object_id in object_ids)


def test_what_cannot_be_audited_is_not_imported(
    application: Flask,
    tables: TableServiceClient,
    storage_proxy: StorageProxy,
    write: Write,
    new_own_id: Callable[[], str],
) -> None:
    object_id = str(uuid.uuid4())
    storage_proxy.plant(Fault(kind="status", method="P", table="audit"))
    done = run_command(application, "users", "import", write(f"{object_id},{new_own_id()}"))
    assert done.exit_code == 1
    assert rows_of(tables, object_id) == []


def test_people_get_a_line_for_each_row_and_a_sum(
    application: Flask, write: Write, new_own_id: Callable[[], str]
) -> None:
    object_id = str(uuid.uuid4())
    done = run_command(application, "users", "import", write(f"{object_id},{new_own_id()}", "x,"))
    assert done.exit_code == 1
    first, second, summary = done.stdout.splitlines()
    assert first.startswith("2  imported  ")
    assert first.endswith(object_id)
    assert second == "3  invalid  x  tenantId and objectId must be GUIDs"
    assert summary == "1 imported, 0 present, 0 conflict, 1 invalid."


def test_identity_of_another_resource_is_refused_unless_allowed(
    application: Flask,
    azure: LocalAzure,
    tables: TableServiceClient,
    write: Write,
    new_own_id: Callable[[], str],
) -> None:
    mine, theirs = str(uuid.uuid4()), str(uuid.uuid4())
    path = write(f"{theirs},{new_id()}", f"{mine},{new_own_id()}")
    (refused, detail), taken = results(application, path, exit_code=1)
    assert (refused, taken) == ("invalid", ("imported", ""))
    assert "another resource than 8:acs:" in detail
    assert "--allow-other-resource" in detail
    assert rows_of(tables, theirs) == []
    assert results(application, path, "--allow-other-resource") == [("imported", ""), ("present", "")]
    assert len(rows_of(tables, theirs)) == 1


def test_ids_are_compared_regardless_of_letter_case(
    application: Flask,
    tables: TableServiceClient,
    settled: Person,
    write: Write,
) -> None:
    mine = get_identity(tables, settled)
    shouted = "8:acs:" + mine.removeprefix("8:acs:").upper()
    wait_until(lambda: find_entry(tables, mine) is not None)
    found = results(application, write(f"{settled.account.object_id},{shouted}"))
    assert found == [("present", "")]
    found = results(application, write(f"{uuid.uuid4()},{shouted}"), exit_code=1)
    assert found == [("conflict", f"the identity is that of {settled.key}")]


def test_two_imports_at_once_give_no_identity_to_two_users(
    settings: Mapping[str, str],
    tables: TableServiceClient,
    tmp_path: Path,
    new_own_id: Callable[[], str],
) -> None:
    identities = [new_own_id() for _ in range(60)]
    for name in ("one", "other"):
        lines = [f"{uuid.uuid4()},{identity}" for identity in identities]
        (tmp_path / name).write_text("\n".join([HEADER, *lines]), encoding="utf-8")

    def take_in(name: str) -> int:
        return subprocess.run(
            [sys.executable, "-m", "flask", "--app", "wsgi", "users", "import", str(tmp_path / name)],
            cwd=ROOT,
            env={**os.environ, **settings, **OF_ITS_OWN},
            capture_output=True,
            check=False,
            timeout=120,
        ).returncode

    assert set(run_together([partial(take_in, "one"), partial(take_in, "other")])) <= {0, 1}
    rows = tables.get_table_client("identities").list_entities(select=["AcsUserId"])
    owners = Counter(str(row["AcsUserId"]) for row in rows)
    assert [owners[identity] for identity in identities] == [1] * len(identities)


def test_identity_that_was_erased_here_is_not_taken_in_again(
    application: Flask, tables: TableServiceClient, desk: Desk, settled: Person, write: Write
) -> None:
    mine = get_identity(tables, settled)
    wait_until(lambda: find_entry(tables, mine) is not None)
    desk.do("api", settled, "delete")
    found = results(application, write(f"{uuid.uuid4()},{mine}"), exit_code=1)
    assert found == [("conflict", "the identity was erased here")]


def test_claim_of_a_user_who_signs_in_meanwhile_is_withdrawn(
    application: Flask,
    storage_proxy: StorageProxy,
    tables: TableServiceClient,
    signed_in: Person,
    write: Write,
    new_own_id: Callable[[], str],
) -> None:
    identity, csrf = new_own_id(), signed_in.csrf_headers()
    storage_proxy.plant(
        Fault(
            kind="signal",
            method="POST",
            table="identities",
            about=identity,
            times=1,
            action=lambda: signed_in.token(csrf=csrf),
        )
    )
    path = write(f"{signed_in.account.object_id},{identity}")
    mine = results(application, path, exit_code=1)
    assert mine == [("conflict", f"the user has {get_identity(tables, signed_in)}")]
    assert find_entry(tables, identity) is None


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "there is no row"),
        (b"objectId,communicationUserId\n", "there is no row"),
        (b"objectId,name\na,b\n", "must name objectId and communicationUserId"),
        (b"\xff\xfe,communicationUserId\n", "line 1 is not UTF-8"),
        (b'objectId,communicationUserId\na,"b\n', "line 2 is no CSV"),
    ],
    ids=["empty", "no row", "no column", "not UTF-8", "no CSV"],
)
def test_file_that_is_no_list_is_wrong_usage(
    application: Flask, tmp_path: Path, content: bytes, sentence: str
) -> None:
    path = tmp_path / "mappings.csv"
    path.write_bytes(content)
    done = run_command(application, "users", "import", str(path))
    assert done.exit_code == 2
    assert sentence in done.stderr


def test_file_that_is_not_there_is_wrong_usage(application: Flask) -> None:
    assert run_command(application, "users", "import", "/nowhere.csv").exit_code == 2


def problem_of(header: str, line: str, tenants: tuple[str, ...] = (TENANT,)) -> str:
    (row,) = read_mappings(f"{header}\n{line}\n".encode(), tenants, NOW)
    assert (row.identity is None) == bool(row.problem)
    return row.problem


SOMEBODY = "7c9e6679-7425-40de-944b-e07fc1f90ae7"
THEIRS = f"8:acs:{SOMEBODY}_{SOMEBODY}"
GOOD = f"{SOMEBODY},{THEIRS}"


@pytest.mark.parametrize(
    ("header", "line", "problem"),
    [
        (HEADER, GOOD, ""),
        ("OID;ACS User ID", GOOD.replace(",", ";"), ""),
        ("object_id,acsUserId", GOOD, ""),
        (HEADER, GOOD.replace("8:acs:", "8:gcch-acs:"), ""),
        (HEADER, f"{SOMEBODY},", "communicationUserId is missing"),
        (HEADER, f"{SOMEBODY.replace('-', '')},{THEIRS}", "must be GUIDs"),
        (HEADER, f"{SOMEBODY},{THEIRS}x", "must be 8:acs:"),
        (HEADER, f"{SOMEBODY},{THEIRS[6:]}", "must be 8:acs:"),
        (HEADER, f"{SOMEBODY},8:orgid:{SOMEBODY}", "must be 8:acs:"),
        (f"{HEADER},tenantId", f"{GOOD},{SOMEBODY}", "not allowed here"),
        (f"{HEADER},createdAt", f"{GOOD},yesterday", "createdAt must be a time"),
        (f"{HEADER},createdAt", f"{GOOD},0001-01-01T00:00:00+14:00", "createdAt must be a time"),
        (f"{HEADER},createdAt", f"{GOOD},1601-01-01", "no time at which"),
        (f"{HEADER},blocked", f"{GOOD},maybe", "blocked must be"),
        (f"{HEADER},blocked", f"{SOMEBODY},,true", ""),
    ],
)
def test_row_is_checked(header: str, line: str, problem: str) -> None:
    found = problem_of(header, line)
    assert problem in found
    assert bool(problem) == bool(found)


def test_tenant_must_be_named_where_there_are_several() -> None:
    assert "tenantId is missing" in problem_of(HEADER, GOOD, (TENANT, str(uuid.uuid4())))


def test_rows_that_cannot_both_be_right_are_not_used() -> None:
    user, other, third = (str(uuid.uuid4()) for _ in range(3))
    first, second, same, fine = (new_id() for _ in range(4))
    lines = [
        f"{user},{first}",
        f"{user.upper()},{second}",
        f"{other},{same}",
        f"{third},{same.upper().replace('ACS', 'acs')}",
    ]
    lines += [f"{uuid.uuid4()},{fine}"]
    lines += [lines[-1]]
    data = "\n".join([HEADER, *lines]).encode()
    rows = read_mappings(data, (TENANT,), NOW)
    assert [row.problem for row in rows] == [
        *["the file has this user with different identities"] * 2,
        *["the file has this identity for different users"] * 2,
        "",
        "the file has this row already",
    ]
    assert rows[4].identity is not None
    assert rows[4].identity.created_at == NOW


def test_unreadable_file_is_told_apart() -> None:
    with pytest.raises(UnreadableList) as raised:
        read_mappings(b"\0", (TENANT,), NOW)
    assert (raised.value.problem, raised.value.line) == ("encoding", 1)
