"""A cache that is refreshed in the background, and serves a stale value while a refresh runs or fails."""

import copy
import time
from collections.abc import Callable
from threading import Lock
from typing import Generic, TypeVar

import structlog

from trusted_service.azure.deadlines import NotSent
from trusted_service.azure.shared_call import Run, SharedCall
from trusted_service.errors import UpstreamError, UpstreamUnavailable

log = structlog.get_logger(__name__)

T = TypeVar("T")

FRESH_SECONDS, KEPT_SECONDS, RETRY_SECONDS = 3600, 86_400, 60
DOUBT_SECONDS = 30
"""The least time between two refreshes by requests that miss something which may not exist."""
RETRIES, FAILED_SECONDS = 5, 1
"""After so many failures in a row, requests get the last one for this long before the next fetch."""
FAILED_DOUBT_SECONDS = 5


class Cache(Generic[T]):
    """The value of `fetch`, refreshed when it is FRESH_SECONDS old, and served stale through an outage.

    No request makes the fetch itself, and all share one. Methods raise UpstreamError if it fails or takes too
    long. `in_background`: for a thread that no request waits for. https://www.rfc-editor.org/rfc/rfc5861
    """

    def __init__(self, fetch: Callable[[], T], clock: Callable[[], float] = time.monotonic) -> None:
        self._fetch = fetch
        self._clock = clock
        self._call = SharedCall(self._try)
        self.value: T | None = None  # however old; None before the first fetch
        self._error: UpstreamError | None = None
        self._failures = 0
        self._fetched_at = self._tried_at = self._doubted_at = float("-inf")
        self._doubts = Lock()

    def get(self, *, in_background: bool = False) -> T:
        """The value, which only the first requests and those after a day's outage wait for."""
        if self.value is None or self._age() > KEPT_SECONDS:
            run = self._call.running()
            is_recent = self._clock() - self._tried_at < FAILED_SECONDS
            if run is None and self._error is not None and self._failures > RETRIES and is_recent:
                raise copy.copy(self._error)  # each raise adds to the traceback of what is raised
            return _wait(run or self._call.start(), in_background)
        self.refresh_if_due()
        return self.value

    def refresh_if_due(self) -> None:
        """Start a refresh of an old or missing value; while it fails, every RETRY_SECONDS if one is kept."""
        wait = RETRY_SECONDS if self.value is not None and self._age() <= KEPT_SECONDS else 0
        if self._age() > FRESH_SECONDS and self._clock() - self._tried_at >= wait:
            self._call.start()

    def refresh(self, *, in_background: bool = False) -> T:
        """The value of a new fetch, or of the one under way."""
        return _wait(self._call.start(), in_background)

    def refresh_in_doubt(self) -> T:
        """The value after a refresh, which any request may ask for, but gets every DOUBT_SECONDS at most.

        Raises UpstreamError too if the last refresh failed: what the value lacks may exist.
        """
        with self._doubts:  # nobody may come between the two steps and find neither reason to wait
            run = self._call.running()
            pause = DOUBT_SECONDS if self._error is None else FAILED_DOUBT_SECONDS
            if run is None and self._clock() - self._doubted_at >= pause:
                self._doubted_at = self._clock()
                run = self._call.start()
        if run is None and self._error is not None:
            raise copy.copy(self._error)
        return self.get() if run is None else _wait(run)

    def _age(self) -> float:
        return self._clock() - self._fetched_at

    def _try(self) -> T:
        try:
            self.value, self._error, self._failures = self._fetch(), None, 0
            self._fetched_at = self._clock()
        except Exception as error:
            self._failures += 1
            if isinstance(error, UpstreamError):
                self._error = error
                log.warning("refresh_failed", **error.log_fields)
                raise
            log.exception("refresh_failed")
            self._error = UpstreamUnavailable("Entra ID", "unexpected response")
            raise self._error from error
        finally:
            self._tried_at = self._clock()
        return self.value


def _wait(run: Run[T], in_background: bool = False) -> T:
    try:
        return run.wait(in_background=in_background)
    except NotSent as error:
        raise UpstreamUnavailable("Entra ID", str(error)) from error
