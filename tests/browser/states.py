"""All pages, in all their states."""

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
    """Block more users than a page shows, replace an identity; return the parameters of the states' paths."""
    job_admin = JobAdmin(admin)
    unknown = [f"{user.account.tenant_id}/{uuid.uuid4()}" for _ in range(60)]
    done = job_admin.finish(job_admin.draft(job_admin.select("block", unknown)))
    draft = job_admin.draft(job_admin.select("delete", unknown))
    former = replaced.token().json()["user"]["communicationUserId"]
    replaced.azure.delete_identity(former)  # without a grace period the next token replaces it
    replaced.get_token()
    names = {"user": user.key, "blocked": unknown[0], "replaced": replaced.key, "former": former}
    return names | {"done": done, "draft": draft}


@dataclass(frozen=True, kw_only=True)
class State:
    """How to open a page; `problem` is a pattern of the browser error that is expected there."""

    path: str = "/"
    viewer: Literal["anonymous", "user", "admin"] = "anonymous"
    with_token: bool = False
    problem: str | None = None

    def show(self, window: Window, user: Person, admin: Person, names: Mapping[str, str]) -> Page:
        """Open the page in a new tab."""
        person = admin if self.viewer == "admin" else user
        if self.viewer != "anonymous":
            window.take_cookies(person)
        if self.problem:
            window.expect_problem(self.problem)
        page = window.new_page()
        page.goto(person.url + self.path.format(**names))
        if self.with_token:
            get_token(page)
        return page


STATES: Mapping[str, State] = {
    "signed-out": State(),
    "home": State(viewer="user"),
    "home-with-token": State(viewer="user", with_token=True),
    "not-found": State(path="/no-such-page", problem="status 404"),
    "failed-sign-in": State(path="/auth/callback", problem="status 400"),
    "docs": State(path="/docs"),
    "account": State(path="/account", viewer="user"),
    "account-delete": State(path="/account/delete", viewer="user"),
    "admin-forbidden": State(path="/admin/users", viewer="user", problem="status 403"),
    "admin-users": State(path="/admin/users", viewer="admin"),
    "admin-user": State(path="/admin/users/{user}", viewer="admin"),
    "admin-blocked-user": State(path="/admin/users/{blocked}", viewer="admin"),
    "admin-user-with-former": State(path="/admin/users/{replaced}", viewer="admin"),
    "admin-users-by-former": State(path="/admin/users?q={former}", viewer="admin"),
    "admin-confirm": State(path="/admin/users/{user}/confirm/block", viewer="admin"),
    "admin-audit": State(path="/admin/audit", viewer="admin"),
    "admin-usage": State(path="/admin/usage", viewer="admin"),
    "admin-jobs": State(path="/admin/jobs", viewer="admin"),
    "admin-new-job": State(path="/admin/jobs/new", viewer="admin"),
    "admin-draft": State(path="{draft}", viewer="admin"),
    "admin-done": State(path="{done}", viewer="admin"),
}
