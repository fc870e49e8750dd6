"""Signing in, the whole way through Entra ID: who comes back as whom, and to which address."""

from collections.abc import Callable, Iterator
from urllib.parse import parse_qs, urljoin, urlsplit

import pytest
from azure.data.tables import TableServiceClient

from tests.support.cookies import read_cookies, send_cookies
from tests.support.local_azure import LocalAzure, read_form
from tests.support.log import assert_not_logged, read_event
from tests.support.pages import assert_error_page
from tests.support.person import Person
from tests.support.rows import list_identities, list_sessions
from tests.support.service import Service

SPOOFED = {
    "Host": "attacker.example",
    "Forwarded": "host=attacker.example;proto=https",
    "X-Forwarded-For": "192.0.2.1",
    "X-Forwarded-Host": "attacker.example",
    "X-Forwarded-Port": "4443",
    "X-Forwarded-Prefix": "/attacker",
    "X-Forwarded-Proto": "https",
    "X-Original-Host": "attacker.example",
    "X-Original-URL": "/attacker",
}


@pytest.fixture(scope="module")
def behind_proxy(settings: dict[str, str], service: Service) -> Iterator[Service]:
    """An instance that believes one reverse proxy."""
    with Service(settings | {"PUBLIC_URL": service.url, "TRUSTED_PROXY_HOPS": "1"}) as running:
        yield running


def authorize_parameters(location: str) -> dict[str, list[str]]:
    return parse_qs(urlsplit(location).query, strict_parsing=True)


def cancel(person: Person) -> str:
    """Go to Entra ID and press "Cancel"; return the callback's URL."""
    location = person.get("/auth/sign-in").headers["Location"]
    page = person.http.get(location, timeout=30)
    action, fields = read_form(page.text, "cancel", "1")
    answer = person.http.post(urljoin(page.url, action), data=fields, allow_redirects=False, timeout=30)
    return answer.headers["Location"]


@pytest.mark.parametrize(
    "username", ["alice@contoso.example", "bob@contoso.example", "admin@contoso.example"]
)
def test_sign_in_ends_as_the_picked_account(azure: LocalAzure, service: Service, username: str) -> None:
    account = azure.get_account(username)
    person = Person(azure, service.url, account)
    answer = person.sign_in()
    assert (answer.status_code, answer.headers["Location"]) == (302, "/")
    assert person.me()["user"] == {
        "tenantId": account.tenant_id,
        "objectId": account.object_id,
        "name": account.name,
        "username": username,
        "roles": account.roles,
    }
    assert read_event(service, answer, "authn_login_success")["user"] == person.key
    assert account.name in person.get("/").text


def test_sign_in_makes_no_identity(azure: LocalAzure, tables: TableServiceClient, signed_in: Person) -> None:
    before = azure.list_identities()
    assert signed_in.me()["communicationUserId"] is None
    assert list_identities(tables, signed_in) == []
    assert azure.list_identities() == before


def test_sign_in_asks_entra_for_who_it_is_and_nothing_else(
    azure: LocalAzure, service: Service, person: Person
) -> None:
    answer = person.get("/auth/sign-in")
    assert answer.status_code == 302
    assert answer.headers["Cache-Control"] == "no-store"
    parameters = authorize_parameters(answer.headers["Location"])
    assert all(len(values) == 1 for values in parameters.values())
    asked = {name: values[0] for name, values in parameters.items()}
    assert asked["response_type"] == "code"
    assert asked["client_id"] == azure.env["ENTRA_CLIENT_ID"]
    assert asked["redirect_uri"] == f"{service.url}/auth/callback"
    assert set(asked["scope"].split()) == {"openid", "profile"}
    assert asked["code_challenge_method"] == "S256"
    assert len(asked["code_challenge"]) == 43
    assert asked.get("response_mode", "query") == "query"
    assert "prompt" not in asked
    assert "client_secret" not in asked


def test_sign_in_is_unlike_any_other(person: Person) -> None:
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
    assert authorize_parameters(location)["redirect_uri"] == [f"{service.url}/auth/callback"]
    assert "attacker" not in location
    callback = person.azure.sign_in(person.http, location, person.account.username)
    answer = person.get(callback.replace(service.url, url), headers=headers)
    assert (answer.status_code, answer.headers["Location"]) == (302, "/")
    assert set(read_cookies(answer)) >= {"session"}
    assert "domain" not in read_cookies(answer)["session"].attributes


def test_guest_of_another_tenant_is_refused(
    azure: LocalAzure, service: Service, tables: TableServiceClient
) -> None:
    guest = Person(azure, service.url, azure.get_account("guest@fabrikam.example"))
    callback = guest.start_sign_in()
    answer = guest.finish_sign_in(callback)
    assert_error_page(answer, 403)
    assert guest.get("/api/me").status_code == 401
    assert list_sessions(tables, guest) == []
    assert read_event(service, answer, "authz_fail")["reason"] == "tenant not allowed"
    assert_not_logged(service, callback.partition("?")[2])


def test_account_of_an_allowed_and_one_of_another_tenant_are_told_apart_by_tenant_not_name(
    new_person: Callable[..., Person],
) -> None:
    # E-mail addresses change hands: the name says contoso, the tenant does not.
    stranger = new_person(tenantId="8e4d2c6b-1f95-4b7a-8c3d-0c0ffee0c002")
    assert stranger.account.username.endswith("@contoso.example")
    assert_error_page(stranger.sign_in(), 403)


def test_cancelled_sign_in_is_a_page_with_a_way_back(service: Service, person: Person) -> None:
    answer = person.finish_sign_in(cancel(person))
    page = assert_error_page(answer, 400)
    assert page.find("a", href="/auth/sign-in") is not None
    assert read_event(service, answer, "authn_login_fail")["reason"] == "entra-access_denied"
    assert person.sign_in().status_code == 302


def test_cancelled_sign_in_leaves_the_session_alone(signed_in: Person) -> None:
    assert_error_page(signed_in.finish_sign_in(cancel(signed_in)), 400)
    assert signed_in.me()["user"]["objectId"] == signed_in.account.object_id


def test_sign_in_as_somebody_else_replaces_the_session(
    service: Service, other_service: Service, new_person: Callable[..., Person], signed_in: Person
) -> None:
    first = signed_in.http.cookies["session"]
    somebody = new_person(name="Somebody Else")
    somebody.http = signed_in.http
    assert somebody.sign_in().status_code == 302
    assert somebody.me()["user"]["objectId"] == somebody.account.object_id
    assert somebody.http.cookies["session"] != first
    for instance in (service, other_service):
        assert send_cookies(f"{instance.url}/api/me", f"session={first}").status_code == 401


def test_sign_in_again_is_a_new_session(
    service: Service, tables: TableServiceClient, signed_in: Person
) -> None:
    first = signed_in.http.cookies["session"]
    assert signed_in.sign_in().status_code == 302
    assert signed_in.http.cookies["session"] != first
    assert send_cookies(f"{service.url}/api/me", f"session={first}").status_code == 401
    assert len(list_sessions(tables, signed_in)) == 1


def test_sign_in_comes_back_to_where_it_began(person: Person) -> None:
    assert person.sign_in("/?tab=1").headers["Location"] == "/?tab=1"
