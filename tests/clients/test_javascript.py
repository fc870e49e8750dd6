"""The JavaScript client, with a bearer token or on a page of the service's origin."""

from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import Any

import pytest

from tests.clients.javascript import REQUEST_TOKENS, run_client
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
globalThis.location = { origin: serviceUrl }; // the default serviceUrl
const tokenRefresher = createTokenRefresher({ onSignInRequired });
const outcomes = await settle(tokenRefresher());
takeCookies(input.others);
outcomes.push(...await settle(tokenRefresher()), ...await settle(tokenRefresher()));
print({ outcomes, requests, refused });
"""


@pytest.fixture
def run(person: Person, access_token: str) -> Run:
    """Runs code with the person's access token, unless another is given; returns the printed object."""
    return partial(run_client, person, accessToken=access_token)


def run_page(person: Person, code: str, **inputs: object) -> dict[str, Any]:
    """Run code as if on a page of the service, with the person's cookies."""
    return run_client(person, AS_PAGE + code, **inputs)


def test_credential_gets_a_token_with_requested_options(azure: LocalAzure, run: Run) -> None:
    code = """
    const tokenRefresher = newRefresher({ scopes: ["chat"], expiresInMinutes: 60 });
    const credential = new AzureCommunicationTokenCredential({ tokenRefresher });
    const outcomes = [await credential.getToken(), await credential.getToken()];
    credential.dispose();
    print({ outcomes });
    """
    azure.reset_calls()
    first, again = run(code)["outcomes"]
    check = azure.check_token(first["token"])
    assert (check["valid"], check["scopes"]) == (True, ["chat"])
    assert again == first
    assert sum(azure.count_calls("acs").values()) == 1


def test_credential_refreshes_proactively(azure: LocalAzure, run: Run) -> None:
    code = """
    let signalRefreshed;
    const refreshed = new Promise((resolve) => (signalRefreshed = resolve));
    const refresh = newRefresher();
    const tokenRefresher = async (abortSignal) => {
      const token = await refresh(abortSignal);
      setImmediate(signalRefreshed); // the credential gets the token first
      return token;
    };
    const credential = new AzureCommunicationTokenCredential({
      tokenRefresher, refreshProactively: true, token: input.old,
    });
    await refreshed;
    print({ outcomes: [await credential.getToken()] });
    credential.dispose();
    """
    old = make_token(2)
    (outcome,) = run(code, old=old)["outcomes"]
    assert outcome["token"] != old
    assert azure.check_token(outcome["token"])["valid"]


def test_refused_access_token_is_replaced(run: Run) -> None:
    code = """
    const calls = [];
    async function refreshWith(later) {
      const getAccessToken = async (abortSignal, options) => {
        calls.push({ ...options, aborted: abortSignal.aborted });
        return options.forceRefresh ? later : "an.expired.token";
      };
      return await newRefresher({ getAccessToken, onSignInRequired: (error) => calls.push(error.code) })();
    }
    const outcomes = await settle(refreshWith(input.accessToken));
    print({ outcomes: [...outcomes, ...await settle(refreshWith("no.better.token"))], calls });
    """
    result = run(code)
    good, bad = result["outcomes"]
    assert good["token"]
    assert (bad["status"], bad["code"]) == (401, "invalid_token")
    tries = [{"forceRefresh": again, "aborted": False} for again in (False, True)]
    assert result["calls"] == [*tries, *tries, "invalid_token"]


def test_401_reaches_the_app_once_for_all_callers(run: Run) -> None:
    result = run(REQUEST_TOKENS, accessToken="no.good.token", times=3)
    outcomes = {(outcome["status"], outcome["code"]) for outcome in result["outcomes"]}
    assert outcomes == {(401, "invalid_token")}
    assert result["refused"] == ["invalid_token"]


def test_error_of_the_app_itself_is_unchanged(run: Run) -> None:
    code = """
    const failing = async () => { throw new RangeError("interaction required"); };
    print({ outcomes: await settle(newRefresher({ getAccessToken: failing })()) });
    """
    (outcome,) = run(code)["outcomes"]
    assert (outcome["name"], outcome["message"]) == ("RangeError", "interaction required")


def test_abort_of_one_caller_leaves_the_others(azure: LocalAzure, run: Run) -> None:
    code = """
    controllers[0].abort();
    await sleep(100);
    const kept = !signals[0].aborted;
    const early = await settle(tokenRefresher(AbortSignal.abort()));
    print({ outcomes: [...await calls, ...early], kept });
    """
    azure.plant_fault("acs", "create", "delay", seconds=0.5)
    result = run(WITH_SIGNALS + code)
    left, stayed, early = result["outcomes"]
    assert (left["name"], early["name"]) == ("AbortError", "AbortError")
    assert azure.check_token(stayed["token"])["valid"]
    assert result["kept"]


def test_request_ends_with_its_last_caller(azure: LocalAzure, run: Run) -> None:
    code = """
    await sleep(100);
    controllers.forEach((controller) => controller.abort());
    const [left, [{ aborted }]] = [await calls, signals];
    print({ outcomes: [...left, ...await settle(tokenRefresher())], aborted, requests: signals.length });
    """
    azure.plant_fault("acs", "create", "delay", seconds=0.5)
    result = run(WITH_SIGNALS + code)
    *left, after = result["outcomes"]
    assert [outcome["name"] for outcome in left] == ["AbortError", "AbortError"]
    assert azure.check_token(after["token"])["valid"]
    assert (result["aborted"], result["requests"]) == (True, 2)


def test_wait_is_cut_short_by_an_abort(azure: LocalAzure, run: Run) -> None:
    azure.plant_fault("acs", "create", "status", status=503, retryAfter="100")
    code = "print({ outcomes: await settle(newRefresher()(AbortSignal.timeout(700))) });"
    result, seconds = timed(lambda: run(code))
    assert [outcome["name"] for outcome in result["outcomes"]] == ["TimeoutError"]
    assert seconds < 10


def test_teams_refresher_exchanges_the_callers_own_token(azure: LocalAzure, person: Person, run: Run) -> None:
    code = """
    const getTeamsUserAadToken = async () => input.teamsUserAadToken;
    const refresh = createTeamsTokenRefresher({ serviceUrl, getAccessToken, getTeamsUserAadToken });
    print({ outcomes: await settle(refresh()) });
    """
    teams, _ = azure.mint_tokens(username=person.account.username, scope="teams")
    (outcome,) = run(code, teamsUserAadToken=teams)["outcomes"]
    assert azure.check_token(outcome["token"])["valid"]


def test_credential_gets_tokens_by_the_session(azure: LocalAzure, signed_in: Person) -> None:
    code = """
    const tokenRefresher = createTokenRefresher({ serviceUrl, onSignInRequired });
    const credential = new AzureCommunicationTokenCredential({ tokenRefresher });
    const fixed = new AzureCommunicationTokenCredential(input.issued.token);
    const outcomes = [await credential.getToken(), { token: await tokenRefresher() }, await fixed.getToken()];
    print({ outcomes, requests, refused });
    """
    issued = signed_in.token().json()
    result = run_page(signed_in, code, issued=issued)
    checks = [azure.check_token(outcome["token"]) for outcome in result["outcomes"]]
    identity = signed_in.me()["communicationUserId"]
    assert [(check["valid"], check["identity"]) for check in checks] == [(True, identity)] * 3
    assert (result["requests"], result["refused"]) == ({"/api/me": 1, "/api/token": 2}, [])
    expires = datetime.fromisoformat(issued["expiresOn"]).timestamp() * 1000
    assert result["outcomes"][-1]["expiresOnTimestamp"] == expires  # as the service reported it


def test_refresher_survives_sign_in_in_another_tab(azure: LocalAzure, signed_in: Person) -> None:
    result = run_page(signed_in, TWO_SESSIONS, others=join_cookies(signed_in.in_new_browser()))
    assert all(azure.check_token(outcome["token"])["valid"] for outcome in result["outcomes"])
    # The first request after the change is refused; the new CSRF value serves the last one, too.
    assert (result["requests"], result["refused"]) == ({"/api/me": 2, "/api/token": 4}, [])


def test_sign_in_of_another_user_gives_no_token(signed_in: Person, new_person: Callable[..., Person]) -> None:
    other = new_person().signed_in()
    result = run_page(signed_in, TWO_SESSIONS, others=join_cookies(other))
    own, *refusals = result["outcomes"]
    assert signed_in.azure.check_token(own["token"])["valid"]
    assert [(outcome["status"], outcome["code"]) for outcome in refusals] == [(401, "user_changed")] * 2
    assert result["refused"] == ["user_changed"] * 2
    assert other.me()["communicationUserId"] is None


def test_ended_session_is_reported_to_the_app_once(signed_in: Person) -> None:
    code = """
    const tokenRefresher = createTokenRefresher({ serviceUrl, onSignInRequired });
    print({ outcomes: await settle(tokenRefresher(), tokenRefresher()), requests, refused });
    """
    cookies = dict(signed_in.http.cookies)
    assert signed_in.sign_out().status_code == 303
    signed_in.http.cookies.update(cookies)
    result = run_page(signed_in, code)
    outcomes = [(outcome["status"], outcome["code"]) for outcome in result["outcomes"]]
    assert outcomes == [(401, "not_signed_in")] * 2
    assert (result["requests"], result["refused"]) == ({"/api/me": 1}, ["not_signed_in"])


def test_cookie_of_another_origin_is_refused(signed_in: Person) -> None:
    code = """
    globalThis.location = { origin: "https://app.example" };
    const make = async () => createTokenRefresher({ serviceUrl });
    print({ outcomes: await settle(make()), requests });
    """
    result = run_page(signed_in, code)
    assert result["outcomes"][0]["name"] == "TypeError"
    assert result["requests"] == {}
