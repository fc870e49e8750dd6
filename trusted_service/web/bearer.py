"""The `Authorization` header of API calls. Where it is present, cookies do not count.

https://www.rfc-editor.org/rfc/rfc6750.html#section-2.1
"""

import re

from flask import request

from trusted_service.errors import InsufficientScope, InvalidToken
from trusted_service.models import Caller
from trusted_service.web.context import note_user, services

CREDENTIALS = re.compile(r"bearer +([A-Za-z0-9._~+/=-]+)", re.IGNORECASE)


def is_presented() -> bool:
    return "Authorization" in request.headers


def find_caller(*, for_administrators: bool) -> Caller:
    """Who the token speaks for. Raises InvalidToken, InsufficientScope, ClientNotAllowed or Blocked.

    An app-only token is good for administrators' routes alone, where its roles decide.
    """
    # Several headers arrive here joined by a comma, which no token holds.
    credentials = CREDENTIALS.fullmatch(request.headers["Authorization"].strip())
    if credentials is None:
        raise InvalidToken("header")
    bearer = services().access_tokens.read(credentials[1])
    note_user(bearer.user)
    settings = services().settings
    if bearer.application:
        if not for_administrators:
            raise InsufficientScope
        services().access.admit_bearer(bearer.user)  # an application can be blocked like a user
        return Caller(user=bearer.user, application=True)
    if settings.api_scope not in bearer.scopes:
        raise InsufficientScope
    return services().access.admit_bearer(bearer.user)
