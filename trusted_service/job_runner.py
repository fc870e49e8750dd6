"""Sees to it that jobs with work left are worked on: by one process at a time, whatever dies.

A thread of each gunicorn worker looks for open jobs when the worker starts, when somebody makes or
starts a job there, and once a minute: one query, which mostly finds nothing. Where it finds a job
that another process has the lease of, it looks again when that lease would run out. So a job whose
process was killed is taken over without anybody watching: half a minute later where another worker
knows of it, or one is started in place of the dead; a minute and a half later at most.
"""

import secrets
import threading
from datetime import UTC, datetime, timedelta

import structlog

from trusted_service.errors import UpstreamError
from trusted_service.job import Job
from trusted_service.job_run import JobRun, LeaseLost
from trusted_service.job_work import JobWork
from trusted_service.storage.jobs import JobTable, OpenJob

log = structlog.get_logger(__name__)

LOOK_SECONDS = 60.0
AFTER_LEASE_SECONDS = 0.5
MOST_AT_ONCE = 4
NOTED_FOR = timedelta(minutes=10)
"""For how long a job without work stays noted as open: whoever starts it notes it first."""
CLOSE_SECONDS = 10.0


class JobRunner:
    """One for each process. Threads start by `start` or `look`, so never before a fork."""

    def __init__(self, table: JobTable, work: JobWork) -> None:
        self._table = table
        self._work = work
        self._owner = secrets.token_hex(8)
        self._closing = threading.Event()
        self._wake = threading.Event()
        self._lock = threading.Lock()
        self._watcher: threading.Thread | None = None
        self._runs: dict[str, threading.Thread] = {}

    def start(self) -> None:
        """Look for jobs from now on."""
        with self._lock:
            if self._watcher is None:
                self._watcher = threading.Thread(target=self._watch, name="jobs", daemon=True)
                self._watcher.start()

    def look(self) -> None:
        """Look for jobs right now."""
        self.start()
        self._wake.set()

    def close(self) -> None:
        """Finish the rows under way and give leases back, so that others can go on at once."""
        self._closing.set()
        self._wake.set()
        with self._lock:
            runs = list(self._runs.values())
        for run in runs:
            run.join(CLOSE_SECONDS)

    def _watch(self) -> None:
        while not self._closing.is_set():
            self._wake.clear()
            wait = LOOK_SECONDS
            try:
                for job in self._table.list_open():
                    wait = min(wait, self._see_to(job))
            except UpstreamError as error:
                log.warning("jobs_not_looked_for", reason=str(error))
            except Exception as error:
                log.error("jobs_not_looked_for", exc_info=error)
            self._wake.wait(wait)

    def _see_to(self, noted: OpenJob) -> float:
        """Run the job if there is work and nobody does it; return in how many seconds to look again."""
        with self._lock:
            if noted.job_id in self._runs or len(self._runs) >= MOST_AT_ONCE:
                return LOOK_SECONDS  # the end of a run wakes us
        job, now = self._table.find(noted.job_id), datetime.now(UTC)
        if job is None or not job.active:
            if now - noted.since > NOTED_FOR:
                self._table.note_closed(noted)
        elif job.lease_until is not None and job.lease_until > now:
            return (job.lease_until - now).total_seconds() + AFTER_LEASE_SECONDS
        else:
            thread = threading.Thread(target=self._run, args=(job,), name=f"job-{job.id}", daemon=True)
            with self._lock:
                self._runs[job.id] = thread
            thread.start()
        return LOOK_SECONDS

    def _run(self, job: Job) -> None:
        log.info("job_taken", job=job.id, state=job.state, left=job.left)
        try:
            JobRun(self._table, self._work, job, self._owner, self._closing).run()
            log.info("job_left", job=job.id)
        except LeaseLost:
            log.info("job_lease_lost", job=job.id)
        except Exception as error:
            log.error("job_failed", job=job.id, exc_info=error)
        finally:
            with self._lock:
                del self._runs[job.id]
            self._wake.set()
