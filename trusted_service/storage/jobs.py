"""The table `jobs`: actions upon many users, and what became of each row.

- a job's own partition, named by its id: the header `job`, and `item-000001`, `item-000002`, …
- `list`: one row for each job, by its id. Ids of newer jobs are smaller, so the newest come first.
- `open`: one row for each job that may have work left, so that any process finds it at little cost.

Header and items change together, in one transaction that holds only while the header is as it was
read: what counts and what is counted cannot part, and a process whose lease another has taken
cannot write any more.
"""

import json
import secrets
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import replace
from datetime import UTC, datetime
from typing import TypeVar

from trusted_service.job import Item, ItemState, Job
from trusted_service.models import Actor, UserId
from trusted_service.storage.tables import MOST_TOGETHER, Columns, Row, Table, find_utc, utc

HEADER = "job"
LAST_MILLISECOND = 10**14
MOST_ITEMS_SAVED = MOST_TOGETHER - 1
AT_ONCE = 8
LONGEST_DETAIL = 500

Given = TypeVar("Given")
Got = TypeVar("Got")


class JobTable:
    """Methods raise UpstreamError where the storage fails."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def create(self, job: Job, items: Sequence[Item]) -> None:
        """Write a new job. The header comes last: without it there is no job, only rows that nobody finds."""
        batches = [
            [_item_row(job.id, item) for item in items[start : start + MOST_TOGETHER]]
            for start in range(0, len(items), MOST_TOGETHER)
        ]
        _at_once(self._table.write_together, batches)
        self.note_open(job.id)
        self._table.put({"PartitionKey": "list", "RowKey": job.id})
        self._table.insert(_header_row(job))

    def find(self, job_id: str) -> Job | None:
        row = self._table.find(job_id, HEADER)
        return None if row is None else _job(row)

    def page(self, *, after: str, limit: int) -> list[Job]:
        """Up to `limit` jobs, the newest first, that come after the one of the id `after`."""
        ids = [str(row["RowKey"]) for row in self._table.range("list", after=after, limit=limit)]
        return [job for job in _at_once(self.find, ids) if job is not None]

    def items(
        self,
        job_id: str,
        *,
        after: int = 0,
        limit: int,
        state: ItemState | None = None,
        unchecked: bool = False,
    ) -> list[Item]:
        """Up to `limit` items behind the one of the number `after`, if asked for only those of a state."""
        equal: dict[str, str] = {}
        if state is not None:
            equal["State"] = state
        if unchecked:
            equal["Finding"] = "unchecked"
        rows = self._table.range(job_id, after=_item_key(after), below="item-~", limit=limit, equal=equal)
        return [_item(row) for row in rows]

    def all_items(self, job_id: str) -> Iterator[Item]:
        """Every item, in order, a few hundred in memory at a time."""
        after = 0
        while page := self.items(job_id, after=after, limit=500):
            yield from page
            after = page[-1].number

    def save(self, job: Job, items: Sequence[Item] = ()) -> Job:
        """Write header and items, at most MOST_ITEMS_SAVED, all or nothing; return the job as it is then.

        Raises RowChanged where somebody else wrote the header since `job` was read.
        """
        rows = [_item_row(job.id, item) for item in items]
        version = self._table.replace_together(_header_row(job), rows, version=job.version)
        return replace(job, version=version)

    def note_open(self, job_id: str) -> None:
        """Let processes look whether the job has work for them."""
        self._table.put({"PartitionKey": "open", "RowKey": job_id, "At": datetime.now(UTC)})

    def note_closed(self, job_id: str) -> None:
        self._table.delete("open", job_id)

    def open_ids(self) -> list[tuple[str, datetime]]:
        """The jobs that may have work left, and since when they are noted here."""
        return [(str(row["RowKey"]), utc(row["At"])) for row in self._table.partition("open")]


def new_job_id(now: datetime) -> str:
    """An id that nobody can guess and that comes before those of older jobs."""
    return f"{LAST_MILLISECOND - int(now.timestamp() * 1000):015d}-{secrets.token_hex(8)}"


def _at_once(action: Callable[[Given], Got], values: Sequence[Given]) -> list[Got]:
    """Do it for each value, a few side by side: one after the other, a request would run out of time."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        futures = [pool.submit(copy_context().run, action, value) for value in values]
        return [future.result() for future in futures]


def _item_key(number: int) -> str:
    return f"item-{number:06d}"


def _item_row(job_id: str, item: Item) -> Columns:
    return {
        "PartitionKey": job_id,
        "RowKey": _item_key(item.number),
        "TenantId": item.user_id.tenant_id if item.user_id else "",
        "ObjectId": item.user_id.object_id if item.user_id else "",
        "Text": item.text,
        "Finding": item.finding,
        "State": item.state,
        "Detail": item.detail[:LONGEST_DETAIL],
    }


def _item(row: Row) -> Item:
    return Item(
        number=int(str(row["RowKey"]).removeprefix("item-")),
        user_id=UserId.parse(row["TenantId"], row["ObjectId"]) if row["ObjectId"] else None,
        text=row["Text"],
        finding=row["Finding"],
        state=row["State"],
        detail=row["Detail"],
    )


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
