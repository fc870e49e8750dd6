"""What a view reaches for: the services of this process, and who is calling."""

from typing import cast

from flask import current_app, g

from trusted_service.models import Caller
from trusted_service.services import Services


def services() -> Services:
    return cast(Services, current_app.extensions["trusted_service"])


def caller() -> Caller:
    """Who makes this request; only for views whose audience is not the public."""
    return cast(Caller, g.caller)


def optional_caller() -> Caller | None:
    """Who makes this request, if anybody who is signed in."""
    return cast(Caller | None, g.get("caller"))


def request_id() -> str:
    return cast(str, g.request_id)
