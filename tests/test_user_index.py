"""A page of users costs the same however many there are; an index that was never built is built."""

from collections import Counter
from collections.abc import Iterator

import pytest
from azure.core.exceptions import ResourceNotFoundError
from azure.data.tables import TableServiceClient, UpdateMode

from tests.seed import seed_users
from tests.support.crowd import plant_crowd
from tests.support.desk import Desk
from tests.support.own_azure import OwnAzure, own_azure
from tests.support.storage_proxy import Fault
from tests.support.together import run_together, timed
from tests.support.user_lists import PAGE, find
from trusted_service.models import Identity

FEW, MANY, UNINDEXED = 60, 3000, 120
LONGEST_SECONDS = 15

Cost = dict[tuple[str, str], int]


@pytest.fixture(scope="module")
def own() -> Iterator[OwnAzure]:
    """A local Azure with nobody but those who are put there here."""
    with own_azure() as running:
        yield running


def lose_index(tables: TableServiceClient) -> None:
    """Leave `identities` alone, as after its table was restored without the other."""
    index = tables.get_table_client("userindex")
    try:
        for row in list(index.list_entities(select=["PartitionKey", "RowKey"])):
            index.delete_entity(row)
    except ResourceNotFoundError:
        return


def forget_index(tables: TableServiceClient) -> None:
    """Leave the rows of `identities` as another program would have written them: without an index."""
    lose_index(tables)
    rows = tables.get_table_client("identities")
    for row in list(rows.list_entities()):
        row.pop("IndexKeys", None)
        rows.update_entity(row, mode=UpdateMode.REPLACE)


def cost_of(own: OwnAzure, clerk: Desk, **query: str) -> Cost:
    """The calls to the storage that a page makes, by method and table."""
    own.storage.clear()
    answer = clerk.person.get("/api/admin/users", params=query)
    assert answer.status_code == 200
    calls = [call for call in own.storage.calls() if call.request_id == answer.headers["X-Request-ID"]]
    return dict(Counter((call.method, call.table) for call in calls))


def costs(own: OwnAzure, clerk: Desk, user: Identity) -> list[Cost]:
    """Costs of the first page, of the second, of states, and of searches that find one user."""
    cursor = clerk.person.get("/api/admin/users").json()["next"]
    queries: list[dict[str, str]] = [{}, {"cursor": cursor}, {"status": "active"}, {"q": user.username}]
    queries += [{"q": user.user_id.object_id}, {"q": str(user.acs_user_id)}, {"q": "nobody"}]
    return [cost_of(own, clerk, **query) for query in queries]


def test_missing_index_is_built_at_the_first_list(own: OwnAzure) -> None:
    users = seed_users(own.azure.env, UNINDEXED, blocked=0.2)
    forget_index(own.tables)
    clerk = own.new_desk()
    listed = run_together([lambda: find(clerk) for _ in range(3)])
    for one in listed:
        assert len(one) == UNINDEXED
        assert set(one) == {user.user_id.object_id for user in users}
    for user in users[:3]:
        assert (
            find(clerk, q=user.username) == find(clerk, q=str(user.acs_user_id)) == [user.user_id.object_id]
        )


def test_index_that_could_not_be_built_is_built_at_the_next_list(own: OwnAzure) -> None:
    forget_index(own.tables)
    clerk = own.new_desk()
    own.storage.plant(Fault(kind="status", method="P", table="userindex", skip=100, times=1))
    assert clerk.person.get("/api/admin/users").status_code == 503
    own.storage.clear()
    assert len(find(clerk)) == UNINDEXED


def test_lost_index_is_built_again_at_the_first_list(own: OwnAzure) -> None:
    clerk = own.new_desk()
    before = find(clerk)
    assert before
    lose_index(own.tables)
    assert find(clerk) == before


def test_first_list_ends_in_time_however_slow_the_index_is_built(own: OwnAzure) -> None:
    clerk = own.new_desk()
    forget_index(own.tables)
    own.storage.plant(Fault(kind="delay", method="P", table="userindex", seconds=0.5))
    answer, seconds = timed(lambda: clerk.person.get("/api/admin/users", timeout=60))
    own.storage.clear()
    assert answer.status_code in (200, 503)
    assert seconds < LONGEST_SECONDS


def test_page_costs_the_same_however_many_users_there_are() -> None:
    with own_azure() as empty:
        clerk = empty.new_desk()
        few = seed_users(empty.azure.env, FEW)
        plant_crowd(empty.azure.env, PAGE)
        before = costs(empty, clerk, few[0])
        plant_crowd(empty.azure.env, MANY)
        assert costs(empty, clerk, few[0]) == before
        assert find(clerk, q="crowd 02999")
        assert all(sum(cost.values()) <= PAGE + 5 for cost in before)
        assert {method for cost in before for method, _ in cost} == {"GET"}


def test_users_who_come_before_the_first_list_are_found(own: OwnAzure) -> None:
    forget_index(own.tables)
    person = own.new_user(name="Early Bird")
    clerk = own.new_desk()
    assert person.account.object_id in find(clerk)
    assert find(clerk, q="early b") == [person.account.object_id]


def test_row_that_another_program_deletes_is_not_shown(own: OwnAzure) -> None:
    clerk, person = own.new_desk(), own.new_user(name="Deleted Behind Our Back")
    own.tables.get_table_client("identities").delete_entity(
        person.account.object_id, person.account.tenant_id
    )
    assert person.account.object_id not in find(clerk)
    assert find(clerk, q="deleted behind") == find(clerk, q=person.account.object_id) == []


def test_storage_outage_is_503_and_not_a_shorter_list(own: OwnAzure) -> None:
    clerk = own.new_desk()
    for table, skip in (("userindex", 0), ("userindex", 1), ("identities", 0), ("identities", 30)):
        own.storage.plant(
            Fault(kind="status", method="GET", table=table, skip=skip, times=1, retry_after="3")
        )
        answer = clerk.person.get("/api/admin/users")
        assert answer.status_code == 503, (table, skip)
        assert answer.headers["Retry-After"] == "3"
        own.storage.clear()
        assert clerk.person.get("/admin/users").status_code == 200
