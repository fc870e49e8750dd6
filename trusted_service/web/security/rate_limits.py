"""Rate limits: of tokens by user, of sign-ins by client address."""

import math
import time

from flask import Flask
from flask_limiter import Limiter

from trusted_service.web.http.context import caller, client_address, services

limiter = Limiter(client_address)

limit_tokens = limiter.shared_limit(
    lambda: services().settings.rate_limit_token, scope="token", key_func=lambda: str(caller().user.id)
)
limit_sign_ins = limiter.shared_limit(lambda: services().settings.rate_limit_sign_in, scope="sign-in")


def init_app(app: Flask, storage_uri: str) -> None:
    """Count in `storage_uri`; while its Redis does not respond, each process counts for itself."""
    app.config["RATELIMIT_STORAGE_URI"] = storage_uri
    app.config["RATELIMIT_IN_MEMORY_FALLBACK_ENABLED"] = True
    if storage_uri != "memory://":
        app.config["RATELIMIT_STORAGE_OPTIONS"] = {"socket_timeout": 1, "socket_connect_timeout": 1}
    limiter.init_app(app)


def seconds_until_reset() -> int:
    """Seconds until the exceeded limit's window ends: rounded up, at least one, at most the whole window."""
    limit = limiter.current_limit
    if limit is None:
        return 1
    seconds = math.ceil(limit.window.reset_time - time.time())
    return min(max(1, seconds), limit.limit.get_expiry())
