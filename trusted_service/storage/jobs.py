"""The table `jobs`: actions upon many users, and what became of each row.

- a job's own partition, named by its id: the header `job`, and `page-00000`, `page-00001`, …, each
  with 50 of its items as JSON. One row for each item would cost a batch of a hundred rows 80 ms of
  processor in the SDK, seconds for a long list; and a page of items is what people look at.
- `list`: one row for each job, by its id. Ids of newer jobs are smaller, so the newest come first.
- `open`: one row for each job that may have work left, so that any process finds it at little cost.

Header and items change together, in one transaction that holds only while the header is as it was
read: what counts and what is counted cannot part, and a process whose lease another has taken
cannot write any more.
"""

import contextlib
import json
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from trusted_service.job import Item, Job
from trusted_service.models import Actor, UserId
from trusted_service.parallel import map_parallel
from trusted_service.storage.tables import Columns, Row, RowChanged, Table, find_utc, put_operation, utc

HEADER = "job"
LAST_MILLISECOND = 10**14
PAGE = 50
MOST_PAGES_SAVED = 50
"""In one transaction, which takes 100 rows and 4 MiB."""
LONGEST_DETAIL = 300

Page = Sequence[Item]


@dataclass(frozen=True, kw_only=True, slots=True)
class OpenJob:
    """A job that may have work left, and since when it is noted as such."""

    job_id: str
    since: datetime
    version: str


class JobTable:
    """Methods raise UpstreamError where the storage fails."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def create(self, job: Job, items: Sequence[Item]) -> None:
        """Write a new job. The header comes last: without it there is no job, only rows that nobody finds."""
        rows = [_page_row(job.id, items[start : start + PAGE]) for start in range(0, len(items), PAGE)]
        for start in range(0, len(rows), MOST_PAGES_SAVED):
            self._table.transact([put_operation(row) for row in rows[start : start + MOST_PAGES_SAVED]])
        self.note_open(job.id)
        self._table.put({"PartitionKey": "list", "RowKey": job.id})
        self._table.insert(_header_row(job))

    def find(self, job_id: str) -> Job | None:
        row = self._table.find(job_id, HEADER)
        return None if row is None else _job(row)

    def newest(self, *, after: str, limit: int) -> list[Job]:
        """Up to `limit` jobs, the newest first, that come after the one of the id `after`."""
        ids = [str(row["RowKey"]) for row in self._table.range("list", after=after, limit=limit)]
        return [job for job in map_parallel(self.find, ids) if job is not None]

    def page(self, job_id: str, number: int) -> list[Item]:
        """Items of the job, 50 a page, in their order; none behind the last page."""
        row = self._table.find(job_id, _page_key(number))
        return [] if row is None else _items(row)

    def pages(self, job_id: str, *, start: int = 0, limit: int) -> list[list[Item]]:
        """Up to `limit` pages from the one of the number `start` on."""
        after = _page_key(start - 1) if start else "page-"
        rows = self._table.range(job_id, after=after, below="page-~", limit=limit)
        return [_items(row) for row in rows]

    def all_items(self, job_id: str) -> Iterator[Item]:
        """Every item, in order, a few hundred in memory at a time."""
        start = 0
        while pages := self.pages(job_id, start=start, limit=10):
            for page in pages:
                yield from page
            start += len(pages)

    def save(self, job: Job, pages: Sequence[Page] = ()) -> Job:
        """Write header and pages, at most MOST_PAGES_SAVED, all or nothing; return the job as it is then.

        Raises RowChanged where somebody else wrote the header since `job` was read.
        """
        rows = [_page_row(job.id, page) for page in pages]
        operations = [put_operation(_header_row(job), version=job.version), *map(put_operation, rows)]
        return replace(job, version=self._table.transact(operations)[0])

    def note_open(self, job_id: str) -> None:
        """Let processes look whether the job has work for them."""
        self._table.put({"PartitionKey": "open", "RowKey": job_id, "At": datetime.now(UTC)})

    def list_open(self) -> list[OpenJob]:
        """The jobs that may have work left."""
        return [
            OpenJob(job_id=str(row["RowKey"]), since=utc(row["At"]), version=str(row.metadata["etag"]))
            for row in self._table.partition("open")
        ]

    def note_closed(self, job: OpenJob) -> None:
        """Forget that the job may have work left, unless it was noted again since."""
        with contextlib.suppress(RowChanged):
            self._table.delete("open", job.job_id, version=job.version)


def new_job_id(now: datetime) -> str:
    """An id that nobody can guess and that comes before those of older jobs."""
    return f"{LAST_MILLISECOND - int(now.timestamp() * 1000):015d}-{secrets.token_hex(8)}"


def page_of(item: Item) -> int:
    """The number of the page on which the item stands."""
    return item.place // PAGE


def _page_key(number: int) -> str:
    return f"page-{number:05d}"


def _page_row(job_id: str, page: Page) -> Columns:
    items = [
        [
            item.line,
            *(item.user_id or ("", "")),
            item.text,
            item.finding,
            item.state,
            item.detail[:LONGEST_DETAIL],
        ]
        for item in page
    ]
    return {
        "PartitionKey": job_id,
        "RowKey": _page_key(page_of(page[0])),
        "Items": json.dumps(items, ensure_ascii=False),
    }


def _items(row: Row) -> list[Item]:
    first = int(str(row["RowKey"]).removeprefix("page-")) * PAGE
    return [
        Item(
            place=place,
            line=line,
            user_id=UserId.parse(tenant_id, object_id) if object_id else None,
            text=text,
            finding=finding,
            state=state,
            detail=detail,
        )
        for place, (line, tenant_id, object_id, text, finding, state, detail) in enumerate(
            json.loads(row["Items"]), first
        )
    ]


def _header_row(job: Job) -> Columns:
    row: dict[str, object] = {
        "PartitionKey": job.id,
        "RowKey": HEADER,
        "Action": job.action,
        "State": job.state,
        "ActorKind": job.actor.kind,
        "ActorKey": job.actor.key,
        "ActorName": job.actor.name,
        "CreatedAt": job.created_at,
        "Reason": job.reason,
        "Retries": job.retries,
        "Findings": json.dumps(job.findings),
        "States": json.dumps(job.states),
        "LeaseOwner": job.lease_owner,
        "WriteId": job.write_id,
    }
    moments = {"EndedAt": job.ended_at, "LeaseUntil": job.lease_until}
    return row | {name: moment for name, moment in moments.items() if moment is not None}


def _job(row: Row) -> Job:
    return Job(
        id=str(row["PartitionKey"]),
        action=row["Action"],
        state=row["State"],
        actor=Actor(kind=row["ActorKind"], key=row["ActorKey"], name=row["ActorName"]),
        created_at=utc(row["CreatedAt"]),
        reason=row["Reason"],
        ended_at=find_utc(row.get("EndedAt")),
        retries=row["Retries"],
        findings=json.loads(row["Findings"]),
        states=json.loads(row["States"]),
        lease_owner=row["LeaseOwner"],
        write_id=row["WriteId"],
        lease_until=find_utc(row.get("LeaseUntil")),
        version=str(row.metadata["etag"]),
    )
