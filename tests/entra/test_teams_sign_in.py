"""Teams tokens in the browser: the second authorization request to Entra ID, and its outcomes."""

from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
from bs4 import BeautifulSoup, Tag

from tests.support.cookies import read_cookies
from tests.support.flows import flow_cookies
from tests.support.local_azure import LocalAzure
from tests.support.log import assert_not_logged, read_event
from tests.support.own_azure import World
from tests.support.pages import assert_error_page
from tests.support.person import Person
from tests.support.service import Service
from tests.support.tokens import TEAMS

SCOPES = {f"{TEAMS}/Teams.ManageCalls", f"{TEAMS}/Teams.ManageChats"}


def start(person: Person) -> str:
    """Request a Teams token; return the address at Entra ID."""
    response = person.get("/auth/teams")
    assert response.status_code == 302, response.text
    return response.headers["Location"]


def go_to_entra(person: Person, account: str | None = None) -> str:
    """Request a Teams token and pick an account; return the callback's address without calling it."""
    return person.azure.sign_in(person.http, start(person), account or person.account.username)


@pytest.fixture
def callback(signed_in: Person) -> str:
    return go_to_entra(signed_in)


def read_state(address: str) -> str:
    return parse_qs(urlsplit(address).query)["state"][0]


def read_token(response: requests.Response) -> tuple[str, Tag]:
    """Return the token on the page, and the section that contains it."""
    assert response.status_code == 200, response.text
    page = BeautifulSoup(response.text, "html.parser")
    (text,), (section,) = page.select("#token-text"), page.select("#token")
    return text.text, section


def test_request_names_teams_scopes_and_account(signed_in: Person) -> None:
    home = BeautifulSoup(signed_in.get("/").text, "html.parser")
    assert home.find("a", href="/auth/teams") is not None
    address = urlsplit(start(signed_in))
    sent = {name: values[0] for name, values in parse_qs(address.query).items()}
    scopes = set(sent["scope"].split())
    assert scopes - {"openid", "profile"} == SCOPES
    assert sent["redirect_uri"] == f"{signed_in.url}/auth/callback"
    assert sent["code_challenge_method"] == "S256"
    assert sent["state"]
    assert sent["nonce"]
    # The opaque login hint from the sign-in puts the account first in the picker.
    page = BeautifulSoup(signed_in.http.get(address.geturl(), timeout=30).text, "html.parser")
    assert page.select("button[name=account]")[0]["value"] == signed_in.account.username


def test_token_is_shown_once_and_never_stored(world: World, signed_in: Person, callback: str) -> None:
    identities, me = world.azure.list_identities(), signed_in.me()
    response = signed_in.finish_sign_in(callback)
    token, section = read_token(response)
    check = world.azure.check_token(token)
    assert (check["valid"], check["identity"]) == (True, f"8:orgid:{signed_in.account.object_id}")
    assert response.headers["Cache-Control"] == "no-store"
    assert "Location" not in response.headers
    expires_on = datetime.fromisoformat(str(section["data-expires-on"]))
    now = datetime.fromisoformat(str(section["data-now"]))
    assert timedelta(minutes=50) < expires_on - now <= timedelta(minutes=60)
    assert abs(now - datetime.now(UTC)) < timedelta(seconds=10)
    assert token not in str(read_cookies(response))
    assert flow_cookies(signed_in) == {}
    assert world.azure.list_identities() == identities
    assert world.list_rows(signed_in) == []
    assert_not_logged(world.service, token)
    assert read_event(world.service, response, "teams_token_issued")
    assert signed_in.finish_sign_in(callback).headers["Location"] == "/"
    assert signed_in.me() == me


def test_parallel_tabs_each_complete(signed_in: Person) -> None:
    teams, sign_in, more_teams = go_to_entra(signed_in), signed_in.start_sign_in(), go_to_entra(signed_in)
    read_token(signed_in.finish_sign_in(more_teams))
    assert signed_in.finish_sign_in(sign_in).status_code == 302
    read_token(signed_in.finish_sign_in(teams))


def test_signed_out_user_is_sent_to_sign_in(person: Person) -> None:
    response = person.get("/auth/teams")
    assert response.status_code == 302
    assert urlsplit(response.headers["Location"]).path == "/auth/sign-in"
    # A sign-in returns to a page, never to the start of another authorization request.
    assert person.sign_in("/auth/teams").headers["Location"] == "/"


def test_other_browser_cannot_use_the_callback(callback: str, shared_user: Person) -> None:
    assert_error_page(shared_user.finish_sign_in(callback), 400)


def test_missing_consent_shows_an_error_page(service: Service, signed_in: Person) -> None:
    for error in ("access_denied", "consent_required", "interaction_required", "x" * 2000):
        parameters = {"error": error, "error_description": "<b>AADSTS65004</b>"}
        response = signed_in.get(
            "/auth/callback", params=parameters | {"state": read_state(start(signed_in))}
        )
        page = assert_error_page(response, 403)
        assert "Microsoft Teams" in page.text
        assert "AADSTS" not in page.text
        assert signed_in.me()
        assert read_event(service, response, "authz_fail")["reason"].startswith("teams entra-")
    assert_error_page(signed_in.finish_sign_in(signed_in.cancel_sign_in(start(signed_in))), 403)
    for no_code in ({}, {"code": ""}):
        state = {"state": read_state(start(signed_in))}
        assert_error_page(signed_in.get("/auth/callback", params=state | no_code), 400)


def test_other_account_is_refused(world: World, signed_in: Person) -> None:
    before = world.azure.count_calls("acs").get("exchange", 0)
    assert_error_page(signed_in.finish_sign_in(go_to_entra(signed_in, "guest@fabrikam.example")), 403)
    other = world.new_person().account.username
    page = assert_error_page(signed_in.finish_sign_in(go_to_entra(signed_in, other)), 403)
    assert "a different account" in page.text
    assert world.azure.count_calls("acs").get("exchange", 0) == before
    assert signed_in.me()["user"]["objectId"] == signed_in.account.object_id


def test_ended_session_shows_an_error_page(azure: LocalAzure, signed_in: Person, callback: str) -> None:
    signed_in.sign_out()
    before = azure.count_calls("entra").get("token", 0)
    assert_error_page(signed_in.finish_sign_in(callback), 401)
    assert azure.count_calls("entra").get("token", 0) == before


def test_session_of_another_user_gets_no_token(world: World, signed_in: Person, callback: str) -> None:
    other = world.new_person()
    other.http = signed_in.http
    other.signed_in()
    assert_error_page(other.finish_sign_in(callback), 403)
    assert other.me()["user"]["objectId"] == other.account.object_id


def test_failing_upstream_shows_an_error_page(azure: LocalAzure, signed_in: Person) -> None:
    refused = {"status": 401, "code": "InvalidAccessToken"}, {"status": 400, "code": "ValidationError"}
    outages = {"status": 401, "code": "Denied"}, {"status": 429, "retryAfter": "7"}, {"status": 503}
    cases = [("acs", fault, 400) for fault in refused] + [("acs", fault, 503) for fault in outages]
    for upstream, fault, status in cases + [("entra", fault, 503) for fault in outages[1:]]:
        callback = go_to_entra(signed_in)
        azure.plant_fault(upstream, "exchange" if upstream == "acs" else "token", "status", **fault)
        response = signed_in.finish_sign_in(callback)
        assert_error_page(response, status)
        if "retryAfter" in fault:
            assert response.headers["Retry-After"] == "7"
        azure.clear_faults()
        read_token(signed_in.finish_sign_in(go_to_entra(signed_in)))


def test_tampered_token_shows_an_error_page(azure: LocalAzure, signed_in: Person) -> None:
    before = azure.count_calls("acs").get("exchange", 0)
    access = [("access", kind) for kind in ("expired", "wrong-aud", "bad-signature", "no-oid", "garbage")]
    for of, kind in access + [
        ("id", kind) for kind in ("expired", "wrong-nonce", "bad-signature", "wrong-aud")
    ]:
        callback = go_to_entra(signed_in)
        azure.tamper(kind, of=of)
        assert_error_page(signed_in.finish_sign_in(callback), 400)
        assert azure.count_calls("acs").get("exchange", 0) == before, kind


def test_teams_sign_in_counts_as_token_request(world: World) -> None:
    with Service(world.settings | {"RATE_LIMIT_TOKEN": "2 per minute"}) as strict:
        person = world.new_person().at(strict.url).signed_in()
        read_token(person.finish_sign_in(go_to_entra(person)))
        assert person.token().status_code == 200
        response = person.get("/auth/teams")
    assert_error_page(response, 429)
    assert 1 <= int(response.headers["Retry-After"]) <= 61
