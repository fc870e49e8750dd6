"""Revocations of one identity that are asked for at about the same time share one call."""

import copy
import functools
import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from trusted_service.azure import deadlines, shares
from trusted_service.errors import UpstreamError, UpstreamThrottled, UpstreamUnavailable

GATHER_SECONDS, INTERVAL_SECONDS = 0.1, 1.0
"""How long a call waits for others to join, and from the start of one call to the next of its identity."""
MAX_KEPT = 4096
PLACES = {"users": 40, "administrators": 16}
"""How many threads may wait for a call to start or to end."""


@dataclass
class _Calls:
    """The calls of an identity, one after another, and how the last one ended."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    started: float = -math.inf
    error: UpstreamError | None = None


class Revocations:
    """One for each process. A caller shares only a call that starts after it asked, since it may hold a token
    that an earlier one has not revoked. Administrators share none with users, whose calls may be refused.
    """

    def __init__(self, revoke: Callable[[str], None]) -> None:
        self._revoke = revoke
        self._lock = threading.Lock()
        self._places = {name: threading.BoundedSemaphore(places) for name, places in PLACES.items()}
        self._calls = functools.lru_cache(MAX_KEPT)(lambda _acs_user_id, _for_user: _Calls())

    def revoke(self, acs_user_id: str) -> None:
        """Raises what the shared call raises, or UpstreamError if too many wait or it takes too long."""
        asked_at, for_user = time.monotonic(), shares.is_for_user()
        with self._lock:
            calls = self._calls(acs_user_id, for_user)
        places = self._places["users" if for_user else "administrators"]
        try:
            with deadlines.waiting(places, 0.0 if for_user else deadlines.MAX_WAIT_SECONDS):
                if not calls.lock.acquire(timeout=deadlines.seconds_left()):
                    reason = "no time left in this request"
                    raise UpstreamUnavailable("Communication Services", reason, outcome_unknown=True)
                if starts_new := calls.started <= asked_at:
                    starts_in = calls.started + INTERVAL_SECONDS - time.monotonic()
                    time.sleep(min(max(GATHER_SECONDS, starts_in), deadlines.seconds_left()))
        except deadlines.NotSent:
            raise UpstreamThrottled(
                "Communication Services", "too many revocations wait already", "1"
            ) from None
        try:
            if starts_new:
                self._run(acs_user_id, calls)
            elif calls.error is not None:
                raise copy.copy(calls.error) from calls.error  # each caller adds to it what it has done
        finally:
            calls.lock.release()

    def _run(self, acs_user_id: str, calls: _Calls) -> None:
        started = time.monotonic()
        try:
            self._revoke(acs_user_id)
        except UpstreamError as error:
            if deadlines.seconds_left():  # otherwise those that wait may have more time than this request
                calls.started, calls.error = started, copy.copy(error)
            raise
        calls.started, calls.error = started, None
