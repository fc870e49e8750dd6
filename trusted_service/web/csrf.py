"""Proof that an unsafe request of a browser session comes from our own pages.

The value is the session's key, signed: it needs no storage, dies with the session, and an older
key of SECRET_KEY_FALLBACKS keeps it alive, which Flask-WTF cannot do. Sent as the form field
`csrf_token` or the header `X-CSRFToken`. A foreign or null Origin is refused whatever the value.
https://cheatsheetseries.owasp.org/cheatsheets/Cross-Site_Request_Forgery_Prevention_Cheat_Sheet.html
"""

from flask import request

from trusted_service.errors import CsrfFailed
from trusted_service.models import Session
from trusted_service.web.context import services
from trusted_service.web.signing import signer

SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
FIELD, HEADER = "csrf_token", "X-CSRFToken"


def value(session: Session) -> str:
    """The value that unsafe requests of this session must carry."""
    return signer("csrf").get_signature(session.key).decode("ascii")


def check(session: Session) -> None:
    """Raises CsrfFailed."""
    origin = request.headers.get("Origin")
    if origin is not None and origin != services().settings.public_url:
        raise CsrfFailed
    given = request.headers.get(HEADER) or request.form.get(FIELD, "")
    if not signer("csrf").verify_signature(session.key, given):
        raise CsrfFailed
