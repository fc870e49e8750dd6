"""The index of users: two calls for a page, everybody once, in step with the rows, built anew on demand."""

import json
import uuid
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest
from azure.core.exceptions import ResourceNotFoundError
from azure.data.tables import TableServiceClient, UpdateMode

from tests.seed import seed_users
from tests.support.commands import run_users
from tests.support.crashes import kill_command
from tests.support.desk import Desk
from tests.support.identity_rows import change_identity_row
from tests.support.index_rows import list_index_keys, list_kinds
from tests.support.ledger_rows import find_entry
from tests.support.own_azure import OwnAzure, own_azure
from tests.support.pages import assert_error_page
from tests.support.person import Person
from tests.support.problems import assert_problem
from tests.support.service import Service
from tests.support.storage_proxy import Fault
from tests.support.together import run_together, wait_until
from tests.support.user_lists import PAGE, find, list_users
from trusted_service.models import Identity

COUNT = 120
Key = tuple[str, str]
ODD: list[dict[str, object]] = [
    {},
    {"Name": 7, "Username": None, "AcsUserId": 8.5},
    {"Name": "", "Username": "", "AcsUserId": ""},
    {"Blocked": "true"},
    {"Blocked": "false", "LastTokenAt": ""},
    {"CreatedAt": "2020-02-03T04:05:06Z", "LastTokenAt": "yesterday"},
    {"CreatedAt": "2020-02-03T06:05:06+02:00"},
    {"CreatedAt": "never", "LastTokenAt": 3},
    {"CreatedAt": datetime(1601, 1, 1, tzinfo=UTC)},
    {"AcsUserId": "8:acs:/\\#?"},
    {"AcsUserId": "8:acs:" + "x" * 400, "Name": "y" * 30000},
    {"Name": "a\tb\nc>d|e", "Username": " \u0000 "},
    {"Name": "\U00010348\U0001f600 \ufffd\uffff ~~", "Username": "\ufffc~"},
    {"IndexKeys": "of an older version", "Blocking": "no", "Extra": 1.5},
]
"""Columns of rows as other programs may write them."""


@pytest.fixture(scope="module")
def own() -> Iterator[OwnAzure]:
    """A local Azure with nobody but those who are put there here."""
    with own_azure(measured=True) as running:
        yield running


@pytest.fixture(scope="module")
def users(own: OwnAzure) -> list[Identity]:
    """120 users, some of them blocked, the newest first."""
    planted = seed_users(own.azure.env, COUNT, blocked=0.2)
    return sorted(planted, key=lambda user: user.created_at, reverse=True)


@pytest.fixture(scope="module")
def clerk(own: OwnAzure, users: list[Identity]) -> Desk:
    return own.new_desk()


@pytest.fixture(autouse=True)
def _no_faults(own: OwnAzure) -> Iterator[None]:
    yield
    own.storage.clear()


def ids(users: list[Identity]) -> list[str]:
    return [user.user_id.object_id for user in users]


def write(own: OwnAzure, **columns: object) -> Key:
    """Write a row of `identities` as another program might; return object id and tenant id."""
    object_id, tenant_id = str(uuid.uuid4()), own.azure.env["ENTRA_ALLOWED_TENANTS"]
    row = {"PartitionKey": object_id, "RowKey": tenant_id, **columns}
    own.tables.create_table_if_not_exists("identities").create_entity(row)
    return object_id, tenant_id


def remove(own: OwnAzure, key: Key) -> None:
    own.tables.get_table_client("identities").delete_entity(*key)


def change(own: OwnAzure, key: Key, **columns: object) -> None:
    row = {"PartitionKey": key[0], "RowKey": key[1], **columns}
    own.tables.get_table_client("identities").update_entity(row, mode=UpdateMode.MERGE)


def reindex(own: OwnAzure) -> int:
    """Run the command; return how many users it has indexed."""
    return int(json.loads(run_users(own.service.env, "reindex", "--json"))["users"])


def lose_index(tables: TableServiceClient) -> None:
    index = tables.get_table_client("userindex")
    for row in list(index.list_entities(select=["PartitionKey", "RowKey"])):
        index.delete_entity(row)


def whole_row(own: OwnAzure, name: str) -> dict[str, object]:
    return {
        "AcsUserId": own.azure.new_unknown_identity(),
        "Name": name,
        "Username": f"{uuid.uuid4().hex}@contoso.example",
        "CreatedAt": datetime.now(UTC),
        "LastTokenAt": datetime.now(UTC),
        "Blocked": False,
    }


def test_user_is_found_by_the_beginning_of_any_word_once(own: OwnAzure, clerk: Desk) -> None:
    mark = f"q{uuid.uuid4().hex[:6]}"
    name = f"{mark}a Jean-Pierre {mark}b {mark}c {mark}d"
    person = own.new_user(name=name, username=f"{mark}z@contoso.example")
    mine = person.account.object_id
    for q in (f"{mark}a", f"{mark}b", f"{mark}c {mark}d", f"{mark}d", f"{mark}Z@contoso", name.upper()):
        assert find(clerk, q=q) == [mine], q
    assert mine in find(clerk, q="pierre")
    assert find(clerk, q=mark) == [mine], "by four words and the user name, and shown once"
    assert find(clerk, q=f"{mark}c {mark}a") == find(clerk, q=mark[1:] + "a") == []
    clerk.do("api", person, "delete")


def test_each_of_twenty_words_is_searched(own: OwnAzure, clerk: Desk) -> None:
    words = [f"w{uuid.uuid4().hex[:8]}" for _ in range(21)]
    person = own.new_user(name=" ".join(words))
    clerk.do("api", person, "block")  # which doubles the rows of a transaction
    found = [bool(find(clerk, q=word)) for word in words]
    assert found == [True] * 20 + [False]
    clerk.do("api", person, "delete")
    clerk.do("api", person, "unblock")


def test_search_over_several_pages_shows_everybody_once_while_users_come_and_go(
    own: OwnAzure, clerk: Desk
) -> None:
    mark = f"q{uuid.uuid4().hex[:6]}"
    settings = own.azure.env
    crowd = seed_users(settings, 130, name=f"{mark}a {mark}b {mark}c")
    between = iter([*crowd[40:43], *crowd[100:103]])

    def come_and_go() -> None:
        for _ in range(2):
            clerk.do("api", str(next(between).user_id), "delete")
        own.new_user(name=f"{mark}b")

    listed = Counter(user["objectId"] for user in list_users(clerk, come_and_go, q=mark))
    assert max(listed.values()) == 1
    untouched = set(ids(crowd)) - {user.user_id.object_id for user in (*crowd[40:43], *crowd[100:103])}
    assert untouched <= set(listed)
    for user in crowd:
        clerk.act("api", str(user.user_id), "delete")
    for object_id in find(clerk, q=mark):
        clerk.do("api", f"{settings['ENTRA_ALLOWED_TENANTS']}/{object_id}", "delete")


def test_rows_change_with_the_user(own: OwnAzure, clerk: Desk) -> None:
    before, after = f"Before {uuid.uuid4().hex}", f"After {uuid.uuid4().hex}"
    person = own.new_user(name=before)
    object_id = person.account.object_id
    assert list_kinds(own.tables, object_id) == {"n", "t"}
    own.azure.put_account(
        person.account.username, name=after, tenantId=person.account.tenant_id, objectId=object_id
    )
    assert person.sign_in().status_code == 302
    wait_until(lambda: find(clerk, q=after) == [object_id])
    assert find(clerk, q=before) == []
    clerk.do("api", person, "block")
    assert list_kinds(own.tables, object_id) == {"n", "t", "bn", "bt"}
    assert find(clerk, q=after, status="blocked") == [object_id]
    assert find(clerk, q=after, status="active") == []
    assert object_id in find(clerk, status="blocked")
    clerk.do("api", person, "unblock")
    assert list_kinds(own.tables, object_id) == {"n", "t"}
    clerk.do("api", person, "delete")
    assert list_index_keys(own.tables, object_id) == []


def test_block_of_a_stranger_is_listed_and_its_end_is_not(
    own: OwnAzure, users: list[Identity], clerk: Desk
) -> None:
    stranger = f"{own.azure.env['ENTRA_ALLOWED_TENANTS']}/{uuid.uuid4()}"
    clerk.do("api", stranger, "block")
    assert find(clerk, status="blocked")[0] == stranger.partition("/")[2]
    clerk.do("api", stranger, "unblock")
    assert find(clerk) == ids(users)


def test_block_and_rename_at_once_leave_one_truth(own: OwnAzure, clerk: Desk) -> None:
    """The index is written for the block while the user is renamed: the writer starts again."""
    after = f"Renamed {uuid.uuid4().hex}"
    person = own.new_user(name=f"Named {uuid.uuid4().hex}")
    own.storage.plant(
        Fault(
            kind="signal",
            method="POST",
            table="$batch",
            about=person.account.object_id,
            times=1,
            action=lambda: change_identity_row(own.tables, person, Name=after, Indexed=False),
        )
    )
    clerk.do("api", person, "block")
    assert find(clerk, q=after, status="blocked") == [person.account.object_id]
    assert find(clerk, q=person.account.name) == []
    clerk.do("api", person, "delete")
    clerk.do("api", person, "unblock")


@pytest.mark.parametrize("way", ["sign-in", "token"])
def test_user_whose_index_was_not_written_appears_with_their_next_act(
    own: OwnAzure, clerk: Desk, way: str
) -> None:
    person = own.new_person(name=f"Late {uuid.uuid4().hex}")
    object_id = person.account.object_id
    fault = Fault(kind="status", method="POST", table="$batch", about=object_id)
    own.storage.plant(fault)
    assert person.sign_in().status_code == 302
    assert person.token().status_code == 200
    own.storage.wait_until_quiet()
    assert find(clerk, q=person.account.name) == []
    own.storage.clear()
    if way == "sign-in":
        person.sign_in()
    else:
        person.token()
        person.token()
    wait_until(lambda: find(clerk, q=person.account.name) == [object_id])
    clerk.do("api", person, "delete")


def test_lists_show_the_last_token_to_the_day(own: OwnAzure, clerk: Desk) -> None:
    person = own.new_user(name=f"Daily {uuid.uuid4().hex}")
    yesterday = datetime.now(UTC) - timedelta(days=1, hours=1)
    change_identity_row(own.tables, person, LastTokenAt=yesterday)
    reindex(own)
    (listed,) = list_users(clerk, q=person.account.name)
    assert listed["lastTokenAt"].startswith(yesterday.date().isoformat())
    again = Person(own.azure, person.url, person.account)
    assert again.sign_in().status_code == 302
    assert again.token().status_code == 200
    today = datetime.now(UTC).date().isoformat()
    wait_until(lambda: next(list_users(clerk, q=person.account.name))["lastTokenAt"].startswith(today))
    clerk.do("api", person, "delete")


def test_foreign_rows_are_found_by_id_at_once_and_listed_after_a_reindex(
    own: OwnAzure, users: list[Identity], clerk: Desk
) -> None:
    row = whole_row(own, f"Zoë Foreign {uuid.uuid4().hex}")
    key = write(own, **row)
    assert find(clerk, q=key[0]) == [key[0]]
    assert find(clerk, q=str(row["Name"])) == find(clerk, q=str(row["AcsUserId"])) == []
    assert reindex(own) == COUNT + 1
    for q in (str(row["Name"]), "foreign", str(row["Username"]), str(row["AcsUserId"])):
        assert find(clerk, q=q) == [key[0]]
    assert find(clerk) == [key[0], *ids(users)]
    remove(own, key)
    assert reindex(own) == COUNT
    assert find(clerk) == ids(users)


def test_rows_with_odd_columns_are_listed_once_and_stay_in_their_places(
    own: OwnAzure, users: list[Identity], clerk: Desk
) -> None:
    odd = {write(own, **columns): columns for columns in ODD}
    try:
        reindex(own)
        first = find(clerk)
        assert sorted(first) == sorted([*ids(users), *(object_id for object_id, _ in odd)])
        for key in odd:
            change(own, key, LastTokenAt=datetime.now(UTC))
        reindex(own)
        assert find(clerk) == first
        listed = list(list_users(clerk))
        blocked, active = find(clerk, status="blocked"), find(clerk, status="active")
        for key, columns in odd.items():
            assert find(clerk, q=key[0]) == [key[0]], columns
            is_blocked = str(columns.get("Blocked")) == "true"
            assert key[0] in (blocked if is_blocked else active), columns
            user = clerk.get_user(f"{key[1]}/{key[0]}")
            assert user in listed, columns
            if "2020" in str(columns.get("CreatedAt")):
                assert user["createdAt"].startswith("2020-02-03T04:05:06"), columns
            if columns.get("Name") and str(columns["Name"]).isprintable():
                assert key[0] in find(clerk, q=str(columns["Name"])[:60]), columns
    finally:
        for key in odd:
            remove(own, key)
        reindex(own)
    assert find(clerk) == ids(users)


def test_row_whose_keys_are_no_ids_is_no_reason_to_fail(
    own: OwnAzure, users: list[Identity], clerk: Desk
) -> None:
    """The contract has ids in lower case: such a row is nobody's."""
    object_id, tenant_id = str(uuid.uuid4()).upper(), str(uuid.uuid4())
    rows = own.tables.get_table_client("identities")
    for key in (object_id, "not an id"):
        rows.create_entity({"PartitionKey": key, "RowKey": tenant_id, "Name": "Whoisthis"})
    try:
        reindex(own)
        assert find(clerk, q="whoisthis") == find(clerk, q=object_id) == []
        assert find(clerk) == ids(users)
    finally:
        for key in (object_id, "not an id"):
            rows.delete_entity(key, tenant_id)


def test_lost_index_is_503_with_the_command_that_mends_it(
    own: OwnAzure, users: list[Identity], clerk: Desk
) -> None:
    lose_index(own.tables)
    assert_problem(clerk.person.get("/api/admin/users"), 503, "upstream_unavailable")
    page = clerk.person.get("/admin/users")
    assert_error_page(page, 503)
    assert "flask --app wsgi users reindex" in page.text
    assert find(clerk, q=users[5].user_id.object_id) == [users[5].user_id.object_id]
    assert reindex(own) == COUNT
    assert find(clerk) == ids(users)
    own.tables.delete_table("userindex")
    assert_problem(clerk.person.get("/api/admin/users"), 503, "upstream_unavailable")
    reindex(own)
    assert find(clerk, status="blocked") == [user.user_id.object_id for user in users if user.blocked]


def test_index_of_an_older_version_is_told_what_to_run_and_loses_nothing(
    own: OwnAzure, users: list[Identity], clerk: Desk
) -> None:
    lose_index(own.tables)
    index, identities = own.tables.get_table_client("userindex"), own.tables.get_table_client("identities")
    index.create_entity({"PartitionKey": "newest-active", "RowKey": "~", "Lines": f"1 {users[0].user_id}"})
    index.create_entity({"PartitionKey": "upkeep", "RowKey": "1-mark", "Until": datetime.now(UTC)})
    plain = users[0].user_id
    before = dict(identities.get_entity(plain.object_id, plain.tenant_id))
    identities.upsert_entity(
        {name: value for name, value in before.items() if name not in ("IndexKeys", "Indexed")},
        mode=UpdateMode.REPLACE,
    )
    own.tables.get_table_client("ledger").delete_entity(str(users[0].acs_user_id).lower(), "identity")
    with Service(own.service.env | {"PUBLIC_URL": own.service.url}) as upgraded:
        there = Desk(clerk.person.at(upgraded.url))
        assert_problem(there.person.get("/api/admin/users"), 503, "upstream_unavailable")
        assert "users reindex" in upgraded.log()
        reindex(own)
        assert find(there) == ids(users)
    assert find_entry(own.tables, str(users[0].acs_user_id)) is not None
    rows = index.list_entities(select=["PartitionKey", "RowKey"])
    assert {row["PartitionKey"] for row in rows} == {plain.tenant_id, "index"}
    after = dict(identities.get_entity(plain.object_id, plain.tenant_id))
    assert {name: after[name] for name in before} == before


def test_interrupted_reindex_can_be_repeated(own: OwnAzure, users: list[Identity], clerk: Desk) -> None:
    lose_index(own.tables)
    kill_command(own, Fault(kind="hang", method="POST", table="$batch", skip=3, times=1), ["reindex"])
    assert_problem(clerk.person.get("/api/admin/users"), 503, "upstream_unavailable")
    reindex(own)
    assert find(clerk) == ids(users)


def test_reindex_gets_over_a_storage_that_fails_now_and_then(
    own: OwnAzure, users: list[Identity], clerk: Desk
) -> None:
    lose_index(own.tables)
    own.storage.plant(Fault(kind="status", method="POST", table="$batch", skip=2, times=3))
    own.storage.plant(Fault(kind="status", method="PATCH", table="identities", skip=5, times=3))
    assert reindex(own) == COUNT
    assert find(clerk) == ids(users)


def test_reindex_while_the_service_runs_leaves_the_last_word_to_it(
    own: OwnAzure, users: list[Identity], clerk: Desk
) -> None:
    """Somebody is deleted, somebody renamed and somebody comes between its reading and its writing."""
    gone, renamed = own.new_user(name="Soon Gone"), own.new_user(name="Old Name")
    new: list[Person] = []
    after = f"New Name {uuid.uuid4().hex}"

    def interfere() -> None:
        clerk.do("api", gone, "delete")
        change_identity_row(own.tables, renamed, Name=after, Indexed=False)
        new.append(own.new_user(name="Just Come"))

    own.storage.plant(Fault(kind="signal", method="POST", table="$batch", times=1, action=interfere))
    reindex(own)
    assert list_index_keys(own.tables, gone.account.object_id) == []
    assert find(clerk, q=after) == [renamed.account.object_id]
    assert find(clerk, q="old name") == []
    assert find(clerk, q="just come") == [new[0].account.object_id]
    for person in (renamed, *new):
        clerk.do("api", person, "delete")


def test_storage_outage_is_503_and_not_a_shorter_list(own: OwnAzure, clerk: Desk) -> None:
    own.storage.plant(Fault(kind="status", method="GET", table="userindex", retry_after="3"))
    answer = clerk.person.get("/api/admin/users")
    assert_problem(answer, 503, "upstream_unavailable")
    assert answer.headers["Retry-After"] == "3"
    own.storage.clear()
    assert clerk.person.get("/admin/users").status_code == 200


def test_page_costs_two_calls_to_the_storage(own: OwnAzure, users: list[Identity], clerk: Desk) -> None:
    cursor = clerk.person.get("/api/admin/users").json()["next"]
    queries: list[dict[str, str]] = [{}, {"cursor": cursor}, {"status": "active"}, {"status": "blocked"}]
    queries += [{"q": users[0].username}, {"q": "e"}, {"q": "nobody"}, {"q": users[0].user_id.object_id}]
    queries += [{"q": str(users[0].acs_user_id)}]
    for query in queries:
        own.storage.clear()
        answer = clerk.person.get("/api/admin/users", params=query)
        assert answer.status_code == 200
        calls = [call for call in own.storage.calls_for(answer) if not call.table.startswith("sessions")]
        assert len(calls) <= 2, query
        assert {call.method for call in calls} == {"GET"}


def test_empty_storage_has_an_index_from_the_start() -> None:
    with own_azure() as own:
        clerk = own.new_desk()
        assert clerk.person.get("/api/admin/users").json() == {"users": [], "next": None}
        people = run_together([partial(own.new_user) for _ in range(4)])
        assert sorted(find(clerk)) == sorted(person.account.object_id for person in people)


def test_missing_index_table_does_not_stop_tokens(own: OwnAzure, clerk: Desk, users: list[Identity]) -> None:
    lose_index(own.tables)
    person = own.new_user(name="Without List")
    assert person.token().status_code == 200
    assert list_index_keys(own.tables, person.account.object_id)
    reindex(own)
    clerk.do("api", person, "delete")
    assert find(clerk) == ids(users)
    with pytest.raises(ResourceNotFoundError):
        own.tables.get_table_client("identities").get_entity(
            person.account.object_id, person.account.tenant_id
        )
    assert len(clerk.person.get("/api/admin/users").json()["users"]) == PAGE
