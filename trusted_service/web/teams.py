"""Tokens for Microsoft Teams in a browser: a second trip to Entra ID, which asks for Teams alone.

What Entra ID gives for it is exchanged as soon as the browser is back, and kept nowhere; the
token is on that one page and in no address.
"""

from datetime import UTC, datetime

import structlog
from flask import render_template

from trusted_service.entra import teams_tokens
from trusted_service.entra.sign_in import Flow
from trusted_service.errors import NotSignedIn, OtherUser
from trusted_service.representation import rfc3339
from trusted_service.web.context import caller, optional_caller, services

log = structlog.get_logger(__name__)


def start(redirect_uri: str) -> tuple[str, Flow]:
    """Return the address to send the browser to, and what has to be kept until it comes back."""
    session = caller().session
    hint = caller().user.username if session is None else session.login_hint or session.user.username
    return services().entra.start(redirect_uri, scopes=teams_tokens.SCOPES, login_hint=hint or None)


def finish(flow: Flow, code: str) -> str:
    """Return the page with the token of the person who is signed in.

    Raises NotSignedIn where the session has ended meanwhile, and OtherUser where somebody else came back.
    """
    person = optional_caller()
    if person is None:
        raise NotSignedIn
    came_back = services().entra.complete(flow, code)
    if came_back.user.id != person.user.id:
        raise OtherUser
    token = services().access.exchange_teams_token(person, came_back.access_token)
    log.info("teams_token_issued", user=str(person.user.id))
    return render_template(
        "teams/token.html",
        token=token.token,
        expires_on=rfc3339(token.expires_on),
        now=rfc3339(datetime.now(UTC)),
        scopes=teams_tokens.SCOPE_NAMES,
    )
