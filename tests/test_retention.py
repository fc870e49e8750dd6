"""Rows whose time is over are deleted, by the storage's clock, whatever interrupts that."""

import itertools
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from azure.data.tables import TableServiceClient

from tests.support.concurrency import run_concurrently
from tests.support.local_azure import LocalAzure
from tests.support.new_table import new_table
from tests.support.own_azure import World
from tests.support.pages import read_page
from tests.support.rows import list_rows
from tests.support.seed import plant_events
from tests.support.settings import OWN_SETTINGS
from tests.support.storage_proxy import Fault, StorageProxy
from trusted_service.access.administrators import Administrators
from trusted_service.app import create_app
from trusted_service.audit import AuditTrail
from trusted_service.errors import UpstreamError, UpstreamUnavailable
from trusted_service.jobs.models import Item
from trusted_service.jobs.service import Jobs
from trusted_service.models import Actor, UserId
from trusted_service.services import Services
from trusted_service.settings import Settings
from trusted_service.storage.identities import IdentityTable
from trusted_service.storage.tables import Table
from trusted_service.usage import Counts, UsageTable

ACTOR = Actor(kind="administrator", key=f"{uuid.uuid4()}/{uuid.uuid4()}")
OPERATOR = Actor(kind="operator", key="ada@laptop")
DAY = timedelta(days=1)
Purge = Callable[[datetime], Iterator[int]]


def new_user() -> UserId:
    return UserId(str(uuid.uuid4()), str(uuid.uuid4()))


def count_rows(tables: TableServiceClient, user: UserId) -> Counter[str]:
    """Return how many events about the user each partition has."""
    rows = list_rows(tables, "audit", "TargetObjectId", user.object_id)
    return Counter(str(row["PartitionKey"]) for row in rows)


def test_old_events_are_deleted_everywhere(world: World, services: Services) -> None:
    user, partition = new_user(), "user-{0.object_id}-{0.tenant_id}"
    for count, days in ((250, 401), (3, 399)):
        plant_events(world.azure.env, count, days * DAY, user)
    services.retention.run()
    assert count_rows(world.tables, user) == {"all": 3, partition.format(user): 3}
    for until, texts in ((400, 0), (398, 3)):
        query = {"target": str(user), "until": f"{datetime.now(UTC) - until * DAY:%Y-%m-%d}"}
        assert len(read_page(world.admin.person, "/admin/audit", **query).select("tbody tr")) == texts


@pytest.mark.parametrize("date", ["slow", "", "now", "Thu, 31 Feb 2099 00:00:00 GMT"])
def test_retention_follows_the_storage_clock(world: World, services: Services, date: str) -> None:
    user, slow = new_user(), format_datetime(datetime.now(UTC) - 2 * DAY, usegmt=True)
    plant_events(world.azure.env, 1, 401 * DAY, user)
    world.storage.plant(Fault(kind="date", code=slow if date == "slow" else date))
    with nullcontext() if date == "slow" else pytest.raises(UpstreamUnavailable):
        services.retention.run()
    assert set(count_rows(world.tables, user).values()) == {1}


def test_failure_of_one_kind_stops_no_other(world: World, services: Services) -> None:
    user = new_user()
    plant_events(world.azure.env, 1, 401 * DAY, user)
    tables = world.tables.create_table_if_not_exists("usage")
    tables.upsert_entity({"PartitionKey": "2001-01-01", "RowKey": "07-a"})
    world.storage.plant(Fault(kind="status", method="GET", table="audit"))
    services.retention.run()
    assert count_rows(world.tables, user)
    assert list_rows(world.tables, "usage", "PartitionKey", "2001-01-01") == []


@pytest.mark.parametrize("days", ["0", "1"])
def test_setting_decides_what_is_kept(azure: LocalAzure, days: str) -> None:
    names = {f"RETENTION_{kind}_DAYS": days for kind in ("AUDIT", "USAGE", "JOBS")}
    with azure.in_environment():
        application = create_app(Settings.from_env(azure.env | OWN_SETTINGS | names))
    ages = {kind: age for kind, (age, _) in application.extensions["trusted_service"].retention.rules.items()}
    assert ages.pop("sessions") < DAY
    assert ages == ({} if days == "0" else dict.fromkeys(("audit", "usage", "jobs"), DAY))


@pytest.fixture
def table(settings: dict[str, str]) -> Table:
    return new_table(settings)


def table_name(table: Table) -> str:
    return str(table._client.table_name)


def fill_audit(table: Table) -> Purge:
    trail, users = AuditTrail(table), [new_user() for _ in range(3)]
    for user in (*users, None, *users):
        trail.record(ACTOR, "block", user)
    return trail.purge


def fill_usage(table: Table) -> Purge:
    usage = UsageTable(table)
    for process in "abc":
        usage.put(process, datetime(2020, 1, 1, tzinfo=UTC), Counts(tokens=1))
    return usage.purge


def new_draft(table: Table, rows: int = 101) -> tuple[Jobs, str]:
    jobs = Jobs(table, AuditTrail(table), Administrators(table, IdentityTable(table, table), (), ""))
    job = jobs.create(OPERATOR, "block", [Item(line, new_user()) for line in range(rows)])
    assert jobs.save(job.finished())
    return jobs, job.id


def fill_jobs(table: Table) -> Purge:
    new_draft(table)
    return new_draft(table)[0].purge


FILLS = [fill_audit, fill_usage, fill_jobs]
later = pytest.mark.parametrize("fill", FILLS)


@later
def test_interrupted_purge_leaves_no_row(
    table: Table, storage_proxy: StorageProxy, fill: Callable[[Table], Purge]
) -> None:
    """Each call of it fails once, as if the process were killed there."""
    for skip in itertools.count():
        purge = fill(table)
        fault = Fault(kind="status", about=table_name(table), skip=skip, times=1)
        storage_proxy.plant(fault)
        interrupted = False
        try:
            list(purge(table.now() + DAY))
        except UpstreamError:
            interrupted = True
        storage_proxy.clear()
        list(purge(table.now() + DAY))
        assert list(table.query()) == []
        if not interrupted:
            break
    assert skip > 2


@later
def test_two_instances_purge_together(table: Table, fill: Callable[[Table], Purge]) -> None:
    for _ in range(3):
        purge = fill(table)
    before = table.now() + DAY
    run_concurrently([lambda: list(purge(before)) for _ in range(3)])
    assert list(table.query()) == []


@pytest.mark.parametrize("state", ["checking", "running", "leased", "ended-lately"])
def test_job_in_use_is_never_purged(table: Table, state: str) -> None:
    jobs, job_id = new_draft(table, 1)
    now = table.now()
    columns: dict[str, object] = {"State": "done"}
    if state == "leased":
        columns |= {"LeaseOwner": "x", "LeaseUntil": now + DAY}
    elif state == "ended-lately":
        columns |= {"EndedAt": now + DAY}
    else:
        columns |= {"State": state}
    table.merge({"PartitionKey": job_id, "RowKey": "job", **columns})
    assert list(jobs.purge(now + timedelta(minutes=1))) == []
    found = jobs.find(job_id)
    assert found is not None
    assert len(list(jobs.all_items(found))) == 1


def test_marks_are_kept_while_there_is_work(table: Table, storage_proxy: StorageProxy) -> None:
    jobs, draft = new_draft(table, 1)
    active = jobs.create(OPERATOR, "block", [Item(1, new_user())]).id
    assert [job.id for job in jobs.list_open()] == [active]
    assert [row["RowKey"] for row in table.partition("open")] == [active]
    found = jobs.find(draft)
    assert found is not None
    # Another process polls between the mark and the start.
    fault = Fault(kind="signal", method="P", about="start-job", times=1, action=jobs.list_open)
    storage_proxy.plant(fault)
    jobs.start(OPERATOR, found, "")
    assert fault.times == 0
    assert {job.id for job in jobs.list_open()} == {active, draft}


def test_draft_started_meanwhile_is_kept(table: Table, storage_proxy: StorageProxy) -> None:
    jobs, job_id = new_draft(table, 1)
    found = jobs.find(job_id)
    assert found is not None

    def start() -> None:
        jobs.start(OPERATOR, found, "")

    fault = Fault(kind="signal", method="DELETE", table=table_name(table), times=1, action=start)
    storage_proxy.plant(fault)
    assert list(jobs.purge(table.now() + DAY)) == []
    assert fault.times == 0
    assert [job.state for job in jobs.newest(after="", limit=9)] == ["running"]
    assert [job.id for job in jobs.list_open()] == [job_id]
