"""Sign-in through Entra ID, end to end: the resulting user, and the address it returns to."""

from collections.abc import Iterator
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.support.cookies import SESSION, read_cookies, send_cookies
from tests.support.local_azure import LocalAzure
from tests.support.log import assert_not_logged, read_event
from tests.support.own_azure import World
from tests.support.pages import assert_error_page
from tests.support.person import Person
from tests.support.service import Service

SPOOFED = dict.fromkeys(("Host", "X-Forwarded-Host", "X-Original-Host"), "attacker.example")
SPOOFED |= dict.fromkeys(("X-Forwarded-Prefix", "X-Original-URL"), "/attacker")
SPOOFED |= {"Forwarded": "host=attacker.example;proto=https", "X-Forwarded-For": "192.0.2.1"}
SPOOFED |= {"X-Forwarded-Port": "4443", "X-Forwarded-Proto": "https"}


@pytest.fixture(scope="module")
def behind_proxy(settings: dict[str, str], service: Service) -> Iterator[Service]:
    """An instance that trusts one reverse proxy."""
    with Service(settings | {"PUBLIC_URL": service.url, "TRUSTED_PROXY_HOPS": "1"}) as running:
        yield running


def authorize_parameters(location: str) -> dict[str, list[str]]:
    return parse_qs(urlsplit(location).query, strict_parsing=True)


@pytest.mark.parametrize("name", ["alice", "bob", "admin"])
def test_sign_in_yields_the_selected_account(azure: LocalAzure, service: Service, name: str) -> None:
    account = azure.get_account(f"{name}@contoso.example")
    person = Person(azure, service.url, account)
    response = person.sign_in()
    assert (response.status_code, response.headers["Location"]) == (302, "/")
    user = {"tenantId": account.tenant_id, "objectId": account.object_id, "name": account.name}
    assert person.me()["user"] == user | {"username": account.username, "roles": account.roles}
    assert read_event(service, response, "authn_login_success")["user"] == person.key
    assert account.name in person.get("/").text


def test_sign_in_requests_only_openid_and_profile(azure: LocalAzure, person: Person) -> None:
    response = person.get("/auth/sign-in")
    assert response.status_code == 302
    assert response.headers["Cache-Control"] == "no-store"
    parameters = authorize_parameters(response.headers["Location"])
    assert all(len(values) == 1 for values in parameters.values())
    sent = {name: values[0] for name, values in parameters.items()}
    expected = {"response_type": "code", "client_id": azure.env["ENTRA_CLIENT_ID"]}
    expected |= {"redirect_uri": f"{person.url}/auth/callback", "code_challenge_method": "S256"}
    assert sent | expected == sent
    assert set(sent["scope"].split()) == {"openid", "profile"}
    assert len(sent["code_challenge"]) == 43
    assert sent.get("response_mode", "query") == "query"
    assert not {"prompt", "client_secret"} & set(sent)


def test_each_sign_in_has_unique_values(person: Person) -> None:
    starts = [authorize_parameters(person.get("/auth/sign-in").headers["Location"]) for _ in range(5)]
    for name in ("state", "nonce", "code_challenge"):
        values = {start[name][0] for start in starts}
        assert len(values) == len(starts)
        assert min(len(value) for value in values) >= 20


@pytest.mark.parametrize("header", [*SPOOFED, "all"])
@pytest.mark.parametrize("instance", ["service", "behind_proxy"])
def test_sign_in_addresses_come_from_settings_alone(
    request: pytest.FixtureRequest, service: Service, person: Person, instance: str, header: str
) -> None:
    url = request.getfixturevalue(instance).url
    headers = SPOOFED if header == "all" else {header: SPOOFED[header]}
    location = person.get(f"{url}/auth/sign-in", headers=headers).headers["Location"]
    if location.startswith(service.url):  # first, the browser has to be there
        location = person.get(location).headers["Location"]
        headers = {name: value for name, value in headers.items() if name != "Host"}
    assert authorize_parameters(location)["redirect_uri"] == [f"{service.url}/auth/callback"]
    assert "attacker" not in location
    callback = person.azure.sign_in(person.http, location, person.account.username)
    response = person.get(callback.replace(service.url, url), headers=headers)
    assert (response.status_code, response.headers["Location"]) == (302, "/")
    assert set(read_cookies(response)) >= {SESSION}
    assert "domain" not in read_cookies(response)[SESSION].attributes


def test_account_is_refused_by_tenant_not_name(world: World) -> None:
    guest = Person(world.azure, world.service.url, world.azure.get_account("guest@fabrikam.example"))
    # E-mail addresses change hands: the name says contoso, the tenant does not.
    outsider = world.new_person(tenantId="8e4d2c6b-1f95-4b7a-8c3d-0c0ffee0c002")
    assert outsider.account.username.endswith("@contoso.example")
    for person in (guest, outsider):
        callback = person.start_sign_in()
        response = person.finish_sign_in(callback)
        assert_error_page(response, 403)
        assert person.get("/api/me").status_code == 401
        assert world.list_sessions(person) == []
        assert read_event(world.service, response, "authz_fail")["reason"] == "tenant not allowed"
        assert_not_logged(world.service, callback.partition("?")[2])


def test_cancelled_sign_in_is_an_error_page(service: Service, person: Person) -> None:
    for status in (401, 200):  # first signed out, then as a user who stays signed in
        response = person.finish_sign_in(person.cancel_sign_in())
        page = assert_error_page(response, 400)
        assert page.find("a", href="/auth/sign-in") is not None
        assert read_event(service, response, "authn_login_fail")["reason"] == "entra-access_denied"
        assert person.get("/api/me").status_code == status
        assert person.sign_in().status_code == 302


def test_only_successful_sign_in_replaces_session(
    world: World, other_service: Service, signed_in: Person
) -> None:
    first, other = signed_in.http.cookies[SESSION], world.new_person(name="Somebody Else")
    other.http = signed_in.http
    world.admin.do("api", other, "block")
    assert_error_page(other.sign_in(), 403)
    world.azure.tamper("bad-signature")
    assert_error_page(other.sign_in(), 400)
    assert signed_in.me()["user"]["objectId"] == signed_in.account.object_id
    world.admin.do("api", other, "unblock")
    other.signed_in()
    assert other.me()["user"]["objectId"] == other.account.object_id
    assert other.http.cookies[SESSION] != first
    for instance in (world.service, other_service):
        assert send_cookies(f"{instance.url}/api/me", f"{SESSION}={first}").status_code == 401


def test_repeated_sign_in_creates_a_new_session(world: World, signed_in: Person) -> None:
    first = signed_in.http.cookies[SESSION]
    assert signed_in.sign_in("/?tab=1").headers["Location"] == "/?tab=1"
    assert signed_in.http.cookies[SESSION] != first
    assert send_cookies(f"{signed_in.url}/api/me", f"{SESSION}={first}").status_code == 401
    assert len(world.list_sessions(signed_in)) == 1
