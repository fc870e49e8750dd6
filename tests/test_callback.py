"""Callbacks that do not hold together: a page that says so, no session, one line in the log."""

from collections.abc import Callable
from functools import partial

import pytest

from tests.support.flows import (
    Parameters,
    flow_cookies,
    join_callback,
    read_flow,
    replace_flow,
    split_callback,
    write_flow,
)
from tests.support.local_azure import LocalAzure
from tests.support.log import assert_not_logged, read_event
from tests.support.pages import assert_error_page
from tests.support.person import Person
from tests.support.service import Service, request_lines

MARKUP = "<script>alert(1)</script>"
FORGED_LINE = 'x\r\n{"event": "forged"}\x1b[31m'

Change = Callable[[Parameters], Parameters]


def put(name: str, value: str, parameters: Parameters) -> Parameters:
    """The parameters with this value in place of the one they had."""
    return [*drop(name, parameters), (name, value)]


def drop(name: str, parameters: Parameters) -> Parameters:
    return [pair for pair in parameters if pair[0] != name]


def repeat(name: str, value: str | None, parameters: Parameters) -> Parameters:
    """The parameters with `name` once more, by default with the same value."""
    return [*parameters, (name, dict(parameters)[name] if value is None else value)]


def fail(error: str, parameters: Parameters) -> Parameters:
    """What comes from Entra ID where it has no code to give."""
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
    "markup as error": (partial(fail, MARKUP), "entra-"),
    "a log line as error": (partial(fail, FORGED_LINE), "entra-"),
    "empty error": (partial(fail, ""), "entra-"),
}


@pytest.mark.parametrize("case", CHANGES)
def test_callback_that_is_changed_is_refused(
    azure: LocalAzure, service: Service, person: Person, case: str
) -> None:
    change, reason = CHANGES[case]
    address, parameters = split_callback(person.start_sign_in())
    azure.reset_calls()
    answer = person.finish_sign_in(join_callback(address, change(parameters)))
    page = assert_error_page(answer, 400)
    assert page.find("a", href="/auth/sign-in") is not None
    for part in ("alert(", "onerror", '"forged"', "AADSTS", "1.unknown"):
        assert part not in answer.text
    event = read_event(service, answer, "authn_login_fail")
    assert event["reason"].startswith(reason)
    assert len(event["reason"]) < 80
    if not reason.startswith("token-endpoint"):
        assert azure.count_calls("entra").get("token", 0) == 0
    assert person.get("/api/me").status_code == 401
    given = dict(parameters)
    assert_not_logged(service, given["code"], given["state"])
    lines = "\n".join(request_lines(service.log(), answer.headers["X-Request-ID"]))
    assert "alert(" not in lines
    assert "u001b" not in lines


def test_callback_of_a_failed_flow_uses_it_up(person: Person) -> None:
    address, parameters = split_callback(person.start_sign_in())
    assert_error_page(person.finish_sign_in(join_callback(address, fail("access_denied", parameters))), 400)
    assert flow_cookies(person) == {}
    assert_error_page(person.finish_sign_in(join_callback(address, parameters)), 400)


@pytest.mark.parametrize("has_own_flow", [False, True])
def test_callback_in_a_foreign_browser_is_refused(
    service: Service, new_person: Callable[..., Person], person: Person, has_own_flow: bool
) -> None:
    victim = new_person()
    if has_own_flow:
        victim.start_sign_in()
    callback = person.start_sign_in()
    answer = victim.finish_sign_in(callback)
    assert_error_page(answer, 400)
    assert read_event(service, answer, "authn_login_fail")["reason"] == "no-flow"
    assert victim.get("/api/me").status_code == 401
    assert person.finish_sign_in(callback).status_code == 302


def test_foreign_code_in_ones_own_flow_is_refused(new_person: Callable[..., Person], person: Person) -> None:
    # An attacker's code must not sign the victim's browser in as the attacker, nor the other way round.
    attacker = new_person()
    _, foreign = split_callback(attacker.start_sign_in())
    address, own = split_callback(person.start_sign_in())
    mixed = put("code", dict(foreign)["code"], own)
    assert_error_page(person.finish_sign_in(join_callback(address, mixed)), 400)
    assert person.get("/api/me").status_code == 401


@pytest.mark.parametrize("flow_is_restored", [False, True])
def test_replayed_callback_is_refused_and_ends_nothing(
    service: Service, person: Person, flow_is_restored: bool
) -> None:
    callback = person.start_sign_in()
    kept = flow_cookies(person)
    assert person.finish_sign_in(callback).status_code == 302
    session = person.http.cookies["session"]
    if flow_is_restored:
        person.http.cookies.update(kept)
    answer = person.finish_sign_in(callback)
    assert_error_page(answer, 400)
    reason = "token-endpoint-invalid_grant" if flow_is_restored else "no-flow"
    assert read_event(service, answer, "authn_login_fail")["reason"] == reason
    assert person.http.cookies["session"] == session
    assert person.get("/api/me").status_code == 200


@pytest.mark.parametrize("client_info", ["MQ", "!", "e30", "eyJ1aWQiOiB7fX0", "A" * 3000, "\x00"])
def test_client_info_of_any_kind_does_no_harm(person: Person, client_info: str) -> None:
    address, parameters = split_callback(person.start_sign_in())
    unknown = [*put("client_info", client_info, parameters), ("client_info", "MQ"), ("id_token", "e30.e30.")]
    answer = person.finish_sign_in(join_callback(address, unknown))
    assert (answer.status_code, answer.headers["Location"]) == (302, "/")


@pytest.mark.parametrize(("seconds_ago", "status"), [(0, 302), (570, 302), (630, 400), (86_400, 400)])
def test_flow_is_good_for_ten_minutes(
    service: Service, person: Person, seconds_ago: int, status: int
) -> None:
    callback = person.start_sign_in()
    (cookie,) = flow_cookies(person).values()
    replace_flow(person, write_flow(service, read_flow(service, cookie), seconds_ago=seconds_ago))
    answer = person.finish_sign_in(callback)
    assert answer.status_code == status
    if status == 400:
        assert_error_page(answer, 400)
        assert read_event(service, answer, "authn_login_fail")["reason"] == "no-flow"


@pytest.mark.parametrize(
    ("member", "reason"),
    [("code_verifier", "token-endpoint-invalid_grant"), ("nonce", "id-token-nonce"), ("state", "state")],
)
def test_flow_that_belongs_to_another_sign_in_is_refused(
    service: Service, person: Person, member: str, reason: str
) -> None:
    callback = person.start_sign_in()
    (cookie,) = flow_cookies(person).values()
    document = read_flow(service, cookie)
    document["flow"][member] = "another-value-of-forty-three-characters-43-"
    replace_flow(person, write_flow(service, document))
    answer = person.finish_sign_in(callback)
    assert_error_page(answer, 400)
    assert read_event(service, answer, "authn_login_fail")["reason"] == reason
    assert_not_logged(service, document["flow"]["nonce"], document["flow"]["code_verifier"])


@pytest.mark.parametrize(
    "forge",
    [
        lambda cookie: cookie[:-1],
        lambda cookie: cookie.rsplit(".", 1)[0],
        lambda cookie: f"{cookie}A",
        lambda cookie: f"A{cookie}",
        lambda cookie: ".".join([cookie.split(".")[0], "AAAAAA", "A" * 43]),
        lambda cookie: "",
        lambda cookie: "A" * 4000,
        lambda cookie: "....",
    ],
    ids=["cut", "unsigned", "appended", "prepended", "resigned", "empty", "long", "dots"],
)
def test_flow_cookie_that_is_forged_is_refused(person: Person, forge: Callable[[str], str]) -> None:
    callback = person.start_sign_in()
    (cookie,) = flow_cookies(person).values()
    replace_flow(person, forge(cookie))
    assert_error_page(person.finish_sign_in(callback), 400)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_callback_takes_get_only(person: Person, method: str) -> None:
    # A form_post would come from another site, and a Lax cookie does not come with it.
    address, parameters = split_callback(person.start_sign_in())
    answer = person.http.request(method, address, data=dict(parameters), allow_redirects=False, timeout=30)
    assert_error_page(answer, 405)
    assert person.get("/api/me").status_code == 401
