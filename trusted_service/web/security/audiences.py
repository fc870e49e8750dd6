"""The audience of each route, which `authentication` checks before the view runs."""

from collections.abc import Callable
from enum import Enum
from typing import TypeVar

from flask import Flask

View = TypeVar("View", bound=Callable[..., object])


class Audience(Enum):
    """A decorator of views."""

    PUBLIC = "anybody; the caller is not looked up"
    VISITOR = "anybody, signed in or not"
    SIGNED_IN = "a signed-in user"
    ADMINISTRATOR = "a user with the app role; under /api also an application with it"

    def __call__(self, view: View) -> View:
        view.audience = self  # type: ignore[attr-defined]
        return view


public, visitor = Audience.PUBLIC, Audience.VISITOR
signed_in, administrator = Audience.SIGNED_IN, Audience.ADMINISTRATOR


def require_one_for_each_route(app: Flask) -> None:
    """Raises RuntimeError for a route whose view has no audience. Static files are public."""
    for endpoint, view in app.view_functions.items():
        if endpoint.split(".")[-1] == "static":
            public(getattr(view, "__func__", view))
        if audience_of(view) is None:
            raise RuntimeError(f"the route {endpoint} has no audience")


def audience_of(view: Callable[..., object]) -> Audience | None:
    return getattr(view, "audience", None)
