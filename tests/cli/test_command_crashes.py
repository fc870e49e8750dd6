"""Commands killed at each of their writes: the same command or the next request completes them."""

import json
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from tests.support.admin_client import bearer, post_token
from tests.support.commands import repair, run_users
from tests.support.crashes import kill_command
from tests.support.own_azure import OwnAzure, own_azure
from tests.support.person import Person
from tests.support.report import RecordCell
from tests.support.rows import (
    change_identity_row,
    find_entry,
    get_identity,
    list_former,
    list_identity_rows,
    list_rows,
)
from tests.support.storage_proxy import Fault, Kind
from tests.support.user_lists import find

TABLE = "command, killed at its write"
each_kind = pytest.mark.parametrize("kind", ["hang", "hang-after-commit"])


@pytest.fixture(scope="module")
def own() -> Iterator[OwnAzure]:
    with own_azure() as running:
        running.new_user()
        yield running


def every_write(own: OwnAzure, kind: Kind, new_arguments: Callable[[], Sequence[str]]) -> Iterator[int]:
    """Kill a new command at each successive write until one completes; yield after each kill."""
    own.storage.wait_until_quiet()
    for number in range(40):
        fault = Fault(kind=kind, method="P", skip=number, times=1)
        if not kill_command(own, fault, new_arguments()):
            assert number > 2
            return
        yield number
    raise AssertionError("the command never completed")


def with_former(own: OwnAzure) -> tuple[Person, str]:
    """Create a user with a former identity of the same resource; return both."""
    person, former = own.new_user(), own.azure.new_unknown_identity()
    tenant, user = person.account.tenant_id, person.account.object_id
    known = {"AcsUserId": former, "TenantId": tenant, "ObjectId": user, "Reason": "replaced"}
    for partition, row in ((former.lower(), "identity"), (f"user-{user}-{tenant}", former.lower())):
        own.tables.get_table_client("ledger").upsert_entity(
            {"PartitionKey": partition, "RowKey": row, **known}
        )
    return person, former


@each_kind
@pytest.mark.timeout(240)
def test_repeating_a_killed_restore_completes_it(own: OwnAzure, record_cell: RecordCell, kind: Kind) -> None:
    cases: list[tuple[Person, str]] = []

    def arguments() -> Sequence[str]:
        cases.append(with_former(own))
        return ["restore", cases[-1][0].key, cases[-1][1]]

    for number in every_write(own, kind, arguments):
        person, former = cases[-1]
        current = get_identity(own.tables, person)
        record_cell(TABLE, f"restore: {number}", kind, "restored" if current == former else "as before")
        assert len(list_identity_rows(own.tables, person)) == 1
        if current != former:
            response = post_token(person, bearer(own.azure, person))
            assert response.json()["user"]["communicationUserId"] == current
        run_users(own.service.env, "restore", person.key, former)
        assert get_identity(own.tables, person) == former
        entry = find_entry(own.tables, former)
        assert entry is not None
        assert entry["Reason"] == ""
        assert former not in list_former(own.tables, person.account.object_id, person.account.tenant_id)


@each_kind
@pytest.mark.timeout(240)
def test_killed_import_is_resumed(own: OwnAzure, tmp_path: Path, record_cell: RecordCell, kind: Kind) -> None:
    """The import claims an identity first; a kill after the claim must not lock the user out."""
    path, users = tmp_path / "mappings.csv", list[tuple[str, str]]()

    def arguments() -> Sequence[str]:
        users.append((str(uuid.uuid4()), own.azure.new_unknown_identity()))
        path.write_text("objectId,communicationUserId\n" + ",".join(users[-1]) + "\n", encoding="utf-8")
        return ["import", str(path)]

    admin = own.new_admin()
    for number in every_write(own, kind, arguments):
        object_id, identity = users[-1]
        rows = list_rows(own.tables, "identities", "PartitionKey", object_id)
        record_cell(TABLE, f"import: {number}", kind, "imported" if rows else "as before")
        run_users(own.service.env, "import", str(path))
        (row,) = list_rows(own.tables, "identities", "PartitionKey", object_id)
        assert row["AcsUserId"] == identity
        assert find(admin, q=identity) == [object_id]
        assert repair(own.service.env, dry_run=True) == []


@each_kind
@pytest.mark.timeout(240)
def test_killed_move_is_all_or_nothing(own: OwnAzure, record_cell: RecordCell, kind: Kind) -> None:
    """Each command finds a user whose identity belongs to another resource."""
    stranded: list[str] = []

    def arguments() -> Sequence[str]:
        person = own.new_user()
        stranded.append(f"8:acs:{uuid.uuid4()}")
        identity = f"{stranded[-1]}_{uuid.uuid4()}"
        change_identity_row(own.tables, person, AcsUserId=identity, Indexed=False)
        return ["move-resource", "--yes"]

    for number in every_write(own, kind, arguments):
        pin = own.tables.get_table_client("ledger").get_entity("resource", "pin")
        moved = stranded[-1] in pin["Former"]
        record_cell(TABLE, f"move-resource: {number}", kind, "moved" if moved else "as before")
        run_users(own.service.env, "move-resource", "--yes")
        plan = json.loads(run_users(own.service.env, "move-resource", "--dry-run", "--json"))
        assert plan["needed"] is False
