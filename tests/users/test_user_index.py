"""The user index: two calls per page, each user once, in sync with the rows, rebuilt on demand."""

import json
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest
from azure.data.tables import UpdateMode

from tests.support.admin_client import Admin
from tests.support.commands import run_users
from tests.support.concurrency import run_concurrently, wait_until
from tests.support.crashes import kill_command
from tests.support.own_azure import OwnAzure, World, own_azure
from tests.support.pages import assert_error_page
from tests.support.person import Person
from tests.support.problems import assert_problem
from tests.support.rows import find_entry, list_index_keys, list_kinds, merge_row
from tests.support.seed import seed_users
from tests.support.storage_proxy import Fault
from tests.support.user_lists import PAGE, find, list_users
from trusted_service.models import Identity

COUNT = 120
ODD: list[dict[str, object]] = [{}, {"Blocked": "true"}, {"Blocked": "false", "LastTokenAt": ""}]
ODD += [{"CreatedAt": "2020-02-03T04:05:06Z", "LastTokenAt": "yesterday"}, {"Name": 7, "AcsUserId": None}]
ODD += [{"CreatedAt": "2020-02-03T06:05:06+02:00"}, {"CreatedAt": datetime(1601, 1, 1, tzinfo=UTC)}]
ODD += [{"AcsUserId": "8:acs:" + "x" * 400, "Name": "y" * 30000}, {"Name": "a\tb\nc>d|e", "Extra": 1.5}]
ODD += [{"Name": "\U00010348\U0001f600 \ufffd\uffff ~~", "Username": "\ufffc~"}]
"""Columns that a copy may have when other tools wrote it."""


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with own_azure(measured=True) as running:
        yield running


@pytest.fixture(scope="module", autouse=True)
def seeded(world: World) -> list[Identity]:
    """120 users, some of them blocked, created before all others."""
    return seed_users(world.azure.env, COUNT, blocked=0.2)


def list_newest_first(world: World) -> list[str]:
    """The object ids in `identities`, in the order of the user list."""
    rows = world.tables.get_table_client("identities").list_entities()
    return [row["PartitionKey"] for row in sorted(rows, key=lambda row: row["CreatedAt"], reverse=True)]


def assert_complete(world: World, admin: Admin | None = None) -> None:
    """Check that the list of all users shows each row of `identities` once, the newest first."""
    assert find(admin or world.admin) == list_newest_first(world)


def write(world: World, columns: Mapping[str, object], object_id: str = "") -> tuple[str, str]:
    """Write a row of `identities` as another program might; return its key."""
    key = object_id or str(uuid.uuid4()), world.azure.env["ENTRA_ALLOWED_TENANTS"]
    row = {"PartitionKey": key[0], "RowKey": key[1], **columns}
    world.tables.get_table_client("identities").create_entity(row)
    return key


def reindex(world: World) -> int:
    """Run `users reindex`; return the number of indexed users."""
    return int(json.loads(run_users(world.service.env, "reindex", "--json"))["users"])


def lose_index(world: World) -> None:
    world.tables.delete_table("userindex")
    world.tables.create_table("userindex")


def test_user_is_found_by_any_word_once(world: World) -> None:
    prefix = f"q{uuid.uuid4().hex[:6]}"
    words = [prefix + letter for letter in "abcd"]
    name = f"{words[0]} Jean-Pierre {' '.join(words[1:])}"
    object_id = world.new_user(f"{prefix}z@contoso.example", name=name).account.object_id
    for q in (*words, f"{words[2]} {words[3]}", f"{prefix}Z@contoso", name.upper()):
        assert find(world.admin, q=q) == [object_id], q
    assert object_id in find(world.admin, q="pierre")
    assert find(world.admin, q=prefix) == [object_id], "matched by four words and the user name, shown once"
    assert find(world.admin, q=f"{words[2]} {words[0]}") == find(world.admin, q=words[0][1:]) == []


def test_each_of_twenty_words_is_searched(world: World) -> None:
    words = [f"w{uuid.uuid4().hex[:8]}" for _ in range(21)]
    person = world.new_user(name=" ".join(words))
    world.admin.do("api", person, "block")  # which doubles the rows of a transaction
    found = [bool(find(world.admin, q=word)) for word in words]
    assert found == [True] * 20 + [False]


def test_index_rows_change_with_the_user(world: World) -> None:
    """A rename while a block writes the index restarts that write."""
    name = f"Renamed {uuid.uuid4().hex}"
    person = world.new_user(name=f"Named {uuid.uuid4().hex}")
    object_id = person.account.object_id
    assert list_kinds(world.tables, object_id) == {"n", "t"}
    rename = partial(world.change_row, person, Name=name, Indexed=False)
    world.run_before("POST", "$batch", object_id, rename)
    world.admin.do("api", person, "block")
    assert list_kinds(world.tables, object_id) == {"n", "t", "bn", "bt"}
    assert find(world.admin, q=name, status="blocked") == [object_id]
    assert find(world.admin, q=name, status="active") == find(world.admin, q=person.account.name) == []
    assert object_id in find(world.admin, status="blocked")
    world.admin.do("api", person, "unblock")
    assert list_kinds(world.tables, object_id) == {"n", "t"}
    world.admin.do("api", person, "delete")
    assert list_index_keys(world.tables, object_id) == []


@pytest.mark.parametrize("channel", ["sign-in", "token"])
def test_unindexed_user_is_indexed_by_next_request(world: World, channel: str) -> None:
    person = world.new_person(name=f"Late {uuid.uuid4().hex}")
    object_id, name = person.account.object_id, person.account.name
    world.storage.plant(Fault(kind="status", method="POST", table="$batch", about=object_id))
    assert person.signed_in().token().status_code == 200
    world.storage.wait_until_quiet()
    assert find(world.admin, q=name) == []
    world.storage.clear()
    for send in [person.sign_in] if channel == "sign-in" else [person.token] * 2:
        send()
    wait_until(lambda: find(world.admin, q=name) == [object_id])


def test_lists_show_the_day_of_the_last_token(world: World) -> None:
    person = world.new_user(name=f"Daily {uuid.uuid4().hex}")
    yesterday = datetime.now(UTC) - timedelta(days=1, hours=1)
    world.change_row(person, LastTokenAt=yesterday)
    reindex(world)
    (listed,) = list_users(world.admin, q=person.account.name)
    assert listed["lastTokenAt"].startswith(yesterday.date().isoformat())
    assert person.in_new_browser().token().status_code == 200
    today = datetime.now(UTC).date().isoformat()
    wait_until(lambda: next(list_users(world.admin, q=person.account.name))["lastTokenAt"].startswith(today))


def test_foreign_row_is_listed_after_a_reindex(world: World) -> None:
    """A row written by another program is found by its object id even before the reindex."""
    name, username = f"Zoë Foreign {uuid.uuid4().hex}", f"{uuid.uuid4().hex}@contoso.example"
    identity, now = world.azure.new_unknown_identity(), datetime.now(UTC)
    columns = {"AcsUserId": identity, "Name": name, "Username": username, "Blocked": False}
    before = list_newest_first(world)
    key = write(world, {"CreatedAt": now, "LastTokenAt": now, **columns})
    assert find(world.admin, q=key[0]) == [key[0]]
    assert find(world.admin, q=name) == find(world.admin, q=identity) == []
    assert reindex(world) == len(before) + 1
    for q in (name, "foreign", username, identity):
        assert find(world.admin, q=q) == [key[0]]
    assert find(world.admin) == [key[0], *before]
    world.tables.get_table_client("identities").delete_entity(*key)
    assert reindex(world) == len(before)
    assert find(world.admin) == before


def test_rows_with_odd_columns_are_listed_once(world: World) -> None:
    """Rows whose keys are not lower-case ids are not listed."""
    before, wrong_keys = list_newest_first(world), (str(uuid.uuid4()).upper(), "not an id")
    odd = {write(world, columns): columns for columns in ODD}
    wrong = [write(world, {"Name": "Whoisthis"}, key) for key in wrong_keys]
    try:
        reindex(world)
        listed = find(world.admin)
        assert sorted(listed) == sorted([*before, *(object_id for object_id, _ in odd)])
        for key in odd:
            merge_row(world.tables, "identities", key, {"LastTokenAt": datetime.now(UTC)})
        reindex(world)
        users = list(list_users(world.admin))
        assert [user["objectId"] for user in users] == listed
        blocked, active = (find(world.admin, status=status) for status in ("blocked", "active"))
        for key, columns in odd.items():
            assert find(world.admin, q=key[0]) == [key[0]], columns
            assert key[0] in (blocked if columns.get("Blocked") == "true" else active), columns
            user = world.admin.get_user(f"{key[1]}/{key[0]}")
            assert user in users, columns
            if "2020" in str(columns.get("CreatedAt")):
                assert user["createdAt"].startswith("2020-02-03T04:05:06"), columns
            if columns.get("Name") and str(columns["Name"]).isprintable():
                assert key[0] in find(world.admin, q=str(columns["Name"])[:60]), columns
        assert find(world.admin, q="whoisthis") == find(world.admin, q=wrong_keys[0]) == []
    finally:
        for key in (*odd, *wrong):
            world.tables.get_table_client("identities").delete_entity(*key)
        reindex(world)
    assert find(world.admin) == before


def test_failing_or_lost_index_is_503(world: World, seeded: list[Identity]) -> None:
    """The error page for a lost index names the reindex command."""
    world.storage.plant(Fault(kind="status", method="GET", table="userindex", retry_after="3"))
    response = world.admin.person.get("/api/admin/users")
    assert_problem(response, 503, "upstream_unavailable")
    assert response.headers["Retry-After"] == "3"
    world.storage.clear()
    lose_index(world)
    assert_problem(world.admin.person.get("/api/admin/users"), 503, "upstream_unavailable")
    page = world.admin.person.get("/admin/users")
    assert_error_page(page, 503)
    assert "flask --app wsgi users reindex" in page.text
    object_id = seeded[5].user_id.object_id
    assert find(world.admin, q=object_id) == [object_id]
    person = world.new_user()
    assert person.token().status_code == 200
    assert list_index_keys(world.tables, person.account.object_id)
    assert reindex(world) == len(list_newest_first(world))
    assert_complete(world)
    world.admin.do("api", person, "delete")
    assert_complete(world)
    assert world.find_row(person) is None
    assert len(world.admin.person.get("/api/admin/users").json()["users"]) == PAGE
    world.tables.delete_table("userindex")
    assert_problem(world.admin.person.get("/api/admin/users"), 503, "upstream_unavailable")
    reindex(world)
    users = list(list_users(world.admin))
    blocked = [user["objectId"] for user in users if user["blocked"]]
    assert find(world.admin, status="blocked") == blocked
    assert {user.user_id.object_id for user in seeded if user.blocked} <= set(blocked)
    assert_complete(world)


def test_index_of_an_older_version_loses_nothing(world: World, seeded: list[Identity]) -> None:
    lose_index(world)
    user = seeded[0].user_id
    index, identities = (world.tables.get_table_client(name) for name in ("userindex", "identities"))
    index.create_entity({"PartitionKey": "newest-active", "RowKey": "~", "Lines": f"1 {user}"})
    index.create_entity({"PartitionKey": "upkeep", "RowKey": "1-mark", "Until": datetime.now(UTC)})
    before = dict(identities.get_entity(user.object_id, user.tenant_id))
    older = {name: value for name, value in before.items() if name not in ("IndexKeys", "Indexed")}
    identities.upsert_entity(older, mode=UpdateMode.REPLACE)
    acs_user_id = str(seeded[0].acs_user_id)
    world.tables.get_table_client("ledger").delete_entity(acs_user_id.lower(), "identity")
    with world.new_instance({}) as upgraded:
        admin = Admin(world.admin.person.at(upgraded.url))
        assert_problem(admin.person.get("/api/admin/users"), 503, "upstream_unavailable")
        assert "users reindex" in upgraded.log()
        reindex(world)
        assert_complete(world, admin)
    assert find_entry(world.tables, acs_user_id) is not None
    rows = index.list_entities(select=["PartitionKey", "RowKey"])
    assert {row["PartitionKey"] for row in rows} == {user.tenant_id, "index"}
    after = dict(identities.get_entity(user.object_id, user.tenant_id))
    assert {name: after[name] for name in before} == before


def test_reindex_retries_and_can_be_repeated(world: OwnAzure) -> None:
    lose_index(world)
    kill_command(world, Fault(kind="hang", method="POST", table="$batch", skip=3, times=1), ["reindex"])
    assert_problem(world.admin.person.get("/api/admin/users"), 503, "upstream_unavailable")
    batches = Fault(kind="status", method="POST", table="$batch", skip=2, times=3)
    rows = Fault(kind="status", method="PATCH", table="identities", skip=5, times=3)
    world.storage.plant(batches)
    world.storage.plant(rows)
    assert reindex(world) == len(list_newest_first(world))
    assert (batches.times, rows.times) == (0, 0)
    assert_complete(world)


def test_reindex_respects_concurrent_changes(world: World) -> None:
    """Users are deleted, renamed and created between its reads and its writes."""
    deleted, renamed = world.new_user(name="Soon Gone"), world.new_user(name="Old Name")
    created, name = list[Person](), f"New Name {uuid.uuid4().hex}"

    def interfere() -> None:
        world.admin.do("api", deleted, "delete")
        world.change_row(renamed, Name=name, Indexed=False)
        created.append(world.new_user(name="Just Come"))

    world.run_before("POST", "$batch", "", interfere)
    reindex(world)
    assert list_index_keys(world.tables, deleted.account.object_id) == []
    assert find(world.admin, q=name) == [renamed.account.object_id]
    assert find(world.admin, q="old name") == []
    assert find(world.admin, q="just come") == [created[0].account.object_id]


def test_page_costs_two_storage_calls(world: World, seeded: list[Identity]) -> None:
    cursor, user = world.admin.person.get("/api/admin/users").json()["next"], seeded[0]
    texts = [user.username, "e", "nobody", user.user_id.object_id, str(user.acs_user_id)]
    queries: list[dict[str, str]] = [{}, {"cursor": cursor}, {"status": "active"}, {"status": "blocked"}]
    for query in [*queries, *({"q": text} for text in texts)]:
        world.storage.clear()
        response = world.admin.person.get("/api/admin/users", params=query)
        assert response.status_code == 200
        calls = [call for call in world.storage.calls_for(response) if not call.table.startswith("sessions")]
        assert len(calls) <= 2, query
        assert {call.method for call in calls} == {"GET"}


def test_empty_storage_is_indexed_at_once() -> None:
    with own_azure() as empty:
        assert empty.admin.person.get("/api/admin/users").json() == {"users": [], "next": None}
        people = run_concurrently([empty.new_user] * 4)
        assert sorted(find(empty.admin)) == sorted(person.account.object_id for person in people)
        newcomer = empty.new_person()
        empty.admin.do("api", newcomer, "block")
        assert find(empty.admin, status="blocked") == find(empty.admin)[:1] == [newcomer.account.object_id]
        empty.admin.do("api", newcomer, "unblock")
        assert_complete(empty)
        assert newcomer.account.object_id not in find(empty.admin)


def test_search_shows_each_user_once_despite_changes(world: World) -> None:
    """Users are deleted and created between its pages."""
    prefix = f"q{uuid.uuid4().hex[:6]}"
    many = seed_users(world.azure.env, 130, name=f"{prefix}a {prefix}b {prefix}c")
    doomed = [*many[40:43], *many[100:103]]
    to_delete = iter(doomed)

    def interfere() -> None:
        for _ in range(2):
            world.admin.do("api", str(next(to_delete).user_id), "delete")
        world.new_user(name=f"{prefix}b")

    listed = Counter(user["objectId"] for user in list_users(world.admin, interfere, q=prefix))
    assert max(listed.values()) == 1
    assert {user.user_id.object_id for user in many if user not in doomed} <= set(listed)
