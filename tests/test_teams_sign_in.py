"""A token for Teams in a browser: the second trip to Entra ID, and everything that can come of it."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
from azure.data.tables import TableServiceClient
from bs4 import BeautifulSoup, Tag

from tests.support.cookies import read_cookies
from tests.support.flows import flow_cookies
from tests.support.identity_rows import list_identity_rows
from tests.support.local_azure import LocalAzure
from tests.support.log import assert_not_logged, read_events
from tests.support.pages import assert_error_page
from tests.support.person import Person
from tests.support.service import Service

TEAMS = "https://auth.msft.communication.azure.com"
SCOPES = {f"{TEAMS}/Teams.ManageCalls", f"{TEAMS}/Teams.ManageChats"}


def start(person: Person) -> str:
    """Ask for a token for Teams; return Entra ID's address."""
    answer = person.get("/auth/teams")
    assert answer.status_code == 302, answer.text
    return answer.headers["Location"]


def go_to_entra(person: Person, account: str | None = None) -> str:
    """Ask for a token for Teams and pick an account; return the callback's address, not called yet."""
    return person.azure.sign_in(person.http, start(person), account or person.account.username)


def read_token(answer: requests.Response) -> tuple[str, Tag]:
    """Return the token on the page, and the part of the page that it stands in."""
    assert answer.status_code == 200, answer.text
    page = BeautifulSoup(answer.text, "html.parser")
    text, section = page.find(id="token-text"), page.find(id="token")
    assert isinstance(text, Tag)
    assert isinstance(section, Tag)
    return text.text, section


def test_entra_id_is_asked_for_teams_alone_and_for_whom(signed_in: Person) -> None:
    address = urlsplit(start(signed_in))
    asked = {name: values[0] for name, values in parse_qs(address.query).items()}
    scopes = set(asked["scope"].split())
    assert scopes - {"openid", "profile"} == SCOPES
    assert asked["redirect_uri"] == f"{signed_in.url}/auth/callback"
    assert asked["code_challenge_method"] == "S256"
    assert asked["state"]
    assert asked["nonce"]
    # The account is put first on the picker, by the opaque hint of the sign-in.
    page = BeautifulSoup(signed_in.http.get(address.geturl(), timeout=30).text, "html.parser")
    first = page.find("button", attrs={"name": "account"})
    assert isinstance(first, Tag)
    assert first["value"] == signed_in.account.username


def test_token_stands_on_a_page_that_is_kept_nowhere(
    azure: LocalAzure, service: Service, tables: TableServiceClient, signed_in: Person
) -> None:
    identities = azure.list_identities()
    answer = signed_in.finish_sign_in(go_to_entra(signed_in))
    token, section = read_token(answer)
    check = azure.check_token(token)
    assert (check["valid"], check["identity"]) == (True, f"8:orgid:{signed_in.account.object_id}")
    assert answer.headers["Cache-Control"] == "no-store"
    assert "Location" not in answer.headers
    expires_on = datetime.fromisoformat(str(section["data-expires-on"]))
    now = datetime.fromisoformat(str(section["data-now"]))
    assert timedelta(minutes=50) < expires_on - now <= timedelta(minutes=60)
    assert abs(now - datetime.now(UTC)) < timedelta(seconds=10)
    assert token not in str(read_cookies(answer))
    assert flow_cookies(signed_in) == {}
    assert azure.list_identities() == identities
    assert list_identity_rows(tables, signed_in) == []
    assert_not_logged(service, token)
    assert "teams_token_issued" in [event["event"] for event in read_events(service, answer)]


def test_session_stays_what_it_was(signed_in: Person) -> None:
    before = signed_in.me()
    read_token(signed_in.finish_sign_in(go_to_entra(signed_in)))
    assert signed_in.me() == before


def test_tabs_side_by_side_get_what_each_asked_for(signed_in: Person) -> None:
    teams, sign_in, more_teams = go_to_entra(signed_in), signed_in.start_sign_in(), go_to_entra(signed_in)
    read_token(signed_in.finish_sign_in(more_teams))
    assert signed_in.finish_sign_in(sign_in).status_code == 302
    read_token(signed_in.finish_sign_in(teams))


def test_home_page_leads_there(signed_in: Person) -> None:
    home = BeautifulSoup(signed_in.get("/").text, "html.parser")
    assert home.find("a", href="/auth/teams") is not None


def test_stranger_is_sent_to_sign_in_first(person: Person) -> None:
    answer = person.get("/auth/teams")
    assert answer.status_code == 302
    assert urlsplit(answer.headers["Location"]).path == "/auth/sign-in"
    # A page is where a sign-in leads back to, never the start of another trip.
    assert person.sign_in("/auth/teams").headers["Location"] == "/"


def test_callback_is_good_once(signed_in: Person) -> None:
    callback = go_to_entra(signed_in)
    read_token(signed_in.finish_sign_in(callback))
    assert_error_page(signed_in.finish_sign_in(callback), 400)


def test_other_browser_cannot_use_the_callback(signed_in: Person, regular: Person) -> None:
    assert_error_page(regular.finish_sign_in(go_to_entra(signed_in)), 400)


@pytest.mark.parametrize("error", ["access_denied", "consent_required", "interaction_required", "x" * 2000])
def test_consent_that_is_not_given_is_a_page(service: Service, signed_in: Person, error: str) -> None:
    state = parse_qs(urlsplit(start(signed_in)).query)["state"][0]
    answer = signed_in.get(
        "/auth/callback", params={"error": error, "error_description": "<b>AADSTS65004</b>", "state": state}
    )
    page = assert_error_page(answer, 403)
    assert "Microsoft Teams" in page.text
    assert "AADSTS" not in page.text
    assert signed_in.me()
    events = [event for event in read_events(service, answer) if event["event"] == "authz_fail"]
    assert events[0]["reason"].startswith("teams entra-")


def test_declining_at_entra_id_is_a_page(signed_in: Person) -> None:
    address = start(signed_in)
    page = BeautifulSoup(signed_in.http.get(address, timeout=30).text, "html.parser")
    cancel = page.find("button", attrs={"name": "cancel"})
    assert isinstance(cancel, Tag)
    form = cancel.find_parent("form")
    assert isinstance(form, Tag)
    fields = {str(field["name"]): str(field["value"]) for field in form.find_all("input")} | {"cancel": "1"}
    entra = "{0.scheme}://{0.netloc}".format(urlsplit(address))
    action = str(form.get("action") or address)
    answer = signed_in.http.post(
        action if action.startswith("http") else entra + action,
        data=fields,
        allow_redirects=False,
        timeout=30,
    )
    assert_error_page(signed_in.finish_sign_in(answer.headers["Location"]), 403)


def test_other_account_is_refused_and_nobody_else_is_signed_in(
    azure: LocalAzure, signed_in: Person, new_person: Callable[..., Person]
) -> None:
    other = new_person().account.username
    before = azure.count_calls("acs").get("exchange", 0)
    page = assert_error_page(signed_in.finish_sign_in(go_to_entra(signed_in, other)), 403)
    assert "another account" in page.text
    assert azure.count_calls("acs").get("exchange", 0) == before
    assert signed_in.me()["user"]["objectId"] == signed_in.account.object_id


def test_guest_of_another_tenant_is_refused(signed_in: Person) -> None:
    callback = go_to_entra(signed_in, "guest@fabrikam.example")
    assert_error_page(signed_in.finish_sign_in(callback), 403)


def test_session_that_ended_meanwhile_is_a_page(azure: LocalAzure, signed_in: Person) -> None:
    callback = go_to_entra(signed_in)
    signed_in.sign_out()
    before = azure.count_calls("entra").get("token", 0)
    assert_error_page(signed_in.finish_sign_in(callback), 401)
    assert azure.count_calls("entra").get("token", 0) == before


def test_session_of_somebody_else_meanwhile_gets_nothing(
    signed_in: Person, new_person: Callable[..., Person]
) -> None:
    callback = go_to_entra(signed_in)
    other = new_person()
    browser = Person(signed_in.azure, signed_in.url, other.account)
    browser.http = signed_in.http
    assert browser.sign_in().status_code == 302
    assert_error_page(browser.finish_sign_in(callback), 403)
    assert browser.me()["user"]["objectId"] == other.account.object_id


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        ({"status": 401, "code": "InvalidAccessToken"}, 400),
        ({"status": 400, "code": "ValidationError"}, 400),
        ({"status": 401, "code": "Denied"}, 503),
        ({"status": 429, "retryAfter": "7"}, 503),
        ({"status": 503}, 503),
    ],
    ids=str,
)
def test_refusal_by_communication_services_is_a_page(
    azure: LocalAzure, signed_in: Person, fault: dict[str, object], status: int
) -> None:
    callback = go_to_entra(signed_in)
    azure.plant_fault("acs", "exchange", "status", **fault)
    answer = signed_in.finish_sign_in(callback)
    assert_error_page(answer, status)
    if "retryAfter" in fault:
        assert answer.headers["Retry-After"] == "7"
    azure.clear_faults()
    read_token(signed_in.finish_sign_in(go_to_entra(signed_in)))


@pytest.mark.parametrize("kind", ["expired", "wrong-aud", "bad-signature", "no-oid", "garbage"])
def test_spoilt_access_token_is_a_page(azure: LocalAzure, signed_in: Person, kind: str) -> None:
    callback = go_to_entra(signed_in)
    azure.tamper(kind, of="access")
    assert_error_page(signed_in.finish_sign_in(callback), 400)


@pytest.mark.parametrize("kind", ["expired", "wrong-nonce", "bad-signature", "wrong-aud"])
def test_spoilt_id_token_is_a_page(azure: LocalAzure, signed_in: Person, kind: str) -> None:
    callback = go_to_entra(signed_in)
    before = azure.count_calls("acs").get("exchange", 0)
    azure.tamper(kind)
    assert_error_page(signed_in.finish_sign_in(callback), 400)
    assert azure.count_calls("acs").get("exchange", 0) == before


@pytest.mark.parametrize(("status", "expected"), [(503, 503), (429, 503)])
def test_silence_of_entra_id_is_a_page(
    azure: LocalAzure, signed_in: Person, status: int, expected: int
) -> None:
    callback = go_to_entra(signed_in)
    azure.plant_fault("entra", "token", "status", status=status)
    assert_error_page(signed_in.finish_sign_in(callback), expected)


@pytest.mark.parametrize("parameters", [{}, {"code": ""}])
def test_callback_without_a_code_is_a_page(signed_in: Person, parameters: dict[str, str]) -> None:
    state = parse_qs(urlsplit(start(signed_in)).query)["state"][0]
    assert_error_page(signed_in.get("/auth/callback", params={"state": state} | parameters), 400)


@pytest.fixture(scope="module")
def strict(settings: dict[str, str]) -> Iterator[Service]:
    with Service(settings | {"RATE_LIMIT_TOKEN": "2 per minute"}) as running:
        yield running


def test_trips_count_as_token_requests(strict: Service, new_person: Callable[..., Person]) -> None:
    person = new_person(at=strict)
    assert person.sign_in().status_code == 302
    read_token(person.finish_sign_in(go_to_entra(person)))
    assert person.token().status_code == 200
    answer = person.get("/auth/teams")
    assert_error_page(answer, 429)
    assert 1 <= int(answer.headers["Retry-After"]) <= 61
