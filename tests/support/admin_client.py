"""An administrator's actions, by forms or by the API, and checks of their effect on users."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import requests

from tests.support.local_azure import LocalAzure
from tests.support.person import CALL_SECONDS, Person
from tests.support.problems import assert_problem

ROLE = "TrustedService.Admin"

Channel = Literal["page", "api"]
CHANNELS: tuple[Channel, ...] = ("page", "api")

NAMES = ["tenantId", "objectId", "name", "username"]
SECTION_5A = [*NAMES, "communicationUserId", "createdAt", "lastTokenAt", "blocked"]


@dataclass(frozen=True)
class Admin:
    """A signed-in administrator. `act` does not follow the redirect after a form."""

    person: Person

    @cached_property
    def csrf(self) -> str:
        return str(self.person.me()["csrfToken"])

    def act(self, channel: Channel, target: Person | str, action: str, **fields: str) -> requests.Response:
        """Apply an action to a user, given as a person or as `<tenant id>/<object id>`."""
        key = target.key if isinstance(target, Person) else target
        if channel == "page":
            form = {"csrf_token": self.csrf} | fields
            return self.person.post(f"/admin/users/{key}/{action}", data=form)
        headers = {"X-CSRFToken": self.csrf}
        return self.person.post(f"/api/admin/users/{key}/{action}", headers=headers, json=fields or None)

    def do(self, channel: Channel, target: Person | str, action: str, **fields: str) -> requests.Response:
        """Apply an action, and check that it succeeds with the contract's status."""
        response = self.act(channel, target, action, **fields)
        expected = 303 if channel == "page" else 204 if action == "delete" else 200
        assert response.status_code == expected, response.text
        return response

    def fetch_user(self, target: Person | str) -> requests.Response:
        key = target.key if isinstance(target, Person) else target
        return self.person.get(f"/api/admin/users/{key}")

    def get_user(self, target: Person | str) -> dict[str, Any]:
        """Return the members of section 5a, in its order; the user must exist."""
        response = self.fetch_user(target)
        assert response.status_code == 200, response.text
        assert list(response.json()) == SECTION_5A
        return dict(response.json())


def bearer(azure: LocalAzure, person: Person, **members: object) -> dict[str, str]:
    """Return the header with the person's access token for our API; `members` as in `mint_tokens`."""
    token, _ = azure.mint_tokens(username=person.account.username, **members)
    return {"Authorization": f"Bearer {token}"}


def take_role(azure: LocalAzure, person: Person) -> None:
    """Take the person's app roles away at Entra ID."""
    set_roles(azure, person)


def set_roles(azure: LocalAzure, person: Person, *roles: str) -> None:
    account = person.account
    members = {"name": account.name, "tenantId": account.tenant_id, "objectId": account.object_id}
    azure.put_account(account.username, **members, roles=list(roles))


def call(method: str, url: str, **options: Any) -> requests.Response:
    """Send a request without cookies, and without following redirects."""
    return requests.request(method, url, allow_redirects=False, timeout=CALL_SECONDS, **options)


def finish_sign_in_at(person: Person, url: str) -> requests.Response:
    """Sign in, with the callback handled by the instance at `url`; return its response."""
    return person.finish_sign_in(person.start_sign_in().replace(person.url, url))


def assert_signed_out(person: Person, *urls: str) -> None:
    """Check that each of these instances refuses the person's cookie."""
    for url in urls:
        there = person.at(url)
        assert_problem(there.get("/api/me"), 401, "not_signed_in")
        assert_problem(there.post("/api/token"), 401, "not_signed_in")
        assert there.get("/account").status_code == 302


def get_me(person: Person, headers: Mapping[str, str]) -> requests.Response:
    return call("GET", f"{person.url}/api/me", headers=headers)


def post_token(person: Person, headers: Mapping[str, str]) -> requests.Response:
    return call("POST", f"{person.url}/api/token", headers=headers)
