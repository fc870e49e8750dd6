"""Every response that the description promises is sent once, and held against its schema."""

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
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
NOBODY = "00000000-0000-4000-8000-000000000001"
TOKENS_PER_MINUTE = 12


@dataclass
class Examiner:
    """Calls operations, and checks each response against the description of its status."""

    document: Document
    person: Person
    own: Mapping[str, str]
    admin: Mapping[str, str]
    statuses: defaultdict[tuple[str, str], set[str]] = field(default_factory=lambda: defaultdict(set))
    codes: set[str] = field(default_factory=set)

    def ask(
        self, method: str, path: str, headers: Mapping[str, str], user: str = "", **options: Any
    ) -> requests.Response:
        """Call about the user with this object id; `described` is the method whose description counts."""
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
        """The method and the path of each operation of the API, with the headers of a good caller."""
        return [
            (method, path, self.admin if "/admin/" in path else self.own)
            for method, path, _ in list_operations(self.document)
            if path.startswith("/api/")
        ]


def test_every_promised_response_is_as_described(
    azure: LocalAzure,
    storage_proxy: StorageProxy,
    settings: dict[str, str],
    new_person: Callable[..., Person],
) -> None:
    with Service(settings | {"RATE_LIMIT_TOKEN": f"{TOKENS_PER_MINUTE} per minute"}) as service:
        document = requests.get(f"{service.url}/openapi.json", timeout=CALL_SECONDS).json()
        person = new_person(at=service)
        assert person.sign_in().status_code == 302
        admin = bearer(azure, new_person(roles=[ROLE], at=service))
        examiner = Examiner(document, person, bearer(azure, person), admin)
        succeed(examiner)
        refuse(examiner)
        eager = bearer(azure, new_person(at=service))
        for _ in range(TOKENS_PER_MINUTE):
            examiner.ask("POST", "/api/token", eager, data="x")
        for path in ("/api/token", "/api/token/teams"):
            assert examiner.ask("POST", path, eager, data="x").status_code == 429
        azure.plant_fault("acs", "issue", "status", status=429, retryAfter="7")
        assert examiner.ask("POST", "/api/token", examiner.own).status_code == 503
        storage_proxy.plant(Fault(kind="status", status=500))
        for method, path, caller in examiner.operations():
            assert examiner.ask(method, path, caller).status_code == 503, path
        storage_proxy.clear()
        assert examiner.ask("DELETE", "/api/me", examiner.own).status_code == 204
        assert examiner.ask("POST", f"{USER}/delete", admin).status_code == 204
        examiner.ask("POST", f"{USER}/block", admin)
        assert examiner.ask("GET", "/api/me", examiner.own).status_code == 403
    for method, path, _ in examiner.operations():
        promised = set(document["paths"][path][method.lower()]["responses"])
        assert promised - examiner.statuses[method, path] == {"500"}, (method, path)
    assert set().union(*list_codes(document).values()) - examiner.codes == {"internal_error"}


def succeed(examiner: Examiner) -> None:
    person, own, admin = examiner.person, examiner.own, examiner.admin
    examiner.check("GET", "/api/me", person.get("/api/me"))
    examiner.ask("GET", "/api/me/export", own)
    examiner.check("POST", "/api/token", person.token())
    examiner.ask("POST", "/api/token", own, json={"scopes": ["chat"], "expiresInMinutes": 60})
    teams_token, _ = person.azure.mint_tokens(username=person.account.username, scope="teams")
    examiner.ask("POST", "/api/token/teams", own, json={"teamsUserAadToken": teams_token})
    examiner.ask("POST", "/api/me/revoke", own)
    examiner.ask("GET", "/api/me", own)
    examiner.ask("GET", "/api/me/export", own)
    wait_until(lambda: examiner.ask("GET", "/api/admin/users", admin).status_code == 200)
    examiner.ask("GET", USER, admin)
    for action in ("block", "unblock", "revoke", "sign-out"):
        assert examiner.ask("POST", f"{USER}/{action}", admin).status_code == 200, action


def refuse(examiner: Examiner) -> None:
    person, own, admin = examiner.person, examiner.own, examiner.admin
    without_scope = bearer(person.azure, person, claims={"scp": "x"})
    for method, path, caller in examiner.operations():
        for headers in ({}, {"Authorization": "Bearer x"}, without_scope):
            examiner.ask(method, path, headers, NOBODY)
        examiner.ask(method, path, caller, NOBODY, data="x" * 20_000)
        examiner.ask("PATCH", path, caller, NOBODY, described=method)
        if "/admin/" in path:
            examiner.ask(method, path, own, NOBODY)
        if path.startswith(USER):
            examiner.ask(method, path, admin, "x")
    for path in ("/api/token", "/api/token/teams"):
        examiner.ask("POST", path, own, json={"x": 1})
        examiner.ask("POST", path, own, data="x")
    examiner.ask("GET", "/api/admin/users", admin, params={"cursor": "x"})
    assert person.sign_in().status_code == 302
    examiner.check("POST", "/api/me/revoke", person.post("/api/me/revoke"))
