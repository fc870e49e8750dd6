"""Keeps room at Communication Services for administrators: users and jobs may use a share of its limits.

https://learn.microsoft.com/azure/communication-services/concepts/service-limits#identity
"""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final, Literal

import structlog
from limits import RateLimitItemPerSecond
from limits.errors import StorageError
from limits.storage import MemoryStorage, storage_from_string
from limits.strategies import MovingWindowRateLimiter

from trusted_service.errors import UpstreamThrottled

log = structlog.get_logger(__name__)

CALLS, WINDOW_SECONDS = 500, 30
"""What Communication Services allows a resource: so many revocations, and as many deletions."""
SHARE = 0.6
"""Of users and jobs together."""
REDIS_OPTIONS: Final = {"socket_timeout": 1, "socket_connect_timeout": 1}
REDIS_RETRY_SECONDS = 30.0

Kind = Literal["delete", "revoke"]

_is_shared: ContextVar[bool] = ContextVar("is_shared", default=False)


def is_shared() -> bool:
    """Whether this thread's calls count against the share of users and jobs."""
    return _is_shared.get()


@contextmanager
def shared(applies: bool = True) -> Iterator[None]:
    """Count the calls inside against the share of users and jobs, if that applies. A decorator too."""
    token = _is_shared.set(applies or is_shared())
    try:
        yield
    finally:
        _is_shared.reset(token)


class Shares:
    """Counts calls by kind: in Redis for all instances, else in this process, one of `processes`."""

    def __init__(self, storage_uri: str) -> None:
        self.processes = 1
        self._own = MovingWindowRateLimiter(MemoryStorage())
        self._common = None
        self._common_from = -math.inf
        if storage_uri != "memory://":
            storage = storage_from_string(storage_uri, wrap_exceptions=True, **REDIS_OPTIONS)
            self._common = MovingWindowRateLimiter(storage)

    def take(self, kind: Kind) -> None:
        """Count a call of this thread. Raises UpstreamThrottled if the share is used up."""
        if is_shared() and (seconds := self._seconds_to_wait(kind)):
            reason = f"no {kind} is left for users and jobs"
            raise UpstreamThrottled("Communication Services", reason, str(seconds))

    def _seconds_to_wait(self, kind: Kind) -> int:
        if self._common is not None and time.monotonic() >= self._common_from:
            try:
                return _count(self._common, CALLS * SHARE, kind)
            except StorageError:
                # Not again for a while: an attempt may take a second.
                self._common_from = time.monotonic() + REDIS_RETRY_SECONDS
                log.warning("share_counted_alone")
        return _count(self._own, CALLS * SHARE / self.processes, kind)


def _count(limiter: MovingWindowRateLimiter, calls: float, kind: Kind) -> int:
    """Count a call and return 0 or, if there are as many already, the seconds until there is room."""
    limit = RateLimitItemPerSecond(max(1, int(calls)), WINDOW_SECONDS, namespace="acs")
    if limiter.hit(limit, kind):
        return 0
    seconds = limiter.get_window_stats(limit, kind).reset_time - time.time()
    return min(max(1, math.ceil(seconds)), WINDOW_SECONDS)
