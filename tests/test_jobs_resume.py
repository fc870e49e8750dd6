"""A job outlives the process that works on it, keeps within ACS's limits, and is never done by two at once.

The everyday run deletes 120 users; `JOBS_USERS=2000` in the environment makes it 2,000.
"""

import os
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator

import pytest
from azure.data.tables import TableServiceClient

from tests.seed import seed_users
from tests.support.index_rows import wait_until_forgotten
from tests.support.jobs import Administrator, job_path
from tests.support.local_azure import LocalAzure
from tests.support.person import Person
from tests.support.service import Service
from trusted_service.models import Identity

USERS = int(os.environ.get("JOBS_USERS", "120"))
LONGEST = 120 + USERS
"""Seconds: at 15 a second a job takes less than that, with a lease that has to run out."""
LOOKED_AT = 400
"""Users of a dry run, which nobody has ever seen."""
NOT_RATIONED = 500
"""What ACS takes within 30 s."""


@pytest.fixture
def doomed(settings: dict[str, str], service: Service) -> Iterator[Service]:
    """An instance that the test kills, behind the same address as the others."""
    running = Service(settings | {"PUBLIC_URL": service.url})
    with running:
        yield running
        running.kill()


@pytest.fixture
def admin(new_person: Callable[..., Person]) -> Administrator:
    person = new_person(roles=["TrustedService.Admin"], name="Root")
    assert person.sign_in().status_code == 302
    return Administrator(person)


def number(status: dict[str, object], name: str) -> int:
    return int(str(status[name]))


def read_audit(tables: TableServiceClient, users: list[Identity]) -> dict[str, Counter[str]]:
    """How often each outcome stands in the audit trail, for each user."""
    wanted = {user.user_id.object_id for user in users}
    found = {object_id: Counter[str]() for object_id in wanted}
    rows = tables.get_table_client("audit").query_entities("PartitionKey eq 'all' and Action eq 'delete'")
    for row in rows:
        if row["TargetObjectId"] in wanted:
            found[row["TargetObjectId"]][row["Outcome"]] += 1
    return found


@pytest.mark.timeout(2 * LONGEST + 300)
def test_jobs_whose_process_is_killed_are_finished_by_another_instance(
    azure: LocalAzure, tables: TableServiceClient, admin: Administrator, doomed: Service
) -> None:
    users = seed_users(azure.env, USERS, acs=True)
    there = admin.at(doomed.url)
    path = there.draft(there.upload("delete", "\n".join(str(user.user_id) for user in users)), LONGEST)
    azure.turn_limits(True)
    azure.reset_calls()
    begun = time.monotonic()
    there.start(path, confirm="yes")
    there.wait_until(path, lambda status: number(status, "done") >= USERS // 3, LONGEST)
    dry_run = job_path(there.upload("block", "\n".join(str(uuid.uuid4()) for _ in range(LOOKED_AT))))
    doomed.kill()
    killed = time.monotonic()
    assert admin.status(dry_run)["state"] == "checking"
    done_by_the_dead = number(admin.status(path), "done")
    # Nobody asks for anything but this one page, which does not resume anything.
    admin.wait_until(path, lambda status: number(status, "done") > done_by_the_dead, seconds=100)
    resumed = time.monotonic()
    admin.wait_for(path, "done", seconds=LONGEST)
    ended = time.monotonic()
    azure.turn_limits(False)
    print(  # noqa: T201 (figures for people, with pytest -s)
        f"{USERS} users: killed after {killed - begun:.0f} s with {done_by_the_dead} done,"
        f" resumed {resumed - killed:.0f} s later, complete after {ended - begun:.0f} s"
    )
    assert Counter(row["result"] for row in admin.rows(path)) == {"done": USERS}
    gone = {user.user_id.object_id for user in users}
    assert not gone & {
        str(row["PartitionKey"]) for row in tables.get_table_client("identities").list_entities()
    }
    for object_id in sorted(gone)[::100]:
        wait_until_forgotten(tables, object_id)
    assert not {user.acs_user_id for user in users} & set(azure.list_identities())
    events = read_audit(tables, users)
    assert all(outcomes["started"] >= 1 and outcomes["done"] >= 1 for outcomes in events.values())
    # What the dead process did and could not write down any more was done again, and nothing else.
    again = sum(outcomes["done"] > 1 for outcomes in events.values())
    assert again <= 60
    assert azure.count_calls("acs")["delete"] <= USERS + 60
    admin.wait_for(dry_run, "draft", seconds=LONGEST)
    assert Counter(row["found"] for row in admin.rows(dry_run)) == {"not-found": LOOKED_AT}


@pytest.mark.timeout(2 * LONGEST)
def test_limits_of_communication_services_are_respected(azure: LocalAzure, admin: Administrator) -> None:
    users = seed_users(azure.env, USERS, acs=True)
    path = admin.draft(admin.upload("delete", "\n".join(str(user.user_id) for user in users)), LONGEST)
    azure.turn_limits(True)
    azure.reset_calls()
    begun = time.monotonic()
    admin.start(path, confirm="yes")
    admin.wait_for(path, "done", seconds=LONGEST)
    took = time.monotonic() - begun
    azure.turn_limits(False)
    assert azure.count_calls("acs")["delete"] == USERS  # none was refused and sent again
    assert USERS / took < NOT_RATIONED / 30


def test_job_goes_on_when_a_worker_is_stopped_for_a_new_one(
    azure: LocalAzure, admin: Administrator, doomed: Service
) -> None:
    users = seed_users(azure.env, 60, acs=True)
    there = admin.at(doomed.url)
    path = there.draft(there.upload("delete", "\n".join(str(user.user_id) for user in users)))
    azure.reset_calls()
    there.start(path, confirm="yes")
    there.wait_until(path, lambda status: number(status, "done") >= 10)
    doomed.stop()
    doomed.start()
    there.wait_for(path, "done")
    assert Counter(row["result"] for row in there.rows(path)) == {"done": 60}
    # A worker that is asked to stop writes down what it did.
    assert azure.count_calls("acs")["delete"] == 60
