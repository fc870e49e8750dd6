"""The pages there are, in every state they can be in."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from playwright.sync_api import Page

from tests.browser.steps import get_token
from tests.support.chromium import Window
from tests.support.jobs import JobAdmin
from tests.support.person import Person


def fill_lists(user: Person, admin: Person, replaced: Person) -> dict[str, str]:
    """Block more people than a page shows, replace an identity; return what fills the paths of states."""
    job_admin = JobAdmin(admin)
    strangers = [f"{user.account.tenant_id}/{uuid.uuid4()}" for _ in range(60)]
    done = job_admin.finish(job_admin.draft(job_admin.select("block", strangers)))
    draft = job_admin.draft(job_admin.select("delete", strangers))
    former = replaced.token().json()["user"]["communicationUserId"]
    replaced.azure.delete_identity(former)  # without a grace period the next token replaces it
    replaced.get_token()
    names = {"user": user.key, "stranger": strangers[0], "replaced": replaced.key, "former": former}
    return names | {"done": done, "draft": draft}


@dataclass(frozen=True, kw_only=True)
class State:
    """How to come to a page; `trouble` is what the browser complains about there, as it should."""

    path: str = "/"
    who: Literal["nobody", "user", "admin"] = "nobody"
    with_token: bool = False
    trouble: str | None = None

    def show(self, window: Window, user: Person, admin: Person, names: Mapping[str, str]) -> Page:
        """Open the page in a new tab."""
        person = admin if self.who == "admin" else user
        if self.who != "nobody":
            window.take_cookies(person)
        if self.trouble:
            window.expect_trouble(self.trouble)
        page = window.new_page()
        page.goto(person.url + self.path.format(**names))
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
    "admin-blocked-user": State(path="/admin/users/{stranger}", who="admin"),
    "admin-user-with-former": State(path="/admin/users/{replaced}", who="admin"),
    "admin-users-by-former": State(path="/admin/users?q={former}", who="admin"),
    "admin-confirm": State(path="/admin/users/{user}/confirm/block", who="admin"),
    "admin-audit": State(path="/admin/audit", who="admin"),
    "admin-usage": State(path="/admin/usage", who="admin"),
    "admin-jobs": State(path="/admin/jobs", who="admin"),
    "admin-new-job": State(path="/admin/jobs/new", who="admin"),
    "admin-draft": State(path="{draft}", who="admin"),
    "admin-done": State(path="{done}", who="admin"),
}
