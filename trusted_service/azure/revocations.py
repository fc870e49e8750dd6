"""Revocations of one identity that are asked for at about the same time share one call."""

import copy
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future

from trusted_service.azure import deadlines, shares
from trusted_service.errors import UpstreamThrottled, UpstreamUnavailable

GATHER_SECONDS, INTERVAL_SECONDS = 0.1, 1.0
"""How long a call waits for others to join, and from the start of one call to the next of its identity."""

Key = tuple[str, bool]


class Revocations:
    """One for each process. A caller shares only a call that starts after it asked: it has a token to lose.

    Administrators share no call with users, whose share of the calls may be used up.
    """

    def __init__(self, revoke: Callable[[str], None]) -> None:
        self._revoke = revoke
        self._lock = threading.Lock()
        self._free = threading.BoundedSemaphore(deadlines.MAX_CALLS)  # so that threads are left for /healthz
        self._waiting: dict[Key, Future[None]] = {}
        self._started: dict[Key, float] = {}

    def revoke(self, acs_user_id: str) -> None:
        """Raises what the shared call raises, or UpstreamError if too many wait or it takes too long."""
        shared = shares.is_shared()
        if not self._free.acquire(timeout=0 if shared else deadlines.seconds_left()):
            raise UpstreamThrottled("Communication Services", "too many revocations wait already", "1")
        try:
            error = self._share((acs_user_id, shared)).exception(deadlines.seconds_left())
        except TimeoutError:
            reason = "no time left in this request"
            raise UpstreamUnavailable("Communication Services", reason, outcome_unknown=True) from None
        finally:
            self._free.release()
        if error is not None:
            raise copy.copy(error) from error  # each caller adds to it what it has done

    def _share(self, key: Key) -> "Future[None]":
        """Join the call that waits, or make one."""
        with self._lock:
            if key in self._waiting:
                return self._waiting[key]
            call = self._waiting[key] = Future[None]()
            next_at = self._started.get(key, 0.0) + INTERVAL_SECONDS
        seconds = max(GATHER_SECONDS, next_at - time.monotonic())
        time.sleep(min(seconds, deadlines.seconds_left()))
        self._run(key, call)
        return call

    def _run(self, key: Key, call: "Future[None]") -> None:
        now = time.monotonic()
        with self._lock:
            del self._waiting[key]
            self._started = {one: at for one, at in self._started.items() if at > now - INTERVAL_SECONDS}
            self._started[key] = now
        try:
            self._revoke(key[0])
        except BaseException as error:
            call.set_exception(error)
        else:
            call.set_result(None)
