"""One thing done to many users at once: dry run, start, results, and what must not happen."""

import time
import uuid
from collections.abc import Callable

import pytest
from azure.data.tables import TableServiceClient
from bs4 import BeautifulSoup

from tests.seed import seed_users
from tests.support.index_rows import wait_until_forgotten
from tests.support.jobs import Administrator, job_path
from tests.support.local_azure import LocalAzure
from tests.support.pages import assert_error_page
from tests.support.person import Person
from tests.support.rows import list_rows
from tests.support.service import Service
from tests.support.storage_proxy import Fault, StorageProxy
from trusted_service.models import Identity

ROUTES = ("", "/new", "/000000000000000-0000000000000000")


@pytest.fixture(scope="module")
def admin(new_person: Callable[..., Person]) -> Administrator:
    person = new_person(roles=["TrustedService.Admin"], name="Root")
    assert person.sign_in().status_code == 302
    return Administrator(person)


@pytest.fixture(scope="module")
def leavers(azure: LocalAzure) -> Callable[[int], list[Identity]]:
    """Make users who have identities at Communication Services."""
    return lambda count: seed_users(azure.env, count, acs=True)


def find_row(tables: TableServiceClient, user: Identity) -> dict[str, object] | None:
    rows = list_rows(tables, "identities", "PartitionKey", user.user_id.object_id)
    return rows[0] if rows else None


def audit(tables: TableServiceClient, user_id: str) -> list[tuple[str, str]]:
    """What was done to the user, in the order of time."""
    rows = list_rows(tables, "audit", "TargetObjectId", user_id.rpartition("/")[2])
    rows = sorted((row for row in rows if row["PartitionKey"] == "all"), key=lambda row: row["At"])
    return [(row["Action"], row["Outcome"]) for row in rows]


def test_dry_run_says_what_would_happen_to_each_row_and_changes_nothing(
    admin: Administrator, azure: LocalAzure, tables: TableServiceClient, settings: dict[str, str]
) -> None:
    (active,) = seed_users(azure.env, 1, acs=True)
    (blocked,) = seed_users(azure.env, 1, blocked=1.0)
    stranger = uuid.uuid4()
    tenant = settings["ENTRA_ALLOWED_TENANTS"]
    users = [
        active.user_id,
        blocked.user_id,
        f"{tenant}/{stranger}",
        active.user_id.object_id,
        "Bob",
        admin.person.key,
    ]
    before = find_row(tables, active), find_row(tables, blocked), set(azure.list_identities())
    path = admin.draft(admin.select("delete", map(str, users)))
    assert [row["found"] for row in admin.rows(path)] == [
        *("found", "blocked", "not-found", "twice", "invalid", "yourself")
    ]
    assert [row["result"] for row in admin.rows(path)] == ["pending"] * 3 + ["skipped"] * 3
    assert (find_row(tables, active), find_row(tables, blocked), set(azure.list_identities())) == before
    assert audit(tables, str(active.user_id)) == []


def test_delete_erases_everybody_who_is_there_and_says_so_for_each_row(
    admin: Administrator,
    azure: LocalAzure,
    tables: TableServiceClient,
    leavers: Callable[[int], list[Identity]],
) -> None:
    users = leavers(3)
    stranger = uuid.uuid4()
    path = admin.draft(admin.select("delete", [*(str(user.user_id) for user in users), str(stranger)]))
    assert job_path(admin.start(path, confirm="yes")) == path
    assert admin.wait_for(path, "done")["left"] == 0
    assert [row["result"] for row in admin.rows(path)] == ["done"] * 3 + ["not-found"]
    assert [find_row(tables, user) for user in users] == [None] * 3
    assert not {user.acs_user_id for user in users} & set(azure.list_identities())
    assert audit(tables, str(users[0].user_id)) == [("delete", "started"), ("delete", "done")]
    for user in users:
        wait_until_forgotten(tables, user.user_id.object_id)


def test_block_keeps_everybody_out_and_gives_the_reason(
    admin: Administrator,
    tables: TableServiceClient,
    settled: Person,
    leavers: Callable[[int], list[Identity]],
) -> None:
    (other,) = leavers(1)
    stranger = f"{other.user_id.tenant_id}/{uuid.uuid4()}"
    path = admin.draft(admin.select("block", [settled.key, str(other.user_id), stranger]))
    admin.start(path, reason="left in May")
    admin.wait_for(path, "done")
    assert [row["result"] for row in admin.rows(path)] == ["done"] * 3
    assert settled.get("/api/me").status_code == 401
    for object_id in (settled.account.object_id, other.user_id.object_id, stranger.rpartition("/")[2]):
        (row,) = list_rows(tables, "identities", "PartitionKey", object_id)
        assert (row["Blocked"], row["BlockReason"]) == (True, "left in May")


def test_block_leaves_those_alone_who_are_blocked_already(
    admin: Administrator, azure: LocalAzure, tables: TableServiceClient
) -> None:
    (blocked,) = seed_users(azure.env, 1, blocked=1.0)
    path = admin.draft(admin.select("block", [str(blocked.user_id)]))
    admin.start(path, reason="another")
    admin.wait_for(path, "done")
    row = find_row(tables, blocked)
    assert row is not None
    assert "BlockReason" not in row
    assert audit(tables, str(blocked.user_id)) == []


def test_block_of_somebody_unblocked_since_the_dry_run_blocks_them(
    admin: Administrator, azure: LocalAzure, tables: TableServiceClient
) -> None:
    (blocked,) = seed_users(azure.env, 1, blocked=1.0)
    path = admin.draft(admin.select("block", [str(blocked.user_id)]))
    admin.person.post(f"/admin/users/{blocked.user_id}/unblock", data={"csrf_token": admin.csrf})
    admin.start(path)
    admin.wait_for(path, "done")
    row = find_row(tables, blocked)
    assert row is not None
    assert row["Blocked"] is True


def test_start_and_stop_are_in_the_audit_trail_under_who_did_it(
    admin: Administrator, tables: TableServiceClient
) -> None:
    path = admin.draft(admin.select("block", [str(uuid.uuid4())]))
    admin.cancel(path)
    rows = list_rows(tables, "audit", "ActorKey", admin.person.key)
    found = {(row["Action"], row["Outcome"]) for row in rows if path.rpartition("/")[2] in row["Detail"]}
    assert found == {("cancel-job", "started"), ("cancel-job", "done")}


def test_job_whose_start_cannot_be_audited_does_not_start(
    admin: Administrator, storage_proxy: StorageProxy
) -> None:
    path = admin.draft(admin.select("block", [str(uuid.uuid4())]))
    storage_proxy.plant(Fault(kind="status", method="PUT", table="audit"))
    storage_proxy.plant(Fault(kind="status", method="PATCH", table="audit"))
    assert_error_page(admin.start(path), 503)
    storage_proxy.clear()
    assert admin.status(path)["state"] == "draft"


def test_delete_is_not_started_without_confirmation(admin: Administrator) -> None:
    path = admin.draft(admin.select("delete", [str(uuid.uuid4())]))
    assert_error_page(admin.start(path), 400)
    assert admin.status(path)["state"] == "draft"


def test_cancelled_job_stays_cancelled(admin: Administrator, tables: TableServiceClient) -> None:
    stranger = str(uuid.uuid4())
    path = admin.draft(admin.select("block", [stranger]))
    assert job_path(admin.cancel(path)) == path
    assert_error_page(admin.start(path), 400)
    assert admin.status(path)["state"] == "cancelled"
    assert list_rows(tables, "identities", "PartitionKey", stranger) == []


def test_cancel_in_the_middle_stops_and_keeps_what_was_done(
    admin: Administrator,
    azure: LocalAzure,
    tables: TableServiceClient,
    leavers: Callable[[int], list[Identity]],
) -> None:
    users = leavers(60)
    path = admin.draft(admin.select("delete", [str(user.user_id) for user in users]))
    admin.start(path, confirm="yes")
    admin.wait_until(path, lambda status: int(str(status["done"])) > 5)
    admin.cancel(path)
    assert admin.status(path)["state"] == "cancelled"
    # What was under way is finished and written down; then nothing moves any more.
    admin.wait_until(path, lambda _: _settled(admin, path, users, tables))
    left = int(str(admin.status(path)["left"]))
    assert 0 < left < 60
    assert admin.status(path)["state"] == "cancelled"
    assert admin.start(path, confirm="yes").status_code == 400


def _settled(admin: Administrator, path: str, users: list[Identity], tables: TableServiceClient) -> bool:
    rows = {row["objectId"]: row["result"] for row in admin.rows(path)}
    gone = {user.user_id.object_id for user in users if find_row(tables, user) is None}
    return gone == {object_id for object_id, result in rows.items() if result == "done"}


def test_row_that_fails_says_why_and_can_be_done_again(
    admin: Administrator,
    azure: LocalAzure,
    tables: TableServiceClient,
    leavers: Callable[[int], list[Identity]],
) -> None:
    users = leavers(2)
    path = admin.draft(admin.select("delete", [str(user.user_id) for user in users]))
    azure.plant_fault("acs", "delete", "status", status=500, times=8)
    admin.start(path, confirm="yes")
    admin.wait_for(path, "done", seconds=60)
    assert [row["result"] for row in admin.rows(path)] == ["failed"] * 2
    assert "Communication Services: HTTP 500" in admin.rows(path)[0]["detail"]
    assert "HTTP 500" in admin.person.get(path).text
    admin.start(path, confirm="yes")
    admin.wait_until(path, lambda status: status["state"] == "done" and _results(admin, path) == {"done"})
    assert [find_row(tables, user) for user in users] == [None] * 2


def _results(admin: Administrator, path: str) -> set[str]:
    return {row["result"] for row in admin.rows(path)}


def test_throttling_is_waited_out_and_nothing_fails(
    admin: Administrator, azure: LocalAzure, leavers: Callable[[int], list[Identity]]
) -> None:
    users = leavers(6)
    path = admin.draft(admin.select("delete", [str(user.user_id) for user in users]))
    azure.plant_fault("acs", "delete", "status", status=429, retryAfter="6", times=4)
    azure.reset_calls()
    begun = time.monotonic()
    admin.start(path, confirm="yes")
    admin.wait_for(path, "done")
    assert time.monotonic() - begun >= 6
    assert _results(admin, path) == {"done"}
    assert azure.count_calls("acs")["delete"] <= 6 + 4


def test_start_twice_runs_once(
    admin: Administrator,
    azure: LocalAzure,
    tables: TableServiceClient,
    leavers: Callable[[int], list[Identity]],
) -> None:
    (user,) = leavers(1)
    path = admin.draft(admin.select("delete", [str(user.user_id)]))
    admin.start(path, confirm="yes")
    admin.start(path, confirm="yes")
    admin.wait_for(path, "done")
    assert audit(tables, str(user.user_id)) == [("delete", "started"), ("delete", "done")]


def test_page_shows_50_rows_and_leads_to_the_rest(admin: Administrator) -> None:
    strangers = [str(uuid.uuid4()) for _ in range(120)]
    path = admin.draft(admin.upload("block", "\n".join(strangers)))
    seen: list[str] = []
    address = path
    while address:
        page = BeautifulSoup(admin.person.get(address).text, "html.parser")
        shown = [str(link["href"]).rpartition("/")[2] for link in page.select("#rows a")]
        assert len(shown) <= 50
        seen += shown
        following = page.find("a", rel="next")
        address = str(following["href"]) if following else ""
    assert seen == strangers


def test_progress_survives_reloading_and_refreshes_without_scripts(
    admin: Administrator, azure: LocalAzure, leavers: Callable[[int], list[Identity]]
) -> None:
    users = leavers(30)
    path = admin.draft(admin.select("delete", [str(user.user_id) for user in users]))
    admin.start(path, confirm="yes")
    admin.wait_until(path, lambda status: int(str(status["done"])) > 0)
    page = BeautifulSoup(admin.person.get(path).text, "html.parser")
    progress = page.select_one("progress")
    assert progress is not None
    assert int(str(progress["value"])) > 0
    assert progress["max"] == "30"
    assert page.select_one('noscript meta[http-equiv="refresh"]') is not None
    admin.wait_for(path, "done")
    page = BeautifulSoup(admin.person.get(path).text, "html.parser")
    assert page.select_one('meta[http-equiv="refresh"]') is None


def test_jobs_are_listed_the_newest_first(admin: Administrator) -> None:
    paths = [job_path(admin.select("block", [str(uuid.uuid4())])) for _ in range(3)]
    page = BeautifulSoup(admin.person.get("/admin/jobs").text, "html.parser")
    listed = [str(link["href"]) for link in page.select("tbody a")]
    assert listed[:3] == paths[::-1]


def test_list_of_jobs_goes_on_behind_a_link(admin: Administrator) -> None:
    made = [job_path(admin.select("block", [str(uuid.uuid4())])) for _ in range(22)]
    first = BeautifulSoup(admin.person.get("/admin/jobs").text, "html.parser")
    following = first.find("a", rel="next")
    assert following is not None
    second = BeautifulSoup(admin.person.get(str(following["href"])).text, "html.parser")
    listed = [str(link["href"]) for page in (first, second) for link in page.select("tbody a")]
    assert len(listed) == len(set(listed))
    assert listed[:22] == made[::-1]


@pytest.mark.parametrize(
    "path", [f"/admin/jobs{route}" for route in (*ROUTES, f"{ROUTES[2]}.json", f"{ROUTES[2]}.csv")]
)
def test_reading_is_for_administrators(signed_in: Person, path: str) -> None:
    assert_error_page(signed_in.get(path), 403)


@pytest.mark.parametrize(
    "path", ["/admin/jobs", f"/admin/jobs{ROUTES[2]}/start", f"/admin/jobs{ROUTES[2]}/cancel"]
)
def test_writing_is_for_administrators_and_takes_the_csrf_value(
    signed_in: Person, admin: Administrator, path: str
) -> None:
    form = {"csrf_token": signed_in.me()["csrfToken"], "action": "delete", "user": str(uuid.uuid4())}
    assert_error_page(signed_in.post(path, data=form), 403)
    assert_error_page(admin.person.post(path, data={"action": "delete", "user": str(uuid.uuid4())}), 403)


@pytest.mark.parametrize("name", ["000000000000000-0000000000000000", "x", "job", "list", "open", "..", "'"])
def test_job_that_is_none_is_not_found(admin: Administrator, name: str) -> None:
    for suffix in ("", ".json", ".csv"):
        assert admin.person.get(f"/admin/jobs/{name}{suffix}").status_code in (404, 302)
    assert_error_page(admin.start(f"/admin/jobs/{name}x", confirm="yes"), 404)


def test_action_that_is_none_is_refused(admin: Administrator) -> None:
    assert_error_page(admin.select("erase", [str(uuid.uuid4())]), 400)


def test_cursor_that_is_none_is_refused(admin: Administrator) -> None:
    assert_error_page(admin.person.get("/admin/jobs", params={"cursor": "1"}), 400)


def test_two_instances_do_a_job_once(
    admin: Administrator,
    azure: LocalAzure,
    tables: TableServiceClient,
    other_service: Service,
    leavers: Callable[[int], list[Identity]],
) -> None:
    users = leavers(20)
    path = admin.draft(admin.select("delete", [str(user.user_id) for user in users]))
    there = admin.at(other_service.url)
    azure.reset_calls()
    admin.start(path, confirm="yes")
    there.start(path, confirm="yes")
    there.wait_for(path, "done")
    assert azure.count_calls("acs")["delete"] == 20
    for user in users:
        assert audit(tables, str(user.user_id)) == [("delete", "started"), ("delete", "done")]
