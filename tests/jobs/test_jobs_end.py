"""A job ends with the access of the administrator who started it, and never acts on that administrator."""

import time
import uuid
from collections.abc import Callable
from functools import partial

import pytest

from tests.support.admin_client import ROLE, Admin, bearer, get_me, take_role
from tests.support.concurrency import wait_until
from tests.support.jobs import JobAdmin
from tests.support.own_azure import own_azure
from tests.support.person import Person
from tests.support.rows import find_row, list_rows
from tests.support.service import Service

USERS = 120
NewAdmin = Callable[[], JobAdmin]


@pytest.fixture
def new_admin(new_person: Callable[..., Person]) -> NewAdmin:
    return lambda: JobAdmin(new_person(roles=[ROLE]).signed_in())


def start_deletion(author: JobAdmin, count: int = USERS) -> str:
    """Start a job of 15 users a second, and wait until it has begun."""
    path = author.draft(author.select("delete", author.new_users(count)))
    author.start(path)
    author.wait_until(path, lambda status: status["done"] > 0)
    return path


@pytest.mark.parametrize(
    ("loss", "said"),
    [
        *(("block", "has been blocked"), ("delete", "is no longer an administrator")),
        *(("sign-in", "is no longer an administrator"), ("bearer", "is no longer an administrator")),
    ],
)
def test_job_ends_with_access_of_its_starter(
    job_admin: JobAdmin, admin: Admin, other_service: Service, new_admin: NewAdmin, loss: str, said: str
) -> None:
    author = new_admin()
    path, person = start_deletion(author), author.person.at(other_service.url)
    if loss in ("sign-in", "bearer"):
        take_role(author.azure, person)
    if loss == "sign-in":
        assert Person(author.azure, author.person.url, person.account).sign_in().status_code == 302
    elif loss == "bearer":
        assert get_me(person, bearer(author.azure, person)).status_code == 200
    else:
        admin.do("api", person, loss)
    there = job_admin.at(other_service.url)
    there.wait_for(path, "cancelled")
    left = there.status(path)["left"]
    assert 0 < left < USERS
    time.sleep(2)
    assert there.status(path)["left"] == left
    assert said in there.person.get(path).text
    assert "administrateur" in there.person.get(path, headers={"Accept-Language": "fr"}).text
    events = list_rows(job_admin.tables, "audit", "ActorKey", "system")
    events = [
        row for row in events if path.rpartition("/")[2] in row["Detail"] and row["Action"] == "cancel-job"
    ]
    assert {row["Outcome"] for row in events} >= {"started"}
    if loss in ("sign-in", "bearer"):  # the old session cannot start another
        assert author.select("delete", [uuid.uuid4()]).status_code == 403


@pytest.mark.parametrize("action", ["block", "delete"])
def test_job_leaves_out_its_starter(job_admin: JobAdmin, new_admin: NewAdmin, action: str) -> None:
    starter, (user,) = new_admin(), job_admin.new_users(1)
    path = job_admin.draft(job_admin.select(action, [starter.person.key, user]))
    starter.finish(path)
    assert starter.results(path) == ["skipped", "done"]
    assert starter.rows(path)[0]["detail"]
    assert starter.person.is_signed_in()
    assert job_admin.find(starter.person.key) == {}


def test_job_ends_with_its_starters_tenant() -> None:
    with own_azure() as world:
        author = JobAdmin(world.new_admin().person)
        path = start_deletion(author, count=150)
        world.service.stop()
        with world.new_instance({"ENTRA_ALLOWED_TENANTS": str(uuid.uuid4())}):
            find = partial(find_row, world.tables, "jobs", path.rpartition("/")[2], "job")
            wait_until(lambda: "cancelled" in str(find()), seconds=60)
