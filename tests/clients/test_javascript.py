"""The JavaScript client, with a bearer token or on a page of the service's origin."""

from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import Any

import pytest

from tests.clients.javascript import ASK, run_client
from tests.support.concurrency import timed
from tests.support.local_azure import LocalAzure
from tests.support.node import join_cookies
from tests.support.person import Person
from tests.support.tokens import make_token

Run = Callable[..., dict[str, Any]]

WITH_SIGNALS = """
const signals = [];
const tokenRefresher = newRefresher({ fetch: (url, init) => {
  signals.push(init.signal);
  return fetch(url, init);
} });
const controllers = [new AbortController(), new AbortController()];
const calls = settle(...controllers.map(({ signal }) => tokenRefresher(signal)));
"""
AS_PAGE = """
import { requests, takeCookies } from "./as-browser.mjs";
"""
TWO_SESSIONS = """
globalThis.location = { origin: serviceUrl }; // that of the page counts
const tokenRefresher = createTokenRefresher({ onSignInRequired });
const answers = await settle(tokenRefresher());
takeCookies(input.others);
answers.push(...await settle(tokenRefresher()), ...await settle(tokenRefresher()));
print({ answers, requests, refused });
"""


@pytest.fixture
def run(person: Person, access_token: str) -> Run:
    """Runs code with the person's access token, unless another is given; returns the object it prints."""
    return partial(run_client, person, accessToken=access_token)


def run_page(person: Person, code: str, **given: object) -> dict[str, Any]:
    """Run code as if on a page of the service, with the person's cookies."""
    return run_client(person, AS_PAGE + code, **given)


def test_credential_gets_a_token_with_requested_options(azure: LocalAzure, run: Run) -> None:
    code = """
    const tokenRefresher = newRefresher({ scopes: ["chat"], expiresInMinutes: 60 });
    const credential = new AzureCommunicationTokenCredential({ tokenRefresher });
    const answers = [await credential.getToken(), await credential.getToken()];
    credential.dispose();
    print({ answers });
    """
    azure.reset_calls()
    first, again = run(code)["answers"]
    check = azure.check_token(first["token"])
    assert (check["valid"], check["scopes"]) == (True, ["chat"])
    assert again == first
    assert sum(azure.count_calls("acs").values()) == 1


def test_credential_refreshes_proactively(azure: LocalAzure, run: Run) -> None:
    code = """
    let noteRefreshed;
    const refreshed = new Promise((resolve) => (noteRefreshed = resolve));
    const refresh = newRefresher();
    const tokenRefresher = async (abortSignal) => {
      const token = await refresh(abortSignal);
      setImmediate(noteRefreshed); // the credential gets the token first
      return token;
    };
    const credential = new AzureCommunicationTokenCredential({
      tokenRefresher, refreshProactively: true, token: input.old,
    });
    await refreshed;
    print({ answers: [await credential.getToken()] });
    credential.dispose();
    """
    old = make_token(2)
    (response,) = run(code, old=old)["answers"]
    assert response["token"] != old
    assert azure.check_token(response["token"])["valid"]


def test_refused_access_token_is_fetched_again(run: Run) -> None:
    code = """
    const asked = [];
    async function refreshWith(later) {
      const getAccessToken = async (abortSignal, options) => {
        asked.push({ ...options, aborted: abortSignal.aborted });
        return options.forceRefresh ? later : "an.expired.token";
      };
      return await newRefresher({ getAccessToken, onSignInRequired: (error) => asked.push(error.code) })();
    }
    const answers = await settle(refreshWith(input.accessToken));
    print({ answers: [...answers, ...await settle(refreshWith("no.better.token"))], asked });
    """
    result = run(code)
    good, bad = result["answers"]
    assert good["token"]
    assert (bad["status"], bad["code"]) == (401, "invalid_token")
    tries = [{"forceRefresh": again, "aborted": False} for again in (False, True)]
    assert result["asked"] == [*tries, *tries, "invalid_token"]


def test_401_reaches_the_app_once_for_all_callers(run: Run) -> None:
    result = run(ASK, accessToken="no.good.token", times=3)
    outcomes = {(response["status"], response["code"]) for response in result["answers"]}
    assert outcomes == {(401, "invalid_token")}
    assert result["refused"] == ["invalid_token"]


def test_error_of_the_app_itself_is_unchanged(run: Run) -> None:
    code = """
    const failing = async () => { throw new RangeError("interaction required"); };
    print({ answers: await settle(newRefresher({ getAccessToken: failing })()) });
    """
    (response,) = run(code)["answers"]
    assert (response["name"], response["message"]) == ("RangeError", "interaction required")


def test_abort_of_one_caller_leaves_the_others(azure: LocalAzure, run: Run) -> None:
    code = """
    controllers[0].abort();
    await sleep(100);
    const kept = !signals[0].aborted;
    const early = await settle(tokenRefresher(AbortSignal.abort()));
    print({ answers: [...await calls, ...early], kept });
    """
    azure.plant_fault("acs", "create", "delay", seconds=0.5)
    result = run(WITH_SIGNALS + code)
    left, stayed, early = result["answers"]
    assert (left["name"], early["name"]) == ("AbortError", "AbortError")
    assert azure.check_token(stayed["token"])["valid"]
    assert result["kept"]


def test_request_ends_with_its_last_caller(azure: LocalAzure, run: Run) -> None:
    code = """
    await sleep(100);
    controllers.forEach((controller) => controller.abort());
    const [left, [{ aborted }]] = [await calls, signals];
    print({ answers: [...left, ...await settle(tokenRefresher())], aborted, requests: signals.length });
    """
    azure.plant_fault("acs", "create", "delay", seconds=0.5)
    result = run(WITH_SIGNALS + code)
    *left, after = result["answers"]
    assert [response["name"] for response in left] == ["AbortError", "AbortError"]
    assert azure.check_token(after["token"])["valid"]
    assert (result["aborted"], result["requests"]) == (True, 2)


def test_wait_is_cut_short_by_an_abort(azure: LocalAzure, run: Run) -> None:
    azure.plant_fault("acs", "create", "status", status=503, retryAfter="100")
    code = "print({ answers: await settle(newRefresher()(AbortSignal.timeout(700))) });"
    result, seconds = timed(lambda: run(code))
    assert [response["name"] for response in result["answers"]] == ["TimeoutError"]
    assert seconds < 10


def test_teams_refresher_exchanges_the_callers_own_token(azure: LocalAzure, person: Person, run: Run) -> None:
    code = """
    const getTeamsUserAadToken = async () => input.teamsUserAadToken;
    const refresh = createTeamsTokenRefresher({ serviceUrl, getAccessToken, getTeamsUserAadToken });
    print({ answers: await settle(refresh()) });
    """
    teams, _ = azure.mint_tokens(username=person.account.username, scope="teams")
    (response,) = run(code, teamsUserAadToken=teams)["answers"]
    assert azure.check_token(response["token"])["valid"]


def test_credential_is_fed_by_the_session(azure: LocalAzure, signed_in: Person) -> None:
    code = """
    const tokenRefresher = createTokenRefresher({ serviceUrl, onSignInRequired });
    const credential = new AzureCommunicationTokenCredential({ tokenRefresher });
    const issued = new AzureCommunicationTokenCredential(input.issued.token);
    const answers = [await credential.getToken(), { token: await tokenRefresher() }, await issued.getToken()];
    print({ answers, requests, refused });
    """
    issued = signed_in.token().json()
    result = run_page(signed_in, code, issued=issued)
    checks = [azure.check_token(response["token"]) for response in result["answers"]]
    identity = signed_in.me()["communicationUserId"]
    assert [(check["valid"], check["identity"]) for check in checks] == [(True, identity)] * 3
    assert (result["requests"], result["refused"]) == ({"/api/me": 1, "/api/token": 2}, [])
    expires = datetime.fromisoformat(issued["expiresOn"]).timestamp() * 1000
    assert result["answers"][-1]["expiresOnTimestamp"] == expires  # as the service named it


def test_sign_in_in_another_tab_is_followed(azure: LocalAzure, signed_in: Person) -> None:
    result = run_page(signed_in, TWO_SESSIONS, others=join_cookies(signed_in.in_new_browser()))
    assert all(azure.check_token(response["token"])["valid"] for response in result["answers"])
    # The first request after the change is refused; the value that is read then serves the last one, too.
    assert (result["requests"], result["refused"]) == ({"/api/me": 2, "/api/token": 4}, [])


def test_sign_in_of_another_gives_no_token(signed_in: Person, new_person: Callable[..., Person]) -> None:
    other = new_person().signed_in()
    result = run_page(signed_in, TWO_SESSIONS, others=join_cookies(other))
    own, *refusals = result["answers"]
    assert signed_in.azure.check_token(own["token"])["valid"]
    assert [(response["status"], response["code"]) for response in refusals] == [(401, "user_changed")] * 2
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
    outcomes = [(response["status"], response["code"]) for response in result["answers"]]
    assert outcomes == [(401, "not_signed_in")] * 2
    assert (result["requests"], result["refused"]) == ({"/api/me": 1}, ["not_signed_in"])


def test_cookie_of_another_origin_is_refused(signed_in: Person) -> None:
    code = """
    globalThis.location = { origin: "https://app.example" };
    const make = async () => createTokenRefresher({ serviceUrl });
    print({ answers: await settle(make()), requests });
    """
    result = run_page(signed_in, code)
    assert result["answers"][0]["name"] == "TypeError"
    assert result["requests"] == {}
