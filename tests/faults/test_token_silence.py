"""Cases outside the fault matrix: slow calls that add up, and a write that outlives the response."""

from dataclasses import replace
from functools import partial

from tests.support.concurrency import timed, wait_until
from tests.support.own_azure import World
from tests.support.person import Person
from tests.support.problems import assert_problem
from tests.support.rows import get_session
from tests.support.upstream_calls import DELETE, IDENTITY_READ, INSERT, SESSION_READ, SESSION_WRITE, fail_call

LIMIT_SECONDS = 15.0
AT_ONCE_SECONDS = 2.0


def test_many_slow_calls_respond_within_limit(world: World, signed_in: Person) -> None:
    csrf, object_id = signed_in.csrf_headers(), signed_in.account.object_id
    before = set(world.azure.list_identities())
    partition = get_session(world.tables, signed_in)["PartitionKey"]
    fail_call(world, SESSION_READ, "delay", seconds=4.5, times=1, about=partition)
    fail_call(world, IDENTITY_READ, "delay", seconds=4.5, times=1, about=object_id)
    # Then the insert, the read that checks for it, and the deletion of the unused identity.
    fail_call(world, INSERT, "hang", about=object_id)
    fail_call(world, replace(IDENTITY_READ, skip=1), "hang", about=object_id)
    fail_call(world, DELETE, "hang")
    response, seconds = timed(partial(signed_in.token, csrf=csrf))
    assert_problem(response, 503, "upstream_unavailable")
    assert seconds < LIMIT_SECONDS
    world.clear_faults()
    response, seconds = timed(partial(signed_in.token, csrf=csrf))
    assert response.status_code == 200
    assert seconds < AT_ONCE_SECONDS
    identity = world.identity_of(signed_in)
    assert identity == response.json()["user"]["communicationUserId"]
    wait_until(lambda: set(world.azure.list_identities()) - before == {identity}, seconds=10)


def test_write_after_the_response_delays_no_request(world: World, signed_in: Person) -> None:
    csrf = signed_in.csrf_headers()
    fail_call(world, SESSION_WRITE, "hang", about=get_session(world.tables, signed_in)["PartitionKey"])
    for _ in range(3):  # on one connection, which must not be blocked either
        response, seconds = timed(partial(signed_in.token, csrf=csrf))
        assert response.status_code == 200
        assert seconds < AT_ONCE_SECONDS
