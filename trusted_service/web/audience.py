"""Who a route is for. Every route says so, or the application does not start.

The check runs before the view, in one place: first the caller is found out, then what the route
asks for is compared. What a caller may do beyond that is the business of `trusted_service.access`.
"""

from collections.abc import Callable
from enum import Enum
from typing import TypeVar

from flask import Flask, current_app, g, redirect, request, url_for
from werkzeug.wrappers import Response

from trusted_service.errors import NotSignedIn, RoleMissing
from trusted_service.models import Caller
from trusted_service.web import bearer, body, browser_session, cors, csrf
from trusted_service.web.context import services
from trusted_service.web.problem import is_api

View = TypeVar("View", bound=Callable[..., object])


class Audience(Enum):
    """PUBLIC: anybody, and it does not matter who. VISITOR: anybody, signed in or not. SIGNED_IN: a user.

    ADMINISTRATOR: who has the app role; under /api also an application that has it.
    """

    PUBLIC = "public"
    VISITOR = "visitor"
    SIGNED_IN = "signed in"
    ADMINISTRATOR = "administrator"


def public(view: View) -> View:
    return _mark(view, Audience.PUBLIC)


def visitor(view: View) -> View:
    return _mark(view, Audience.VISITOR)


def signed_in(view: View) -> View:
    return _mark(view, Audience.SIGNED_IN)


def administrator(view: View) -> View:
    return _mark(view, Audience.ADMINISTRATOR)


def init_app(app: Flask) -> None:
    app.before_request(_admit)


def require_one_for_each_route(app: Flask) -> None:
    """Raises RuntimeError for a route whose view has no audience. Static files are public."""
    for endpoint, view in app.view_functions.items():
        if endpoint.split(".")[-1] == "static":
            public(view.__func__ if hasattr(view, "__func__") else view)
        if audience_of(view) is None:
            raise RuntimeError(f"the route {endpoint} does not say who it is for")


def audience_of(view: Callable[..., object]) -> Audience | None:
    return getattr(view, "audience", None)


def is_administrator(caller: Caller) -> bool:
    return services().settings.admin_role in caller.user.roles


def _mark(view: View, audience: Audience) -> View:
    view.audience = audience  # type: ignore[attr-defined]
    return view


def _admit() -> Response | None:
    if request.endpoint is None:
        return None  # no such route: answered with 404 or 405
    audience = audience_of(current_app.view_functions[request.endpoint])
    if audience is Audience.PUBLIC or cors.is_preflight():
        return None
    body.read()  # also where no view would: a body over the limit is refused on every route
    g.caller = caller = _find_caller(audience)
    if caller is None:
        return None if audience is Audience.VISITOR else _ask_to_sign_in()
    if caller.session is not None and request.method not in csrf.SAFE_METHODS:
        csrf.check(caller.session)
    if audience is Audience.ADMINISTRATOR and not is_administrator(caller):
        raise RoleMissing
    return None


def _find_caller(audience: Audience | None) -> Caller | None:
    if is_api(request.path) and bearer.is_presented():
        return bearer.find_caller(for_administrators=audience is Audience.ADMINISTRATOR)
    return browser_session.find_caller()


def _ask_to_sign_in() -> Response:
    if is_api(request.path):
        raise NotSignedIn
    if request.method in ("GET", "HEAD"):
        return redirect(url_for("auth.sign_in", next=request.full_path.rstrip("?")), 302)
    return redirect(url_for("auth.sign_in"), 303)
