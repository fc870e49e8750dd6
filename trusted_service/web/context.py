"""What a view reaches for: the services of this process, and who is calling."""

from typing import cast

import structlog
from flask import current_app, g, request

from trusted_service.models import Actor, Caller, User
from trusted_service.services import Services


def services() -> Services:
    return cast(Services, current_app.extensions["trusted_service"])


def caller() -> Caller:
    """Who makes this request; only for views whose audience is not the public."""
    return cast(Caller, g.caller)


def optional_caller() -> Caller | None:
    """Who makes this request, if anybody who is signed in."""
    return cast(Caller | None, g.get("caller"))


def note_user(user: User) -> None:
    """Name the user in every line that this request logs from now on."""
    structlog.contextvars.bind_contextvars(user=str(user.id))


def actor() -> Actor:
    """The caller, as the audit trail names them: as an administrator on administrators' routes."""
    user = caller().user
    if caller().application:
        return Actor(kind="application", key=str(user.id), name=user.name)
    if request.blueprint in ("admin", "admin_api", "audit", "jobs"):
        return Actor(kind="administrator", key=str(user.id), name=user.username or user.name)
    # Without a name: the trail outlives an erasure, and holds no more of the user than their ids.
    return Actor(kind="user", key=str(user.id), name="")


def request_id() -> str:
    return cast(str, g.request_id)
