"""Users who change while a backup is written or restored, and a storage that has lost a part."""

from collections.abc import Mapping
from dataclasses import replace

import pytest

from tests.support.backup import Backup, differences, fill, snapshot, switch, wipe
from tests.support.commands import run_command
from tests.support.rows import empty
from tests.support.seed import identity_row, ledger_row, put_rows
from trusted_service.models import Identity

ERASED = {"TenantId": "", "ObjectId": "", "Reason": "deleted"}


def former_of(storage: Backup, user: Identity) -> str:
    """The former identity of a user who has had two."""
    rows: Mapping[tuple[str, str], Mapping[str, str]] = snapshot(storage.env)["ledger"]
    (former,) = (
        row["AcsUserId"]
        for (partition, _), row in rows.items()
        if partition.startswith(f"user-{user.user_id.object_id}") and row["AcsUserId"] != user.acs_user_id
    )
    return former


def test_lost_ledger_is_restored(storage: Backup) -> None:
    fill(storage.env, 40)
    storage.export()
    before = snapshot(storage.env)
    empty(storage.env, "ledger")
    put_rows(storage.env, "ledger", [before["ledger"]["resource", "pin"]])
    results = storage.restore()
    assert results.count(("present", "the ledger lacked identities")) == 2
    assert [result for result, _ in results].count("present") == 41
    assert differences(before, snapshot(storage.env)) == []


@pytest.mark.parametrize("table", ["identities", "ledger"])
def test_switch_during_export_loses_no_identity(storage: Backup, table: str) -> None:
    """Right before the rows are read, or between the row and the user's entries."""
    user = fill(storage.env, 20)[1]
    now = replace(user, acs_user_id=f"{user.acs_user_id}1")
    about = user.user_id.object_id if table == "ledger" else ""
    fault = storage.run_before("GET", about, lambda: switch(storage.env, user, now), table=table)
    storage.export()
    assert fault.times == 0
    wipe(storage.env)
    assert {result for result, _ in storage.restore()} == {"imported"}
    services = storage.application().extensions["trusted_service"]
    entries = services.ledger.all_of(services.identities.get(user.user_id))
    assert {entry.acs_user_id for entry in entries} == {user.acs_user_id, now.acs_user_id}


def test_user_in_deletion_is_restored_as_deleted(storage: Backup) -> None:
    user, blocked = fill(storage.env, 20)[:2]
    rows = [identity_row(user), {**identity_row(replace(blocked, blocked=True)), "BlockReason": "left"}]
    put_rows(storage.env, "identities", [{**row, "Deleting": True} for row in rows])
    identities = [user.acs_user_id, former_of(storage, user), blocked.acs_user_id]
    storage.export()
    wipe(storage.env)
    assert {result for result, _ in storage.restore()} == {"imported"}
    found = snapshot(storage.env)
    assert (user.user_id.object_id, user.user_id.tenant_id) not in found["identities"]
    row = found["identities"][blocked.user_id.object_id, blocked.user_id.tenant_id]
    assert (row["Blocked"], row["BlockReason"]) == (True, "left")
    assert not {"AcsUserId", "Name", "Username", "Deleting"} & row.keys()
    for identity in identities:
        assert "ObjectId" not in found["ledger"][f"{identity}".lower(), "identity"]


def test_erasure_during_restoration_is_a_conflict(storage: Backup) -> None:
    user = fill(storage.env, 20)[0]
    former = former_of(storage, user)
    storage.export()
    wipe(storage.env)
    erased = {**ledger_row(replace(user, acs_user_id=former)), **ERASED}
    about = f"user-{user.user_id.object_id}"
    fault = storage.run_before("PUT", about, lambda: put_rows(storage.env, "ledger", [erased]))
    results = storage.restore(exit_code=1)
    assert fault.times == 0
    assert results.count(("conflict", "the identity was erased here")) == 1
    assert [result for result, _ in results].count("imported") == len(results) - 1


def test_pin_of_another_process_stops_the_restoration(storage: Backup) -> None:
    fill(storage.env, 20)
    storage.export()
    pin = snapshot(storage.env)["ledger"]["resource", "pin"]
    wipe(storage.env)
    fault = storage.run_before("POST", '"pin"', lambda: put_rows(storage.env, "ledger", [pin]))
    done = run_command(storage.application(), "users", "import", str(storage.path))
    assert fault.times == 0
    assert (done.exit_code, done.stderr) == (1, "Error: The resource was changed meanwhile.\n")
