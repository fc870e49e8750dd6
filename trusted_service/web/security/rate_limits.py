"""Rate limits by user or, where the caller is not known, by client address.

Each caller is counted on every route; a route that writes has a limit of its own instead.
"""

import logging
import math
import sys
import threading
import time
from typing import Any

import structlog
from flask import Flask, Response, current_app, request
from flask_limiter import Limit, Limiter, RequestLimit
from flask_limiter.util import get_qualified_name
from limits.storage import Storage

from trusted_service.azure.shares import redis_reason
from trusted_service.web.http.context import caller, client_address, optional_caller, services

log = structlog.get_logger(__name__)

DEFAULT, ADMINISTRATION = "6000 per minute", "1200 per minute"
"""What a caller may read from a route, and an administrator do and export; jobs are for more."""
FEWEST_SWEPT = 1024
REPEAT_SECONDS = 60.0
"""A Redis that responds to PING and refuses writes fails and recovers every second."""


def _caller_key() -> str:
    return str(caller().user.id)


def _ignore(_: RequestLimit) -> Response:
    """Respond as usual: the browser is signing out elsewhere and shows no error."""
    log.warning("excess_rate_limit_exceeded")
    return Response(status=200)


default_limit = Limit(DEFAULT, key_function=_caller_key, exempt_when=lambda: optional_caller() is None)
limiter = Limiter(client_address, default_limits=[default_limit])

limit_tokens = limiter.shared_limit(
    lambda: services().settings.rate_limit_token, scope="token", key_func=_caller_key
)
limit_account = limiter.shared_limit(
    lambda: services().settings.rate_limit_account, scope="account", key_func=_caller_key
)
limit_administration = limiter.shared_limit(ADMINISTRATION, scope="administration", key_func=_caller_key)
# Apart from actions: a browser may be sent to a file by another site.
limit_exports = limiter.shared_limit(ADMINISTRATION, scope="exports", key_func=_caller_key)
limit_sign_ins = limiter.shared_limit(lambda: services().settings.rate_limit_sign_in, scope="sign-in")
# A whole office may sign out at once.
limit_logouts = limiter.shared_limit(DEFAULT, scope="front-channel", on_breach=_ignore)


_silent_until: dict[tuple[object, str], float] = {}


def _explain(record: logging.LogRecord) -> bool:
    """Say in Flask-Limiter's warning what is wrong with Redis; the same once in REPEAT_SECONDS."""
    reason = redis_reason(sys.exc_info()[1]) if record.levelno >= logging.WARNING else ""
    key, now = (record.msg, reason), time.monotonic()
    if now < _silent_until.get(key, 0.0):
        return False
    _silent_until[key] = now + REPEAT_SECONDS
    if reason:
        record.msg, record.args = "rate_limits_counted_alone", ()
        record.__dict__["reason"] = reason
    return True


class Counters(Storage):
    """Counts in the memory of this process, each until its window ends, `expiry` seconds after its first.

    The storage that `limits` has for this starts a thread whenever it is asked; two requests at once can
    start the same one, which fails. https://limits.readthedocs.io/en/stable/custom-storage.html
    """

    STORAGE_SCHEME = ["counters"]  # noqa: RUF012 # as the base class declares it

    def __init__(self, uri: str | None = None, wrap_exceptions: bool = False, **options: Any) -> None:
        super().__init__(uri, wrap_exceptions, **options)
        self._lock = threading.Lock()
        self._counts: dict[str, tuple[int, float]] = {}
        self._swept_at = FEWEST_SWEPT

    @property
    def base_exceptions(self) -> type[Exception]:
        return ValueError

    def incr(self, key: str, expiry: float, amount: int = 1) -> int:
        now = time.time()
        with self._lock:
            count, end = self._counts.get(key, (0, 0.0))
            if end <= now:
                count, end = 0, now + expiry
                self._sweep(now)
            self._counts[key] = count + amount, end
        return count + amount

    def get(self, key: str) -> int:
        count, end = self._counts.get(key, (0, 0.0))
        return count if end > time.time() else 0

    def get_expiry(self, key: str) -> float:
        return self._counts.get(key, (0, time.time()))[1]

    def check(self) -> bool:
        return True

    def reset(self) -> int:
        self._counts, removed = {}, len(self._counts)
        return removed

    def clear(self, key: str) -> None:
        self._counts.pop(key, None)

    def _sweep(self, now: float) -> None:
        """Forget what has ended, whenever there is twice as much as was left."""
        if len(self._counts) >= self._swept_at:
            self._counts = {key: count for key, count in self._counts.items() if count[1] > now}
            self._swept_at = max(FEWEST_SWEPT, 2 * len(self._counts))


def init_app(app: Flask, storage_uri: str) -> None:
    """Count in `storage_uri`; while its Redis does not respond, each process counts for itself."""
    in_memory = storage_uri == "memory://"
    app.config["RATELIMIT_STORAGE_URI"] = f"{Counters.STORAGE_SCHEME[0]}://" if in_memory else storage_uri
    app.config["RATELIMIT_IN_MEMORY_FALLBACK_ENABLED"] = True
    if not in_memory:
        pool = app.extensions["trusted_service"].communication.shares.redis
        app.config["RATELIMIT_STORAGE_OPTIONS"] = {"connection_pool": pool}
    limiter.init_app(app)
    limiter.logger.addFilter(_explain)


def seconds_until_reset() -> int:
    """Seconds until every limit of this route has room: rounded up, at least one, at most a whole window."""
    view, manager = current_app.view_functions[request.endpoint or ""], limiter.limit_manager
    waits = [1]
    for limit in manager.decorated_limits(get_qualified_name(view)) or manager.default_limits:
        scope = limit.scope_for(request.endpoint or "", request.method)
        window = limiter.limiter.get_window_stats(limit.limit, limit.key_func(), scope)
        if window.remaining == 0:
            waits.append(min(math.ceil(window.reset_time - time.time()), limit.limit.get_expiry()))
    return max(waits)
