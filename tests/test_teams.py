"""POST /api/token/teams: whose Entra ID token is exchanged, and what goes no further than here."""

import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest
import requests
from azure.data.tables import TableServiceClient

from tests.support.desk import Desk, bearer, call
from tests.support.identity_rows import list_identity_rows
from tests.support.local_azure import LocalAzure
from tests.support.log import assert_not_logged, read_event
from tests.support.person import Person
from tests.support.problems import assert_problem
from tests.support.service import Service
from tests.support.storage_proxy import StorageProxy

OTHER_CLIENT = "99999999-8888-4777-8666-555555555555"
PATH = "/api/token/teams"

Exchange = Callable[[object], requests.Response]

TAMPERED = [
    *("wrong-aud", "wrong-iss", "wrong-tid", "expired", "not-yet-valid", "no-oid", "malformed-oid"),
    *("malformed-tid", "unknown-kid", "bad-signature", "alg-none", "hs256-with-public-key", "embedded-jwk"),
    *("jku", "garbage"),
]


def teams_token(azure: LocalAzure, person: Person, **members: object) -> str:
    """The person's own token for Teams; `members` as of `mint_tokens`."""
    members = {"scope": "teams"} | members
    return azure.mint_tokens(username=person.account.username, **members)[0]


@pytest.fixture(scope="module")
def owner(new_person: Callable[..., Person]) -> Person:
    """Somebody who is signed in and wants a token for Teams."""
    person = new_person()
    assert person.sign_in().status_code == 302
    return person


@pytest.fixture(scope="module")
def by_session(owner: Person) -> Exchange:
    headers = owner.csrf_headers()
    return lambda token: owner.post(PATH, headers=headers, json={"teamsUserAadToken": token})


@pytest.fixture(scope="module")
def by_bearer(azure: LocalAzure, owner: Person) -> Exchange:
    headers = bearer(azure, owner)
    url = owner.url + PATH
    return lambda token: call("POST", url, headers=headers, json={"teamsUserAadToken": token})


@pytest.fixture(params=["session", "bearer"])
def exchange(request: pytest.FixtureRequest) -> Exchange:
    """Exchange a token, as each kind of caller."""
    found: Exchange = request.getfixturevalue(f"by_{request.param}")
    return found


def count_exchanges(azure: LocalAzure) -> int:
    return azure.count_calls("acs").get("exchange", 0)


def test_own_token_is_exchanged(azure: LocalAzure, owner: Person, exchange: Exchange) -> None:
    answer = exchange(teams_token(azure, owner, lifetimeSeconds=1800))
    assert answer.status_code == 200, answer.text
    assert answer.headers["Cache-Control"] == "no-store"
    document = answer.json()
    assert list(document) == ["token", "expiresOn"]
    check = azure.check_token(document["token"])
    assert (check["valid"], check["identity"]) == (True, f"8:orgid:{owner.account.object_id}")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", document["expiresOn"])
    lifetime = datetime.fromisoformat(document["expiresOn"]) - datetime.now(UTC)
    assert timedelta(minutes=28) < lifetime <= timedelta(minutes=30)


def test_exchange_makes_no_identity_and_two_calls(
    azure: LocalAzure,
    tables: TableServiceClient,
    storage_proxy: StorageProxy,
    owner: Person,
    by_session: Exchange,
    by_bearer: Exchange,
) -> None:
    token = teams_token(azure, owner)
    for exchange, table in ((by_session, "sessions"), (by_bearer, "identities")):
        identities, entra = azure.list_identities(), azure.count_calls("entra")
        answer = exchange(token)
        assert [(call.method, call.table) for call in storage_proxy.calls_for(answer)] == [("GET", table)]
        assert azure.calls_for(answer) == ["exchange"]
        assert azure.count_calls("entra") == entra
        assert azure.list_identities() == identities
    assert list_identity_rows(tables, owner) == []
    assert owner.me()["communicationUserId"] is None


def test_token_of_version_2_is_exchanged_too(azure: LocalAzure, owner: Person, by_bearer: Exchange) -> None:
    issuer = f"{azure.get_app().tls_origin}/{owner.account.tenant_id}/v2.0"
    claims = {"ver": "2.0", "iss": issuer, "azp": azure.env["ENTRA_CLIENT_ID"]}
    assert by_bearer(teams_token(azure, owner, claims=claims)).status_code == 200
    assert_problem(
        by_bearer(teams_token(azure, owner, claims=claims | {"azp": None})), 400, "invalid_request"
    )


@pytest.mark.parametrize("version", ["1.0", "2.0"])
def test_issuer_of_somebody_else_is_refused_though_it_names_the_tenant(
    azure: LocalAzure, owner: Person, by_bearer: Exchange, version: str
) -> None:
    tenant = owner.account.tenant_id
    azp = azure.env["ENTRA_CLIENT_ID"]
    for issuer in (f"https://login.attacker.example/{tenant}/v2.0", f"https://sts.windows.net/{tenant}/x"):
        token = teams_token(azure, owner, claims={"ver": version, "iss": issuer, "azp": azp})
        assert_problem(by_bearer(token), 400, "invalid_request")


@pytest.mark.parametrize("scopes", ["Teams.ManageCalls", "Teams.ManageChats x"])
def test_one_of_the_scopes_is_enough(
    azure: LocalAzure, owner: Person, by_bearer: Exchange, scopes: str
) -> None:
    assert by_bearer(teams_token(azure, owner, claims={"scp": scopes})).status_code == 200


@pytest.mark.parametrize("kind", TAMPERED)
def test_tampered_token_never_reaches_communication_services(
    azure: LocalAzure, service: Service, owner: Person, exchange: Exchange, kind: str
) -> None:
    before = count_exchanges(azure)
    answer = exchange(teams_token(azure, owner, tamper=kind))
    assert_problem(answer, 400, "invalid_request")
    assert read_event(service, answer, "authn_token_fail")["reason"].startswith("teams-")
    assert count_exchanges(azure) == before


@pytest.mark.parametrize(
    "claims",
    [
        *({"scp": ""}, {"scp": None}, {"scp": "User.Read"}, {"scp": ["Teams.ManageCalls"]}, {"aud": None}),
        *(
            {"aud": ["https://auth.msft.communication.azure.com"]},
            {"ver": None},
            {"ver": "2.0"},
            {"ver": 1.0},
        ),
        *({"appid": None}, {"appid": "x"}, {"appid": []}, {"oid": None}, {"tid": None}, {"iss": None}),
        *({"exp": None}, {"exp": "x"}),
    ],
    ids=ascii,
)
def test_token_with_odd_claims_never_reaches_communication_services(
    azure: LocalAzure, owner: Person, by_bearer: Exchange, claims: dict[str, object]
) -> None:
    before = count_exchanges(azure)
    assert_problem(by_bearer(teams_token(azure, owner, claims=claims)), 400, "invalid_request")
    assert count_exchanges(azure) == before


def test_token_for_our_own_api_is_no_token_for_teams(
    azure: LocalAzure, owner: Person, by_bearer: Exchange
) -> None:
    access_token, id_token = azure.mint_tokens(username=owner.account.username)
    app_only, _ = azure.mint_tokens(app=True)
    for token in (access_token, id_token, app_only):
        assert_problem(by_bearer(token), 400, "invalid_request")


def test_token_of_somebody_else_is_403(
    azure: LocalAzure, regular: Person, owner: Person, exchange: Exchange
) -> None:
    before = count_exchanges(azure)
    guest, _ = azure.mint_tokens(username="guest@fabrikam.example", scope="teams")
    for token in (teams_token(azure, regular), guest):
        assert_problem(exchange(token), 403, "forbidden")
    # One that is not good says nothing about anybody.
    assert_problem(exchange(teams_token(azure, regular, tamper="bad-signature")), 400, "invalid_request")
    assert count_exchanges(azure) == before


def test_same_object_id_in_another_tenant_is_somebody_else(
    azure: LocalAzure, owner: Person, by_bearer: Exchange
) -> None:
    username = "twin@fabrikam.example"
    foreign = azure.get_account("guest@fabrikam.example").tenant_id
    azure.put_account(username, tenantId=foreign, objectId=owner.account.object_id)
    token, _ = azure.mint_tokens(username=username, scope="teams")
    assert_problem(by_bearer(token), 403, "forbidden")


@pytest.mark.parametrize(
    "body",
    [
        *(None, {}, {"teamsUserAadToken": None}, {"teamsUserAadToken": ""}, {"teamsUserAadToken": 5}),
        *({"teamsUserAadToken": "\ud800"}, {"teamsUserAadToken": "e30.\ud800.é"}),
        *({"teamsUserAadToken": ["x"]}, {"token": "x"}, {"teamsUserAadToken": "x", "userId": "y"}, [], "x"),
    ],
    ids=ascii,
)
def test_other_bodies_are_400(owner: Person, body: object) -> None:
    answer = owner.post(PATH, headers=owner.csrf_headers(), json=body)
    assert_problem(answer, 400, "invalid_request")


def test_callers_without_right_are_refused(
    azure: LocalAzure, person: Person, owner: Person, desk: Desk
) -> None:
    body = {"teamsUserAadToken": teams_token(azure, owner)}
    assert_problem(person.post(PATH, json=body), 401, "not_signed_in")
    assert_problem(owner.post(PATH, json=body), 403, "csrf_failed")
    app_only, _ = azure.mint_tokens(app=True)
    headers = {"Authorization": f"Bearer {app_only}"}
    assert_problem(call("POST", owner.url + PATH, headers=headers, json=body), 403, "insufficient_scope")
    headers = {"Authorization": f"Bearer {body['teamsUserAadToken']}"}
    assert_problem(call("POST", owner.url + PATH, headers=headers, json=body), 401, "invalid_token")
    blocked = {"teamsUserAadToken": teams_token(azure, person)}
    desk.do("api", person, "block")
    answer = call("POST", person.url + PATH, headers=bearer(azure, person), json=blocked)
    assert_problem(answer, 403, "blocked")


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        ({"status": 400, "code": "ValidationError"}, 400, "invalid_request"),
        ({"status": 401, "code": "InvalidAccessToken"}, 400, "invalid_request"),
        ({"status": 401, "code": "Denied"}, 503, "upstream_unavailable"),
        ({"status": 403, "code": "Forbidden"}, 503, "upstream_unavailable"),
        ({"status": 429, "retryAfter": "7"}, 503, "upstream_throttled"),
        ({"status": 500}, 503, "upstream_unavailable"),
        ({"kind": "reset"}, 503, "upstream_unavailable"),
        ({"kind": "half"}, 503, "upstream_unavailable"),
    ],
    ids=str,
)
def test_faults_of_communication_services(
    azure: LocalAzure, owner: Person, by_bearer: Exchange, fault: dict[str, object], status: int, code: str
) -> None:
    azure.plant_fault("acs", "exchange", **({"kind": "status"} | fault))  # type: ignore[arg-type]
    token = teams_token(azure, owner)
    answer = by_bearer(token)
    assert_problem(answer, status, code)
    if "retryAfter" in fault:
        assert answer.headers["Retry-After"] == fault["retryAfter"]
    azure.clear_faults()
    assert by_bearer(token).status_code == 200


def test_refusal_by_our_own_access_key_is_not_blamed_on_the_caller(
    azure: LocalAzure, settings: dict[str, str], owner: Person
) -> None:
    endpoint, _, _ = azure.env["COMMUNICATION_SERVICES_CONNECTION_STRING"].partition(";")
    wrong = {"COMMUNICATION_SERVICES_CONNECTION_STRING": f"{endpoint};accesskey=d3Jvbmc="}
    body = {"teamsUserAadToken": teams_token(azure, owner)}
    with Service(settings | wrong) as denied:
        answer = call("POST", denied.url + PATH, headers=bearer(azure, owner), json=body)
    assert_problem(answer, 503, "upstream_unavailable")


def test_client_that_the_token_was_issued_to_counts(
    azure: LocalAzure, owner: Person, by_bearer: Exchange
) -> None:
    # With ENTRA_API_CLIENTS empty, any client's token will do; its own id goes along.
    spa = azure.get_app().spa_client_id
    assert by_bearer(teams_token(azure, owner, clientId=spa)).status_code == 200
    assert by_bearer(teams_token(azure, owner, clientId=OTHER_CLIENT)).status_code == 200


@pytest.fixture(scope="module")
def choosy(azure: LocalAzure, settings: dict[str, str]) -> Iterator[Service]:
    """A service that takes tokens of the single-page app, and lets each user have five in a minute."""
    limits = {"RATE_LIMIT_TOKEN": "5 per minute", "ENTRA_API_CLIENTS": azure.get_app().spa_client_id}
    with Service(settings | limits) as running:
        yield running


def test_client_that_is_not_allowed_is_403_and_every_request_counts(
    azure: LocalAzure, choosy: Service, person: Person
) -> None:
    headers = bearer(azure, person, clientId=azure.get_app().spa_client_id)

    def exchange(client_id: str) -> requests.Response:
        body = {"teamsUserAadToken": teams_token(azure, person, clientId=client_id)}
        return call("POST", choosy.url + PATH, headers=headers, json=body)

    assert_problem(exchange(OTHER_CLIENT), 403, "forbidden")
    # The web app's own registration is always allowed: it is ours.
    for client_id in (azure.get_app().spa_client_id, azure.env["ENTRA_CLIENT_ID"]):
        assert exchange(client_id).status_code == 200
    assert call("POST", f"{choosy.url}/api/token", headers=headers).status_code == 200
    assert exchange(azure.get_app().spa_client_id).status_code == 200
    assert_problem(exchange(azure.get_app().spa_client_id), 429, "rate_limited")


def test_nothing_of_the_tokens_is_logged(
    azure: LocalAzure, service: Service, owner: Person, exchange: Exchange
) -> None:
    token = teams_token(azure, owner)
    assert_not_logged(service, token, exchange(token).json()["token"])
