"""Every status that the description promises, answered for real and held against its schema."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import jsonschema_rs
import requests

from tests.support.desk import ROLE, bearer
from tests.support.local_azure import LocalAzure
from tests.support.person import CALL_SECONDS, Person
from tests.support.service import Service
from tests.support.storage_proxy import Fault, StorageProxy
from tests.support.together import wait_until

USER = "/api/admin/users/{tenantId}/{objectId}"
NOBODY = "00000000-0000-4000-8000-000000000001"
TOKENS_PER_MINUTE = 12


@dataclass
class Examiner:
    """Calls operations of the description, and checks each answer against what it says about that status."""

    document: dict[str, Any]
    url: str
    seen: set[tuple[str, str, int]] = field(default_factory=set)
    codes: set[str] = field(default_factory=set)

    def ask(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str],
        *,
        ids: tuple[str, str] = ("", ""),
        described: str = "",
        **options: Any,
    ) -> requests.Response:
        """Call; `described` is the method whose answers are meant where the path takes no `method`."""
        address = self.url + path.format(tenantId=ids[0], objectId=ids[1])
        answer = requests.request(
            method,
            address,
            headers=dict(headers),
            allow_redirects=False,
            timeout=CALL_SECONDS,
            **options,
        )
        described = described or method
        self.check(described, path, answer)
        return answer

    def check(self, method: str, path: str, answer: requests.Response) -> None:
        responses = self.document["paths"][path][method.lower()]["responses"]
        assert str(answer.status_code) in responses, (method, path, answer.status_code)
        response = self.resolve(responses[str(answer.status_code)])
        for name in response.get("headers", {}):
            assert answer.headers[name], (method, path, name)
        if "content" in response:
            ((media, content),) = response["content"].items()
            assert answer.headers["Content-Type"].partition(";")[0] == media
            schema = content["schema"] | {"components": self.document["components"]}
            jsonschema_rs.validator_for(schema, validate_formats=True).validate(answer.json())
            self.codes.add(answer.json().get("code", ""))
        else:
            assert answer.content == b""
        self.seen.add((method, path, answer.status_code))

    def resolve(self, node: dict[str, Any]) -> dict[str, Any]:
        while "$ref" in node:
            found: Any = self.document
            for name in node["$ref"].removeprefix("#/").split("/"):
                found = found[name]
            node = found
        return node

    def operations(self) -> Iterator[tuple[str, str]]:
        for path, item in self.document["paths"].items():
            for method in item:
                if path.startswith("/api/") and method != "parameters":
                    yield method.upper(), path

    def promised(self) -> set[tuple[str, str, int]]:
        """Every answer of the API but the one that takes a defect of ours."""
        return {
            (method, path, int(status))
            for method, path in self.operations()
            for status in self.document["paths"][path][method.lower()]["responses"]
            if status != "500"
        }


@dataclass(frozen=True)
class Cast:
    """Somebody who is signed in, with their bearer token, and an administrator's bearer token."""

    azure: LocalAzure
    person: Person
    own: Mapping[str, str]
    admin: Mapping[str, str]

    @property
    def ids(self) -> tuple[str, str]:
        return self.person.account.tenant_id, self.person.account.object_id

    def teams_body(self) -> dict[str, str]:
        token, _ = self.azure.mint_tokens(username=self.person.account.username, scope="teams")
        return {"teamsUserAadToken": token}


def test_every_promised_answer_is_given_and_is_as_described(
    azure: LocalAzure,
    storage_proxy: StorageProxy,
    settings: dict[str, str],
    new_person: Callable[..., Person],
) -> None:
    with Service(settings | {"RATE_LIMIT_TOKEN": f"{TOKENS_PER_MINUTE} per minute"}) as service:
        document = requests.get(f"{service.url}/openapi.json", timeout=CALL_SECONDS).json()
        examiner = Examiner(document, service.url)
        person = new_person(at=service)
        assert person.sign_in().status_code == 302
        admin = bearer(azure, new_person(roles=[ROLE], at=service))
        cast = Cast(azure, person, bearer(azure, person), admin)
        succeed(examiner, cast)
        refuse(examiner, cast)
        ask_too_often(examiner, bearer(azure, new_person(at=service)))
        azure.plant_fault("acs", "issue", "status", status=429, retryAfter="7")
        assert examiner.ask("POST", "/api/token", cast.own).status_code == 503
        storage_proxy.plant(Fault(kind="status", status=500))
        for method, path in examiner.operations():
            caller = admin if "/admin/" in path else cast.own
            assert examiner.ask(method, path, caller, ids=cast.ids).status_code == 503, path
        storage_proxy.clear()
        erase(examiner, cast)
    assert examiner.promised() - examiner.seen == set()
    described = {
        code
        for response in document["components"]["responses"].values()
        for code in response["content"]["application/problem+json"]["examples"]
    }
    assert described - examiner.codes == {"internal_error"}


def succeed(examiner: Examiner, cast: Cast) -> None:
    examiner.check("GET", "/api/me", cast.person.get("/api/me"))
    examiner.ask("GET", "/api/me/export", cast.own)
    examiner.check("POST", "/api/token", cast.person.token())
    examiner.ask("POST", "/api/token", cast.own, json={"scopes": ["chat"], "expiresInMinutes": 60})
    examiner.ask("POST", "/api/token/teams", cast.own, json=cast.teams_body())
    examiner.ask("POST", "/api/me/revoke", cast.own)
    for path in ("/api/me", "/api/me/export"):
        examiner.ask("GET", path, cast.own)
    wait_until(lambda: examiner.ask("GET", "/api/admin/users", cast.admin).status_code == 200)
    examiner.ask("GET", USER, cast.admin, ids=cast.ids)
    for action in ("block", "unblock", "revoke", "sign-out"):
        answer = examiner.ask("POST", f"{USER}/{action}", cast.admin, ids=cast.ids)
        assert answer.status_code == 200, action


def refuse(examiner: Examiner, cast: Cast) -> None:
    nobody = (cast.ids[0], NOBODY)
    without_scope = bearer(cast.azure, cast.person, claims={"scp": "x"})
    for method, path in examiner.operations():
        caller = cast.admin if "/admin/" in path else cast.own
        for headers in ({}, {"Authorization": "Bearer x"}, without_scope):
            examiner.ask(method, path, headers, ids=nobody)
        examiner.ask(method, path, caller, ids=nobody, data="x" * 20_000)
        examiner.ask("PATCH", path, caller, ids=nobody, described=method)
        if "/admin/" in path:
            examiner.ask(method, path, cast.own, ids=nobody)
        if path.startswith(USER):
            examiner.ask(method, path, cast.admin, ids=("x", NOBODY))
    for path in ("/api/token", "/api/token/teams"):
        examiner.ask("POST", path, cast.own, json={"x": 1})
        examiner.ask("POST", path, cast.own, data="x")
    examiner.ask("GET", "/api/admin/users", cast.admin, params={"cursor": "x"})
    assert cast.person.sign_in().status_code == 302
    examiner.check("POST", "/api/me/revoke", cast.person.post("/api/me/revoke"))


def ask_too_often(examiner: Examiner, headers: Mapping[str, str]) -> None:
    for _ in range(TOKENS_PER_MINUTE):
        examiner.ask("POST", "/api/token", headers, data="x")
    for path in ("/api/token", "/api/token/teams"):
        assert examiner.ask("POST", path, headers, data="x").status_code == 429


def erase(examiner: Examiner, cast: Cast) -> None:
    assert examiner.ask("DELETE", "/api/me", cast.own).status_code == 204
    assert examiner.ask("POST", f"{USER}/delete", cast.admin, ids=cast.ids).status_code == 204
    examiner.ask("POST", f"{USER}/block", cast.admin, ids=cast.ids)
    assert examiner.ask("GET", "/api/me", cast.own).status_code == 403
