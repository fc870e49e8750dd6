"""What a browser keeps between leaving for Entra ID and coming back: one signed cookie for each flow.

A cookie of its own for each, so that tabs that sign in side by side cannot overwrite one another's.
"""

import hashlib
from dataclasses import dataclass
from typing import Literal

from flask import after_this_request, request
from itsdangerous import BadData
from werkzeug.wrappers import Response

from trusted_service.entra.sign_in import Flow
from trusted_service.errors import SignInFailed
from trusted_service.web.context import services
from trusted_service.web.signing import cookie_name, serializer

Purpose = Literal["sign-in", "teams"]
"""What the trip to Entra ID is for: to sign in, or to let somebody who is signed in use Teams."""

KEPT_SECONDS = 600
MOST = 5


@dataclass(frozen=True, slots=True)
class KeptFlow:
    """A flow, what it is for, and where to go afterwards."""

    flow: Flow
    purpose: Purpose
    target: str


def keep(response: Response, kept: KeptFlow) -> None:
    """Keep the flow; the oldest go when there are more than `MOST`."""
    for name in _names_by_age()[: -(MOST - 1)]:
        _forget(response, name)
    document = serializer("sign-in").dumps({"flow": kept.flow, "purpose": kept.purpose, "next": kept.target})
    response.set_cookie(
        _name(kept.flow["state"]),
        document,
        max_age=KEPT_SECONDS,
        secure=services().settings.https,
        httponly=True,
        samesite="Lax",
    )


def take(state: str) -> KeptFlow:
    """Return the flow of this state, and forget it. Raises SignInFailed without one."""
    name = _name(state)

    @after_this_request
    def forget(response: Response) -> Response:
        if name in request.cookies:
            _forget(response, name)
        return response

    try:
        kept = serializer("sign-in").loads(request.cookies.get(name, ""), max_age=KEPT_SECONDS)
    except BadData as error:
        raise SignInFailed("no-flow") from error
    if kept["flow"]["state"] != state:
        raise SignInFailed("state")
    return KeptFlow(kept["flow"], kept.get("purpose", "sign-in"), kept["next"])


def _prefix() -> str:
    return cookie_name("sign-in-")


def _name(state: str) -> str:
    return _prefix() + hashlib.sha256(state.encode(errors="replace")).hexdigest()[:16]


def _names_by_age() -> list[str]:
    """The flows that this browser has, oldest first; what does not hold together counts as oldest."""

    def started(name: str) -> float:
        try:
            _, at = serializer("sign-in").loads(request.cookies[name], KEPT_SECONDS, return_timestamp=True)
        except BadData:
            return 0
        return float(at.timestamp())

    return sorted((name for name in request.cookies if name.startswith(_prefix())), key=started)


def _forget(response: Response, name: str) -> None:
    response.delete_cookie(name, secure=services().settings.https, httponly=True, samesite="Lax")
