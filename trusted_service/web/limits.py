"""How often: tokens by user, sign-ins by client address."""

import time
from ipaddress import IPv6Address, ip_address, ip_network

from flask import Flask, request
from flask_limiter import Limiter

from trusted_service.web.context import caller, services


def init_app(app: Flask, storage_uri: str) -> None:
    """Count in `storage_uri`; while a Redis there is away or silent, each process counts for itself."""
    app.config["RATELIMIT_STORAGE_URI"] = storage_uri
    app.config["RATELIMIT_IN_MEMORY_FALLBACK_ENABLED"] = True
    if storage_uri != "memory://":
        app.config["RATELIMIT_STORAGE_OPTIONS"] = {"socket_timeout": 1, "socket_connect_timeout": 1}
    limiter.init_app(app)


def client_address() -> str:
    """The client's address as the trusted proxies report it, else the peer's.

    App Service adds the port, which is new for each connection. A household or a cloud machine has
    a /64 of IPv6 addresses to itself, so those count as one.
    """
    reported = request.remote_addr or ""
    host = reported.rsplit(":", 1)[0].strip("[]") if reported.count(":") == 1 or "]" in reported else reported
    try:
        address = ip_address(host)
    except ValueError:
        return "unknown"
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped  # as a server that listens on both sees every IPv4 client
    if isinstance(address, IPv6Address):
        return str(ip_network((address, 64), strict=False))
    return str(address)


def _user() -> str:
    return str(caller().user.id)


limiter = Limiter(client_address)

limit_tokens = limiter.shared_limit(
    lambda: services().settings.rate_limit_token, scope="token", key_func=_user
)
limit_sign_ins = limiter.shared_limit(lambda: services().settings.rate_limit_sign_in, scope="sign-in")


def seconds_until_reset() -> int:
    """How long the limit that was just exceeded lasts, in whole seconds, at least one."""
    limit = limiter.current_limit
    return 1 if limit is None else max(1, limit.reset_at - int(time.time()))
