"""The start page, and the frame around every page."""

from typing import Any

from flask import Blueprint, render_template

from trusted_service.web.http.context import optional_caller, services
from trusted_service.web.security.audiences import visitor
from trusted_service.web.security.authentication import csrf_value, is_administrator

bp = Blueprint("pages", __name__)


@bp.get("/")
@visitor
def home() -> str:
    """Signed out: what this service is. Signed in: the user's identity, and a button that gets a token."""
    caller = optional_caller()
    if caller is None:
        return render_template("pages/welcome.html")
    return render_template(
        "pages/home.html",
        user=caller.user,
        acs_user_id=services().access.find_acs_user_id(caller),
        settings=services().settings,
    )


@bp.app_context_processor
def frame() -> dict[str, Any]:
    """The signed-in user, and the value that forms carry."""
    caller = optional_caller()
    return {
        "signed_in_user": caller and caller.user,
        "csrf_value": caller and csrf_value(caller.session),
        "administrates": caller is not None and is_administrator(caller),
    }
