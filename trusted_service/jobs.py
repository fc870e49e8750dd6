"""Doing one thing to many users: a dry run, then a start that somebody confirms, then a result per row."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from trusted_service.audit import AuditTrail
from trusted_service.errors import InvalidRequest, UpstreamUnavailable
from trusted_service.job import Action, Finding, Item, Job, count
from trusted_service.models import Actor, UserId
from trusted_service.storage.jobs import JobTable, new_job_id
from trusted_service.storage.tables import RowChanged
from trusted_service.user_list import Entry

ATTEMPTS = 6


class Jobs:
    """Methods raise UpstreamError where an upstream fails. `trusted_service.job_runner` does the work."""

    def __init__(self, table: JobTable, audit: AuditTrail) -> None:
        self._table = table
        self._audit = audit

    def create(self, actor: Actor, action: Action, entries: Sequence[Entry]) -> Job:
        """Make a job whose rows are to be checked, which changes nothing."""
        items = list(_items(actor, entries))
        findings, states = count(items)
        now = datetime.now(UTC)
        job = Job(
            id=new_job_id(now),
            action=action,
            state="checking",
            actor=actor,
            created_at=now,
            findings=findings,
            states=states,
        )
        self._table.create(job, items)
        return job

    def find(self, job_id: str) -> Job | None:
        return self._table.find(job_id)

    def newest(self, *, after: str, limit: int) -> list[Job]:
        """Up to `limit` jobs, the newest first, that come after the one of the id `after`."""
        return self._table.newest(after=after, limit=limit)

    def page(self, job: Job, number: int) -> list[Item]:
        """Rows of the job in their order, 50 a page."""
        return self._table.page(job.id, number)

    def all_items(self, job_id: str) -> Iterator[Item]:
        return self._table.all_items(job_id)

    def start(self, actor: Actor, job: Job, reason: str) -> None:
        """Let the checked rows be done, or once more those that failed; from now on `actor` answers for it.

        Does nothing to a job that runs. Raises InvalidRequest for one that has nothing to start.
        """

        def started(job: Job) -> Job | None:
            if job.state == "running":
                return None
            if not job.startable:
                raise InvalidRequest("This job cannot be started.")
            retries = job.state == "done"
            return replace(
                job,
                state="running",
                actor=actor,
                reason=job.reason if retries else reason,
                retries=retries,
                ended_at=None,
            )

        with self._audit.action(actor, "start-job", None, f"{job.action} {job.to_do} {job.id}"):
            self._table.note_open(job.id)
            self._change(job, started)

    def cancel(self, actor: Actor, job: Job) -> None:
        """Stop the job for good, before the next row. Does nothing to one that has ended."""

        def cancelled(job: Job) -> Job | None:
            return replace(job, state="cancelled", ended_at=datetime.now(UTC)) if job.cancellable else None

        with self._audit.action(actor, "cancel-job", None, f"{job.action} {job.to_do} {job.id}"):
            self._change(job, cancelled)

    def _change(self, job: Job | None, change: Callable[[Job], Job | None]) -> None:
        """Write what `change` makes of the job, again if the process that works on it writes meanwhile."""
        for _ in range(ATTEMPTS):
            changed = None if job is None else change(job)
            if job is None or changed is None:
                return
            try:
                self._table.save(changed)
            except RowChanged:
                job = self._table.find(job.id)
            else:
                return
        raise UpstreamUnavailable("Table Storage", "the job changed too often")


def _items(actor: Actor, entries: Sequence[Entry]) -> Iterator[Item]:
    seen: set[UserId] = set()
    for place, entry in enumerate(entries):
        finding: Finding = "unchecked"
        if entry.user_id is None:
            finding = "invalid"
        elif entry.user_id in seen:
            finding = "twice"
        elif str(entry.user_id) == actor.key:
            finding = "yourself"
        if entry.user_id is not None:
            seen.add(entry.user_id)
        yield Item(place=place, line=entry.line, user_id=entry.user_id, text=entry.text).found(finding)
