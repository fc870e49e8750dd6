"""Lists of users are right at any moment: whoever wrote the rows, and however little of an index there is."""

import uuid
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from azure.core.exceptions import ResourceNotFoundError
from azure.data.tables import TableServiceClient, UpdateMode

from tests.seed import seed_users
from tests.support.crowd import plant_crowd
from tests.support.desk import Desk
from tests.support.index_rows import list_mentions, wait_until_forgotten
from tests.support.own_azure import OwnAzure, own_azure
from tests.support.pages import assert_error_page
from tests.support.problems import assert_problem
from tests.support.storage_proxy import Fault
from tests.support.together import run_together, timed, wait_until
from tests.support.user_lists import PAGE, find, list_users
from trusted_service.models import Identity

FEW, MANY, UNINDEXED = 60, 2200, 120
LONGEST_SECONDS = 15
QUERIES = "Timestamp"
"""What the reads of many rows of `identities` have in their address, and those of one row have not."""

Cost = dict[tuple[str, str], int]


ODD: list[dict[str, Any]] = [
    {},
    {"AcsUserId": ""},
    {"Name": "Only a Name"},
    {"Blocked": True},
    {"Blocked": "true", "Name": 7, "Username": True, "AcsUserId": 5},
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
    """120 users whom another program wrote, some of them blocked, the newest first."""
    planted = seed_users(own.azure.env, UNINDEXED, blocked=0.2)
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


def lose_index(tables: TableServiceClient) -> None:
    """Leave `identities` alone, as after its table was restored without the other."""
    index = tables.get_table_client("userindex")
    try:
        for row in list(index.list_entities(select=["PartitionKey", "RowKey"])):
            index.delete_entity(row)
    except ResourceNotFoundError:
        return


def is_built(own: OwnAzure) -> bool:
    """Whether the index says that it knows of everybody."""
    try:
        own.tables.get_table_client("userindex").get_entity("upkeep", "1-mark")
    except ResourceNotFoundError:
        return False
    return True


def write(own: OwnAzure, **columns: object) -> tuple[str, str]:
    """Write a row of `identities` as another program might; return object id and tenant id."""
    object_id, tenant_id = str(uuid.uuid4()), own.azure.env["ENTRA_ALLOWED_TENANTS"]
    row = {"PartitionKey": object_id, "RowKey": tenant_id, **columns}
    own.tables.create_table_if_not_exists("identities").create_entity(row)
    return object_id, tenant_id


def remove(own: OwnAzure, key: tuple[str, str]) -> None:
    own.tables.get_table_client("identities").delete_entity(*key)


def change(own: OwnAzure, key: tuple[str, str], **columns: object) -> None:
    row = {"PartitionKey": key[0], "RowKey": key[1], **columns}
    own.tables.get_table_client("identities").update_entity(row, mode=UpdateMode.MERGE)


def whole_row(name: str) -> dict[str, object]:
    return {
        "AcsUserId": f"8:acs:{uuid.uuid4()}_{uuid.uuid4()}",
        "Name": name,
        "Username": f"{uuid.uuid4().hex}@contoso.example",
        "CreatedAt": datetime.now(UTC),
        "LastTokenAt": datetime.now(UTC),
        "Blocked": False,
    }


def test_rows_that_nobody_has_indexed_are_all_listed_from_the_first_list_on(
    own: OwnAzure, users: list[Identity], clerk: Desk
) -> None:
    lose_index(own.tables)
    for listed in run_together([lambda: find(clerk) for _ in range(3)]):
        assert listed == ids(users)
    for user in users[:3]:
        for q in (user.username, str(user.acs_user_id), user.user_id.object_id):
            assert find(clerk, q=q) == [user.user_id.object_id]


def test_row_that_another_program_writes_is_there_the_next_moment(
    own: OwnAzure, users: list[Identity], clerk: Desk
) -> None:
    for number in range(2):
        name = f"Zoë Nextmoment {uuid.uuid4().hex}"
        row = whole_row(name)
        key = write(own, **row)
        assert find(clerk)[0] == key[0], number
        for q in (name, name.upper()[:15], "zoe next", str(row["Username"]), str(row["AcsUserId"]), key[0]):
            assert find(clerk, q=q) == [key[0]]
        assert find(clerk, q=name, status="active") == [key[0]]
        assert find(clerk, status="blocked") == [user.user_id.object_id for user in users if user.blocked]
        remove(own, key)
        assert find(clerk) == ids(users)
        assert find(clerk, q=name) == find(clerk, q=str(row["AcsUserId"])) == []


def test_row_that_another_program_changes_is_shown_as_it_is(own: OwnAzure, clerk: Desk) -> None:
    before, after = f"Before {uuid.uuid4().hex}", f"After {uuid.uuid4().hex}"
    key = write(own, **whole_row(before))
    assert find(clerk, q=before) == [key[0]]
    change(own, key, Name=after)
    assert find(clerk, q=after) == [key[0]]
    assert find(clerk, q=before) == []
    change(own, key, Blocked=True)
    assert find(clerk, q=after, status="blocked") == [key[0]]
    assert find(clerk, q=after, status="active") == []
    assert key[0] in find(clerk, status="blocked")
    other = f"8:acs:{uuid.uuid4()}_{uuid.uuid4()}"
    change(own, key, AcsUserId=other)
    assert find(clerk, q=other) == [key[0]]
    change(own, key, CreatedAt=datetime.now(UTC) - timedelta(days=4000))
    assert find(clerk)[-1] == key[0]
    assert Counter(find(clerk))[key[0]] == 1
    remove(own, key)
    clerk.person.get("/api/admin/users", params={"q": after})
    clerk.person.get("/api/admin/users", params={"cursor": ""})
    find(clerk)
    wait_until(lambda: (find(clerk), list_mentions(own.tables, key[0]))[1] == [])


def test_rows_with_odd_columns_are_listed_once_and_stay_in_their_places(
    own: OwnAzure, users: list[Identity], clerk: Desk
) -> None:
    odd = {write(own, **columns): columns for columns in ODD}
    try:
        first = find(clerk)
        assert sorted(first) == sorted([*ids(users), *(object_id for object_id, _ in odd)])
        for key in odd:
            change(own, key, LastTokenAt=datetime.now(UTC))
        assert find(clerk) == first
        listed = list(list_users(clerk))
        blocked, active = find(clerk, status="blocked"), find(clerk, status="active")
        for key, columns in odd.items():
            assert find(clerk, q=key[0]) == [key[0]], columns
            assert key[0] in (blocked if "Blocked" in columns else active), columns
            user = clerk.get_user(f"{key[1]}/{key[0]}")
            assert user in listed, columns
            if "2020" in str(columns.get("CreatedAt")):
                assert user["createdAt"].startswith("2020-02-03T04:05:06"), columns
            if columns.get("Name") and str(columns["Name"]).isprintable():
                assert find(clerk, q=str(columns["Name"])[:60]) == [key[0]], columns
    finally:
        for key in odd:
            remove(own, key)
    assert find(clerk) == ids(users)


def test_lost_index_changes_no_list(own: OwnAzure, users: list[Identity], clerk: Desk) -> None:
    wait_until(lambda: find(clerk) == ids(users) and is_built(own))
    lose_index(own.tables)
    assert find(clerk, q=users[5].username) == [users[5].user_id.object_id]
    assert find(clerk) == ids(users)
    own.tables.delete_table("userindex")
    assert find(clerk, status="blocked") == [user.user_id.object_id for user in users if user.blocked]
    assert find(clerk) == ids(users)


@pytest.mark.parametrize("kind", ["status", "reset", "hang", "delay"])
def test_index_that_cannot_be_written_is_done_without(
    own: OwnAzure, users: list[Identity], clerk: Desk, kind: Any
) -> None:
    wait_until(lambda: find(clerk) == ids(users) and is_built(own))
    lose_index(own.tables)
    own.storage.plant(Fault(kind=kind, method="P", table="userindex", seconds=3))
    own.storage.plant(Fault(kind=kind, method="P", table="$batch", seconds=3))
    key = write(own, **whole_row("Inmidst Ofit"))
    listed, seconds = timed(lambda: find(clerk))
    assert listed == [key[0], *ids(users)]
    assert seconds < LONGEST_SECONDS
    assert find(clerk, q="inmidst") == [key[0]]
    own.storage.clear()
    remove(own, key)
    wait_until(lambda: find(clerk) == ids(users) and is_built(own))


@pytest.mark.parametrize("query", [{}, {"status": "active"}, {"q": "e"}, {"q": "g"}], ids=str)
def test_list_begun_without_the_index_goes_on_with_it_and_the_other_way_round(
    own: OwnAzure, users: list[Identity], clerk: Desk, query: dict[str, str]
) -> None:
    wait_until(lambda: find(clerk) == ids(users) and is_built(own))
    expected = find(clerk, **query)
    assert len(expected) > len(set(expected)) - 1

    def switch() -> None:
        if is_built(own):
            lose_index(own.tables)
            own.storage.plant(Fault(kind="status", method="P", table="userindex"))
        else:
            own.storage.clear()
            wait_until(lambda: clerk.person.get("/api/admin/users").ok and is_built(own))

    switch()
    listed = [user["objectId"] for user in list_users(clerk, switch, **query)]
    assert listed == expected


def test_lease_of_a_process_that_died_holds_up_nobody_for_long(
    own: OwnAzure, users: list[Identity], clerk: Desk
) -> None:
    wait_until(lambda: find(clerk) == ids(users) and is_built(own))
    lose_index(own.tables)
    lease = {"Owner": "dead", "Until": datetime.now(UTC) + timedelta(seconds=4)}
    own.tables.get_table_client("userindex").create_entity(
        {"PartitionKey": "upkeep", "RowKey": "2-lease", **lease}
    )
    key = write(own, **whole_row("While Leased"))
    assert find(clerk) == [key[0], *ids(users)]
    assert not is_built(own)
    remove(own, key)
    wait_until(lambda: find(clerk) == ids(users) and is_built(own))


def test_row_that_cannot_be_told_apart_is_no_reason_to_fail(own: OwnAzure, clerk: Desk) -> None:
    """A key that is no id in lower case is nobody's: the contract has them in lower case."""
    object_id, tenant_id = str(uuid.uuid4()).upper(), str(uuid.uuid4())
    rows = own.tables.get_table_client("identities")
    for key in (object_id, "not an id"):
        rows.create_entity({"PartitionKey": key, "RowKey": tenant_id, "Name": "Whoisthis"})
    try:
        assert find(clerk, q="whoisthis") == []
        assert find(clerk, q=object_id) == []
        assert object_id not in {user.upper() for user in find(clerk)}
    finally:
        for key in (object_id, "not an id"):
            rows.delete_entity(key, tenant_id)


def test_deleted_user_leaves_nothing_in_the_index(own: OwnAzure, clerk: Desk) -> None:
    person = own.new_user(name=f"Soon Gone {uuid.uuid4().hex}")
    assert find(clerk, q=person.account.name) == [person.account.object_id]
    assert set(list_mentions(own.tables, person.account.object_id)) >= {"users", "acs"}
    clerk.do("api", person, "delete")
    wait_until_forgotten(own.tables, person.account.object_id)


def test_storage_outage_is_503_and_not_a_shorter_list(own: OwnAzure, clerk: Desk) -> None:
    clerk.person.get("/api/admin/users")
    for table, method in (("userindex", "GET"), ("identities", "GET")):
        own.storage.plant(Fault(kind="status", method=method, table=table, retry_after="3"))
        answer = clerk.person.get("/api/admin/users")
        assert_problem(answer, 503, "upstream_unavailable")
        assert answer.headers["Retry-After"] == "3"
        own.storage.clear()
        assert clerk.person.get("/admin/users").status_code == 200


def cost_of(own: OwnAzure, clerk: Desk, **query: str) -> Cost:
    """The calls to the storage that a page makes, by method and table."""
    own.storage.clear()
    answer = clerk.person.get("/api/admin/users", params=query)
    assert answer.status_code == 200
    calls = own.storage.calls_for(answer)
    return dict(Counter((call.method, call.table.partition("(")[0]) for call in calls))


def costs(own: OwnAzure, clerk: Desk, user: Identity) -> list[Cost]:
    """Costs of the first page, of the second, of states, and of searches that find one user."""
    cursor = clerk.person.get("/api/admin/users").json()["next"]
    queries: list[dict[str, str]] = [{}, {"cursor": cursor}, {"status": "active"}, {"q": user.username}]
    queries += [{"q": user.user_id.object_id}, {"q": str(user.acs_user_id)}, {"q": "nobody"}]
    return [cost_of(own, clerk, **query) for query in queries]


@pytest.fixture(scope="module")
def crowded() -> Iterator[tuple[OwnAzure, Desk, list[Cost], list[Cost]]]:
    """Few users and then many, and what pages cost with each."""
    with own_azure() as own:
        clerk = own.new_desk()
        few = seed_users(own.azure.env, FEW)
        plant_crowd(own.azure.env, PAGE)
        wait_until(lambda: clerk.person.get("/api/admin/users").ok and is_built(own))
        before = costs(own, clerk, few[0])
        plant_crowd(own.azure.env, MANY)
        wait_until(lambda: find(clerk, q="crowd 02199") != [])
        wait_until(lambda: cost_of(own, clerk)[("GET", "identities")] == PAGE)
        yield own, clerk, before, costs(own, clerk, few[0])


def test_page_costs_the_same_however_many_users_there_are(
    crowded: tuple[OwnAzure, Desk, list[Cost], list[Cost]],
) -> None:
    _, _, before, after = crowded
    for one, other in zip(before, after, strict=True):
        assert one.keys() == other.keys()
        assert all(abs(one[kind] - other[kind]) <= 2 for kind in one), (one, other)
    assert all(sum(cost.values()) <= PAGE + 10 for cost in [*before, *after])
    assert {method for cost in after for method, _ in cost} == {"GET"}


def test_list_that_cannot_be_current_in_time_is_what_the_index_knows(
    crowded: tuple[OwnAzure, Desk, list[Cost], list[Cost]],
) -> None:
    own, clerk, _, _ = crowded
    before = clerk.person.get("/api/admin/users").json()["users"]
    own.storage.plant(Fault(kind="delay", method="GET", table="identities", about=QUERIES, seconds=2.6))
    answer, seconds = timed(lambda: clerk.person.get("/api/admin/users"))
    assert answer.json()["users"] == before
    assert seconds < LONGEST_SECONDS
    again, seconds = timed(lambda: clerk.person.get("/api/admin/users"))
    assert again.json()["users"] == before
    assert seconds < 4, "the rows are not read through again, as they were too many"
    own.storage.clear()


def test_list_of_too_many_without_an_index_says_so(
    crowded: tuple[OwnAzure, Desk, list[Cost], list[Cost]],
) -> None:
    own, clerk, _, _ = crowded
    lose_index(own.tables)
    own.storage.plant(Fault(kind="delay", method="GET", table="identities", about=QUERIES, seconds=2.6))
    paths = ("/api/admin/users", "/admin/users")
    answers = run_together([partial(timed, partial(clerk.person.get, path)) for path in paths])
    own.storage.clear()
    assert all(seconds < LONGEST_SECONDS for _, seconds in answers)
    (api, _), (page, _) = answers
    assert_problem(api, 503, "upstream_unavailable")
    assert_error_page(page, 503)
    assert "is being prepared" in page.text
    assert api.headers["Retry-After"] == page.headers["Retry-After"] == "10"
    wait_until(lambda: clerk.person.get("/api/admin/users").ok)
    assert find(clerk, q="crowd 02199") != []
