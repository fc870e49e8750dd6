"""Rate limits by user or, where the caller is not known, by client address.

Each caller is counted on every route; a route that writes has a limit of its own instead.
"""

import math
import time

import structlog
from flask import Flask, Response
from flask_limiter import Limit, Limiter, RequestLimit

from trusted_service.azure.shares import REDIS_OPTIONS
from trusted_service.web.http.context import caller, client_address, optional_caller, services

log = structlog.get_logger(__name__)

USUAL, ADMINISTRATION = "6000 per minute", "1200 per minute"
"""What a caller may read from a route, and an administrator do and export; jobs are for more."""


def _caller_key() -> str:
    return str(caller().user.id)


def _ignore(_: RequestLimit) -> Response:
    """Whoever signs out elsewhere is told nothing: the response is the usual one."""
    log.warning("excess_rate_limit_exceeded")
    return Response(status=200)


usual = Limit(USUAL, key_function=_caller_key, exempt_when=lambda: optional_caller() is None)
limiter = Limiter(client_address, default_limits=[usual])

limit_tokens = limiter.shared_limit(
    lambda: services().settings.rate_limit_token, scope="token", key_func=_caller_key
)
limit_account = limiter.shared_limit(
    lambda: services().settings.rate_limit_account, scope="account", key_func=_caller_key
)
limit_administration = limiter.shared_limit(ADMINISTRATION, scope="administration", key_func=_caller_key)
limit_sign_ins = limiter.shared_limit(lambda: services().settings.rate_limit_sign_in, scope="sign-in")
# A whole office may sign out at once.
limit_logouts = limiter.shared_limit(USUAL, scope="front-channel", on_breach=_ignore)


def init_app(app: Flask, storage_uri: str) -> None:
    """Count in `storage_uri`; while its Redis does not respond, each process counts for itself."""
    app.config["RATELIMIT_STORAGE_URI"] = storage_uri
    app.config["RATELIMIT_IN_MEMORY_FALLBACK_ENABLED"] = True
    if storage_uri != "memory://":
        app.config["RATELIMIT_STORAGE_OPTIONS"] = REDIS_OPTIONS
    limiter.init_app(app)


def seconds_until_reset() -> int:
    """Seconds until the exceeded limit's window ends: rounded up, at least one, at most the whole window."""
    limit = limiter.current_limit
    if limit is None:
        return 1
    seconds = math.ceil(limit.window.reset_time - time.time())
    return min(max(1, seconds), limit.limit.get_expiry())
