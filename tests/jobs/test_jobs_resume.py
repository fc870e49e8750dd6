"""Jobs survive crashes, respect the limits of Communication Services, and run in one process at a time."""

import os
import time
import uuid
from collections import Counter
from collections.abc import Iterator

import pytest

from tests.support.concurrency import timed, wait_until
from tests.support.jobs import JobAdmin, job_path
from tests.support.local_azure import LocalAzure
from tests.support.own_azure import World
from tests.support.rows import wait_until_forgotten
from tests.support.service import Service
from tests.support.storage_proxy import Fault, StorageProxy

USERS = int(os.environ.get("JOBS_USERS", "120"))  # 2,000 in occasional longer runs
MAX_SECONDS = 120 + USERS
"""At 10 users per second a job takes less, even if a lease has to expire first."""
CHECKED = 400


@pytest.fixture
def doomed(settings: dict[str, str], service: Service) -> Iterator[Service]:
    """An instance that the test stops or kills, with the same PUBLIC_URL as the others."""
    with Service(settings | {"PUBLIC_URL": service.url}) as running:
        yield running
        running.kill()


@pytest.fixture
def limits(azure: LocalAzure) -> Iterator[None]:
    """The local Azure throttles as Communication Services does."""
    azure.turn_limits(True)
    yield
    azure.turn_limits(False)


@pytest.mark.usefixtures("limits")
@pytest.mark.timeout(2 * MAX_SECONDS + 300)
def test_jobs_of_killed_process_are_finished(job_admin: JobAdmin, doomed: Service) -> None:
    users, there = job_admin.new_users(USERS), job_admin.at(doomed.url)
    path = there.draft(there.select("delete", users), MAX_SECONDS)
    job_admin.azure.reset_calls()
    there.start(path)
    there.wait_until(path, lambda status: status["done"] >= USERS // 3, MAX_SECONDS)
    dry_run = job_path(there.upload("block", "\n".join(str(uuid.uuid4()) for _ in range(CHECKED))))
    doomed.kill()
    assert job_admin.status(dry_run)["state"] == "checking"
    done_before = job_admin.status(path)["done"]
    # The only requests poll the job's status, which resumes nothing.
    job_admin.wait_until(path, lambda status: status["done"] > done_before, seconds=90)
    job_admin.wait_for(path, "done", MAX_SECONDS)
    assert job_admin.results(path) == ["done"] * USERS
    assert [user for user in users if job_admin.find(user)] == []
    for user in users[::100]:
        wait_until_forgotten(job_admin.tables, user.user_id.object_id)
    assert not {user.acs_user_id for user in users} & set(job_admin.azure.list_identities())
    audit = job_admin.tables.get_table_client("audit").query_entities("PartitionKey eq 'all'")
    outcomes = Counter((row["TargetObjectId"], row["Action"], row["Outcome"]) for row in audit)
    ids = [user.user_id.object_id for user in users]
    assert all(outcomes[key, "delete", outcome] for key in ids for outcome in ("started", "done"))
    # Only rows that the killed process had not recorded were repeated.
    assert sum(outcomes[key, "delete", "done"] > 1 for key in ids) <= 60
    assert job_admin.azure.count_calls("acs")["delete"] <= USERS + 60
    job_admin.wait_for(dry_run, "draft", MAX_SECONDS)
    assert [row["found"] for row in job_admin.rows(dry_run)] == ["not-found"] * CHECKED


@pytest.mark.usefixtures("limits")
@pytest.mark.timeout(2 * MAX_SECONDS)
def test_job_is_never_throttled(job_admin: JobAdmin) -> None:
    path = job_admin.draft(job_admin.select("delete", job_admin.new_users(USERS)), MAX_SECONDS)
    job_admin.azure.reset_calls()
    begun = time.monotonic()
    job_admin.finish(path, MAX_SECONDS)
    assert job_admin.azure.count_calls("acs")["delete"] == USERS  # none was throttled and retried
    assert USERS / (time.monotonic() - begun) < 500 / 30  # the limit of Communication Services


@pytest.mark.parametrize("users", [40, 60], ids=["last page", "first of two pages"])
def test_stopped_worker_records_rows_and_hands_over(job_admin: JobAdmin, doomed: Service, users: int) -> None:
    there = job_admin.at(doomed.url)
    path = there.draft(there.select("delete", job_admin.new_users(users)))
    job_admin.azure.reset_calls()
    there.start(path)
    there.wait_until(path, lambda status: status["done"] >= 10)
    doomed.stop()
    doomed.start()
    there.wait_for(path, "done")
    assert there.results(path) == ["done"] * users
    assert job_admin.azure.count_calls("acs")["delete"] == users


def test_stop_waits_for_all_jobs_at_once(job_admin: JobAdmin, doomed: Service, world: World) -> None:
    """gunicorn allows 20 s, while each run retries its last write for up to 30 s."""
    there = job_admin.at(doomed.url)
    world.storage.plant(Fault(kind="status", method="PATCH", table="identities"))
    for _ in range(3):
        there.start(there.draft(there.select("block", [uuid.uuid4()])))
    wait_until(lambda: len({call.text for call in world.storage.calls() if call.method == "PATCH"}) == 3)
    world.storage.plant(Fault(kind="status", table="$batch"))
    assert timed(doomed.stop)[1] < 20


def test_write_with_lost_response_counts_once(storage_proxy: StorageProxy, job_admin: JobAdmin) -> None:
    path = job_admin.draft(job_admin.select("delete", job_admin.new_users(20)))
    job_admin.azure.reset_calls()
    about = path.rpartition("/")[2]
    fault = Fault(kind="fail-after-commit", table="$batch", about=about, also="page-00000", times=2)
    storage_proxy.plant(fault)
    job_admin.finish(path)
    assert job_admin.results(path) == ["done"] * 20
    assert job_admin.status(path)["total"] == 20  # counted once
    assert fault.times == 0
    assert job_admin.azure.count_calls("acs")["delete"] == 20


def test_no_action_starts_without_sufficient_lease(storage_proxy: StorageProxy, job_admin: JobAdmin) -> None:
    """After 15 s without renewal, a lease of 30 s no longer covers an action of up to 15 s."""
    path = job_admin.draft(job_admin.select("delete", job_admin.new_users(1)))
    job_admin.azure.plant_fault("acs", "delete", "status", status=429, retryAfter="18", times=1)
    job_admin.azure.reset_calls()
    job_admin.start(path)
    wait_until(lambda: job_admin.azure.count_calls("acs").get("delete") == 1)
    storage_proxy.plant(Fault(kind="status", table="$batch", about=path.rpartition("/")[2]))
    time.sleep(21)
    assert job_admin.azure.count_calls("acs")["delete"] == 1
    storage_proxy.clear()
    job_admin.wait_for(path, "done")
    assert job_admin.azure.count_calls("acs")["delete"] == 2
    assert job_admin.results(path) == ["done"]
