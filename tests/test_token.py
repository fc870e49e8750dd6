"""POST /api/token: what a good answer looks like, and what may be asked for."""

import base64
import json
import re
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.support.local_azure import LocalAzure
from tests.support.person import Person
from tests.support.problems import assert_problem
from tests.support.service import Service, request_lines

RFC3339 = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?Z")


@pytest.fixture(scope="module")
def generous_service(settings: dict[str, str]) -> Iterator[Service]:
    """A service whose tokens may live for two hours and carry more than calls and chat."""
    with Service(
        settings | {"TOKEN_LIFETIME_MINUTES": "120", "TOKEN_SCOPES": "chat,voip,chat.join"}
    ) as running:
        yield running


@pytest.fixture(scope="module")
def guest(new_person: Callable[..., Person], generous_service: Service) -> Person:
    """Somebody who is signed in there."""
    person = new_person(at=generous_service)
    assert person.sign_in().status_code == 302
    return person


def claims_of(token: str) -> dict[str, Any]:
    """The claims of a JWT, not verified."""
    payload = token.split(".")[1]
    claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return claims


def test_token_answers_to_the_letter_of_the_contract(azure: LocalAzure, regular: Person) -> None:
    answer = regular.token()
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["Cache-Control"] == "no-store"
    assert "Set-Cookie" not in answer.headers
    document = answer.json()
    assert list(document) == ["token", "expiresOn", "user", "scopes"]
    assert list(document["user"]) == ["communicationUserId"]
    assert document["scopes"] == ["chat", "voip"]
    check = azure.check_token(document["token"])
    assert check == {
        "valid": True,
        "reason": None,
        "identity": document["user"]["communicationUserId"],
        "scopes": ["chat", "voip"],
    }


def test_token_expiry_is_rfc_3339_in_utc_and_that_of_the_token(regular: Person) -> None:
    before = time.time()
    document = regular.token().json()
    after = time.time()
    assert RFC3339.fullmatch(document["expiresOn"])
    expires_on = datetime.fromisoformat(document["expiresOn"])
    assert expires_on.utcoffset() == datetime.now(UTC).utcoffset()
    # The service speaks to the tick, the JWT and we in whole seconds.
    assert abs(expires_on.timestamp() - claims_of(document["token"])["exp"]) < 1
    assert before + 3600 - 1 <= expires_on.timestamp() <= after + 3600


def test_token_request_stands_in_the_log_without_the_token(service: Service, regular: Person) -> None:
    answer = regular.token()
    lines = [json.loads(line) for line in request_lines(service.log(), answer.headers["X-Request-ID"])]
    assert [line["event"] for line in lines] == ["authn_token_created", "request"]
    assert lines[0]["user"] == regular.key
    assert lines[1] | {"path": "/api/token", "status": 200, "user": regular.key, "code": None} == lines[1]
    assert answer.json()["token"] not in service.log()


def test_token_keeps_the_identity(regular: Person) -> None:
    identities = {regular.token().json()["user"]["communicationUserId"] for _ in range(3)}
    assert identities == {regular.me()["communicationUserId"]}


@pytest.mark.parametrize(
    "body", [b"", b"{}", b" {} \r\n\t", b'{"scopes":["chat","voip"],"expiresInMinutes":60}']
)
def test_token_with_every_spelling_of_the_default_is_the_same(regular: Person, body: bytes) -> None:
    headers = regular.csrf_headers() | {"Content-Type": "application/json"}
    answer = regular.post("/api/token", data=body, headers=headers)
    assert answer.status_code == 200
    assert answer.json()["scopes"] == ["chat", "voip"]


@pytest.mark.parametrize("content_type", [None, "text/plain", "application/x-www-form-urlencoded"])
def test_token_without_a_body_needs_no_content_type(regular: Person, content_type: str | None) -> None:
    headers = regular.csrf_headers() | ({} if content_type is None else {"Content-Type": content_type})
    assert regular.post("/api/token", headers=headers).status_code == 200


@pytest.mark.parametrize("content_type", ["application/json; charset=utf-8", "Application/JSON"])
def test_token_takes_json_however_it_is_named(regular: Person, content_type: str) -> None:
    headers = regular.csrf_headers() | {"Content-Type": content_type}
    answer = regular.post("/api/token", headers=headers, data=b'{"scopes": ["voip"]}')
    assert answer.json()["scopes"] == ["voip"]


@pytest.mark.parametrize(
    "scopes", [["chat"], ["voip"], ["chat.join"], ["voip", "chat"], ["chat.join", "voip", "chat"]]
)
def test_token_has_the_scopes_that_were_asked_for(
    azure: LocalAzure, guest: Person, scopes: list[str]
) -> None:
    answer = guest.token({"scopes": scopes})
    assert answer.status_code == 200
    assert answer.json()["scopes"] == scopes
    granted = azure.check_token(answer.json()["token"])["scopes"]
    assert isinstance(granted, list)
    assert sorted(granted) == sorted(scopes)


@pytest.mark.parametrize(
    "scopes", [["voip.join"], ["chat", "voip.join"], ["CHAT"], ["chat "], ["chat,voip"], [""]]
)
def test_token_refuses_scopes_that_are_not_offered(guest: Person, scopes: list[str]) -> None:
    assert_problem(guest.token({"scopes": scopes}), 400, "invalid_request")


@pytest.mark.parametrize(("minutes", "lifetime"), [(None, 120), (60, 60), (61, 61), (119, 119), (120, 120)])
def test_token_lives_as_long_as_was_asked_for(guest: Person, minutes: int | None, lifetime: int) -> None:
    answer = guest.token({} if minutes is None else {"expiresInMinutes": minutes})
    assert answer.status_code == 200
    claims = claims_of(answer.json()["token"])
    assert abs(claims["exp"] - claims["iat"] - lifetime * 60) <= 1


@pytest.mark.parametrize("minutes", [121, 1440, 1441, 59, 1, 0, -60, 2**31, 2**63, 10**400])
def test_token_refuses_a_lifetime_out_of_range(guest: Person, minutes: int) -> None:
    assert_problem(guest.token({"expiresInMinutes": minutes}), 400, "invalid_request")


def test_first_token_may_be_less_than_the_default(
    azure: LocalAzure, new_person: Callable[..., Person], generous_service: Service
) -> None:
    person = new_person(at=generous_service)
    person.sign_in()
    answer = person.token({"scopes": ["chat.join"], "expiresInMinutes": 60})
    assert answer.json()["scopes"] == ["chat.join"]
    assert azure.check_token(answer.json()["token"])["scopes"] == ["chat.join"]
    claims = claims_of(answer.json()["token"])
    assert abs(claims["exp"] - claims["iat"] - 3600) <= 1


def test_refused_first_token_makes_nothing(azure: LocalAzure, new_person: Callable[..., Person]) -> None:
    person = new_person()
    person.sign_in()
    azure.reset_calls()
    assert_problem(person.token({"scopes": []}), 400, "invalid_request")
    assert azure.count_calls("acs") == {}
    assert person.me()["communicationUserId"] is None
