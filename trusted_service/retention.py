"""Deletes rows whose time is over, by the storage's own clock: that of an instance can be wrong.

Every process does it, in small paced steps that may be interrupted and repeated.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from trusted_service.background import BackgroundTasks
from trusted_service.errors import UpstreamError

log = structlog.get_logger(__name__)

FIRST_RUN_SECONDS, RUN_SECONDS = 300.0, 3600.0
STEPS_PER_SECOND = 10.0

Purge = Callable[[datetime], Iterator[int]]
"""Deletes the rows from before a time, at most 100 at each step, and yields how many."""


@dataclass(frozen=True, slots=True)
class Retention:
    """`rules`: for each kind of rows, how long they are kept, and what deletes them."""

    clock: Callable[[], datetime]
    background: BackgroundTasks
    rules: Mapping[str, tuple[timedelta, Purge]]

    def run(self) -> None:
        """Delete what is too old. The next run does what a failure leaves. Raises UpstreamError at first."""
        now = self.clock()
        for kind, (age, purge) in self.rules.items():
            rows = 0
            try:
                for deleted in purge(now - age):
                    rows += deleted
                    if self.background.closed:
                        return
                    time.sleep(1 / STEPS_PER_SECOND)
            except UpstreamError as error:
                log.warning("purge_failed", kind=kind, reason=str(error))
            except Exception as error:
                log.error("purge_failed", kind=kind, exc_info=error)
            finally:
                if rows:
                    log.info("rows_purged", kind=kind, rows=rows)
