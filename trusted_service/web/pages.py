"""The pages for everybody."""

from typing import Any

from flask import Blueprint, render_template

from trusted_service.web import csrf
from trusted_service.web.audience import is_administrator, visitor
from trusted_service.web.context import optional_caller, services

bp = Blueprint("pages", __name__)


@bp.get("/")
@visitor
def home() -> str:
    """Signed out: what this is. Signed in: one's own identity, and a button that gets a token."""
    caller = optional_caller()
    if caller is None:
        return render_template("pages/welcome.html")
    settings = services().settings
    return render_template(
        "pages/home.html",
        user=caller.user,
        acs_user_id=services().access.find_acs_user_id(caller),
        scopes=settings.token_scopes,
        minutes=settings.token_lifetime_minutes,
        public_url=settings.public_url,
    )


@bp.app_context_processor
def frame() -> dict[str, Any]:
    """What the frame around every page shows: who is signed in, and the value its forms carry."""
    caller = optional_caller()
    session = None if caller is None else caller.session
    return {
        "signed_in_user": None if caller is None else caller.user,
        "csrf_value": None if session is None else csrf.value(session),
        "administrates": caller is not None and is_administrator(caller),
    }
