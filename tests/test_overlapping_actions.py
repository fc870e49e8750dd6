"""Actions that overlap: whatever one of them answers still holds once the others are over."""

import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests

from tests.support.commands import CommandFailed, repair, run_users
from tests.support.desk import Desk, bearer, call
from tests.support.identity_rows import find_identity_row, get_identity, list_identity_rows
from tests.support.index_rows import wait_until_indexed
from tests.support.ledger_rows import find_entry, find_orphans, list_former
from tests.support.own_azure import OwnAzure, own_azure
from tests.support.person import Person
from tests.support.storage_proxy import Fault
from tests.support.together import wait_until

GRACE = 2
MISSING = {"status": 404, "code": "IdentityNotFound"}
WRITES = ("PATCH", "MERGE")
"""How the SDK may send a merge."""


@pytest.fixture(scope="module")
def own() -> Iterator[OwnAzure]:
    with own_azure({"MISSING_IDENTITY_GRACE_SECONDS": "0", "RATE_LIMIT_ACCOUNT": "100000 per minute"}) as own:
        own.new_user()
        yield own


@pytest.fixture(scope="module")
def patient() -> Iterator[OwnAzure]:
    with own_azure({"MISSING_IDENTITY_GRACE_SECONDS": str(GRACE)}) as own:
        own.new_user()
        yield own


@pytest.fixture(scope="module")
def clerk(own: OwnAzure) -> Desk:
    return own.new_desk()


@pytest.fixture(autouse=True)
def no_faults(own: OwnAzure) -> Iterator[None]:
    yield
    own.storage.clear()
    own.azure.clear_faults()


def ask(own: OwnAzure, person: Person) -> requests.Response:
    """Get a token as an app on a phone does, without a session."""
    return call("POST", f"{own.service.url}/api/token", headers=bearer(own.azure, person))


def once_before(own: OwnAzure, action: Callable[[], object], table: str, about: str, **fault: str) -> None:
    """Do something right before the first storage call of this kind."""
    methods = (fault.pop("method"),) if "method" in fault else WRITES
    done: list[bool] = []

    def act() -> None:
        if not done:
            done.append(True)
            action()

    for method in methods:
        own.storage.plant(
            Fault(
                kind="signal",
                method=method,
                table=table,
                about=about,
                times=1,
                action=act,
                **fault,  # type: ignore[arg-type]
            )
        )


def findings(own: OwnAzure, person: Person) -> list[dict[str, str]]:
    return [finding for finding in repair(own.service.env) if finding["user"] == person.key]


def test_deletion_during_many_first_tokens_of_a_browser_leaves_nobody(own: OwnAzure, clerk: Desk) -> None:
    own.azure.plant_fault("acs", "create", "delay", seconds=0.3)
    own.storage.plant(Fault(kind="delay", method="GET", table="sessions", seconds=0.06))
    for wait in (0.1, 0.2, 0.3, 0.4, 0.5):
        person = own.new_person()
        person.sign_in()
        csrf = person.csrf_headers()
        with ThreadPoolExecutor(10) as pool:
            asked = [pool.submit(person.at(person.url).token, csrf=csrf) for _ in range(10)]
            time.sleep(wait)
            assert clerk.act("api", person, "delete").status_code == 204
            responses = [one.result() for one in asked]
        assert {response.status_code for response in responses} <= {200, 401}
        assert list_identity_rows(own.tables, person) == []
        tokens = [response.json()["token"] for response in responses if response.status_code == 200]
        time.sleep(0.5)
        assert not any(own.azure.check_token(token)["valid"] for token in tokens)
    assert find_orphans(own.azure, own.tables) == set()


def test_repair_does_not_erase_somebody_who_came_back_meanwhile(own: OwnAzure, clerk: Desk) -> None:
    person = own.new_user()
    identity = get_identity(own.tables, person)
    own.azure.plant_fault("acs", "delete", "status", status=500, times=1, about=identity)
    assert clerk.act("api", person, "delete").status_code == 503
    own.azure.clear_faults()
    tokens: list[str] = []
    once_before(
        own,
        lambda: tokens.append(ask(own, person).json()["token"]),
        "audit",
        f"user-{person.account.object_id}",
        method="P",
    )
    assert findings(own, person) == []
    assert [own.azure.check_token(token)["valid"] for token in tokens] == [True]
    assert find_identity_row(own.tables, person) is not None


@pytest.mark.parametrize("kind", ["half-blocked", "block-lifted"])
def test_repair_does_not_block_somebody_who_was_unblocked_meanwhile(
    own: OwnAzure, clerk: Desk, kind: str
) -> None:
    person = own.new_user()
    if kind == "half-blocked":
        identity = get_identity(own.tables, person)
        own.azure.plant_fault("acs", "revoke", "status", status=500, times=1, about=identity)
        assert clerk.act("api", person, "block").status_code == 503
        own.azure.clear_faults()
        target = ("audit", f"user-{person.account.object_id}", "P")
    else:
        clerk.do("api", person, "block")
        target = ("identities", "identities()", "GET")
    table, about, method = target
    once_before(own, lambda: clerk.do("api", person, "unblock"), table, about, method=method)
    assert findings(own, person) == []
    assert not clerk.get_user(person)["blocked"]


def test_repair_concludes_nothing_from_actions_that_overlap(own: OwnAzure, clerk: Desk) -> None:
    person = own.new_user()
    clerk.do("api", person, "block")
    once_before(
        own,
        lambda: clerk.do("api", person, "block"),
        "audit",
        f"user-{person.account.object_id}",
        method="P",
    )
    clerk.do("api", person, "unblock")
    assert findings(own, person) == []
    assert not clerk.get_user(person)["blocked"]


def test_repair_does_not_erase_somebody_who_was_imported_during_an_erasure(
    own: OwnAzure, clerk: Desk, tmp_path: Path
) -> None:
    person, identity = own.new_person(), own.azure.new_unknown_identity()
    file = tmp_path / "old.csv"
    file.write_text(
        f"objectId,communicationUserId,createdAt\n{person.account.object_id},{identity},2020-01-01T00:00:00Z\n"
    )
    once_before(
        own,
        lambda: clerk.act("api", person, "delete"),
        "audit",
        f"user-{person.account.object_id}",
        method="P",
    )
    run_users(own.service.env, "import", str(file))
    assert findings(own, person) == []
    assert get_identity(own.tables, person) == identity


@pytest.mark.parametrize("trouble", ["rename", "storage"])
def test_success_takes_back_that_an_identity_was_missing(patient: OwnAzure, trouble: str) -> None:
    person = patient.new_user()
    identity = get_identity(patient.tables, person)
    object_id = person.account.object_id

    def rename() -> None:
        account = person.account
        name = f"Renamed {uuid.uuid4().hex[:6]}"
        patient.azure.put_account(
            account.username, name=name, tenantId=account.tenant_id, objectId=account.object_id
        )
        Person(person.azure, person.url, account).sign_in()
        wait_until(lambda: list_identity_rows(patient.tables, person)[0]["Name"] == name)

    patient.azure.plant_fault("acs", "issue", "status", times=1, about=identity, **MISSING)
    assert ask(patient, person).status_code == 503
    if trouble == "rename":
        once_before(patient, rename, "identities", object_id, also="MissingSince")
    else:
        for method in WRITES:
            patient.storage.plant(
                Fault(kind="status", method=method, table="identities", about=object_id, also="MissingSince")
            )
    answer = ask(patient, person)
    patient.storage.clear()
    if trouble == "storage":
        assert answer.status_code == 503
        answer = ask(patient, person)
    assert answer.status_code == 200
    time.sleep(GRACE + 0.5)
    patient.azure.plant_fault("acs", "issue", "status", times=1, about=identity, **MISSING)
    assert ask(patient, person).status_code == 503
    assert get_identity(patient.tables, person) == identity
    patient.azure.clear_faults()


def test_identity_that_was_issued_is_not_discarded_after_a_restore(own: OwnAzure) -> None:
    person = own.new_user()
    first, object_id = get_identity(own.tables, person), person.account.object_id
    own.azure.plant_fault("acs", "issue", "status", times=1, about=first, **MISSING)
    for method in WRITES:
        own.storage.plant(
            Fault(
                kind="hang-after-commit",
                method=method,
                table="identities",
                about=object_id,
                also="SwitchedAt",
                times=1,
            )
        )
    own.storage.plant(Fault(kind="status", method="GET", table="identities", about=object_id, skip=1))
    assert ask(own, person).status_code == 503
    own.storage.clear()
    own.azure.clear_faults()
    second = get_identity(own.tables, person)
    assert second != first
    assert ask(own, person).status_code == 200
    run_users(own.service.env, "restore", person.key, first)
    time.sleep(8)
    assert second in own.azure.list_identities()
    entry = find_entry(own.tables, second)
    assert entry is not None
    assert entry["Reason"] == "replaced"


@pytest.mark.parametrize("way", ["replacement", "restore"])
def test_erasure_during_a_switch_leaves_no_owner_in_the_ledger(own: OwnAzure, clerk: Desk, way: str) -> None:
    person = own.new_user()
    first, (object_id, tenant_id) = get_identity(own.tables, person), person.key.split("/")[::-1]
    own.azure.delete_identity(first)
    if way == "restore":
        assert ask(own, person).status_code == 200
        wait_until(lambda: list_former(own.tables, object_id, tenant_id) != [])
    once_before(
        own,
        lambda: clerk.do("api", person, "delete"),
        "ledger",
        f"user-{object_id}",
        method="P",
        also=first.lower(),
    )
    if way == "restore":
        with pytest.raises(CommandFailed, match="not a former identity"):
            run_users(own.service.env, "restore", person.key, first)
    else:
        assert ask(own, person).status_code == 401
    wait_until(lambda: list_former(own.tables, object_id, tenant_id) == [])
    rows = own.tables.get_table_client("ledger").list_entities()
    assert [row for row in rows if object_id in str(dict(row))] == []


def test_user_who_is_back_is_found_although_an_index_update_tidies_up(own: OwnAzure, clerk: Desk) -> None:
    word = f"Zyx{uuid.uuid4().hex[:8]}"
    person = own.new_person(name=f"{word} Person")
    object_id = person.account.object_id

    def come_back() -> None:
        assert ask(own, person).status_code == 200
        wait_until_indexed(own.tables, object_id)

    def delete() -> None:
        clerk.do("api", person, "delete")
        once_before(own, come_back, "$batch", object_id, method="POST", also="DELETE")

    once_before(own, delete, "identities", object_id, also="IndexKeys")
    assert ask(own, person).status_code == 200
    own.storage.wait_until_quiet()
    time.sleep(2)
    own.storage.wait_until_quiet()
    users = clerk.person.get("/api/admin/users", params={"q": word}).json()["users"]
    assert [user["objectId"] for user in users] == [object_id]
