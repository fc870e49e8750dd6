"""The pages there are, in every state they can be in."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from playwright.sync_api import Page

from tests.end_to_end.steps import get_token
from tests.support.chromium import Window
from tests.support.person import Person


@dataclass(frozen=True, kw_only=True)
class Cast:
    """Who looks at the pages: a user with an identity, and an administrator."""

    user: Person
    admin: Person


@dataclass(frozen=True, kw_only=True)
class State:
    """How to come to a page; `trouble` is what the browser complains about there, as it should."""

    path: str = "/"
    who: Literal["nobody", "user", "admin"] = "nobody"
    with_token: bool = False
    trouble: str | None = None

    def show(self, window: Window, cast: Cast) -> Page:
        """Open the page in a new tab."""
        person = cast.admin if self.who == "admin" else cast.user
        if self.who != "nobody":
            window.take_cookies(person)
        if self.trouble:
            window.expect_trouble(self.trouble)
        page = window.new_page()
        page.goto(person.url + self.path.format(user=cast.user.key))
        if self.with_token:
            get_token(page)
        return page


STATES: Mapping[str, State] = {
    "signed-out": State(),
    "home": State(who="user"),
    "home-with-token": State(who="user", with_token=True),
    "not-found": State(path="/no-such-page", trouble="status 404"),
    "failed-sign-in": State(path="/auth/callback", trouble="status 400"),
    "docs": State(path="/docs"),
    "account": State(path="/account", who="user"),
    "account-delete": State(path="/account/delete", who="user"),
    "admin-forbidden": State(path="/admin/users", who="user", trouble="status 403"),
    "admin-users": State(path="/admin/users", who="admin"),
    "admin-user": State(path="/admin/users/{user}", who="admin"),
    "admin-confirm": State(path="/admin/users/{user}/confirm/block", who="admin"),
    "admin-audit": State(path="/admin/audit", who="admin"),
    "admin-usage": State(path="/admin/usage", who="admin"),
    "admin-jobs": State(path="/admin/jobs", who="admin"),
    "admin-new-job": State(path="/admin/jobs/new", who="admin"),
}
