"""Jobs and their rows, which the table `jobs` holds.

- a job's own partition, named by its id: the header `job`, and `page-00000`, `page-00001`, …, each
  with 50 of its rows as JSON: with an entity for each row, the SDK would take seconds for a long list.
- `list`: one entity for each job, by its id. Ids of newer jobs are smaller, so the newest come first.
- `open`: one entity for each job that may have work left, so that a poll is one small query.

A page and the header change in one transaction, on condition that the header is as it was read: counts
and rows always agree, and a process whose lease another has taken can no longer write.
"""

import contextlib
import itertools
import json
import secrets
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

from trusted_service.access.administrators import Administrators, Objection
from trusted_service.audit import AuditTrail
from trusted_service.azure.parallel import map_parallel
from trusted_service.errors import ChangedTooOften, Conflict
from trusted_service.jobs.models import PAGE_SIZE, Item, Job, JobAction, Mention, Page
from trusted_service.models import SYSTEM, Actor, UserId
from trusted_service.storage.attempts import attempts
from trusted_service.storage.tables import Row, RowChanged, Table, find_utc, version_of
from trusted_service.storage.transactions import Operation, put_operation
from trusted_service.texts import without_acs_user_ids

HEADER = "job"
COLUMNS = {"Action": "action", "State": "state", "Reason": "reason", "Retries": "retries"}
COLUMNS |= {"LeaseOwner": "lease_owner", "WriteId": "write_id", "Objection": "objection"}
TIMES = {"CreatedAt": "created_at", "EndedAt": "ended_at", "LeaseUntil": "lease_until"}
"""Columns of the header, with the attributes of a job that they hold."""
MAX_PAGES = 50
"""In one transaction, which may hold 4 MiB."""


@dataclass(frozen=True, slots=True)
class Jobs:
    """Methods raise UpstreamError if the storage fails. `trusted_service.jobs.worker` does the work."""

    table: Table
    audit: AuditTrail
    administrators: Administrators

    def create(self, actor: Actor, action: JobAction, items: Sequence[Item]) -> Job:
        """Create a job whose rows are to be checked, which changes nothing. Raises RoleMissing."""
        self.administrators.admit(actor)
        now = datetime.now(UTC)
        items = [
            item.checked("yourself") if item.check == "unchecked" and str(item.user_id) == actor.key else item
            for item in items
        ]
        job = Job(
            id=f"{_descending(now)}-{secrets.token_hex(8)}",
            action=action,
            actor=actor,
            created_at=now,
            checks=Counter(item.check for item in items),
            states=Counter(item.state for item in items),
        )
        pages = [_put_page(job, n, items[n * PAGE_SIZE :][:PAGE_SIZE]) for n in range(job.page_count)]
        # In the list first: it leads `purge` to what a crash leaves. The header last: it makes pages a job.
        self.table.put({"PartitionKey": "list", "RowKey": job.id})
        for start in range(0, len(pages), MAX_PAGES):
            self.table.transact(pages[start : start + MAX_PAGES])
        with self._marked(job):
            self.save(job)
        return job

    def find(self, job_id: str) -> Job | None:
        row = self.table.find(job_id, HEADER)
        return None if row is None else _read_header(row)

    def newest(self, *, after: str, limit: int) -> list[Job]:
        """Up to `limit` jobs, the newest first, that come after the one with the id `after`."""
        ids = [str(row["RowKey"]) for row in self.table.range("list", after=after, limit=limit)]
        return [job for job in map_parallel(self.find, ids) if job is not None]

    def page(self, job: Job, number: int) -> list[Item]:
        """The rows of one page, counted from 0."""
        row = self.table.find(job.id, f"page-{number:05d}")
        return [] if row is None else _read_page(row)

    def all_items(self, job: Job) -> Iterator[Item]:
        for row in self.table.partition(job.id):
            if row["RowKey"] != HEADER:
                yield from _read_page(row)

    def mentions(
        self, user_id: UserId | None, limit: int | None
    ) -> tuple[Mapping[UserId, Sequence[Mention]], bool]:
        """The jobs about this user, or about all, and those they started; and whether all were read.

        Reads up to `limit` rows of the table, those of the newest jobs first.
        """
        mentions = defaultdict[UserId, list[Mention]](list)
        condition = "RowKey eq @header or RowKey ge @first and RowKey lt @behind"
        rows = self.table.query(condition, {"header": HEADER, "first": "page-", "behind": "page."})
        job: Job | None = None
        for row in itertools.islice(rows, limit):
            if row["RowKey"] == HEADER:  # sorts before the pages of its job
                job = _read_header(row)
                if job.actor.user_id:
                    mentions[job.actor.user_id].append((job, None))
            elif job and row["PartitionKey"] == job.id and (not user_id or user_id.object_id in row["Items"]):
                for item in _read_page(row):
                    if item.user_id:
                        mentions[item.user_id].append((job, item))
        return mentions, next(rows, None) is None

    def start(self, actor: Actor, job: Job, reason: str) -> None:
        """Let the action begin, or repeat failed rows. Raises InvalidRequest for none, and RoleMissing."""
        self.administrators.admit(actor)
        reason = without_acs_user_ids(reason)
        with self._marked(job):
            self._change(actor, "start-job", job, lambda job: job.started(actor, reason))

    def cancel(self, actor: Actor, job: Job) -> None:
        """Stop the job for good: rows that have begun are finished. Does nothing to one that has ended."""
        self._change(actor, "cancel-job", job, Job.cancelled)

    def stop(self, job: Job, objection: Objection) -> None:
        """Cancel the job because the administrator who started it may not go on."""
        change = partial(Job.cancelled, objection=objection)
        self._change(SYSTEM, "cancel-job", job, change, f" {job.actor.key}: {objection}")

    def save(self, job: Job, page: Page | None = None) -> Job | None:
        """Write the header and, if given, a page; neither, and return None, if the header has changed."""
        values = {column: getattr(job, name) for column, name in (COLUMNS | TIMES).items()}
        values |= {"ActorKind": job.actor.kind, "ActorKey": job.actor.key}
        values |= {"Findings": json.dumps(job.checks), "States": json.dumps(job.states)}
        row = {column: value for column, value in values.items() if value is not None}
        header = put_operation({"PartitionKey": job.id, "RowKey": HEADER} | row, version=job.version)
        with contextlib.suppress(RowChanged):
            versions = self.table.transact([header, _put_page(job, *page)] if page else [header])
            return replace(job, version=versions[0])
        return None

    def list_open(self) -> list[Job]:
        """The jobs that have work left. Removes the marks of others."""
        jobs = []
        for mark in self.table.partition("open"):
            job = self.find(mark["RowKey"])
            if job is None or not job.active:
                with contextlib.suppress(RowChanged):  # marked again
                    self.table.delete("open", mark["RowKey"], version=version_of(mark))
            else:
                jobs.append(job)
        return jobs

    def purge(self, before: datetime) -> Iterator[int]:
        """Delete the jobs that were over before this time, and drafts from before it, one at each step."""
        condition = "PartitionKey eq @list and RowKey gt @newest"
        for entry in self.table.query(condition, {"list": "list", "newest": _descending(before)}, columns=()):
            job_id = str(entry["RowKey"])
            if (job := self.find(job_id)) is not None:
                times = (job.created_at, job.ended_at, job.lease_until)
                if job.active or any(time is not None and time >= before for time in times):
                    continue
                try:
                    self.table.delete(job_id, HEADER, version=job.version)
                except RowChanged:  # it has just been started
                    continue
            yield from self.table.purge("PartitionKey eq @job", {"job": job_id})
            self.table.delete("open", job_id)
            self.table.delete("list", job_id)  # the last: it leads to the others after a crash
            yield 1

    @contextlib.contextmanager
    def _marked(self, job: Job) -> Iterator[None]:
        """Let every process find the job: before it has work, in case of a crash, and again afterwards."""
        mark = {"PartitionKey": "open", "RowKey": job.id}
        self.table.put(mark)
        yield
        self.table.put(mark)  # `list_open` may have removed it, as there was no work yet

    def _change(self, actor: Actor, name: str, job: Job, change: Callable[[Job], Job], why: str = "") -> None:
        """Save the changed job, on top of what the process that works on it may have written meanwhile."""
        audited = self.audit.action(actor, name, None, f"{job.action} {job.total} {job.id}{why}")
        with contextlib.suppress(Conflict), audited:
            for attempt in attempts():
                job = self.find(job.id) or job if attempt else job
                changed = change(job)
                if changed is job:
                    raise Conflict(f"already {job.state}")
                if self.save(changed):
                    return
            raise ChangedTooOften


def _descending(time: datetime) -> str:
    return f"{10**14 - int(time.timestamp() * 1000):015d}"


def _read_header(row: Row) -> Job:
    values: dict[str, Any] = {name: row.get(column, "") for column, name in COLUMNS.items()}
    values |= {name: find_utc(row.get(column)) for column, name in TIMES.items()}
    return Job(
        id=str(row["PartitionKey"]),
        actor=Actor(kind=row["ActorKind"], key=row["ActorKey"]),
        checks=Counter(json.loads(row["Findings"])),
        states=Counter(json.loads(row["States"])),
        version=version_of(row),
        **values,
    )


def _put_page(job: Job, number: int, items: Sequence[Item]) -> Operation:
    text = json.dumps([item.cells for item in items], ensure_ascii=False)
    return put_operation({"PartitionKey": job.id, "RowKey": f"page-{number:05d}", "Items": text})


def _read_page(row: Row) -> list[Item]:
    return [
        Item(line, UserId.parse(tenant_id, object_id) if object_id else None, *results)
        for line, tenant_id, object_id, *results in json.loads(row["Items"])
    ]
