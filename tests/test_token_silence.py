"""Calls that are each a little too slow, and a write that nobody waits for: no cells of the fault matrix."""

from dataclasses import replace
from functools import partial

from azure.data.tables import TableServiceClient

from tests.support.identity_rows import list_identity_rows
from tests.support.local_azure import LocalAzure
from tests.support.person import Person
from tests.support.problems import assert_problem
from tests.support.rows import get_session
from tests.support.storage_proxy import Fault, StorageProxy
from tests.support.together import timed, wait_until
from tests.support.upstream_calls import IDENTITY_READ, INSERT, SESSION_READ, Upstreams

LIMIT_SECONDS = 15.0
AT_ONCE_SECONDS = 2.0


def test_many_slow_calls_together_are_answered_in_time(
    azure: LocalAzure, storage_proxy: StorageProxy, tables: TableServiceClient, signed_in: Person
) -> None:
    upstreams = Upstreams(azure, storage_proxy)
    csrf, before = signed_in.csrf_headers(), set(azure.list_identities())
    partition = get_session(tables, signed_in)["PartitionKey"]
    upstreams.plant(SESSION_READ, "delay", seconds=4.5, times=1, about=partition)
    upstreams.plant(IDENTITY_READ, "delay", seconds=4.5, times=1, about=signed_in.account.object_id)
    # Then the insert, the look whether it was done, and the deletion of the identity that was made in vain.
    upstreams.plant(INSERT, "hang", about=signed_in.account.object_id)
    upstreams.plant(replace(IDENTITY_READ, skip=1), "hang", about=signed_in.account.object_id)
    azure.plant_fault("acs", "delete", "hang", times=None)
    answer, seconds = timed(partial(signed_in.token, csrf=csrf))
    assert_problem(answer, 503, "upstream_unavailable")
    assert seconds < LIMIT_SECONDS
    upstreams.clear()
    answer, seconds = timed(partial(signed_in.token, csrf=csrf))
    assert answer.status_code == 200
    assert seconds < AT_ONCE_SECONDS
    (row,) = list_identity_rows(tables, signed_in)
    assert row["AcsUserId"] == answer.json()["user"]["communicationUserId"]
    wait_until(lambda: set(azure.list_identities()) - before == {row["AcsUserId"]}, seconds=10)


def test_write_after_the_answer_holds_nobody_up(
    storage_proxy: StorageProxy, tables: TableServiceClient, signed_in: Person
) -> None:
    csrf = signed_in.csrf_headers()
    partition = get_session(tables, signed_in)["PartitionKey"]
    storage_proxy.plant(Fault(kind="hang", method="P", table="sessions", about=partition))
    for _ in range(3):  # on one connection, which must not be held up either
        answer, seconds = timed(partial(signed_in.token, csrf=csrf))
        assert answer.status_code == 200
        assert seconds < AT_ONCE_SECONDS
