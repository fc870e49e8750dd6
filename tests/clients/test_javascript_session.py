"""The JavaScript client on a page of the service's origin, where a cookie says who asks."""

from collections.abc import Callable
from typing import Any

from tests.clients.javascript import run_client
from tests.support.local_azure import LocalAzure
from tests.support.node import join_cookies
from tests.support.person import Person

AS_PAGE = """
import { requests, takeCookies } from "./as-browser.mjs";
const refused = [];
const onSignInRequired = (error) => refused.push(error.code);
"""
TWO_SESSIONS = """
globalThis.location = { origin: serviceUrl }; // that of the page counts
const tokenRefresher = createTokenRefresher({ onSignInRequired });
const answers = await settle(tokenRefresher());
takeCookies(input.others);
answers.push(...await settle(tokenRefresher()), ...await settle(tokenRefresher()));
print({ answers, requests, refused });
"""


def run_page(person: Person, code: str, **given: object) -> dict[str, Any]:
    return run_client(person, AS_PAGE + code, **given)


def test_credential_is_fed_by_the_session(azure: LocalAzure, signed_in: Person) -> None:
    code = """
    const tokenRefresher = createTokenRefresher({ serviceUrl, onSignInRequired });
    const credential = new AzureCommunicationTokenCredential({ tokenRefresher });
    print({ answers: [await credential.getToken(), { token: await tokenRefresher() }], requests, refused });
    """
    result = run_page(signed_in, code)
    identity = signed_in.me()["communicationUserId"]
    checks = [azure.check_token(answer["token"]) for answer in result["answers"]]
    assert [(check["valid"], check["identity"]) for check in checks] == [(True, identity)] * 2
    assert (result["requests"], result["refused"]) == ({"/api/me": 1, "/api/token": 2}, [])


def test_sign_in_in_another_tab_is_followed(azure: LocalAzure, signed_in: Person) -> None:
    again = Person(azure, signed_in.url, signed_in.account)
    assert again.sign_in().status_code == 302
    result = run_page(signed_in, TWO_SESSIONS, others=join_cookies(again))
    assert all(azure.check_token(answer["token"])["valid"] for answer in result["answers"])
    # The first request after the change is refused; the value that is read then serves the last one, too.
    assert (result["requests"], result["refused"]) == ({"/api/me": 2, "/api/token": 4}, [])


def test_sign_in_of_somebody_else_is_no_way_to_their_token(
    azure: LocalAzure, signed_in: Person, new_person: Callable[..., Person]
) -> None:
    other = new_person()
    assert other.sign_in().status_code == 302
    result = run_page(signed_in, TWO_SESSIONS, others=join_cookies(other))
    own, *refusals = result["answers"]
    assert azure.check_token(own["token"])["valid"]
    assert [(answer["status"], answer["code"]) for answer in refusals] == [(401, "user_changed")] * 2
    assert result["refused"] == ["user_changed"] * 2
    assert other.me()["communicationUserId"] is None


def test_ended_session_is_handed_to_the_app_once(signed_in: Person) -> None:
    code = """
    const tokenRefresher = createTokenRefresher({ serviceUrl, onSignInRequired });
    print({ answers: await settle(tokenRefresher(), tokenRefresher()), requests, refused });
    """
    cookies = dict(signed_in.http.cookies)
    assert signed_in.sign_out().status_code == 303
    signed_in.http.cookies.update(cookies)
    result = run_page(signed_in, code)
    assert [(answer["status"], answer["code"]) for answer in result["answers"]] == [
        (401, "not_signed_in")
    ] * 2
    assert (result["requests"], result["refused"]) == ({"/api/me": 1}, ["not_signed_in"])


def test_cookie_of_another_origin_is_refused_before_any_request(signed_in: Person) -> None:
    code = """
    globalThis.location = { origin: "https://app.example" };
    const make = async () => createTokenRefresher({ serviceUrl });
    print({ answers: await settle(make()), requests });
    """
    result = run_page(signed_in, code)
    assert result["answers"][0]["name"] == "TypeError"
    assert result["requests"] == {}
