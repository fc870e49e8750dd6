"""Keeps room at Communication Services for administrators: users and jobs each have a share of its limits.

https://learn.microsoft.com/azure/communication-services/concepts/service-limits#identity
"""

import math
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Final, Literal

import structlog
from azure.core.credentials import TokenCredential
from limits import RateLimitItemPerSecond
from limits.errors import StorageError
from limits.storage import MemoryStorage, RedisStorage
from limits.strategies import MovingWindowRateLimiter

from trusted_service.azure.errors import network_reason
from trusted_service.errors import UpstreamThrottled
from trusted_service.settings.addresses import redis_identity

if TYPE_CHECKING:
    from trusted_service.azure.redis_pool import Pool

log = structlog.get_logger(__name__)

CALLS, WINDOW_SECONDS = 500, 30
"""What Communication Services allows a resource: so many revocations, and as many deletions."""
SHARES: Final = {"users": 0.3, "jobs": 0.5}
REDIS_RETRY_SECONDS = 30.0

Kind = Literal["delete", "revoke"]
Holder = Literal["users", "jobs"]

_for_user: ContextVar[bool] = ContextVar("for_user", default=False)


def is_for_user() -> bool:
    """Whether this thread's calls count against the users' share."""
    return _for_user.get()


@contextmanager
def for_user(applies: bool = True) -> Iterator[None]:
    """Count the calls inside against the users' share, if that applies."""
    token = _for_user.set(applies)
    try:
        yield
    finally:
        _for_user.reset(token)


class Shares:
    """Counts calls by kind: in Redis for all instances, else in this process.

    `sharers`: how many processes divide each share.
    """

    def __init__(self, storage_uri: str, credential: TokenCredential | None = None) -> None:
        """`credential`: whose token is the password, if `storage_uri` names a managed identity."""
        self.sharers: dict[Holder, int] = {"users": 1, "jobs": 1}
        self._own, self._own_lock = MovingWindowRateLimiter(MemoryStorage()), threading.Lock()
        self._common = None
        self._common_from = -math.inf
        self.redis: Pool | None = None
        if storage_uri != "memory://":
            from trusted_service.azure import redis_pool  # costs a tenth of a second

            identity = credential if redis_identity(storage_uri) else None
            self.redis = redis_pool.Pool.from_url(storage_uri, credential=identity)
            storage = RedisStorage(storage_uri, self.redis, wrap_exceptions=True)
            self._common = MovingWindowRateLimiter(storage)

    def pace(self, holder: Holder) -> float:
        """The calls of each kind in a second by which this process alone never uses up the share."""
        return CALLS * SHARES[holder] / WINDOW_SECONDS / self.sharers[holder]

    def take(self, holder: Holder, kind: Kind, calls: int = 1) -> None:
        """Count calls. Raises UpstreamThrottled, and counts none, if the share is used up."""
        if seconds := self._seconds_to_wait(holder, kind, calls):
            reason = f"no {kind} is left for {holder}"
            raise UpstreamThrottled("Communication Services", reason, str(seconds))

    def find_redis_failure(self) -> str | None:
        """Count a call that nobody makes; return what Redis has against it, if there is a Redis."""
        try:
            if self._common is not None:
                _count(self._common, CALLS, 1, "check")
        except Exception as error:  # a Redis that is none fails in whatever way the parser does
            return redis_reason(error)
        return None

    def _seconds_to_wait(self, holder: Holder, kind: Kind, calls: int) -> int:
        share = CALLS * SHARES[holder]
        if self._common is not None and time.monotonic() >= self._common_from:
            try:
                return _count(self._common, share, calls, holder, kind)
            except StorageError as error:
                # Not again for a while: an attempt may take a second.
                self._common_from = time.monotonic() + REDIS_RETRY_SECONDS
                log.warning("share_counted_alone", reason=redis_reason(error))
        with self._own_lock:  # its storage starts the same thread twice if two calls come at once
            return _count(self._own, share / self.sharers[holder], calls, holder, kind)


def redis_reason(error: BaseException | None) -> str:
    """Redis's own code, or what the network refused; never its text, which can repeat the password."""
    import redis  # costs a tenth of a second, so only where one fails

    from trusted_service.azure.redis_pool import NoToken

    error = error.storage_error if isinstance(error, StorageError) else error
    match error:
        case NoToken():
            return str(error)
        case redis.InvalidResponse():
            return "it does not speak Redis's protocol, or wants TLS"
        case redis.TimeoutError():
            return "no response in time"
        case redis.RedisError():
            word = re.match(r"[A-Z]{2,20}\b", error.status_code or str(error))
            return f"{word[0]} ({type(error).__name__})" if word else network_reason(error)
    return "unknown" if error is None else network_reason(error)


def _count(limiter: MovingWindowRateLimiter, share: float, calls: int, *key: str) -> int:
    """Count the calls and return 0 or, if the share has no room, the seconds until it may have some."""
    limit = RateLimitItemPerSecond(max(calls, int(share)), WINDOW_SECONDS, namespace="acs")
    if limiter.hit(limit, *key, cost=calls):
        return 0
    seconds = limiter.get_window_stats(limit, *key).reset_time - time.time()
    return min(max(1, math.ceil(seconds)), WINDOW_SECONDS)
