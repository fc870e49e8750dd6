"""What `users export` wrote is restored by `users import`: equal, repeatable, and nothing is overwritten."""

import re
import uuid
from collections.abc import Callable

import pytest

from tests.support.backup import Backup, differences, fill, snapshot, wipe
from tests.support.commands import read_json, run_command, run_users, start_users_command
from tests.support.concurrency import wait_until
from tests.support.rows import FORMER_RESOURCE
from tests.support.seed import put_rows

COUNT = 60


def test_restored_storage_is_equal(storage: Backup) -> None:
    users = fill(storage.env, COUNT)
    before = snapshot(storage.env)
    documents = storage.export()
    wipe(storage.env)
    results = storage.restore()
    assert set(results) == {("imported", "")}
    assert len(results) == len(documents) == COUNT + 3
    after = snapshot(storage.env)
    assert differences(before, after) == []
    found = run_command(storage.application(), "users", "list", "--q", users[-1].username, "--json")
    assert [user["communicationUserId"] for user in read_json(found)] == [users[-1].acs_user_id]


def test_second_restoration_changes_nothing(storage: Backup) -> None:
    fill(storage.env, COUNT)
    storage.export()
    before = snapshot(storage.env, versions=True)
    assert {result for result, _ in storage.restore()} == {"present"}
    assert snapshot(storage.env, versions=True) == before


def test_dry_run_restores_nothing(storage: Backup) -> None:
    fill(storage.env, 20)
    storage.export()
    wipe(storage.env)
    assert {result for result, _ in storage.restore("--dry-run")} == {"imported"}
    assert not any(snapshot(storage.env).values())


@pytest.mark.parametrize("rows", [1, 30])
def test_killed_restoration_is_completed_by_another(storage: Backup, rows: int) -> None:
    fill(storage.env, COUNT)
    before = snapshot(storage.env)
    storage.export()
    wipe(storage.env)
    process = start_users_command(storage.env, "import", str(storage.path), output=storage.path.parent)
    wait_until(lambda: len(snapshot(storage.env)["identities"]) >= rows or not process.is_alive())
    process.kill()
    process.join()
    assert len(snapshot(storage.env)["identities"]) < len(before["identities"])
    run_users(storage.env, "import", str(storage.path))
    assert differences(before, snapshot(storage.env)) == []


def test_one_user_is_restored(storage: Backup) -> None:
    user = fill(storage.env, 20)[0]
    before = snapshot(storage.env)
    storage.export(str(user.user_id))
    wipe(storage.env)
    assert storage.restore() == [("imported", "")]
    row = (user.user_id.object_id, user.user_id.tenant_id)
    assert snapshot(storage.env)["identities"] == {row: before["identities"][row]}


def test_user_of_the_ledger_alone_is_restored(storage: Backup) -> None:
    fill(storage.env, 20)
    before = snapshot(storage.env)
    known = {None, *(object_id for object_id, _ in before["identities"])}
    ((key, row),) = [one for one in before["ledger"].items() if one[1].get("ObjectId") not in known]
    storage.export(f"{row['TenantId']}/{row['ObjectId']}")
    wipe(storage.env)
    assert storage.restore() == [("imported", "")]
    assert snapshot(storage.env)["ledger"][key] == row


Break = Callable[[str], str]
UNUSABLE: dict[str, Break] = {
    "cut short": lambda text: text[: len(text) // 2],
    "without its end": lambda text: text.rstrip().removesuffix("]"),
    "twice": lambda text: text + text,
    "of another version": lambda text: text.replace('"version": 1', '"version": 2', 1),
    "of an older service": lambda text: text.replace('"backup"', '"older"', 1),
    "with an unknown member": lambda text: text.replace('"version": 1', '"version": 1, "more": 2', 1),
    "with another's entry": lambda text: text.replace('"owner": ["', f'"owner": ["{uuid.uuid4()}", "', 1),
    "with a time without zone": lambda text: text.replace('Z"', '"'),
    "with a wrong id": lambda text: text.replace('"acsUserId": "8', '"acsUserId": "9'),
    "with a wrong id in a row": lambda text: text.replace('"acsUserId": "8', '"acsUserId": "9', 1),
    "with a wrong resource": lambda text: text.replace('"resource": "8', '"resource": "9'),
    "with a wrong former resource": lambda text: text.replace('"former": ["8', '"former": ["9'),
    "with two current identities": lambda text: re.sub('"until": "[^"]+", ', "", text),
    "with neither identity nor block": lambda text: text.replace('"blocked": true, ', ""),
    "too deep": lambda text: '[\n{"user": ' + "[" * 100_000,
    "without anybody": lambda text: "[\n]\n",
}


@pytest.mark.parametrize("broken", UNUSABLE)
def test_unusable_backup_is_refused_whole(storage: Backup, broken: str) -> None:
    fill(storage.env, 20)
    storage.export()
    wipe(storage.env)
    text = UNUSABLE[broken](storage.path.read_text("utf-8"))
    storage.path.write_text(text, encoding="utf-8")
    done = run_command(storage.application(), "users", "import", str(storage.path))
    assert (done.exit_code, done.stdout) == (2, "")
    assert "`users export` writes it" in done.stderr or broken == "without anybody"
    assert not any(snapshot(storage.env).values())


def test_conflicts_are_refused_one_by_one(storage: Backup) -> None:
    first, second, third, *_ = fill(storage.env, 20)
    documents = storage.export()
    ids = [user.acs_user_id or "" for user in (first, second, third)]
    wipe(storage.env)
    other = {"RowKey": "identity", "Reason": ""}
    keys = {"PartitionKey": ids[1].lower(), "AcsUserId": ids[1], "TenantId": "", "ObjectId": ""}
    put_rows(storage.env, "ledger", [other | keys | {"Reason": "deleted"}])
    owner = {"TenantId": second.user_id.tenant_id, "ObjectId": str(uuid.uuid4())}
    put_rows(
        storage.env, "ledger", [other | keys | owner | {"PartitionKey": ids[2].lower(), "AcsUserId": ids[2]}]
    )
    former = ids[0].rpartition("_")[0] + f"_{uuid.uuid4()}"
    row = {"PartitionKey": first.user_id.object_id, "RowKey": first.user_id.tenant_id, "AcsUserId": former}
    put_rows(storage.env, "identities", [row])
    run_command(storage.application(), "users", "reindex")
    results = storage.restore(exit_code=1)
    by_id = dict(zip((one["user"]["communicationUserId"] for one in documents), results, strict=True))
    assert [by_id[one] for one in ids] == [
        ("conflict", f"the user has {former}"),
        ("conflict", "the identity was erased here"),
        ("conflict", f"the identity is that of {owner['TenantId']}/{owner['ObjectId']}"),
    ]
    assert [result for result, _ in results].count("imported") == len(documents) - 3


def test_backup_of_another_resource_is_refused(storage: Backup) -> None:
    fill(storage.env, 20)
    own = snapshot(storage.env)["ledger"][("resource", "pin")]["Resource"]
    storage.export()
    wipe(storage.env)
    elsewhere = f"8:acs:{uuid.uuid4()}"
    storage.path.write_text(storage.path.read_text("utf-8").replace(own, elsewhere), encoding="utf-8")
    results = storage.restore(exit_code=1)
    refused = [detail for result, detail in results if result == "invalid"]
    assert len(refused) == 20
    assert all(f"another resource than {own}" in detail for detail in refused)
    assert ("resource", "pin") not in snapshot(storage.env)["ledger"]
    assert {result for result, _ in storage.restore("--allow-other-resource")} <= {"imported", "present"}
    pin = snapshot(storage.env)["ledger"][("resource", "pin")]
    assert (pin["Resource"], pin["Former"]) == (elsewhere, FORMER_RESOURCE)
