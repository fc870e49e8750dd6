"""The service sends every response in the OpenAPI description, and each matches its schema."""

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import requests

from tests.support.admin_client import ROLE, bearer, call
from tests.support.concurrency import wait_until
from tests.support.local_azure import LocalAzure
from tests.support.openapi import Document, list_codes, list_operations, resolve, validate
from tests.support.person import CALL_SECONDS, Person
from tests.support.service import Service
from tests.support.storage_proxy import Fault, StorageProxy

USER = "/api/admin/users/{tenantId}/{objectId}"
UNKNOWN_ID = "00000000-0000-4000-8000-000000000001"
PER_MINUTE = 24
LIMITS = dict.fromkeys(("RATE_LIMIT_TOKEN", "RATE_LIMIT_ACCOUNT"), f"{PER_MINUTE} per minute")
LIMITED = {
    "token": [("POST", "/api/token"), ("POST", "/api/token/teams")],
    "account": [("POST", "/api/me/revoke"), ("GET", "/api/me/export"), ("DELETE", "/api/me")],
}
"""Operations by their limit; those of the others are higher than a test can go."""


@dataclass
class Checker:
    """Calls operations and checks each response against the description of its status."""

    document: Document
    person: Person
    own: Mapping[str, str]
    admin: Mapping[str, str]
    statuses: defaultdict[tuple[str, str], set[str]] = field(default_factory=lambda: defaultdict(set))
    codes: set[str] = field(default_factory=set)

    def send(
        self, method: str, path: str, headers: Mapping[str, str], user: str = "", **options: Any
    ) -> requests.Response:
        """Send a request about this user; `described` is the method whose description applies."""
        account, described = self.person.account, options.pop("described", method)
        url = self.person.url + path.format(tenantId=account.tenant_id, objectId=user or account.object_id)
        return self.check(described, path, call(method, url, headers=headers, **options))

    def check(self, method: str, path: str, response: requests.Response) -> requests.Response:
        status = str(response.status_code)
        responses = self.document["paths"][path][method.lower()]["responses"]
        assert status in responses, (method, path, status)
        described = resolve(self.document, responses[status])
        for name in described["headers"]:
            assert response.headers[name], (method, path, name)
        if "content" in described:
            ((media_type, media),) = described["content"].items()
            assert response.headers["Content-Type"].partition(";")[0] == media_type
            validate(self.document, media, response.json())
            self.codes.add(response.json().get("code", ""))
        else:
            assert response.content == b""
        self.statuses[method, path].add(status)
        return response

    def operations(self) -> list[tuple[str, str, Mapping[str, str]]]:
        """Return the method and path of each API operation, with the headers of an authorized caller."""
        return [
            (method, path, self.admin if "/admin/" in path else self.own)
            for method, path, _ in list_operations(self.document)
            if path.startswith("/api/")
        ]


def test_every_documented_response_matches_its_schema(
    azure: LocalAzure,
    storage_proxy: StorageProxy,
    settings: dict[str, str],
    new_person: Callable[..., Person],
) -> None:
    with Service(settings | LIMITS) as service:
        document = requests.get(f"{service.url}/openapi.json", timeout=CALL_SECONDS).json()
        person = new_person(at=service)
        assert person.sign_in().status_code == 302
        administrator = new_person(roles=[ROLE], at=service)
        admin, admin_id = bearer(azure, administrator), administrator.account.object_id
        checker = Checker(document, person, bearer(azure, person), admin)
        send_valid_requests(checker)
        send_invalid_requests(checker)
        for action in ("block", "delete"):
            path = f"{USER}/{action}"
            assert checker.send("POST", path, admin, admin_id).status_code == 409
            assert checker.send("POST", path, admin, params={"confirm": "x"}).status_code == 400
        limited = bearer(azure, new_person(at=service))
        for operations in LIMITED.values():
            for _ in range(PER_MINUTE):
                checker.send(*operations[0], limited, data="x")
            for method, path in operations:
                assert checker.send(method, path, limited, data="x").status_code == 429
        azure.plant_fault("acs", "issue", "status", status=429, retryAfter="7")
        assert checker.send("POST", "/api/token", checker.own).status_code == 503
        storage_proxy.plant(Fault(kind="status", status=500))
        for method, path, caller in checker.operations():
            assert checker.send(method, path, caller).status_code == 503, path
        storage_proxy.clear()
        changed = Fault(kind="status", status=412, code="UpdateConditionNotSatisfied", table="identities")
        storage_proxy.plant(replace(changed, method="PATCH"))
        assert checker.send("DELETE", "/api/me", checker.own).status_code == 409
        assert checker.send("POST", f"{USER}/unblock", admin).status_code == 409
        storage_proxy.clear()
        assert checker.send("DELETE", "/api/me", checker.own).status_code == 204
        assert checker.send("POST", f"{USER}/delete", admin).status_code == 204
        checker.send("POST", f"{USER}/block", admin)
        assert checker.send("GET", "/api/me", checker.own).status_code == 403
    for method, path, _ in checker.operations():
        documented = set(document["paths"][path][method.lower()]["responses"])
        high = {"429"} if (method, path) not in [*LIMITED["token"], *LIMITED["account"]] else set()
        assert documented - checker.statuses[method, path] == {"500", *high}, (method, path)
    assert set().union(*list_codes(document).values()) - checker.codes == {"internal_error"}


def send_valid_requests(checker: Checker) -> None:
    person, own, admin = checker.person, checker.own, checker.admin
    checker.check("GET", "/api/me", person.get("/api/me"))
    checker.send("GET", "/api/me/export", own)
    checker.check("POST", "/api/token", person.token())
    checker.send("POST", "/api/token", own, json={"scopes": ["chat"], "expiresInMinutes": 60})
    teams_token, _ = person.azure.mint_tokens(username=person.account.username, scope="teams")
    checker.send("POST", "/api/token/teams", own, json={"teamsUserAadToken": teams_token})
    checker.send("POST", "/api/me/revoke", own)
    checker.send("GET", "/api/me", own)
    checker.send("GET", "/api/me/export", own)
    wait_until(lambda: checker.send("GET", "/api/admin/users", admin).status_code == 200)
    checker.send("GET", USER, admin)
    for action in ("block", "unblock", "revoke", "sign-out"):
        assert checker.send("POST", f"{USER}/{action}", admin).status_code == 200, action


def send_invalid_requests(checker: Checker) -> None:
    person, own, admin = checker.person, checker.own, checker.admin
    without_scope = bearer(person.azure, person, claims={"scp": "x"})
    for method, path, caller in checker.operations():
        for headers in ({}, {"Authorization": "Bearer x"}, without_scope):
            checker.send(method, path, headers, UNKNOWN_ID)
        checker.send(method, path, caller, UNKNOWN_ID, data="x" * 20_000)
        checker.send("PATCH", path, caller, UNKNOWN_ID, described=method)
        if "/admin/" in path:
            checker.send(method, path, own, UNKNOWN_ID)
        if path.startswith(USER):
            checker.send(method, path, admin, "x")
    for path in ("/api/token", "/api/token/teams"):
        checker.send("POST", path, own, json={"x": 1})
        checker.send("POST", path, own, data="x")
    checker.send("GET", "/api/admin/users", admin, params={"cursor": "x"})
    assert person.sign_in().status_code == 302
    checker.check("POST", "/api/me/revoke", person.post("/api/me/revoke"))
