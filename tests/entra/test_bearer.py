"""API access with an Entra ID access token: accepted and refused headers, tokens and clients."""

from itertools import permutations

import pytest
import requests

from tests.support.admin_client import ROLE, bearer, call, get_me, post_token
from tests.support.concurrency import wait_until
from tests.support.local_azure import LocalAzure
from tests.support.log import assert_not_logged
from tests.support.own_azure import World
from tests.support.person import Person
from tests.support.problems import assert_problem
from tests.support.raw_http import send_lines
from tests.support.service import Service

OTHER_CLIENT = "99999999-8888-4777-8666-555555555555"


@pytest.fixture
def headers(azure: LocalAzure, person: Person) -> dict[str, str]:
    """The Authorization header of a new user."""
    return bearer(azure, person)


def test_me_returns_the_token_user(world: World) -> None:
    person = world.new_person(name="Zoë Krüger", roles=["Reader", ROLE])
    account, headers = person.account, bearer(world.azure, person)
    user: dict[str, object] = {"tenantId": account.tenant_id, "objectId": account.object_id}
    user |= {"name": "Zoë Krüger", "username": account.username, "roles": [ROLE]}
    expected = {"user": user, "communicationUserId": None, "csrfToken": None}
    assert get_me(person, headers).json() == expected
    assert post_token(person, headers).status_code == 200
    response = get_me(person, bearer(world.azure, person, claims={"scp": "User.Read access_as_user x"}))
    assert response.json() == expected | {"communicationUserId": world.identity_of(person)}
    assert response.headers["Cache-Control"] == "no-store"
    assert "Set-Cookie" not in response.headers


def test_token_request_makes_minimal_calls(world: World, person: Person, headers: dict[str, str]) -> None:
    def calls_of(response: requests.Response) -> list[tuple[str, str]]:
        assert response.status_code == 200
        calls = world.storage.calls_for(response)
        return [(call.method, call.table) for call in calls if call.table != "audit"]

    first = post_token(person, headers)
    wait_until(lambda: any(call.table == "audit" for call in world.storage.calls()))
    assert calls_of(first)[:2] == [("GET", "identities"), ("POST", "identities")]
    warm = post_token(person, headers)
    assert calls_of(warm) == [("GET", "identities")]
    assert world.azure.calls_for(warm) == ["issue"]


def test_bearer_header_overrides_the_cookie(world: World, signed_in: Person, shared_user: Person) -> None:
    headers = bearer(world.azure, shared_user)
    me = signed_in.get("/api/me", headers=headers).json()
    assert (me["user"]["objectId"], me["csrfToken"]) == (shared_user.account.object_id, None)
    token = signed_in.post("/api/token", headers=headers).json()
    assert list(token) == ["token", "expiresOn", "user", "scopes"]
    assert token["user"] == shared_user.token().json()["user"]
    check = world.azure.check_token(token["token"])
    assert (check["valid"], check["identity"]) == (True, token["user"]["communicationUserId"])


@pytest.mark.parametrize(
    "value",
    [
        *("", "Bearer", "Basic YTpi", "Bearer a b", "Bearer a,b", "Bearer a, Bearer b", "Token x", "x.y.z"),
        *("Bearer =", "Bearer é".encode().decode("latin-1"), "Bearer x.y.z", "bearer ..."),
        *("Bearer " + "x" * 8000, "Digest username=x", "Negotiate x", "Bearer null", "Bearer undefined"),
        # pragma: allowlist nextline secret (made up)
        "Bearer eyJhbGciOiJSUzI1NiJ9.e30.",
    ],
)
def test_malformed_header_is_401_despite_valid_session(signed_in: Person, value: str) -> None:
    authorization = {"Authorization": value.encode("latin-1")}
    headers: dict[str, str | bytes] = {**authorization, **signed_in.csrf_headers()}
    for method, path in (("GET", "/api/me"), ("POST", "/api/token"), ("DELETE", "/api/me")):
        response = signed_in.http.request(method, signed_in.url + path, headers=headers, timeout=30)
        problem = assert_problem(response, 401, "invalid_token")
        assert response.headers["WWW-Authenticate"] == 'Bearer error="invalid_token"'
        assert len(value) < 3 or value not in problem["detail"]
    assert signed_in.get("/api/me").status_code == 200


def test_header_is_case_insensitive_but_not_repeatable(person: Person, headers: dict[str, str]) -> None:
    own = headers["Authorization"]
    value = own.partition(" ")[2]
    for spelling in (f"bearer {value}", f"BEARER   {value}", f"Bearer {value} "):
        assert get_me(person, {"Authorization": spelling}).status_code == 200
    for pair in permutations([own, own, "Bearer x.y.z", "Basic YTpi"], 2):
        lines = [f"Authorization: {value}" for value in pair]
        assert send_lines(person.url, "GET /api/me HTTP/1.1", *lines).status == 401


def test_token_in_query_or_body_is_ignored(person: Person, headers: dict[str, str]) -> None:
    value = headers["Authorization"].split()[1]
    for name in ("access_token", "token", "authorization"):
        by_query = call("GET", f"{person.url}/api/me?{name}={value}", headers={})
        by_body = call("POST", f"{person.url}/api/token", headers={}, data={name: value})
        for response in (by_query, by_body):
            assert_problem(response, 401, "not_signed_in")


def test_bearer_request_needs_no_csrf_value(world: World, mapped_user: Person) -> None:
    headers = bearer(world.azure, mapped_user) | {"Origin": "https://attacker.example"}
    response = post_token(mapped_user, headers)
    assert response.status_code == 200
    assert "Access-Control-Allow-Origin" not in response.headers  # CORS_ORIGINS is empty here
    assert_not_logged(world.service, headers["Authorization"].split()[1], response.json()["token"])


def test_token_without_our_scope_is_403(azure: LocalAzure, person: Person) -> None:
    texts = ["", "User.Read", "access_as_user2", "ACCESS_AS_USER", "x.access_as_user"]
    for scopes in (*texts, ["access_as_user"], 5):
        headers = bearer(azure, person, claims={"scp": scopes})
        for response in (get_me(person, headers), post_token(person, headers)):
            assert_problem(response, 403, "insufficient_scope")
            assert 'error="insufficient_scope"' in response.headers["WWW-Authenticate"]


def app_only(azure: LocalAzure, **members: object) -> dict[str, str]:
    value, _ = azure.mint_tokens(app=True, **members)
    return {"Authorization": f"Bearer {value}"}


def test_app_only_token_has_no_user_access(azure: LocalAzure, person: Person) -> None:
    url = f"{person.url}/api/admin/users"
    for claims, status in (
        ({}, 200),
        ({"idtyp": None}, 200),
        ({"scp": "User.Read"}, 403),
        ({"scp": ""}, 403),
    ):
        assert call("GET", url, headers=app_only(azure, claims=claims)).status_code == status, claims
    for request in (get_me, post_token):
        assert_problem(request(person, app_only(azure)), 403, "insufficient_scope")


def test_token_of_another_kind_or_tenant_is_401(world: World) -> None:
    person = world.new_person(roles=[ROLE])
    _, id_token = world.azure.mint_tokens(username=person.account.username)
    teams, _ = world.azure.mint_tokens(username=person.account.username, scope="teams")
    guest, _ = world.azure.mint_tokens(username="guest@fabrikam.example")
    for value in (id_token, teams, guest):
        for request in (get_me, post_token):
            assert_problem(request(person, {"Authorization": f"Bearer {value}"}), 401, "invalid_token")


def test_token_is_valid_until_it_expires(azure: LocalAzure, person: Person) -> None:
    headers = bearer(azure, person, lifetimeSeconds=3)
    assert get_me(person, headers).status_code == 200
    wait_until(lambda: get_me(person, headers).status_code == 401, 10)
    assert_problem(post_token(person, headers), 401, "invalid_token")


def test_token_of_disallowed_client_is_403(world: World, person: Person) -> None:
    azure, spa = world.azure, world.azure.get_app().spa_client_id
    with Service(world.settings | {"ENTRA_API_CLIENTS": f"{OTHER_CLIENT},{spa}"}) as strict:
        at = person.at(strict.url)
        assert post_token(at, bearer(azure, person, clientId=spa)).status_code == 200
        for claims in ({}, {"azp": None}, {"azp": [OTHER_CLIENT]}, {"azp": None, "appid": OTHER_CLIENT}):
            headers = bearer(azure, person, claims=claims)
            for response in (get_me(at, headers), post_token(at, headers)):
                assert_problem(response, 403, "forbidden")
        response = call("GET", f"{strict.url}/api/admin/users", headers=app_only(azure))
        assert_problem(response, 403, "forbidden")
        assert_problem(get_me(at, bearer(azure, person, tamper="bad-signature")), 401, "invalid_token")
