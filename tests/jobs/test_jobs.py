"""Bulk actions: dry run, start, results, failures and cancellation."""

import time
import uuid
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

from tests.support.jobs import JobAdmin, job_path
from tests.support.pages import assert_error_page, read_page
from tests.support.person import Person
from tests.support.rows import allow_former_resource, give_former_identity, list_rows, wait_until_forgotten
from tests.support.service import Service
from tests.support.storage_proxy import Fault, StorageProxy
from trusted_service.jobs.worker import THREADS
from trusted_service.models import UserId

UNKNOWN = "/admin/jobs/000000000000000-0000000000000000"


def list_events(job_admin: JobAdmin, path: str) -> list[tuple[datetime, str, str, str]]:
    """Return time, action, outcome and detail of each audited event of the job, in order."""
    rows = list_rows(job_admin.tables, "audit", "ActorKey", job_admin.person.key)
    actions = {row["ActionId"] for row in rows if path.rpartition("/")[2] in row["Detail"]}
    events = [(r["At"], r["Action"], r["Outcome"], r["Detail"]) for r in rows if r["ActionId"] in actions]
    return sorted(events)


def test_dry_run_checks_rows_and_changes_nothing(job_admin: JobAdmin) -> None:
    active, blocked = (job_admin.new_users(1, blocked=share)[0].user_id for share in (0.0, 1.0))
    unknown = UserId(active.tenant_id, str(uuid.uuid4()))
    before = job_admin.find(active), job_admin.find(blocked), set(job_admin.azure.list_identities())
    users = [active, blocked, unknown, active.object_id, "Bob", job_admin.person.key]
    path = job_admin.draft(job_admin.select("delete", users))
    checks = [row["found"] for row in job_admin.rows(path)]
    assert checks == ["found", "blocked", "not-found", "twice", "invalid", "yourself"]
    assert job_admin.results(path) == ["pending"] * 3 + ["skipped"] * 3
    assert (job_admin.find(active), job_admin.find(blocked), set(job_admin.azure.list_identities())) == before
    assert job_admin.audit(active) == []


def test_deletion_erases_users_and_reports_each(job_admin: JobAdmin) -> None:
    users = job_admin.new_users(3)
    path = job_admin.finish(job_admin.draft(job_admin.select("delete", [*users, uuid.uuid4()])))
    assert job_admin.status(path)["left"] == 0
    assert job_admin.results(path) == ["done"] * 3 + ["not-found"]
    assert [job_admin.find(user) for user in users] == [{}] * 3
    assert not {user.acs_user_id for user in users} & set(job_admin.azure.list_identities())
    assert job_admin.audit(users[0]) == [("delete", "started"), ("delete", "done")]
    for user in users:
        wait_until_forgotten(job_admin.tables, user.user_id.object_id)


def test_block_applies_to_all_users_with_reason(job_admin: JobAdmin, mapped_user: Person) -> None:
    """Except to unknown users of tenants that are not allowed: they may be misspelt known ones."""
    former, elsewhere = (f"{uuid.uuid4()}/{uuid.uuid4()}" for _ in range(2))
    tenant_id, object_id = former.split("/")
    known = {"PartitionKey": object_id, "RowKey": tenant_id, "AcsUserId": "", "Blocked": False}
    job_admin.tables.get_table_client("identities").create_entity(known)
    users = [mapped_user.key, *job_admin.new_users(1), uuid.uuid4(), former]
    draft = job_admin.draft(job_admin.select("block", [*users, elsewhere]))
    path = job_admin.finish(draft, reason="left\x00\nin May")
    assert job_admin.results(path) == ["done"] * 4 + ["skipped"]
    refused = job_admin.rows(path)[-1]
    assert (refused["found"], refused["detail"]) == ("invalid", "tenant not allowed")
    assert job_admin.find(elsewhere) == {}
    assert mapped_user.get("/api/me").status_code == 401
    assert "left in May" in job_admin.person.get(path).text
    for user in users:
        row = job_admin.find(user)
        assert (row["Blocked"], row["BlockReason"]) == (True, "left in May")


def test_block_is_repeated_only_where_lifted(job_admin: JobAdmin) -> None:
    """A block from before the dry run keeps its reason unless it was lifted since."""
    (user,) = job_admin.new_users(1, blocked=1.0)
    before = job_admin.find(user)
    job_admin.finish(job_admin.draft(job_admin.select("block", [user])), reason="another")
    assert job_admin.find(user) == before
    assert job_admin.audit(user) == []
    path = job_admin.draft(job_admin.select("block", [user]))
    job_admin.person.submit(f"/admin/users/{user.user_id}/unblock")
    assert job_admin.find(user)["Blocked"] is False
    job_admin.finish(path)
    assert job_admin.find(user)["Blocked"] is True


def test_draft_is_started_or_cancelled_only_once(job_admin: JobAdmin, storage_proxy: StorageProxy) -> None:
    (user,) = job_admin.new_users(1)
    path = job_admin.draft(job_admin.select("delete", [user]))
    assert_error_page(job_admin.start(path, confirm=""), 400)
    storage_proxy.plant(Fault(kind="status", method="P", table="audit"))
    assert_error_page(job_admin.start(path), 503)
    storage_proxy.clear()
    assert job_admin.status(path)["state"] == "draft"
    for _ in range(2):
        assert job_path(job_admin.cancel(path)) == path
    assert_error_page(job_admin.start(path), 400)
    assert job_admin.status(path)["state"] == "cancelled"
    assert job_admin.find(user)["AcsUserId"] == user.acs_user_id
    outcomes = [event[1:] for event in list_events(job_admin, path) if event[2] != "started"]
    assert outcomes[0][:2] == ("cancel-job", "done")
    assert outcomes[1] == ("cancel-job", "failed", "already cancelled")
    assert outcomes[2:] == [("start-job", "failed", "This job cannot be started.")]


def test_cancelling_stops_and_keeps_recorded_results(job_admin: JobAdmin) -> None:
    users = job_admin.new_users(60)
    path = job_admin.draft(job_admin.select("delete", users))
    job_admin.start(path)
    job_admin.wait_until(path, lambda status: status["done"] > 5)
    assert job_path(job_admin.start(path)) == path
    job_admin.cancel(path)

    def is_recorded() -> bool:
        done = {row["objectId"] for row in job_admin.rows(path) if row["result"] == "done"}
        return done == {user.user_id.object_id for user in users if not job_admin.find(user)}

    job_admin.wait_until(path, lambda _: is_recorded())
    assert 0 < job_admin.status(path)["left"] < 60
    assert job_admin.status(path)["state"] == "cancelled"
    trail = list_rows(job_admin.tables, "audit", "PartitionKey", "all")
    events = list_events(job_admin, path)
    assert ("start-job", "failed", "already running") in [event[1:] for event in events]
    (cancelled,) = (at for at, action, outcome, _ in events if (action, outcome) == ("cancel-job", "done"))
    begun = [row for row in trail if (row["Action"], row["Outcome"]) == ("delete", "started")]
    assert sum(row["At"] > cancelled for row in begun) <= THREADS, "only rows that have begun are finished"


def test_failed_row_shows_reason_and_is_retried(job_admin: JobAdmin, mapped_user: Person) -> None:
    users = job_admin.new_users(2)
    path = job_admin.draft(job_admin.select("delete", [*users, mapped_user.key]))
    for user in users:
        job_admin.azure.plant_fault("acs", "delete", "status", status=500, times=4, about=user.acs_user_id)
    allow_former_resource(job_admin.tables)
    give_former_identity(job_admin.tables, mapped_user)  # whose tokens cannot be revoked here
    job_admin.finish(path, seconds=60)
    assert job_admin.results(path) == ["failed"] * 3
    assert "Communication Services: HTTP 500" in job_admin.rows(path)[0]["detail"]
    assert job_admin.rows(path)[2]["detail"].startswith("deleted, but tokens are not revoked: ")
    assert "HTTP 500" in job_admin.person.get(path).text
    job_admin.start(path)
    job_admin.wait_until(path, lambda status: (status["state"], status["left"]) == ("done", 0))
    assert [(row["result"], row["detail"]) for row in job_admin.rows(path)[:2]] == [("done", "")] * 2
    assert [job_admin.find(user) for user in users] == [{}] * 2


def test_throttling_is_waited_out(job_admin: JobAdmin) -> None:
    path = job_admin.draft(job_admin.select("delete", job_admin.new_users(6)))
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=8), usegmt=True)
    job_admin.azure.plant_fault("acs", "delete", "status", status=429, retryAfter=later, times=4)
    job_admin.azure.reset_calls()
    begun = time.monotonic()
    job_admin.finish(path)
    assert time.monotonic() - begun >= 6
    assert set(job_admin.results(path)) == {"done"}
    assert job_admin.azure.count_calls("acs")["delete"] <= 6 + 4


def test_two_instances_run_a_job_once(job_admin: JobAdmin, other_service: Service) -> None:
    users = job_admin.new_users(20)
    path = job_admin.draft(job_admin.select("delete", users))
    job_admin.azure.reset_calls()
    job_admin.start(path)
    job_admin.at(other_service.url).finish(path)
    assert job_admin.azure.count_calls("acs")["delete"] == 20
    for user in users:
        assert job_admin.audit(user) == [("delete", "started"), ("delete", "done")]


def test_page_shows_50_rows_and_next_link(job_admin: JobAdmin) -> None:
    users = [str(uuid.uuid4()) for _ in range(120)]
    address = job_admin.draft(job_admin.upload("block", "\n".join(users)))
    seen: list[str] = []
    while address:
        page = read_page(job_admin.person, address)
        shown = [str(link["href"]).rpartition("/")[2] for link in page.select("#rows a")]
        assert len(shown) <= 50
        seen += shown
        address = next((str(link["href"]) for link in page.select("a[rel=next]")), "")
    assert seen == users


def test_progress_page_refreshes_until_the_end(job_admin: JobAdmin) -> None:
    path = job_admin.draft(job_admin.select("delete", job_admin.new_users(30)))
    job_admin.start(path)
    job_admin.wait_until(path, lambda status: status["done"] > 0)
    page = read_page(job_admin.person, path)
    (progress,) = page.select("progress")
    assert int(str(progress["value"])) > 0
    assert progress["max"] == "30"
    assert page.select_one('noscript meta[http-equiv="refresh"]') is not None
    job_admin.wait_for(path, "done")
    assert read_page(job_admin.person, path).select_one('meta[http-equiv="refresh"]') is None


def test_jobs_are_listed_newest_first(job_admin: JobAdmin) -> None:
    created = [job_path(job_admin.select("block", [uuid.uuid4()])) for _ in range(22)]
    first = read_page(job_admin.person, "/admin/jobs")
    (link,) = first.select("a[rel=next]")
    second = read_page(job_admin.person, str(link["href"]))
    listed = [str(link["href"]) for page in (first, second) for link in page.select("tbody a")]
    assert len(listed) == len(set(listed))
    assert listed[:22] == created[::-1]


def test_unknown_names_are_refused(job_admin: JobAdmin) -> None:
    for name in (UNKNOWN.rpartition("/")[2], "x", "job", "list", "open", "..", "'"):
        for suffix in ("", ".json", ".csv"):
            assert job_admin.person.get(f"/admin/jobs/{name}{suffix}").status_code in (404, 302), name
        assert_error_page(job_admin.start(f"/admin/jobs/{name}x"), 404)
    assert_error_page(job_admin.select("erase", [uuid.uuid4()]), 400)
    assert_error_page(job_admin.person.get("/admin/jobs", params={"cursor": "1"}), 400)
