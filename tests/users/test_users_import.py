"""`flask users import` validates another system's mappings, imports each once and overwrites nothing."""

import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from azure.data.tables import TableEntity, TableServiceClient
from click.testing import Result
from flask import Flask

from tests.support.admin_client import SECTION_5A, Admin, assert_signed_out
from tests.support.commands import CommandFailed, read_json, run_command, run_users, start_users_command
from tests.support.own_azure import World, own_azure
from tests.support.person import Person
from tests.support.rows import find_entry, get_identity, list_rows
from tests.support.seed import create_identities
from tests.support.service import Service
from tests.support.storage_proxy import Fault, StorageProxy
from tests.support.user_lists import find
from trusted_service.users.mapping_file import read_mappings

HEADER = "objectId,communicationUserId"
WITH_BLOCKED = f"{HEADER},blocked"
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
TENANT, OBJECT_ID = str(uuid.uuid4()), "7c9e6679-7425-40de-944b-e07fc1f90ae7"
FOREIGN_ID = f"8:acs:{OBJECT_ID}_{OBJECT_ID}"
GOOD = f"{OBJECT_ID},{FOREIGN_ID}"


def new_object_id() -> str:
    return str(uuid.uuid4())


@dataclass(frozen=True)
class Importer:
    """Runs the command on a file with the given lines."""

    application: Flask
    tables: TableServiceClient
    path: Path
    new_id: Callable[[], str]
    """Return an identity id of the resource that the storage is pinned to."""

    def run(self, *lines: str, header: str = HEADER, options: Sequence[str] = ()) -> Result:
        self.path.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
        return run_command(self.application, "users", "import", str(self.path), *options)

    def results(self, *lines: str, exit_code: int = 0, **given: Any) -> list[tuple[str, str]]:
        """The result and the detail of each row."""
        done = self.run(*lines, **given | {"options": ["--json", *given.get("options", [])]})
        assert done.exit_code == exit_code, done.output
        return [(row["result"], row["detail"]) for row in read_json(done)]

    def rows(self, object_id: str) -> list[TableEntity]:
        return list_rows(self.tables, "identities", "PartitionKey", object_id)


@pytest.fixture
def importer(world: World, application: Flask, shared_user: Person, tmp_path: Path) -> Importer:
    return Importer(application, world.tables, tmp_path / "mappings.csv", world.azure.new_unknown_identity)


def test_import_keeps_all_known_members(importer: Importer, admin: Admin) -> None:
    object_id, acs_user_id, name = new_object_id(), importer.new_id(), f"'@Zoë {uuid.uuid4().hex}"
    tenant = admin.person.account.tenant_id
    found = importer.results(
        f"{tenant},{object_id.upper()},{name},zoe@contoso.example,{acs_user_id},2020-01-02T03:04:05+01:00,,true",
        header=",".join(SECTION_5A),
    )
    assert found == [("imported", "")]
    members = (name[1:], "zoe@contoso.example", acs_user_id, "2020-01-02T02:04:05Z", None, True)
    assert tuple(admin.get_user(f"{tenant}/{object_id}").values()) == (tenant, object_id, *members)
    for q in (name[1:], acs_user_id, object_id):
        assert find(admin, q=q, status="blocked") == [object_id]
    events = list_rows(importer.tables, "audit", "TargetObjectId", object_id)
    events = [event for event in events if (event["PartitionKey"], event["Action"]) == ("all", "import")]
    assert sorted(event["Outcome"] for event in events) == ["done", "started"]
    assert {(event["ActorKind"], event["Detail"]) for event in events} == {("operator", "")}


def test_imported_identity_gets_first_token(importer: Importer, person: Person) -> None:
    (acs_user_id,) = create_identities(person.azure.env, 1)
    assert importer.results(f"{person.account.object_id},{acs_user_id}") == [("imported", "")]
    assert person.signed_in().token().json()["user"] == {"communicationUserId": acs_user_id}


def test_dry_run_reports_results_and_writes_nothing(importer: Importer) -> None:
    object_id, audited = new_object_id(), list_rows(importer.tables, "audit", "PartitionKey", "all")
    lines = f"{object_id},{importer.new_id()}", "x,y"
    done = importer.run(*lines, options=["--dry-run"])
    assert done.exit_code == 1
    first, second, summary = done.stdout.splitlines()
    assert first.startswith("2  imported  ")
    assert first.endswith(object_id)
    assert second == "3  invalid  x  tenantId and objectId must be GUIDs"
    assert summary == "1 imported, 0 present, 0 conflict, 1 invalid. Nothing was written."
    assert importer.rows(object_id) == []
    assert list_rows(importer.tables, "audit", "PartitionKey", "all") == audited
    summary = summary.removesuffix(" Nothing was written.")
    assert importer.run(*lines).stdout.splitlines() == [first, second, summary]
    assert len(importer.rows(object_id)) == 1


def test_import_overwrites_nothing(importer: Importer, mapped_user: Person, admin: Admin) -> None:
    header, *exported = admin.person.get("/admin/users.csv").text.splitlines()
    done = importer.run(*exported, header=header, options=["--json", "--dry-run"])
    results = {row["user"]: row["result"] for row in read_json(done)}
    assert results[mapped_user.key] == "present"
    assert "imported" not in results.values()
    user, acs_user_id = mapped_user.account.object_id, get_identity(importer.tables, mapped_user)
    before, blocked = importer.rows(user), new_object_id()
    admin.do("api", f"{admin.person.account.tenant_id}/{blocked}", "block")
    pairs = ((user, importer.new_id()), (new_object_id(), acs_user_id), (blocked, importer.new_id()))
    assert importer.results(*map(",".join, pairs), exit_code=1) == [
        ("conflict", f"the user has {acs_user_id}"),
        ("conflict", f"the identity is that of {mapped_user.key}"),
        ("conflict", "the user has a block and no identity"),
    ]
    assert importer.rows(user) == before


def test_import_blocks_only_new_users(importer: Importer, signed_in: Person, shared_user: Person) -> None:
    identities = importer.new_id(), get_identity(importer.tables, shared_user)
    users = signed_in.account.object_id, shared_user.account.object_id
    lines = [f"{user},{identity},true" for user, identity in zip(users, identities, strict=True)]
    found = importer.results(*lines, header=WITH_BLOCKED, exit_code=1)
    assert found == [("imported", ""), ("conflict", "blocked in the file, and not here")]
    assert_signed_out(signed_in, signed_in.url)


def test_interrupted_import_can_be_continued(importer: Importer, storage_proxy: StorageProxy) -> None:
    object_ids = [new_object_id() for _ in range(40)]
    lines = [f"{object_id},{importer.new_id()}" for object_id in object_ids]
    storage_proxy.plant(Fault(kind="status", method="P", table="audit"))
    assert importer.run(*lines).exit_code == 1
    storage_proxy.clear()
    storage_proxy.plant(Fault(kind="status", method="POST", table="identities", skip=12))
    done = importer.run(*lines)
    assert done.exit_code == 1
    assert "Error: Table Storage: HTTP 503" in done.stderr
    storage_proxy.clear()
    found = Counter(result for result, _ in importer.results(*lines))
    assert found == {"present": 12, "imported": 28}  # none was imported while the audit trail failed
    assert all(len(importer.rows(object_id)) == 1 for object_id in object_ids)


def test_foreign_resource_needs_an_option(importer: Importer) -> None:
    own, foreign = new_object_id(), new_object_id()
    lines = f"{foreign},8:acs:{new_object_id()}_{new_object_id()}", f"{own},{importer.new_id()}"
    (refused, detail), imported = importer.results(*lines, exit_code=1)
    assert (refused, imported) == ("invalid", ("imported", ""))
    assert "another resource than 8:acs:" in detail
    assert "--allow-other-resource" in detail
    assert importer.rows(foreign) == []
    for result in ("imported", "present"):
        found = importer.results(*lines, options=["--allow-other-resource"])
        assert found == [(result, ""), ("present", "")]
    assert len(importer.rows(foreign)) == 1


def test_own_resource_decides_before_the_first_identity(tmp_path: Path) -> None:
    """Otherwise the file's first row would pin the storage to another resource."""
    with own_azure() as own:
        path, own_id = tmp_path / "mappings.csv", own.azure.new_unknown_identity()
        foreign = (f"8:{kind}:{new_object_id()}_{new_object_id()}" for kind in ("acs", "gcch-acs", "acs"))
        identities = [*foreign, f"8:acs:{own_id[6:].upper()}"]
        lines = (f"{new_object_id()},{identity}" for identity in identities)
        path.write_text("\n".join([HEADER, *lines]), encoding="utf-8")
        own.azure.reset_calls()
        with pytest.raises(CommandFailed):  # exit 1, as rows are refused
            run_users(own.service.env, "import", str(path))
        assert own.azure.count_calls("acs") == {"create": 1, "delete": 1}  # however many resources it has
        rows = own.tables.get_table_client("identities").list_entities()
        assert [row["AcsUserId"] for row in rows] == identities[3:]


def test_identity_keeps_its_owner(importer: Importer, admin: Admin, mapped_user: Person) -> None:
    upper = "8:acs:" + get_identity(importer.tables, mapped_user).removeprefix("8:acs:").upper()
    assert importer.results(f"{mapped_user.account.object_id},{upper}") == [("present", "")]
    line = f"{new_object_id()},{upper}"
    owned = ("conflict", f"the identity is that of {mapped_user.key}")
    assert importer.results(line, exit_code=1) == [owned]
    admin.do("api", mapped_user, "delete")
    assert importer.results(line, exit_code=1) == [("conflict", "the identity was erased here")]


def test_concurrent_imports_never_share_an_identity(importer: Importer, service: Service) -> None:
    identities, processes = [importer.new_id() for _ in range(60)], []
    for folder in (importer.path.parent / "one", importer.path.parent / "other"):
        folder.mkdir()
        file, lines = folder / "mappings.csv", [f"{new_object_id()},{identity}" for identity in identities]
        file.write_text("\n".join([HEADER, *lines]), encoding="utf-8")
        processes.append(start_users_command(service.env, "import", str(file), output=folder))
    for process in processes:
        process.join(120)
        assert process.exitcode in (0, 1)
    rows = importer.tables.get_table_client("identities").list_entities(select=["AcsUserId"])
    owners = Counter(str(row["AcsUserId"]) for row in rows)
    assert [owners[identity] for identity in identities] == [1] * len(identities)


def test_concurrent_token_withdraws_import_claim(importer: Importer, world: World, signed_in: Person) -> None:
    identity, csrf = importer.new_id(), signed_in.csrf_headers()
    world.run_before("POST", "identities", identity, partial(signed_in.token, csrf=csrf))
    found = importer.results(f"{signed_in.account.object_id},{identity}", exit_code=1)
    assert found == [("conflict", f"the user has {world.identity_of(signed_in)}")]
    assert find_entry(world.tables, identity) is None


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        *((b"", "there is no row"), (f"{HEADER}\n".encode(), "there is no row")),
        (b"objectId,name\na,b\n", "must name objectId and communicationUserId. Line 1 has: objectId | name"),
        (f"oid,{HEADER}\n{GOOD}\n".encode(), "Line 1 has: oid | objectId | communicationUserId"),
        (f"{HEADER},acsUserId\n{GOOD}\n".encode(), "Line 1 has: objectId | communicationUserId | acsUserId"),
        (f"{HEADER},name\n{GOOD},Zo\xeb\n".encode("latin-1"), "line 2 is not UTF-8: save it"),
        (b"\xff\xfe,communicationUserId\n", "line 1 is not UTF-8"),
        (b"objectId,communicationUserId\n\0", "line 2 is not UTF-8"),
        (b'objectId,communicationUserId\na,"b\n', "line 2 is not valid CSV"),
        (None, "No such file"),
    ],
)
def test_unreadable_file_is_a_usage_error(importer: Importer, content: bytes | None, sentence: str) -> None:
    if content is not None:
        importer.path.write_bytes(content)
    done = run_command(importer.application, "users", "import", str(importer.path))
    assert done.exit_code == 2
    assert sentence in done.stderr


@pytest.mark.parametrize(
    ("header", "line", "problem"),
    [
        (HEADER, GOOD, ""),
        ("OID;ACS User ID", GOOD.replace(",", ";"), ""),
        ("object_id,acsUserId", GOOD, ""),
        (HEADER, GOOD.replace("8:acs:", "8:gcch-acs:"), ""),
        (HEADER, GOOD.upper(), ""),
        (HEADER, f"{{{OBJECT_ID}}},'{FOREIGN_ID}", ""),
        (
            f"{HEADER},managerId",
            f"{OBJECT_ID},x,{FOREIGN_ID},{OBJECT_ID}",
            f"as the header, perhaps because of an unquoted comma: {OBJECT_ID} | x | [identity]",
        ),
        (HEADER, f"{OBJECT_ID},", "communicationUserId is missing"),
        (HEADER, f"{OBJECT_ID.replace('-', '')},{FOREIGN_ID}", "must be GUIDs"),
        (HEADER, f"{OBJECT_ID},{FOREIGN_ID}x", "must be 8:acs:"),
        (HEADER, f"{OBJECT_ID},8:orgid:{OBJECT_ID}", "must be 8:acs:"),
        (f"{HEADER},tenantId", f"{GOOD},{OBJECT_ID}", "not allowed here"),
        (HEADER, GOOD, "tenantId is missing, and several tenants"),
        (f"{HEADER},createdAt", f"{GOOD},yesterday", "createdAt must be a time"),
        (f"{HEADER},createdAt", f"{GOOD},0001-01-01T00:00:00+14:00", "createdAt must be a time"),
        (f"{HEADER},createdAt", f"{GOOD},1601-01-01", "must be between 1970 and now"),
        (f"{HEADER},lastTokenAt", f"{GOOD},2026-01-02T03:05:06Z", "must be between 1970 and now"),
        (f"{HEADER},lastTokenAt", f"{GOOD},2026-01-02T03:05:05Z", ""),
        (WITH_BLOCKED, f"{GOOD},maybe", "blocked must be"),
        (WITH_BLOCKED, f"{OBJECT_ID},,true", ""),
    ],
)
def test_rows_are_validated(header: str, line: str, problem: str) -> None:
    tenants = [TENANT, new_object_id()] if "several tenants" in problem else [TENANT]
    (row,) = read_mappings(f"{header}\n{line}\n".encode(), tenants, NOW)
    assert problem in row.detail
    assert bool(problem) == bool(row.detail) == (row.result == "invalid") == (row.identity is None)


def test_identity_in_capitals_is_stored_in_lower_case(importer: Importer) -> None:
    object_id, acs_user_id = new_object_id(), importer.new_id()
    assert importer.results(f"{object_id},{acs_user_id.upper()}") == [("imported", "")]
    assert [row["AcsUserId"] for row in importer.rows(object_id)] == [acs_user_id]


def test_identity_map_is_imported_without_archived_identities(
    importer: Importer, mapped_user: Person
) -> None:
    done = run_command(importer.application, "users", "identity-map")
    header, *lines = done.stdout.splitlines()
    lines = [line for line in lines if mapped_user.account.object_id in line]
    lines += [
        f"{importer.new_id()},,,archive-only,",
        f"{importer.new_id()},{OBJECT_ID},{TENANT},archive-only,x",
    ]
    skipped = ("skipped", "an identity of the past (archive-only)")
    assert importer.results(*lines, header=header) == [("present", ""), skipped, skipped]
    summary = importer.run(*lines, header=header).stdout.splitlines()[-1]
    assert summary == "0 imported, 1 present, 0 conflict, 0 invalid, 2 skipped."


def test_contradictory_rows_are_invalid() -> None:
    a, b, c, d = (new_object_id() for _ in range(4))
    w, x, y, z = (f"8:acs:{OBJECT_ID}_{new_object_id()}" for _ in range(4))
    lines = [f"{a},{w}", f"{a.upper()},{x}", f"{b},{y}", f"{c},8:acs:{y[6:].upper()}", *[f"{d},{z}"] * 2]
    rows = read_mappings("\n".join([HEADER, *lines]).encode(), (TENANT,), NOW)
    user_twice = "the file has this user with different identities"
    identity_twice = "the file has this identity for different users"
    repeated = "the file has this row already"
    assert [row.detail for row in rows] == [*[user_twice] * 2, *[identity_twice] * 2, "", repeated]
    assert rows[4].identity is not None
    assert rows[4].identity.created_at == NOW
