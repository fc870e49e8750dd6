"""A cache that serves a stale value while a refresh fails."""

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from trusted_service.errors import UpstreamError

T = TypeVar("T")

FRESH_SECONDS, KEPT_SECONDS, RETRY_SECONDS = 3600, 86_400, 60


class Cache(Generic[T]):
    """The value of `fetch`, refreshed when it is FRESH_SECONDS old, and served stale through an outage.

    Threads that wait for the same fetch share its outcome. https://www.rfc-editor.org/rfc/rfc5861#section-4
    """

    def __init__(self, fetch: Callable[[], T], clock: Callable[[], float] = time.monotonic) -> None:
        self._fetch = fetch
        self._clock = clock
        self._lock = threading.Lock()
        self.value: T | None = None  # however old; None before the first fetch
        self._error: UpstreamError | None = None
        self._fetched_at = self._tried_at = float("-inf")

    def get(self) -> T:
        """Raises UpstreamError if the fetch fails and there is no value that may still be served."""
        now = self._clock()
        age = now - self._fetched_at
        if self.value is None or age > KEPT_SECONDS:
            return self.refresh()
        due = age > FRESH_SECONDS and now - self._tried_at > RETRY_SECONDS
        if due and self._lock.acquire(blocking=False):
            try:
                self._try()
            finally:
                self._lock.release()
        return self.value

    def refresh(self) -> T:
        """Fetch now, or share a fetch that ended after this call began. Raises UpstreamError if it failed."""
        asked_at = self._clock()
        with self._lock:
            if self._tried_at < asked_at:
                self._try()
            if self._error is not None:
                raise self._error
            if self.value is None:
                raise RuntimeError("a fetch ended with neither a value nor an error")
            return self.value

    def _try(self) -> None:
        try:
            self.value, self._error = self._fetch(), None
            self._fetched_at = self._clock()
        except UpstreamError as error:
            self._error = error
        finally:
            self._tried_at = self._clock()
