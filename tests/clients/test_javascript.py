"""The JavaScript client with a bearer token: what it gets, waits out, shares and gives up."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from tests.clients.javascript import run_client
from tests.support.gate import Gate
from tests.support.local_azure import LocalAzure
from tests.support.person import Person
from tests.support.service import Service
from tests.support.together import timed
from tests.support.tokens import make_token

ASK = """
const refused = [];
const onSignInRequired = (error) => refused.push(error.code);
const tokenRefresher = createTokenRefresher({ serviceUrl, getAccessToken, onSignInRequired });
const answers = await settle(...Array.from({ length: input.times ?? 1 }, () => tokenRefresher()));
print({ answers, refused });
"""


def ask(person: Person, access_token: str, **given: object) -> dict[str, Any]:
    return run_client(person, ASK, accessToken=access_token, **given)


def test_credential_gets_a_token_with_the_scopes_and_life_that_were_asked(
    azure: LocalAzure, person: Person, access_token: str
) -> None:
    code = """
    const wish = { scopes: ["chat"], expiresInMinutes: 60 };
    const tokenRefresher = createTokenRefresher({ serviceUrl, getAccessToken, ...wish });
    const credential = new AzureCommunicationTokenCredential({ tokenRefresher });
    const answers = [await credential.getToken(), await credential.getToken()];
    credential.dispose();
    print({ answers });
    """
    azure.reset_calls()
    first, again = run_client(person, code, accessToken=access_token)["answers"]
    check = azure.check_token(first["token"])
    assert (check["valid"], check["scopes"]) == (True, ["chat"])
    assert again == first
    assert sum(azure.count_calls("acs").values()) == 1


def test_wish_that_the_service_refuses_is_an_error_at_once(
    azure: LocalAzure, person: Person, access_token: str
) -> None:
    code = """
    const tokenRefresher = createTokenRefresher({ serviceUrl, getAccessToken, expiresInMinutes: 59 });
    print({ answers: await settle(tokenRefresher()) });
    """
    (answer,) = run_client(person, code, accessToken=access_token)["answers"]
    assert (answer["name"], answer["status"], answer["code"]) == ("TokenRequestError", 400, "invalid_request")
    assert answer["requestId"]
    assert answer["retryAfter"] is None


def test_credential_refreshes_proactively(azure: LocalAzure, person: Person, access_token: str) -> None:
    code = """
    let noteRefreshed;
    const refreshed = new Promise((resolve) => (noteRefreshed = resolve));
    const refresh = createTokenRefresher({ serviceUrl, getAccessToken });
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
    (answer,) = run_client(person, code, accessToken=access_token, old=old)["answers"]
    assert answer["token"] != old
    assert azure.check_token(answer["token"])["valid"]


def test_calls_at_once_share_one_request(azure: LocalAzure, person: Person, access_token: str) -> None:
    azure.reset_calls()
    answers = ask(person, access_token, times=10)["answers"]
    assert len({answer["token"] for answer in answers}) == 1
    assert len(answers) == 10
    assert sum(azure.count_calls("acs").values()) == 1  # the create, whose answer holds the first token


def test_refused_access_token_is_got_anew_once(person: Person, access_token: str) -> None:
    code = """
    const asked = [];
    const onSignInRequired = (error) => asked.push(error.code);
    async function refreshWith(later) {
      const getAccessToken = async (abortSignal, options) => {
        asked.push({ ...options, aborted: abortSignal.aborted });
        return options.forceRefresh ? later : "an.expired.token";
      };
      return await createTokenRefresher({ serviceUrl, getAccessToken, onSignInRequired })();
    }
    const answers = await settle(refreshWith(input.accessToken));
    print({ answers: [...answers, ...await settle(refreshWith("no.better.token"))], asked });
    """
    result = run_client(person, code, accessToken=access_token)
    good, bad = result["answers"]
    assert good["token"]
    assert (bad["status"], bad["code"]) == (401, "invalid_token")
    tries = [{"forceRefresh": again, "aborted": False} for again in (False, True)]
    assert result["asked"] == [*tries, *tries, "invalid_token"]


def test_401_is_handed_to_the_app_once_for_all_callers(person: Person) -> None:
    result = ask(person, "no.good.token", times=3)
    assert {(answer["status"], answer["code"]) for answer in result["answers"]} == {(401, "invalid_token")}
    assert result["refused"] == ["invalid_token"]


def test_error_of_the_app_itself_comes_out_as_it_is(person: Person) -> None:
    code = """
    const failing = async () => { throw new RangeError("interaction required"); };
    print({ answers: await settle(createTokenRefresher({ serviceUrl, getAccessToken: failing })()) });
    """
    (answer,) = run_client(person, code)["answers"]
    assert (answer["name"], answer["message"]) == ("RangeError", "interaction required")


def test_rate_limit_is_waited_out(
    azure: LocalAzure, strict_service: Service, person: Person, access_token: str
) -> None:
    code = """
    const tokenRefresher = createTokenRefresher({ serviceUrl, getAccessToken });
    print({ answers: [...await settle(tokenRefresher()), ...await settle(tokenRefresher())] });
    """
    result = run_client(person, code, serviceUrl=strict_service.url, accessToken=access_token)
    assert all(azure.check_token(answer["token"])["valid"] for answer in result["answers"])
    assert '"status": 429' in strict_service.log()


@pytest.mark.parametrize(("status", "as_date"), [(429, False), (503, True)], ids=["seconds", "date"])
def test_upstream_in_trouble_is_waited_out_as_long_as_it_says(
    azure: LocalAzure, person: Person, access_token: str, status: int, as_date: bool
) -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=3), usegmt=True)
    azure.plant_fault("acs", "create", "status", status=status, retryAfter=date if as_date else "2")
    result, seconds = timed(lambda: ask(person, access_token))
    assert azure.check_token(result["answers"][0]["token"])["valid"]
    assert seconds > (1.5 if as_date else 2)


def test_tries_are_four_at_most(azure: LocalAzure, person: Person, access_token: str) -> None:
    azure.plant_fault("acs", "create", "status", status=503, retryAfter="0", times=None)
    azure.reset_calls()
    (answer,) = ask(person, access_token)["answers"]
    assert (answer["status"], answer["code"]) == (503, "upstream_unavailable")
    assert azure.count_calls("acs") == {"create": 4}


def test_wait_that_is_too_long_is_left_to_the_app(
    azure: LocalAzure, person: Person, access_token: str
) -> None:
    azure.plant_fault("acs", "create", "status", status=429, retryAfter="3600")
    (answer,) = ask(person, access_token)["answers"]
    assert (answer["code"], answer["retryAfter"]) == ("upstream_throttled", 3600)


def test_broken_connection_is_tried_again(
    azure: LocalAzure, gate: Gate, person: Person, access_token: str
) -> None:
    gate.hang_up(1)
    (answer,) = ask(person, access_token, serviceUrl=f"http://127.0.0.1:{gate.port}")["answers"]
    assert azure.check_token(answer["token"])["valid"]


def test_service_that_is_away_is_given_up_without_a_status(gate: Gate, person: Person) -> None:
    gate.hang_up(10)
    result, seconds = timed(lambda: ask(person, "x", serviceUrl=f"http://127.0.0.1:{gate.port}"))
    (answer,) = result["answers"]
    assert (answer["name"], answer["status"], answer["code"]) == ("TokenRequestError", None, None)
    assert 7 <= seconds < 14  # 1, 2 and 4


def test_redirect_is_an_error_at_once(redirecting_url: str, person: Person) -> None:
    result, seconds = timed(lambda: ask(person, "x", serviceUrl=redirecting_url))
    (answer,) = result["answers"]
    assert (answer["name"], answer["status"], answer["code"]) == ("TokenRequestError", 302, None)
    assert seconds < 3


def test_caller_who_aborts_leaves_the_others_waiting(
    azure: LocalAzure, person: Person, access_token: str
) -> None:
    code = """
    let requestSignal;
    const tokenRefresher = createTokenRefresher({ serviceUrl, getAccessToken, fetch: (url, init) => {
      requestSignal = init.signal;
      return fetch(url, init);
    } });
    const [leaving, staying] = [new AbortController(), new AbortController()];
    const answers = settle(tokenRefresher(leaving.signal), tokenRefresher(staying.signal));
    leaving.abort();
    await sleep(100);
    const kept = !requestSignal.aborted;
    const early = await settle(tokenRefresher(AbortSignal.abort()));
    print({ answers: [...await answers, ...early], kept });
    """
    azure.plant_fault("acs", "create", "delay", seconds=0.5)
    result = run_client(person, code, accessToken=access_token)
    left, stayed, early = result["answers"]
    assert (left["name"], early["name"]) == ("AbortError", "AbortError")
    assert azure.check_token(stayed["token"])["valid"]
    assert result["kept"]


def test_request_that_nobody_waits_for_is_aborted(
    azure: LocalAzure, person: Person, access_token: str
) -> None:
    code = """
    const signals = [];
    const tokenRefresher = createTokenRefresher({ serviceUrl, getAccessToken, fetch: (url, init) => {
      signals.push(init.signal);
      return fetch(url, init);
    } });
    const controllers = [new AbortController(), new AbortController()];
    const answers = settle(...controllers.map(({ signal }) => tokenRefresher(signal)));
    await sleep(100);
    controllers.forEach((controller) => controller.abort());
    const [left, [{ aborted }]] = [await answers, signals];
    print({ answers: [...left, ...await settle(tokenRefresher())], aborted, requests: signals.length });
    """
    azure.plant_fault("acs", "create", "delay", seconds=0.5)
    result = run_client(person, code, accessToken=access_token)
    *left, after = result["answers"]
    assert [answer["name"] for answer in left] == ["AbortError", "AbortError"]
    assert azure.check_token(after["token"])["valid"]
    assert (result["aborted"], result["requests"]) == (True, 2)


def test_wait_is_cut_short_by_an_abort(azure: LocalAzure, person: Person, access_token: str) -> None:
    code = """
    const tokenRefresher = createTokenRefresher({ serviceUrl, getAccessToken });
    print({ answers: await settle(tokenRefresher(AbortSignal.timeout(700))) });
    """
    azure.plant_fault("acs", "create", "status", status=503, retryAfter="100")
    result, seconds = timed(lambda: run_client(person, code, accessToken=access_token))
    assert [answer["name"] for answer in result["answers"]] == ["TimeoutError"]
    assert seconds < 10


def test_teams_refresher_exchanges_the_callers_own_token(
    azure: LocalAzure, person: Person, access_token: str
) -> None:
    code = """
    const getTeamsUserAadToken = async () => input.teamsUserAadToken;
    const refresh = createTeamsTokenRefresher({ serviceUrl, getAccessToken, getTeamsUserAadToken });
    print({ answers: await settle(refresh()) });
    """
    teams, _ = azure.mint_tokens(username=person.account.username, scope="teams")
    (answer,) = run_client(person, code, accessToken=access_token, teamsUserAadToken=teams)["answers"]
    assert azure.check_token(answer["token"])["valid"]
