"""Runs each unfinished job in one process at a time, surviving crashes.

A process takes the lease of a job by a write on condition that the job is as it was read, and renews it
with every page that it writes. A row is recorded after its action, so a process that dies leaves a few
rows that are done and not recorded; the next one repeats them, which changes nothing.
"""

import math
import secrets
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog
from structlog.contextvars import bound_contextvars

from trusted_service import errors
from trusted_service.access.administrators import Objection
from trusted_service.azure import deadlines
from trusted_service.azure.shares import Kind, Shares
from trusted_service.jobs.models import Check, Item, ItemChange, Job, Page
from trusted_service.jobs.service import Jobs
from trusted_service.models import UserId
from trusted_service.observability import metrics
from trusted_service.users.administration import SWEEP_DELAYS, Administration

log = structlog.get_logger(__name__)

POLL_SECONDS = 20.0
"""A job whose process was killed goes on after its lease and the next poll: in less than a minute."""
MAX_RUNS, THREADS = 4, 4
CLOSE_SECONDS, TICK_SECONDS, LEASE_SECONDS = 10.0, 1.0, 30.0
ACTION_SECONDS = deadlines.REQUEST_SECONDS + deadlines.CLEAN_UP_SECONDS + 1
"""The maximum duration of an action, which begins only where the lease lasts longer."""
RETRY_SECONDS = (1.0, 4.0, 10.0)
"""Waits before the retries of an action, where an upstream fails."""
CHECKS_PER_SECOND = 200.0
REVOCATIONS = 1 + len(SWEEP_DELAYS)
CALLS: Final[dict[str, tuple[Kind, int]]] = {"delete": ("delete", 1), "block": ("revoke", REVOCATIONS)}
"""What a row takes of the jobs' share before it begins, so that no sweep of it is refused."""


class LeaseLost(Exception):
    """Another process works on the job, or the lease has run out."""


@dataclass(slots=True)
class JobWorker:
    """One for each process: all its jobs together keep the pace. Each runs in a thread."""

    jobs: Jobs
    administration: Administration
    shares: Shares
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _turns: dict[str, float] = field(default_factory=lambda: dict.fromkeys(("check", *CALLS), 0.0))
    _runs: list["JobRun"] = field(default_factory=list)
    _closed: bool = False

    def poll(self) -> None:
        """Start the jobs that no process works on; divide the pace with the others. Raises UpstreamError."""
        jobs, now = self.jobs.list_open(), datetime.now(UTC)
        with self._lock:
            self._runs = [run for run in self._runs if run.is_alive()]
            leased = {job.id for job in jobs if (job.lease_until or now) > now}
            # What begins elsewhere counts from the next poll.
            self.shares.sharers["jobs"] = 1 + len(leased - {run.begun.id for run in self._runs})
            for job in jobs:
                if job.id not in leased and not self._closed and len(self._runs) < MAX_RUNS:
                    self._runs.append(JobRun(self, job))
                    self._runs[-1].start()

    def close(self) -> None:
        """Finish the rows in progress and give leases back, so that other processes go on at once."""
        with self._lock:
            self._closed = True
        for run in self._runs:
            run.stop.set()
        ends = time.monotonic() + CLOSE_SECONDS
        for run in self._runs:
            run.join(max(0.0, ends - time.monotonic()))

    def take_turn(self, kind: str, pause: float) -> float:
        """Return the seconds until one more check, deletion or block may begin: at least `pause`."""
        with self._lock:
            now = time.monotonic()
            turn = max(self._turns[kind], now + pause)
            calls, pace = 1, CHECKS_PER_SECOND
            if kind in CALLS:
                calls, pace = CALLS[kind][1], self.shares.pace("jobs")
            self._turns[kind] = turn + calls / pace
        return turn - now

    def take_calls(self, kind: str) -> None:
        """Take a row's calls of the share, which instances may have in common. Raises UpstreamThrottled."""
        if kind in CALLS:
            self.shares.take("jobs", *CALLS[kind])


class JobRun(threading.Thread):
    """One run of a job: from taking the lease until nothing is left, or `stop` is set."""

    def __init__(self, worker: JobWorker, job: Job) -> None:
        super().__init__(name="job", daemon=True)
        self.stop = threading.Event()
        self._worker = worker
        self.begun = self._job = job
        self._owner = secrets.token_hex(8)
        self._renewed_at = -math.inf
        self._finished = False
        self._objection: Objection = ""

    def run(self) -> None:
        log.info("job_taken", job=self._job.id, state=self._job.state, left=self._job.left)
        try:
            self._save()
            with ThreadPoolExecutor(THREADS, "job-row") as pool:
                try:
                    self._work(pool)
                except errors.UpstreamError as error:
                    log.warning("job_not_read", job=self._job.id, reason=str(error))
                finally:
                    self.stop.set()
            if self._objection:
                self._worker.jobs.stop(self._job, self._objection)
            self._save(release=True)
            log.info("job_left", job=self._job.id)
        except LeaseLost:
            log.info("job_lease_lost", job=self._job.id)
        except Exception as error:
            log.error("job_failed", job=self._job.id, exc_info=error)

    def _work(self, pool: ThreadPoolExecutor) -> None:
        """Work on all rows, and record their results about every second. Raises LeaseLost, UpstreamError."""
        for number in range(self.begun.page_count):
            if not self._may_go_on():
                return
            page = self._worker.jobs.page(self._job, number)
            pending = {
                pool.submit(self._apply, item, item.user_id): place
                for place, item in enumerate(page)
                if item.user_id and self.begun.has_to_do(item)
            }
            while pending:
                changes = []
                for future in wait(pending, TICK_SECONDS).done:
                    place = pending.pop(future)
                    changes.append((page[place], future.result()))
                    page[place] = future.result()
                self._save((number, page), changes)
            if self.stop.is_set():
                return
        self._finished = True

    def _apply(self, item: Item, user_id: UserId) -> Item:
        """Return the row with the result of the check or the action, or unchanged where `stop` is set.

        Throttling is waited out. Where an upstream fails, a check is repeated, an action a few times.
        """
        job, failures, pause = self.begun, 0, 0.0
        checking, request_id = job.state == "checking", f"{job.id}.{item.line}"
        kind = "check" if checking else job.action
        while not self.stop.wait(self._worker.take_turn(kind, pause)) and self._await_lease():
            pause = 0.0
            try:
                with deadlines.request_budget(request_id), bound_contextvars(request_id=request_id):
                    self._worker.take_calls(kind)
                    return self._act(item, user_id)
            except errors.UpstreamThrottled as error:
                pause = error.pause
            except errors.UpstreamUnavailable as error:
                # A retry would find no row, and report a deletion as done whose tokens are not revoked.
                if error.done == "delete" or (failures == len(RETRY_SECONDS) and not checking):
                    return item.acted_on("failed", str(error))
                self.stop.wait(RETRY_SECONDS[min(failures, len(RETRY_SECONDS) - 1)])
                failures += 1
            except errors.TrustedServiceError as error:
                return item.acted_on("failed", str(error) or type(error).__name__)
            except Exception as error:
                log.error("job_item_failed", job=job.id, item=item.line, exc_info=error)
                return item.acted_on("failed", type(error).__name__)
        return item

    def _may_go_on(self) -> bool:
        """Whether the actor may; otherwise nothing more begins. Raises UpstreamError."""
        if objection := self._worker.jobs.administrators.find_objection(self.begun.actor):
            self._objection = objection
            self.stop.set()
        return not objection

    def _await_lease(self) -> bool:
        """Wait until the lease lasts longer than an action; return False as soon as `stop` is set."""
        while time.monotonic() >= self._renewed_at + LEASE_SECONDS - ACTION_SECONDS:
            if self.stop.wait(TICK_SECONDS):
                return False
        return True

    def _act(self, item: Item, user_id: UserId) -> Item:
        """Check, block or delete the user, unless the job has been cancelled or its actor may not go on."""
        job, administration = self.begun, self._worker.administration
        if job.state == "running":
            if not ((now := self._worker.jobs.find(job.id)) and now.active and self._may_go_on()):
                return item
            if job.actor.key == str(user_id):
                return item.acted_on("skipped", "the administrator who started the job")
        if job.state == "running" and job.action == "delete":
            existed = administration.delete(job.actor, user_id)
            # A user of the dry run who is gone now was deleted by this job before a crash, or meanwhile.
            return item.acted_on("done" if existed or item.check != "not-found" else "not-found")
        user = administration.identities.find(user_id)
        check: Check = "not-found" if user is None else "blocked" if user.blocked else "found"
        if job.state == "checking":
            if user is None and job.action == "block" and user_id.tenant_id not in administration.tenants:
                return item.checked("invalid", "tenant not allowed")
            return item.checked(check)
        # A user who was blocked before keeps that block and its reason.
        if not item.check == check == "blocked":
            administration.block(job.actor, user_id, job.reason)
        return item.acted_on("done")

    def _save(
        self, page: Page | None = None, changes: Sequence[ItemChange] = (), release: bool = False
    ) -> None:
        """Write the header, with a page, and renew the lease or give it back. Raises LeaseLost."""
        began, write_id = time.monotonic(), secrets.token_hex(8)
        owner = "" if release else self._owner
        lease_until = None if release else datetime.now(UTC) + timedelta(seconds=LEASE_SECONDS)
        while self._job.write_id != write_id:
            job = self._job.counted(changes)
            job = job.finished() if self._finished else job
            job = replace(job, lease_owner=owner, lease_until=lease_until, write_id=write_id)
            try:
                found = self._worker.jobs.save(job, page) or self._worker.jobs.find(job.id)
            except errors.UpstreamError as error:
                log.warning("job_not_written", job=job.id, reason=str(error))
                if time.monotonic() > self._renewed_at + LEASE_SECONDS:
                    raise LeaseLost from error
                time.sleep(TICK_SECONDS)
                continue
            # Where the header has changed, that was this write, whose response was lost, or a cancellation.
            if found is None or (found.write_id != write_id and found.lease_owner != self._owner):
                raise LeaseLost
            self._job = found
        self._renewed_at = began
        metrics.count_job_rows(self.begun.action, [item.state for _, item in changes])
        if not self._job.active:
            self.stop.set()
