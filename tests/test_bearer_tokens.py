"""Which access tokens the API refuses, and how."""

from collections.abc import Callable, Iterator

import pytest
import requests

from tests.support.desk import ROLE, bearer, call
from tests.support.local_azure import LocalAzure
from tests.support.log import read_events
from tests.support.person import Person
from tests.support.problems import assert_problem
from tests.support.service import Service
from tests.support.together import wait_until

OTHER_CLIENT = "99999999-8888-4777-8666-555555555555"

TAMPERED = [
    *("wrong-aud", "wrong-iss", "wrong-tid", "personal-tenant", "expired", "not-yet-valid", "no-oid"),
    *("malformed-oid", "malformed-tid", "v1", "unknown-kid", "bad-signature", "alg-none"),
    *("hs256-with-public-key", "embedded-jwk", "jku", "garbage"),
]


@pytest.fixture
def headers(azure: LocalAzure, person: Person) -> dict[str, str]:
    """The token of a person who has never been here."""
    return bearer(azure, person)


def me(person: Person, headers: dict[str, str]) -> requests.Response:
    return call("GET", f"{person.url}/api/me", headers=headers)


def token(person: Person, headers: dict[str, str]) -> requests.Response:
    return call("POST", f"{person.url}/api/token", headers=headers)


@pytest.mark.parametrize("kind", TAMPERED)
def test_tampered_token_is_401(azure: LocalAzure, service: Service, person: Person, kind: str) -> None:
    headers = bearer(azure, person, tamper=kind)
    for answer in (me(person, headers), token(person, headers)):
        problem = assert_problem(answer, 401, "invalid_token")
        assert answer.headers["WWW-Authenticate"] == 'Bearer error="invalid_token"'
        (event,) = [event for event in read_events(service, answer) if event["event"] == "authn_login_fail"]
        assert event["reason"]
        assert event["reason"] not in problem["detail"]


@pytest.mark.parametrize(
    "claims",
    [
        *({"aud": ["{aud}"]}, {"aud": []}, {"aud": None}, {"aud": "api://{aud}"}, {"iss": None}),
        *({"exp": None}, {"exp": "tomorrow"}, {"iat": None}, {"nbf": "x"}),
        *({"ver": "1.0"}, {"ver": None}, {"ver": 2.0}, {"tid": None}, {"tid": 5}, {"tid": []}, {"oid": None}),
        *({"oid": ""}, {"oid": {"a": 1}}, {"oid": "{0}"}, {"nonce": "abc"}),
    ],
    ids=str,
)
def test_token_with_odd_claims_is_401(azure: LocalAzure, person: Person, claims: dict[str, object]) -> None:
    audience = azure.env["ENTRA_CLIENT_ID"]
    filled = {
        name: value.replace("{aud}", audience)
        if isinstance(value, str)
        else [str(item).replace("{aud}", audience) for item in value]
        if isinstance(value, list)
        else value
        for name, value in claims.items()
    }
    assert_problem(me(person, bearer(azure, person, claims=filled)), 401, "invalid_token")


@pytest.mark.parametrize(
    "scopes",
    ["", "User.Read", "access_as_user2", "ACCESS_AS_USER", "x.access_as_user", ["access_as_user"], 5],
)
def test_token_without_our_scope_is_403(azure: LocalAzure, person: Person, scopes: object) -> None:
    headers = bearer(azure, person, claims={"scp": scopes})
    for answer in (me(person, headers), token(person, headers)):
        assert_problem(answer, 403, "insufficient_scope")
        assert 'error="insufficient_scope"' in answer.headers["WWW-Authenticate"]


def test_token_with_our_scope_among_others_is_good(azure: LocalAzure, person: Person) -> None:
    assert me(person, bearer(azure, person, claims={"scp": "User.Read access_as_user x"})).status_code == 200


def test_app_only_token_is_nobody(azure: LocalAzure, person: Person) -> None:
    value, _ = azure.mint_tokens(app=True)
    headers = {"Authorization": f"Bearer {value}"}
    assert_problem(me(person, headers), 403, "insufficient_scope")
    assert_problem(token(person, headers), 403, "insufficient_scope")


def test_id_token_is_401(azure: LocalAzure, new_person: Callable[..., Person]) -> None:
    person = new_person(roles=[ROLE])
    _, id_token = azure.mint_tokens(username=person.account.username)
    headers = {"Authorization": f"Bearer {id_token}"}
    assert_problem(me(person, headers), 401, "invalid_token")
    assert_problem(token(person, headers), 401, "invalid_token")


def test_teams_token_is_401(azure: LocalAzure, person: Person) -> None:
    assert_problem(me(person, bearer(azure, person, scope="teams")), 401, "invalid_token")


def test_token_of_a_foreign_tenant_is_401(azure: LocalAzure, service: Service) -> None:
    value, _ = azure.mint_tokens(username="guest@fabrikam.example")
    answer = call("GET", f"{service.url}/api/me", headers={"Authorization": f"Bearer {value}"})
    assert_problem(answer, 401, "invalid_token")


def test_token_is_good_until_it_expires(azure: LocalAzure, person: Person) -> None:
    headers = bearer(azure, person, lifetimeSeconds=3)
    assert me(person, headers).status_code == 200
    wait_until(lambda: me(person, headers).status_code == 401, 10)
    assert_problem(token(person, headers), 401, "invalid_token")


@pytest.fixture(scope="module")
def choosy(azure: LocalAzure, settings: dict[str, str]) -> Iterator[Service]:
    """A service that takes tokens of two clients only."""
    allowed = f"{OTHER_CLIENT},{azure.get_app().spa_client_id}"
    with Service(settings | {"ENTRA_API_CLIENTS": allowed}) as running:
        yield running


def test_token_of_a_client_that_is_not_allowed_is_403(
    azure: LocalAzure, choosy: Service, person: Person, headers: dict[str, str]
) -> None:
    assert_problem(call("GET", f"{choosy.url}/api/me", headers=headers), 403, "forbidden")
    assert_problem(call("POST", f"{choosy.url}/api/token", headers=headers), 403, "forbidden")
    allowed = bearer(azure, person, clientId=azure.get_app().spa_client_id)
    assert call("POST", f"{choosy.url}/api/token", headers=allowed).status_code == 200
    for claims in ({"azp": None}, {"azp": [OTHER_CLIENT]}, {"azp": None, "appid": OTHER_CLIENT}):
        odd = bearer(azure, person, claims=claims)
        assert_problem(call("GET", f"{choosy.url}/api/me", headers=odd), 403, "forbidden")


def test_app_only_token_of_a_client_that_is_not_allowed_is_403(azure: LocalAzure, choosy: Service) -> None:
    value, _ = azure.mint_tokens(app=True)
    answer = call("GET", f"{choosy.url}/api/admin/users", headers={"Authorization": f"Bearer {value}"})
    assert_problem(answer, 403, "forbidden")


def test_broken_token_of_a_client_that_is_not_allowed_is_401(
    azure: LocalAzure, choosy: Service, person: Person
) -> None:
    headers = bearer(azure, person, tamper="bad-signature")
    assert_problem(call("GET", f"{choosy.url}/api/me", headers=headers), 401, "invalid_token")
