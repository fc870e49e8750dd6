"""An administrator at work, by the forms of the pages or by the API; and what a user is then left with."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import requests

from tests.support.local_azure import LocalAzure
from tests.support.person import CALL_SECONDS, Person
from tests.support.problems import assert_problem

ROLE = "TrustedService.Admin"

Way = Literal["page", "api"]
WAYS: tuple[Way, ...] = ("page", "api")

SECTION_5A = [
    "tenantId",
    "objectId",
    "name",
    "username",
    "communicationUserId",
    "createdAt",
    "lastTokenAt",
    "blocked",
]


@dataclass(frozen=True)
class Desk:
    """A signed-in administrator. `act` does not follow the redirect that a form is answered with."""

    person: Person

    @cached_property
    def csrf(self) -> str:
        """The value that this session's unsafe requests carry."""
        return str(self.person.me()["csrfToken"])

    def act(self, way: Way, target: Person | str, action: str, **fields: str) -> requests.Response:
        """Do something to a user, who may also be given as `<tenant id>/<object id>`."""
        key = target.key if isinstance(target, Person) else target
        if way == "page":
            form = {"csrf_token": self.csrf} | fields
            return self.person.post(f"/admin/users/{key}/{action}", data=form)
        headers = {"X-CSRFToken": self.csrf}
        return self.person.post(f"/api/admin/users/{key}/{action}", headers=headers, json=fields or None)

    def do(self, way: Way, target: Person | str, action: str, **fields: str) -> requests.Response:
        """The same, and it must succeed as the contract says."""
        answer = self.act(way, target, action, **fields)
        expected = 303 if way == "page" else 204 if action == "delete" else 200
        assert answer.status_code == expected, answer.text
        return answer

    def look_at(self, target: Person | str) -> requests.Response:
        """What the API says about a user."""
        key = target.key if isinstance(target, Person) else target
        return self.person.get(f"/api/admin/users/{key}")

    def get_user(self, target: Person | str) -> dict[str, Any]:
        """The members of section 5a, in its order; the user must be there."""
        answer = self.look_at(target)
        assert answer.status_code == 200, answer.text
        document: dict[str, Any] = answer.json()
        assert list(document) == SECTION_5A
        return document


def bearer(azure: LocalAzure, person: Person, **members: object) -> dict[str, str]:
    """The header with an access token of the person for our API; `members` as of `mint_tokens`."""
    token, _ = azure.mint_tokens(username=person.account.username, **members)
    return {"Authorization": f"Bearer {token}"}


def call(method: str, url: str, *, headers: Mapping[str, str], **options: Any) -> requests.Response:
    """Call without any cookie; redirects are not followed."""
    return requests.request(
        method, url, headers=dict(headers), allow_redirects=False, timeout=CALL_SECONDS, **options
    )


def finish_sign_in_at(person: Person, url: str) -> requests.Response:
    """Sign in, with the callback handled by the instance at `url`; its answer."""
    return person.finish_sign_in(person.start_sign_in().replace(person.url, url))


def assert_signed_out(person: Person, *urls: str) -> None:
    """Check that the person's cookie opens nothing at any of these instances."""
    for url in urls:
        there = person.at(url)
        assert_problem(there.get("/api/me"), 401, "not_signed_in")
        assert_problem(there.post("/api/token"), 401, "not_signed_in")
        assert there.get("/account").status_code == 302
