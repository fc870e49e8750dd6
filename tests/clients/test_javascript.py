"""The JavaScript client, with a bearer token or on a page of the service's origin."""

from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import Any

import pytest

from tests.clients.javascript import BAD_URLS, REQUEST_TOKENS, run_client
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
    assert azure.count_tokens() == 1


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


OLD_BROWSERS = """
const missing = [
  ...["any", "timeout", "abort"].map((name) => [AbortSignal, name]),
  ...["reason", "throwIfAborted"].map((name) => [AbortSignal.prototype, name]),
  [globalThis, "DOMException"], [URL.prototype, "origin"],
];
const later = setTimeout;
globalThis.setTimeout = (callback, milliseconds) => later(callback, milliseconds / 10_000);
const text = async () => JSON.stringify({ token: "opaque", expiresOn: "2100-01-01T00:00:00Z" });
const response = { status: 200, ok: true, headers: new Map(), text };
const newOld = (fetch) => newRefresher({ serviceUrl: "https://calls.example", fetch });
const hang = () => new Promise(() => {}); // a fetch that knows no signals
const outcomes = new Set();
for (let subset = 0; subset < 2 ** missing.length; subset += 1) {
  const removed = missing.filter((_, bit) => subset & (2 ** bit));
  const saved = removed.map(([holder, name]) => Object.getOwnPropertyDescriptor(holder, name));
  removed.forEach(([holder, name]) => delete holder[name]);
  const controller = new AbortController();
  const aborted = newOld(hang)(controller.signal);
  controller.abort();
  let tries = 0;
  const late = () => (tries += 1) < 3 ? hang() : response;
  outcomes.add(JSON.stringify([
    ...await settle(newOld(late)(controller.signal), aborted, newOld(late)(), newOld(hang)()), tries,
  ]));
  removed.forEach(([holder, name], index) => Object.defineProperty(holder, name, saved[index]));
}
print({ outcomes: [...outcomes].map(JSON.parse) });
"""
LATE = "The service at https://calls.example/api/token did not respond: no response within 30 s"


def test_old_browsers_get_tokens_and_can_abort(run: Run) -> None:
    """Without each combination of what React Native, Android's WebView or Safari before 17.4 lack."""
    for before, during, token, late, tries in run(OLD_BROWSERS)["outcomes"]:
        assert [before["name"], during["name"], token, tries] == ["AbortError"] * 2 + [{"token": "opaque"}, 3]
        assert (late["name"], late["message"]) == ("TokenRequestError", LATE)


def test_signal_of_azure_can_abort(run: Run) -> None:
    code = """
    let abort;
    const addEventListener = (_, listener) => (abort = listener);
    const signal = { aborted: false, addEventListener, removeEventListener() {} };
    const call = settle(newRefresher({ fetch: () => new Promise(() => {}) })(signal));
    setTimeout(() => abort(), 10);
    print({ outcomes: await call });
    """
    assert [outcome["name"] for outcome in run(code)["outcomes"]] == ["AbortError"]


@pytest.mark.parametrize("teams", [False, True])
def test_expiry_reaches_credentials_that_take_it(run: Run, teams: bool) -> None:
    """The older credential takes a bare token only, and calls the refresher in the same way."""
    code = """
    class OlderCredential {
      constructor({ tokenRefresher }) { this.refresh = tokenRefresher; }
      async getToken() { return this.refresh(undefined); }
    }
    let calls = 0;
    const body = { token: "opaque", expiresOn: new Date(Date.now() + 3_600_000).toISOString() };
    const fetch = async () => { calls += 1; return Response.json(body); };
    const create = input.teams ? createTeamsTokenRefresher : createTokenRefresher;
    const options = { serviceUrl, getAccessToken, getTeamsUserAadToken: () => "x", fetch };
    const tokenRefresher = create(options);
    const credential = new AzureCommunicationTokenCredential({ tokenRefresher, refreshProactively: true });
    const tokens = [await credential.getToken(), await credential.getToken()];
    credential.dispose();
    const wrapped = create({ ...options, withExpiry: true });
    const bare = create({ ...options, withExpiry: false });
    print({
      end: Date.parse(body.expiresOn), credential: tokens, calls,
      direct: await tokenRefresher(), wrapped: await wrapped(),
      older: await new OlderCredential({ tokenRefresher }).getToken(),
      bare: await new AzureCommunicationTokenCredential({ tokenRefresher: bare }).tokenCredential.refresh(),
    });
    """
    result = run(code, teams=teams)
    token = {"token": "opaque", "expiresOnTimestamp": result["end"]}
    assert (result["credential"], result["wrapped"]) == ([token] * 2, token)
    assert [result[name] for name in ("direct", "older", "bare")] == ["opaque"] * 3
    assert result["calls"] == 1


def test_address_without_origin_is_refused(run: Run) -> None:
    code = """
    const create = async (serviceUrl) => newRefresher({ serviceUrl }) && "";
    const outcomes = await settle(...[...input.bad, undefined].map(create));
    print({ outcomes, good: await settle(...input.good.map(create)) });
    """
    good = ["https://h.example/", "https://h/api", "http://h.example:80/api/token", "HTTPS://h.example"]
    result = run(code, bad=BAD_URLS, good=good)
    for outcome in result["outcomes"]:
        assert (outcome["name"], outcome["message"][:10]) == ("TypeError", "serviceUrl"), outcome
        assert "hunter2" not in outcome["message"]
    assert result["good"] == [{"token": ""}] * 4


def test_missing_fetch_is_named_at_once(run: Run) -> None:
    code = """
    const { fetch } = globalThis;
    delete globalThis.fetch;
    const create = async (options) => newRefresher(options) && "";
    print({ outcomes: await settle(create({}), create({ fetch: "no" }), create({ fetch })) });
    """
    *missing, given = run(code)["outcomes"]
    assert [(error["name"], error["message"][:5]) for error in missing] == [("TypeError", "fetch")] * 2
    assert given == {"token": ""}


def test_teams_token_must_be_text(run: Run) -> None:
    code = """
    const fetch = () => print({ sent: true });
    const getTeamsUserAadToken = () => ({ accessToken: "SECRET" });
    const refresh = createTeamsTokenRefresher({ serviceUrl, getAccessToken, getTeamsUserAadToken, fetch });
    print({ outcomes: await settle(refresh()) });
    """
    (error,) = run(code)["outcomes"]
    assert (error["name"], error["message"][:31]) == ("TypeError", "getTeamsUserAadToken must retur")


def test_page_learns_what_the_browser_hides(run: Run) -> None:
    code = """
    globalThis.location = { origin: "https://app.example" };
    const later = setTimeout;
    globalThis.setTimeout = (callback, milliseconds) => later(callback, milliseconds / 10_000);
    const fetch = async () => { throw new TypeError("Failed to fetch"); };
    print({ outcomes: await settle(newRefresher({ fetch, serviceUrl: "https://calls.example" })()) });
    """
    (error,) = run(code)["outcomes"]
    for part in ("https://calls.example/", "Failed to fetch", "CORS_ORIGINS", "https://app.example"):
        assert part in error["message"]
