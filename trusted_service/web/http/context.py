"""The context of a request: its id, deadline, log line and caller, and the services of this process."""

import functools
import re
import time
import uuid
from collections.abc import Callable, Iterable
from contextvars import copy_context
from ipaddress import IPv6Address, ip_address, ip_network
from typing import TypeVar, cast
from urllib.parse import urlsplit
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

import structlog
from flask import Flask, Response, current_app, g, request

from trusted_service.azure import deadlines
from trusted_service.models import Actor, Caller, IssuedToken, User
from trusted_service.observability.signals import record_request, request_span
from trusted_service.services import Services
from trusted_service.usage import REFUSAL
from trusted_service.web.security.audiences import Audience, audience_of

ARRIVED_AT = "trusted_service.host"

T = TypeVar("T")


def with_context(app: WSGIApplication, public_url: str) -> WSGIApplication:
    """Give each request an id and a deadline. Treat it as addressed to PUBLIC_URL, whatever its Host header.

    App Service's own probes call an instance by its address, so rejecting unknown hosts is not an option.
    """
    url = urlsplit(public_url)
    ours = {"HTTP_HOST": url.netloc, "wsgi.url_scheme": url.scheme}

    def call(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        # Always a new id: one from outside could be made to look like another request's.
        request_id = uuid.uuid4().hex
        names = structlog.contextvars.bound_contextvars(request_id=request_id, client=None, user=None)
        with deadlines.request_budget(request_id), names, request_span(request_id):
            return app(environ | ours | {ARRIVED_AT: environ.get("HTTP_HOST", "")}, start_response)

    return call


def init_app(app: Flask) -> None:
    app.before_request(_begin)
    app.after_request(_end)


def services() -> Services:
    return cast(Services, current_app.extensions["trusted_service"])


def caller() -> Caller:
    """The caller of this request; only for views that require one."""
    return cast(Caller, g.caller)


def optional_caller() -> Caller | None:
    """The caller of this request; None for a signed-out visitor."""
    return cast(Caller | None, g.get("caller"))


def actor() -> Actor:
    """The caller as the audit trail names them: as an administrator on administrators' routes."""
    user = caller().user
    if caller().application:
        return Actor(kind="application", key=str(user.id))
    if audience_of(current_app.view_functions[request.endpoint or ""]) is Audience.ADMINISTRATOR:
        return Actor(kind="administrator", key=str(user.id))
    return Actor(kind="user", key=str(user.id))


def request_id() -> str:
    return deadlines.current_request_id() or ""


def is_api(path: str) -> bool:
    """Whether the path belongs to the API, which responds with JSON to everything."""
    return path == "/api" or path.startswith("/api/")


def client_address() -> str:
    """The client's address as the trusted proxies report it, else the peer's.

    A household or a cloud machine has a /64 of IPv6 addresses to itself, so those count as one.
    """
    host = request.remote_addr or ""
    if host.count(":") == 1 or "]:" in host:  # App Service adds the port, which is new for each connection
        host = host.rsplit(":", 1)[0]
    try:
        address = ip_address(host.strip("[]"))
    except ValueError:
        return "unknown"
    if isinstance(address, IPv6Address):
        # A server that listens on both sees every IPv4 client as a mapped address.
        return str(address.ipv4_mapped or ip_network((address, 64), strict=False))
    return str(address)


def is_at_public_url() -> bool:
    """Whether our cookies fit where the browser is, as far as the request and trusted proxies tell.

    Cookies ignore ports. Without a trusted proxy the scheme is not known, as TLS may end before us.
    """
    settings, hops = services().settings, services().settings.trusted_proxy_hops
    host, scheme = (
        request.headers.get(f"X-Forwarded-{name}", "").split(",")[-hops:][0].strip() if hops else ""
        for name in ("Host", "Proto")
    )
    ours, theirs = (
        re.sub(r":\d*$", "", address.lower())
        for address in (urlsplit(settings.public_url).netloc, host or request.environ[ARRIVED_AT])
    )
    return theirs in (ours, "") and not (settings.https and scheme.lower() == "http")


def bind_user(user: User) -> None:
    """Name the user in every line that this request logs from now on."""
    structlog.contextvars.bind_contextvars(user=str(user.id))


def record_use(caller: Caller, issued: IssuedToken | None = None) -> None:
    """Record after the response that the session was used, or the token issued, if that is due."""
    if (task := services().access.recording(caller, issued)) is not None:
        run_after_response(task)


def run_after_response(task: Callable[[], None]) -> None:
    """Run the task in the background after the response, in place of an earlier task of this request."""
    g.task = task


def as_request(task: Callable[[], T], seconds: float = deadlines.REQUEST_SECONDS) -> Callable[[], T]:
    """The task for later, with the id, names and span of this request, and `seconds` for its own calls."""
    return functools.partial(copy_context().run, deadlines.request_budget(request_id(), seconds)(task))


def _begin() -> None:
    g.started_at = time.monotonic()
    structlog.contextvars.bind_contextvars(client=client_address())


def _end(response: Response) -> Response:
    response.headers["X-Request-ID"] = request_id()
    if response.status_code in (401, 403, 429) and (is_api(request.path) or request.blueprint == "auth"):
        services().usage.count(REFUSAL)
    # Not the path, which may hold a secret.
    route = None if request.url_rule is None else request.url_rule.rule
    milliseconds = round((time.monotonic() - g.started_at) * 1000, 1)
    record_request(
        request.method, route, response.status_code, g.get("error_code"), milliseconds=milliseconds
    )
    if "task" in g:
        response.call_on_close(functools.partial(services().background.run, as_request(g.task)))
    return response
