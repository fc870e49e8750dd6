"""Invalid callbacks: an error page, no session, one log line."""

from collections.abc import Callable
from functools import partial

import pytest
import requests
from bs4 import BeautifulSoup

from tests.support.cookies import SESSION
from tests.support.flows import (
    Parameters,
    flow_cookies,
    join_callback,
    read_own_flow,
    replace_flow,
    split_callback,
    write_own_flow,
)
from tests.support.log import assert_not_logged, read_event
from tests.support.own_azure import World
from tests.support.pages import assert_error_page
from tests.support.person import Person
from tests.support.service import Service, request_lines

MARKUP = "<script>alert(1)</script>"
FORGED_LINE = 'x\r\n{"event": "forged"}\x1b[31m'

Change = Callable[[Parameters], Parameters]


def assert_failed(service: Service, response: requests.Response, reason: str) -> BeautifulSoup:
    """Check for an error page, and for this reason in the log."""
    page = assert_error_page(response, 400)
    assert read_event(service, response, "authn_login_fail")["reason"] == reason
    return page


def put(name: str, value: str, parameters: Parameters) -> Parameters:
    return [*drop(name, parameters), (name, value)]


def drop(name: str, parameters: Parameters) -> Parameters:
    return [pair for pair in parameters if pair[0] != name]


def repeat(name: str, value: str | None, parameters: Parameters) -> Parameters:
    return [*parameters, (name, dict(parameters)[name] if value is None else value)]


def fail(error: str, parameters: Parameters) -> Parameters:
    """Replace the code with an error, as Entra ID does."""
    description = f"{MARKUP}<img src=x onerror=alert(2)>"
    return [*drop("code", parameters), ("error", error), ("error_description", description)]


CHANGES: dict[str, tuple[Change, str]] = {
    "nothing at all": (lambda parameters: [], "no-flow"),
    "no state": (partial(drop, "state"), "no-flow"),
    "empty state": (partial(put, "state", ""), "no-flow"),
    "wrong state": (partial(put, "state", "A" * 22), "no-flow"),
    "state of control characters": (partial(put, "state", f"\x00é\u202e{FORGED_LINE}"), "no-flow"),
    "long state": (partial(put, "state", "A" * 4000), "no-flow"),
    "no code": (partial(drop, "code"), "no-code"),
    "empty code": (partial(put, "code", ""), "no-code"),
    "unknown code": (partial(put, "code", "1.unknown"), "token-endpoint-invalid_grant"),
    "long code": (partial(put, "code", "A" * 4000), "token-endpoint-invalid_grant"),
    "markup as code": (partial(put, "code", MARKUP), "token-endpoint-invalid_grant"),
    "code twice": (partial(repeat, "code", None), "repeated-parameter"),
    "two codes": (partial(repeat, "code", "1.another"), "repeated-parameter"),
    "state twice": (partial(repeat, "state", None), "repeated-parameter"),
    "two states": (partial(repeat, "state", "A" * 22), "repeated-parameter"),
    "two errors": (lambda parameters: [*fail("a", parameters), ("error", "b")], "repeated-parameter"),
    "error and code": (partial(put, "error", "access_denied"), "entra-access_denied"),
    "error alone": (partial(fail, "server_error"), "entra-server_error"),
    "markup as error": (partial(fail, MARKUP), "entra-scriptalertscript"),
    "a log line as error": (partial(fail, FORGED_LINE), "entra-xeventforgedm"),
    "empty error": (partial(fail, ""), "entra-error"),
}


@pytest.mark.parametrize("case", CHANGES)
def test_modified_callback_is_refused(world: World, person: Person, case: str) -> None:
    change, reason = CHANGES[case]
    address, parameters = split_callback(person.start_sign_in())
    world.azure.reset_calls()
    response = person.finish_sign_in(join_callback(address, change(parameters)))
    page = assert_failed(world.service, response, reason)
    assert page.find("a", href="/auth/sign-in") is not None
    if reason.startswith(("entra-", "token-endpoint-")):  # the flow is consumed
        assert flow_cookies(person) == {}
        assert_failed(world.service, person.finish_sign_in(join_callback(address, parameters)), "no-flow")
    for part in ("alert(", "onerror", '"forged"', "AADSTS", "1.unknown"):
        assert part not in response.text
    if not reason.startswith("token-endpoint"):
        assert world.azure.count_calls("entra").get("token", 0) == 0
    assert person.get("/api/me").status_code == 401
    given = dict(parameters)
    assert_not_logged(world.service, given["code"], given["state"])
    lines = "\n".join(request_lines(world.service.log(), response.headers["X-Request-ID"]))
    assert "alert(" not in lines
    assert "u001b" not in lines


def test_sign_in_error_of_token_endpoint_is_400(world: World, person: Person) -> None:
    errors = ["invalid_grant", "access_denied", "consent_required", "interaction_required", "login_required"]
    for error in errors:
        callback = person.start_sign_in()
        world.azure.plant_fault("entra", "token", "status", status=400, times=1, body={"error": error})
        assert_failed(world.service, person.finish_sign_in(callback), f"token-endpoint-{error}")


@pytest.mark.parametrize("has_own_flow", [False, True])
def test_callback_in_a_foreign_browser_is_refused(world: World, person: Person, has_own_flow: bool) -> None:
    victim = world.new_person()
    if has_own_flow:
        victim.start_sign_in()
    callback = person.start_sign_in()
    assert_failed(world.service, victim.finish_sign_in(callback), "no-flow")
    assert victim.get("/api/me").status_code == 401
    assert person.finish_sign_in(callback).status_code == 302


def test_foreign_code_in_own_flow_is_refused(world: World, person: Person) -> None:
    # An attacker's code must not sign the victim's browser in as the attacker, nor the other way round.
    _, foreign = split_callback(world.new_person().start_sign_in())
    address, own = split_callback(person.start_sign_in())
    mixed = put("code", dict(foreign)["code"], own)
    assert_error_page(person.finish_sign_in(join_callback(address, mixed)), 400)
    assert person.get("/api/me").status_code == 401


def test_replayed_callback_is_refused_and_keeps_session(service: Service, person: Person) -> None:
    callback = person.start_sign_in()
    kept = flow_cookies(person)
    assert person.finish_sign_in(callback).status_code == 302
    session = person.http.cookies[SESSION]
    assert person.finish_sign_in(callback).headers["Location"] == "/"
    person.http.cookies.update(kept)
    assert_failed(service, person.finish_sign_in(callback), "token-endpoint-invalid_grant")
    assert person.http.cookies[SESSION] == session
    assert person.is_signed_in()


def test_malformed_client_info_is_ignored(person: Person) -> None:
    for client_info in ("MQ", "!", "e30", "eyJ1aWQiOiB7fX0", "A" * 3000, "\x00"):
        address, own = split_callback(person.start_sign_in())
        unknown = [*put("client_info", client_info, own), ("client_info", "MQ"), ("id_token", "e30.e30.")]
        response = person.finish_sign_in(join_callback(address, unknown))
        assert (response.status_code, response.headers["Location"]) == (302, "/")


def test_flow_is_valid_for_ten_minutes(service: Service, person: Person) -> None:
    for seconds_ago, is_valid in ((0, True), (570, True), (630, False), (86_400, False)):
        callback = person.start_sign_in()
        write_own_flow(service, person, read_own_flow(service, person), seconds_ago=seconds_ago)
        response = person.finish_sign_in(callback)
        if is_valid:
            assert response.status_code == 302
        else:
            page = assert_failed(service, response, "no-flow")
            assert "longer than ten minutes" in page.get_text()
            person.http.cookies.clear()


def test_flow_of_another_sign_in_is_refused(service: Service, person: Person) -> None:
    reasons = {"code_verifier": "token-endpoint-invalid_grant", "nonce": "id-token-nonce", "state": "state"}
    for member, reason in reasons.items():
        callback = person.start_sign_in()
        document = read_own_flow(service, person)
        document["flow"][member] = "another-value-of-forty-three-characters-43-"
        write_own_flow(service, person, document)
        assert_failed(service, person.finish_sign_in(callback), reason)
        assert_not_logged(service, document["flow"]["nonce"], document["flow"]["code_verifier"])
        person.http.cookies.clear()


def test_forged_flow_cookie_is_refused(person: Person) -> None:
    for number in range(10):
        callback = person.start_sign_in()
        (cookie,) = flow_cookies(person).values()
        forged = [cookie[:-1], cookie[:-4], cookie[:-44], f"{cookie}A", f"{cookie}AAAA", f"A{cookie}"]
        forged += [f"{cookie[:20]}{cookie[20:].swapcase()}", "", "A" * 4000, "...."]
        replace_flow(person, forged[number])
        assert_error_page(person.finish_sign_in(callback), 400)
