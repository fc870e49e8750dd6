"""The pages there are, in every state they can be in."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Self

from playwright.sync_api import Page

from tests.end_to_end.steps import get_token
from tests.support.chromium import Window
from tests.support.jobs import Administrator
from tests.support.person import Person

MORE_THAN_A_PAGE = 60


@dataclass(frozen=True, kw_only=True)
class Cast:
    """Who looks at the pages: a user with an identity, and an administrator, who has long lists.

    `stranger` is blocked and never signed in; `replaced` has had another identity, which is `former`; `done`
    and `draft` are paths of jobs.
    """

    user: Person
    admin: Person
    stranger: str
    replaced: str
    former: str
    done: str
    draft: str

    @classmethod
    def gather(cls, user: Person, admin: Person) -> Self:
        """Block more people than a page shows, so that users, the trail and a job go on after one."""
        desk = Administrator(admin)
        strangers = [f"{user.account.tenant_id}/{uuid.uuid4()}" for _ in range(MORE_THAN_A_PAGE)]
        done = desk.draft(desk.select("block", strangers))
        desk.start(done)
        desk.wait_for(done, "done")
        draft = desk.draft(desk.select("delete", strangers))
        replaced, former = _replace_identity(user)
        return cls(
            user=user,
            admin=admin,
            stranger=strangers[0],
            replaced=replaced,
            former=former,
            done=done,
            draft=draft,
        )

    def paths(self) -> dict[str, str]:
        """What the paths of states may name."""
        return {
            "user": self.user.key,
            "stranger": self.stranger,
            "replaced": self.replaced,
            "former": self.former,
            "done": self.done,
            "draft": self.draft,
        }


def _replace_identity(beside: Person) -> tuple[str, str]:
    """Let somebody new lose their identity; return them and it. There must be no grace period."""
    azure = beside.azure
    members = {"name": "Renée Placée", "tenantId": beside.account.tenant_id}
    account = azure.put_account(f"{uuid.uuid4().hex[:12]}@contoso.example", **members)
    person = Person(azure, beside.url, account)
    assert person.sign_in().status_code == 302
    former = str(person.token().json()["user"]["communicationUserId"])
    azure.delete_identity(former)
    assert person.token().status_code == 200
    return person.key, former


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
        page.goto(person.url + self.path.format(**cast.paths()))
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
