"""Works on one job under its lease.

A row is written down as done after it has been done, with the job's counts and the lease in one
transaction. A process that dies leaves a few rows that are done and not written down; whoever goes
on does them once more, which changes nothing. A process whose lease has run out begins nothing.
"""

import queue
import secrets
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog

from trusted_service import upstream
from trusted_service.errors import UpstreamError
from trusted_service.job import Item, Job
from trusted_service.job_work import JobWork
from trusted_service.storage.jobs import MOST_PAGES_SAVED, JobTable, page_of
from trusted_service.storage.tables import RowChanged

log = structlog.get_logger(__name__)

LEASE_SECONDS = 30.0
RENEW_SECONDS = 5.0
ACTION_SECONDS = upstream.REQUEST_SECONDS + 4
"""The longest that one action takes: it begins only where the lease lasts that long."""
THREADS = 4
AHEAD = 100
"""Rows that wait for the threads, at least, while there are more."""
PAGES_READ = 4
TICK_SECONDS = 1.0

Change = tuple[Item, Item]
"""A row as it was, and as it is."""


class LeaseLost(Exception):
    """Another process works on the job."""


class JobRun:
    """One run: from the taking of the lease until there is nothing left, or somebody says stop."""

    def __init__(
        self, table: JobTable, work: JobWork, job: Job, owner: str, closing: threading.Event
    ) -> None:
        self._table = table
        self._work = work
        self._begun = job
        self._job = job
        self._owner = owner
        self._closing = closing
        self._stop = threading.Event()
        self._to_do: queue.SimpleQueue[Item] = queue.SimpleQueue()
        self._finished: queue.SimpleQueue[Change] = queue.SimpleQueue()
        self._under_way = 0
        self._pages: dict[int, list[Item]] = {}
        self._next_page = 0
        self._exhausted = False
        self._written_at = 0.0

    def run(self) -> None:
        """Raises LeaseLost where another process has the job, at once or in the middle."""
        self._write()
        threads = [threading.Thread(target=self._do_items, name="job", daemon=True) for _ in range(THREADS)]
        for thread in threads:
            thread.start()
        try:
            self._requeue_failed()
            while self._job.active and not self._closing.is_set():
                self._feed()
                self._write_if_due(self._collect(TICK_SECONDS))
                if self._exhausted and not self._under_way:
                    self._finish()
        finally:
            self._stop.set()
            for thread in threads:
                thread.join(ACTION_SECONDS)
        while changes := self._collect(0):
            self._write(changes)
        if self._job.lease_owner == self._owner:
            self._write(release=True)

    def _do_items(self) -> None:
        while not self._stop.is_set():
            try:
                item = self._to_do.get(timeout=TICK_SECONDS / 2)
            except queue.Empty:
                continue
            while time.monotonic() > self._written_at + LEASE_SECONDS - ACTION_SECONDS:
                if self._stop.wait(TICK_SECONDS):
                    return
            self._finished.put((item, self._work.do(self._begun, item, self._stop)))

    def _requeue_failed(self) -> None:
        start = 0
        while self._job.retries and (pages := self._table.pages(self._job.id, start=start, limit=PAGES_READ)):
            start += len(pages)
            self._pages = {page_of(page[0]): page for page in pages}
            failed = [item for page in pages for item in page if item.state == "failed"]
            if failed:
                self._write([(item, replace(item, state="pending", detail="")) for item in failed])
        if self._job.retries:
            self._write(retries=False)

    def _feed(self) -> None:
        """Read rows ahead of the threads."""
        if self._exhausted or self._under_way >= AHEAD:
            return
        try:
            pages = self._table.pages(self._job.id, start=self._next_page, limit=PAGES_READ)
        except UpstreamError as error:
            log.warning("job_not_read", job=self._job.id, reason=str(error))
            return
        self._exhausted = len(pages) < PAGES_READ
        self._next_page += len(pages)
        for page in pages:
            self._pages[page_of(page[0])] = page
            for item in filter(self._is_to_do, page):
                self._under_way += 1
                self._to_do.put(item)

    def _is_to_do(self, item: Item) -> bool:
        return item.finding == "unchecked" if self._begun.state == "checking" else item.state == "pending"

    def _collect(self, seconds: float) -> list[Change]:
        """What has been finished within so many seconds, at most as much as can surely be written at once."""
        ends, changes = time.monotonic() + seconds, list[Change]()
        while self._under_way and len(changes) < MOST_PAGES_SAVED:
            try:
                change = self._finished.get(timeout=max(ends - time.monotonic(), 0.001))
            except queue.Empty:
                break
            self._under_way -= 1
            changes.append(change)
        return changes

    def _finish(self) -> None:
        if self._begun.state == "checking":
            self._write(state="draft", release=True)
        else:
            self._write(state="done", ended_at=datetime.now(UTC), release=True)

    def _write_if_due(self, changes: Sequence[Change]) -> None:
        if changes or time.monotonic() > self._written_at + RENEW_SECONDS:
            self._write(changes)

    def _write(self, changes: Sequence[Change] = (), *, release: bool = False, **columns: Any) -> None:
        """Write rows and header, with the lease made longer or given back. Raises LeaseLost.

        Where somebody else has written the header meanwhile, which only cancelling does, the same is
        written upon that, but for `columns`: the job stays cancelled.
        """
        changes = [(before, after) for before, after in changes if before != after]
        for _, item in changes:
            page = self._pages[page_of(item)]
            page[item.place - page[0].place] = item
        pages = [self._pages[number] for number in {page_of(item) for _, item in changes}]
        write_id = secrets.token_hex(8)
        while True:
            began = time.monotonic()
            job = replace(
                self._job.counting(changes),
                lease_owner="" if release else self._owner,
                lease_until=None if release else datetime.now(UTC) + timedelta(seconds=LEASE_SECONDS),
                write_id=write_id,
                **(columns if self._job.active else {}),
            )
            try:
                self._job = self._table.save(job, pages)
            except RowChanged:
                if self._read_again(write_id):
                    continue
            except UpstreamError as error:
                self._wait_for_storage(error)
                continue
            self._written_at = began
            return

    def _read_again(self, write_id: str) -> bool:
        """Read the header; whether what was written as `write_id` has yet to be written. Raises LeaseLost."""
        while True:
            try:
                job = self._table.find(self._job.id)
            except UpstreamError as error:
                self._wait_for_storage(error)
                continue
            if job is None or (job.write_id != write_id and job.lease_owner != self._owner):
                raise LeaseLost
            self._job = job
            return job.write_id != write_id

    def _wait_for_storage(self, error: UpstreamError) -> None:
        log.warning("job_not_written", job=self._job.id, reason=str(error))
        if time.monotonic() > self._written_at + LEASE_SECONDS:
            raise LeaseLost from error
        time.sleep(TICK_SECONDS)
