"""Keeps what was fetched from elsewhere, through an outage of where it came from."""

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from trusted_service import upstream
from trusted_service.errors import UpstreamError

T = TypeVar("T")


FIND_SECONDS = 1.0
"""How long somebody waits who can do without the value."""
MISSED_SECONDS = 10.0
"""How long nobody who can do without it tries again after that."""


class LastGood(Generic[T]):
    """The value of `fetch`, renewed every `fresh_seconds`.

    Where renewing fails, the last good value serves on for `keep_seconds` and the next try is
    made after `retry_seconds`. Threads that wait for the same fetch share its outcome.
    """

    def __init__(
        self,
        fetch: Callable[[], T],
        *,
        fresh_seconds: float = 3600,
        keep_seconds: float = 86_400,
        retry_seconds: float = 60,
    ) -> None:
        self._fetch = fetch
        self._fresh, self._keep, self._retry = fresh_seconds, keep_seconds, retry_seconds
        self._lock = threading.Lock()
        self._value: T | None = None
        self._error: UpstreamError | None = None
        self._fetched_at = self._tried_at = self._missed_at = float("-inf")

    @property
    def kept(self) -> T | None:
        """The last good value, whatever its age; None before the first."""
        return self._value

    def get(self) -> T:
        """Raises UpstreamError where nothing could be fetched and nothing good is kept."""
        if self._value is None:
            return self.renew()
        now = time.monotonic()
        if now - self._fetched_at > self._keep:
            return self.renew()
        due = now - self._fetched_at > self._fresh and now - self._tried_at > self._retry
        if due and self._lock.acquire(blocking=False):
            try:
                self._try()
            finally:
                self._lock.release()
        return self._value

    def find(self) -> T | None:
        """What is kept, however old, else what a second brings; after a miss, None for some seconds."""
        if self._value is None and time.monotonic() - self._missed_at > MISSED_SECONDS:
            self._fetch_quickly()
        return self._value

    def renew(self) -> T:
        """Fetch now, or share a fetch that ended after this call began. Raises UpstreamError if it failed."""
        asked_at = time.monotonic()
        with self._lock:
            if self._tried_at < asked_at:
                self._try()
            if self._error is not None:
                raise self._error
            if self._value is None:
                raise RuntimeError("a fetch ended with neither a value nor an error")
            return self._value

    def _fetch_quickly(self) -> None:
        # Not a try that `renew` shares: whoever cannot do without the value waits longer for it.
        if not self._lock.acquire(timeout=FIND_SECONDS):
            self._missed_at = time.monotonic()
            return
        try:
            if self._value is None and time.monotonic() - self._missed_at > MISSED_SECONDS:
                with upstream.at_most(FIND_SECONDS):
                    self._value, self._error = self._fetch(), None
                self._fetched_at = time.monotonic()
        except UpstreamError:
            self._missed_at = time.monotonic()
        finally:
            self._lock.release()

    def _try(self) -> None:
        try:
            self._value, self._error = self._fetch(), None
            self._fetched_at = time.monotonic()
        except UpstreamError as error:
            self._error = error
        finally:
            self._tried_at = time.monotonic()
