"""What a job does to one of its rows: looks in the dry run, then blocks or deletes.

Communication Services takes 500 deletions and 500 revocations in 30 seconds, whoever asks for them.
A block revokes three times (`Administration.block`), so it goes at a third of the pace.
https://learn.microsoft.com/azure/communication-services/concepts/service-limits#identity
"""

import math
import threading
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import structlog

from trusted_service import upstream
from trusted_service.administration import Administration
from trusted_service.errors import TrustedServiceError, UpstreamThrottled, UpstreamUnavailable
from trusted_service.job import Item, Job
from trusted_service.pace import Pace
from trusted_service.user_lookup import UserLookup

log = structlog.get_logger(__name__)

WAITS = (1.0, 4.0, 10.0)
"""Seconds before each further try where an upstream fails."""
PER_SECOND = {"check": 200.0, "delete": 15.0, "block": 5.0}
DEFAULT_REST, SHORTEST_REST, LONGEST_REST = 5.0, 1.0, 120.0
"""Seconds to rest where an upstream asks for it: without a `Retry-After`, and the limits of one."""


class JobWork:
    """One for each process: all jobs together keep the pace."""

    def __init__(self, lookup: UserLookup, administration: Administration) -> None:
        self._lookup = lookup
        self._administration = administration
        self._paces = {name: Pace(per_second) for name, per_second in PER_SECOND.items()}

    def do(self, job: Job, item: Item, stop: threading.Event) -> Item:
        """Return the item with what became of it; unchanged where `stop` was set before anything did.

        Where an upstream throttles, this waits for as long as it takes. Where one fails, an action is
        given up after a few tries, and a look never.
        """
        checking = job.state == "checking"
        pace = self._paces["check" if checking else job.action]
        tries = 0
        while pace.wait(stop):
            request_id = f"{job.id}.{item.line}"
            try:
                with (
                    upstream.request_budget(request_id),
                    structlog.contextvars.bound_contextvars(request_id=request_id),
                ):
                    return self._check(item) if checking else self._act(job, item)
            except UpstreamThrottled as error:
                pace.hold(_seconds(error.retry_after))
            except UpstreamUnavailable as error:
                if tries == len(WAITS) and not checking:
                    return replace(item, state="failed", detail=str(error))
                stop.wait(WAITS[min(tries, len(WAITS) - 1)])
                tries = min(tries + 1, len(WAITS))
            except TrustedServiceError as error:
                return replace(item, state="failed", detail=str(error) or type(error).__name__)
            except Exception as error:
                log.error("job_item_failed", job=job.id, item=item.line, exc_info=error)
                return replace(item, state="failed", detail=type(error).__name__)
        return item

    def _check(self, item: Item) -> Item:
        identity = None if item.user_id is None else self._lookup.find(item.user_id)
        if identity is None:
            return item.found("not-found")
        return item.found("blocked" if identity.blocked else "found")

    def _act(self, job: Job, item: Item) -> Item:
        if item.user_id is None:
            raise ValueError("a row without a user is not to be done")
        if job.action == "delete":
            existed = self._administration.delete(job.actor, item.user_id)
            # One who was there at the dry run and is gone now: by us, before a crash, or by somebody else.
            gone = existed or item.finding != "not-found"
            return replace(item, state="done" if gone else "not-found", detail="")
        if not (item.finding == "blocked" and self._is_blocked(item)):
            self._administration.block(job.actor, item.user_id, job.reason)
        return replace(item, state="done", detail="")

    def _is_blocked(self, item: Item) -> bool:
        identity = None if item.user_id is None else self._lookup.find(item.user_id)
        return identity is not None and identity.blocked


def _seconds(retry_after: str | None) -> float:
    """The seconds that a `Retry-After` asks for (RFC 9110 section 10.2.3), within reason."""
    try:
        seconds = float(retry_after or DEFAULT_REST)
    except ValueError:
        try:
            moment = parsedate_to_datetime(str(retry_after))
            seconds = (moment.astimezone(UTC) - datetime.now(UTC)).total_seconds()
        except (ValueError, OverflowError, TypeError, IndexError):
            seconds = DEFAULT_REST
    if not math.isfinite(seconds):
        return DEFAULT_REST
    return min(max(seconds, SHORTEST_REST), LONGEST_REST)
