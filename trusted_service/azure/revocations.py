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

PLACES = {"users": 40, "administrators": 16}
"""How many threads may wait for a call to start or to end."""

Key = tuple[str, bool]


class Revocations:
    """One for each process. A caller shares only a call that starts after it asked, since it may hold a token
    that an earlier one has not revoked. Administrators share none with users, whose calls may be refused.
    """

    def __init__(self, revoke: Callable[[str], None]) -> None:
        self._revoke = revoke
        self._lock = threading.Lock()
        self._places = {name: threading.BoundedSemaphore(places) for name, places in PLACES.items()}
        self._waiting: dict[Key, Future[None]] = {}
        self._started: dict[Key, float] = {}

    def revoke(self, acs_user_id: str) -> None:
        """Raises what the shared call raises, or UpstreamError if too many wait or it takes too long."""
        shared = shares.is_shared()
        key = acs_user_id, shared
        places = self._places["users" if shared else "administrators"]
        try:
            with deadlines.waiting(places, 0.0 if shared else deadlines.MAX_WAIT_SECONDS):
                call, starts_in = self._join(key)
                if starts_in is None:
                    error = call.exception(deadlines.seconds_left())
                else:
                    time.sleep(min(starts_in, deadlines.seconds_left()))
        except deadlines.NotSent:
            raise UpstreamThrottled(
                "Communication Services", "too many revocations wait already", "1"
            ) from None
        except TimeoutError:
            reason = "no time left in this request"
            raise UpstreamUnavailable("Communication Services", reason, outcome_unknown=True) from None
        if starts_in is not None:
            error = self._run(key, call)
        if error is not None:
            raise copy.copy(error) from error  # each caller adds to it what it has done

    def _join(self, key: Key) -> tuple["Future[None]", float | None]:
        """The call that waits or, with the seconds until it may start, a new one that the caller must run."""
        with self._lock:
            if key in self._waiting:
                return self._waiting[key], None
            call = self._waiting[key] = Future[None]()
            next_at = self._started.get(key, 0.0) + INTERVAL_SECONDS
        return call, max(GATHER_SECONDS, next_at - time.monotonic())

    def _run(self, key: Key, call: "Future[None]") -> BaseException | None:
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
        return call.exception()
