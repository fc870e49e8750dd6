"""POST /api/token/teams exchanges the caller's own Entra ID token and never passes on another."""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import cast

import pytest
import requests

from tests.support.admin_client import bearer, call
from tests.support.concurrency import alongside, wait_until
from tests.support.local_azure import LocalAzure
from tests.support.log import assert_not_logged
from tests.support.own_azure import World
from tests.support.person import Person
from tests.support.problems import assert_problem
from tests.support.service import Service

OTHER_CLIENT = "99999999-8888-4777-8666-555555555555"
PATH = "/api/token/teams"

Exchange = Callable[[object], requests.Response]


def teams_token(azure: LocalAzure, person: Person, **members: object) -> str:
    """The person's own Teams token; `members` are those of `mint_tokens`."""
    members = {"scope": "teams"} | members
    return azure.mint_tokens(username=person.account.username, **members)[0]


@pytest.fixture(scope="module")
def owner(world: World) -> Person:
    """A signed-in user who requests Teams tokens."""
    return world.new_person().signed_in()


@pytest.fixture(scope="module")
def by_session(owner: Person) -> Exchange:
    headers = owner.csrf_headers()
    return lambda token: owner.post(PATH, headers=headers, json={"teamsUserAadToken": token})


@pytest.fixture(scope="module")
def by_bearer(azure: LocalAzure, owner: Person) -> Exchange:
    headers, url = bearer(azure, owner), owner.url + PATH
    return lambda token: call("POST", url, headers=headers, json={"teamsUserAadToken": token})


@pytest.fixture(params=["session", "bearer"])
def exchange(request: pytest.FixtureRequest) -> Exchange:
    """Exchange a token, as each kind of caller."""
    return cast(Exchange, request.getfixturevalue(f"by_{request.param}"))


def test_own_token_is_exchanged(azure: LocalAzure, owner: Person, exchange: Exchange) -> None:
    response = exchange(teams_token(azure, owner, lifetimeSeconds=1800))
    assert response.status_code == 200, response.text
    assert response.headers["Cache-Control"] == "no-store"
    document = response.json()
    assert list(document) == ["token", "expiresOn"]
    check = azure.check_token(document["token"])
    assert (check["valid"], check["identity"]) == (True, f"8:orgid:{owner.account.object_id}")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", document["expiresOn"])
    lifetime = datetime.fromisoformat(document["expiresOn"]) - datetime.now(UTC)
    assert timedelta(minutes=28) < lifetime <= timedelta(minutes=30)


def test_exchange_reads_before_and_after_and_creates_no_identity(
    world: World, owner: Person, by_session: Exchange, by_bearer: Exchange
) -> None:
    azure, token = world.azure, teams_token(world.azure, owner)
    for exchange, tables in (
        (by_session, ["sessions", "identities", "sessions"]),
        (by_bearer, ["identities", "identities"]),
    ):
        identities, entra = azure.list_identities(), azure.count_calls("entra")
        response = exchange(token)
        calls = [(call.method, call.table) for call in world.storage.calls_for(response)]
        assert calls == [("GET", table) for table in tables]
        assert azure.calls_for(response) == ["exchange"]
        assert azure.count_calls("entra") == entra
        assert azure.list_identities() == identities
        assert_not_logged(world.service, token, response.json()["token"])
    assert world.list_rows(owner) == []
    assert owner.me()["communicationUserId"] is None


def test_any_version_scope_or_client_is_exchanged(
    azure: LocalAzure, owner: Person, by_bearer: Exchange
) -> None:
    issuer = f"{azure.get_app().tls_origin}/{owner.account.tenant_id}/v2.0"
    claims = {"ver": "2.0", "iss": issuer, "azp": azure.env["ENTRA_CLIENT_ID"]}
    good: list[dict[str, object]] = [{"claims": claims}]
    good += [{"claims": {"scp": scopes}} for scopes in ("Teams.ManageCalls", "Teams.ManageChats x")]
    # With ENTRA_API_CLIENTS empty, any client's token is accepted; its own id is passed on.
    good += [{"clientId": client} for client in (azure.get_app().spa_client_id, OTHER_CLIENT)]
    for members in good:
        assert by_bearer(teams_token(azure, owner, **members)).status_code == 200


def test_token_of_another_user_is_403(
    azure: LocalAzure, shared_user: Person, owner: Person, exchange: Exchange
) -> None:
    before = azure.count_calls("acs").get("exchange", 0)
    guest, twin = azure.get_account("guest@fabrikam.example"), "twin@fabrikam.example"
    azure.put_account(twin, tenantId=guest.tenant_id, objectId=owner.account.object_id)
    for username in (shared_user.account.username, guest.username, twin):
        token, _ = azure.mint_tokens(username=username, scope="teams")
        assert_problem(exchange(token), 403, "forbidden")
    # An invalid token proves nothing about its user.
    assert_problem(exchange(teams_token(azure, shared_user, tamper="bad-signature")), 400, "invalid_request")
    assert azure.count_calls("acs").get("exchange", 0) == before


def test_other_tokens_and_bodies_are_400(azure: LocalAzure, owner: Person, by_session: Exchange) -> None:
    ours = azure.mint_tokens(username=owner.account.username)
    for value in (*ours, azure.mint_tokens(app=True)[0], None, "", 5, "\ud800", "e30.\ud800.é", ["x"]):
        assert_problem(by_session(value), 400, "invalid_request")
    bodies: list[object] = [None, {}, {"token": "x"}, {"teamsUserAadToken": "x", "userId": "y"}, [], "x"]
    for body in bodies:
        response = owner.post(PATH, headers=owner.csrf_headers(), json=body)
        assert_problem(response, 400, "invalid_request")


def test_unauthorized_callers_are_refused(world: World, person: Person, owner: Person) -> None:
    azure, token = world.azure, teams_token(world.azure, owner)
    body = {"teamsUserAadToken": token}
    assert_problem(person.post(PATH, json=body), 401, "not_signed_in")
    assert_problem(owner.post(PATH, json=body), 403, "csrf_failed")
    app_only, _ = azure.mint_tokens(app=True)
    for value, status, code in ((app_only, 403, "insufficient_scope"), (token, 401, "invalid_token")):
        headers = {"Authorization": f"Bearer {value}"}
        assert_problem(call("POST", owner.url + PATH, headers=headers, json=body), status, code)
    blocked = {"teamsUserAadToken": teams_token(azure, person)}
    world.admin.do("api", person, "block")
    response = call("POST", person.url + PATH, headers=bearer(azure, person), json=blocked)
    assert_problem(response, 403, "blocked")


@pytest.mark.parametrize("by", ["session", "bearer"])
@pytest.mark.parametrize(("action", "status"), [("block", 403), ("sign-out", 401)])
def test_exchange_overlapping_an_action_is_refused(
    world: World, signed_in: Person, by: str, action: str, status: int
) -> None:
    """Nobody can revoke the token, so it is discarded; a bearer token outlives a sign-out."""
    headers = bearer(world.azure, signed_in) if by == "bearer" else signed_in.csrf_headers()
    body = {"teamsUserAadToken": teams_token(world.azure, signed_in)}
    exchange = partial(signed_in.post, PATH, headers=headers, json=body)
    world.azure.plant_fault("acs", "exchange", "delay", seconds=2)

    def act_when_held() -> None:
        wait_until(lambda: not world.azure.list_faults())
        world.admin.do("api", signed_in, action)

    response = alongside(exchange, act_when_held)
    assert response.status_code == (200 if (by, action) == ("bearer", "sign-out") else status)


def test_acs_faults_are_reported(azure: LocalAzure, owner: Person, by_bearer: Exchange) -> None:
    refusals = {"status": 400, "code": "ValidationError"}, {"status": 401, "code": "InvalidAccessToken"}
    outages: list[dict[str, object]] = [
        {"status": 401, "code": "Denied"},
        {"status": 403, "code": "Forbidden"},
    ]
    outages += [{"status": 500}, {"kind": "reset"}, {"kind": "half"}]
    cases = [(dict[str, object](fault), 400, "invalid_request") for fault in refusals]
    cases += [(fault, 503, "upstream_unavailable") for fault in outages]
    token = teams_token(azure, owner)
    for fault, status, code in [*cases, ({"status": 429, "retryAfter": "7"}, 503, "upstream_throttled")]:
        azure.plant_fault("acs", "exchange", **({"kind": "status"} | fault))  # type: ignore[arg-type]
        response = by_bearer(token)
        assert_problem(response, status, code)
        assert "retryAfter" not in fault or response.headers["Retry-After"] == fault["retryAfter"]
        azure.clear_faults()
        assert by_bearer(token).status_code == 200


def test_disallowed_client_is_403_and_counts(world: World, person: Person) -> None:
    azure, spa = world.azure, world.azure.get_app().spa_client_id
    headers = bearer(azure, person, clientId=spa)

    def exchange(client_id: str) -> requests.Response:
        body = {"teamsUserAadToken": teams_token(azure, person, clientId=client_id)}
        return call("POST", strict.url + PATH, headers=headers, json=body)

    with Service(world.settings | {"RATE_LIMIT_TOKEN": "5 per minute", "ENTRA_API_CLIENTS": spa}) as strict:
        assert_problem(exchange(OTHER_CLIENT), 403, "forbidden")
        # The web app's own registration is always allowed.
        assert [exchange(own).status_code for own in (spa, azure.env["ENTRA_CLIENT_ID"])] == [200, 200]
        assert call("POST", f"{strict.url}/api/token", headers=headers).status_code == 200
        assert exchange(spa).status_code == 200
        assert_problem(exchange(spa), 429, "rate_limited")
