"""Entra ID refuses a sign-in: people read what to do, the log has number and ids, no more."""

import re
from typing import Any

import pytest

from tests.support.flows import flow_cookies, join_callback, split_callback
from tests.support.log import assert_not_logged, read_event
from tests.support.own_azure import World
from tests.support.pages import assert_error_page
from tests.support.person import Person
from tests.support.service import Service, request_lines

IDS = ("aadsts", "entra_trace_id", "entra_correlation_id")
GUID = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
FOR_PEOPLE = {
    16000: (400, "choice of an account"),
    50020: (403, "not in the directory of this organisation"),
    50057: (403, "locked or disabled"),
    50076: (400, "another proof"),
    50129: (403, "Conditional Access"),
    50105: (403, "not assigned to this application. Ask an administrator"),
    53003: (403, "Conditional Access"),
    65001: (400, "ask an administrator of your organisation to consent"),
    65004: (400, "was declined"),
    90094: (403, "must approve this application"),
}
WRONG_SETUP = [65005, 500011, 700016, 7000112, 7000215]
FOR_OPERATORS = [7000222, 7000215, 700027, 9002327, 500011, 90033]


def assert_ids(event: dict[str, Any], number: int) -> None:
    assert event["aadsts"] == f"AADSTS{number}"
    assert GUID.fullmatch(event["entra_trace_id"])
    assert GUID.fullmatch(event["entra_correlation_id"])
    assert event["entra_trace_id"] != event["entra_correlation_id"]


@pytest.mark.parametrize("endpoint", ["authorize", "token"])
@pytest.mark.parametrize("number", FOR_PEOPLE)
def test_refusal_says_whose_turn_it_is(world: World, person: Person, endpoint: str, number: int) -> None:
    world.azure.plant_fault("entra", endpoint, "refuse", code=f"AADSTS{number}")
    callback = person.start_sign_in()
    response = person.finish_sign_in(callback)
    status, words = FOR_PEOPLE[number]
    page = assert_error_page(response, status)
    assert words in page.get_text()
    assert page.find("a", href=re.compile("^/auth/sign-in"))
    event = read_event(world.service, response, "authn_login_fail")
    assert_ids(event, number)
    for secret in ("AADSTS", str(number), event["entra_trace_id"], event["entra_correlation_id"], "Trace ID"):
        assert secret not in response.text
    assert endpoint == "token" or event["entra_trace_id"] in callback


@pytest.mark.parametrize("number", FOR_OPERATORS)
def test_refused_app_is_named_to_operators(world: World, person: Person, number: int) -> None:
    world.azure.plant_fault("entra", "token", "refuse", code=f"AADSTS{number}")
    response = person.sign_in("/account")
    page = assert_error_page(response, 503)
    assert page.find("a", href="/auth/sign-in?next=/account")
    event = read_event(world.service, response, "upstream_error")
    assert_ids(event, number)
    assert event["reason"].endswith(f" AADSTS{number}")
    assert event["entra_trace_id"] not in response.text
    assert "AADSTS" not in response.text


@pytest.mark.parametrize("number", WRONG_SETUP)
def test_wrong_setup_is_for_whoever_runs_this(world: World, person: Person, number: int) -> None:
    world.azure.plant_fault("entra", "authorize", "refuse", code=f"AADSTS{number}")
    response = person.sign_in()
    assert "tell the people who run this service" in assert_error_page(response, 400).get_text()
    assert_ids(read_event(world.service, response, "authn_login_fail"), number)


@pytest.mark.parametrize(("number", "status"), [(53003, 403), (90094, 403), (65004, 400), (700016, 400)])
def test_refusal_without_its_flow_says_the_same(
    world: World, person: Person, number: int, status: int
) -> None:
    world.azure.plant_fault("entra", "authorize", "refuse", code=f"AADSTS{number}")
    callback = person.start_sign_in()
    address, parameters = split_callback(callback)
    unknown = [("state", "A" * 22), *(pair for pair in parameters if pair[0] != "state")]
    texts = set()
    for url in (callback, callback, join_callback(address, unknown), join_callback(address, unknown[1:])):
        response = person.finish_sign_in(url)
        lead = assert_error_page(response, status).find("p", class_="lead")
        assert_ids(read_event(world.service, response, "authn_login_fail"), number)
        texts.add(str(lead))
        assert flow_cookies(person) == {}
    assert len(texts) == 1


def test_cancelled_sign_in_keeps_its_destination(person: Person) -> None:
    address = person.get("/account").headers["Location"]
    page = assert_error_page(person.finish_sign_in(person.cancel_sign_in(f"{person.url}{address}")), 400)
    assert page.find("a", href=address)


# pragma: allowlist nextline secret (unsigned)
JWT = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJjYW5hcnkifQ.c2lnbmF0dXJl"
SENTENCE = "could not be completed"


@pytest.mark.parametrize(
    ("error", "description", "status", "words", "logged"),
    [
        ("access_denied", f"<b>AADSTS50105</b>: {JWT}", 403, "not assigned", {"aadsts": "AADSTS50105"}),
        ("access_denied", "AADSTS99999999999999: x", 400, "was declined", {}),
        ("access_denied", "AADSTS\u0665\u0660\u0661\u0660\u0665: x", 400, "was declined", {}),
        ("access_denied", "AADSTS53003 AADSTS50105", 403, "Conditional", {"aadsts": "AADSTS53003"}),
        ("x", "AADSTS1: call +1 555 0100, password canary", 400, SENTENCE, {"aadsts": "AADSTS1"}),
        ("x", f"Trace ID: {JWT} Correlation ID: canary", 400, SENTENCE, {}),
        ("x", "\r\n".join(["Trace ID: 255D1AEF-8c98-452f-ac51-23d051240864"] * 9), 400, SENTENCE, {
            "entra_trace_id": "255D1AEF-8c98-452f-ac51-23d051240864"}),
        ("x", "A" * 5000 + "AADSTS50105", 400, SENTENCE, {}),
        ("server_error", "AADSTS90033: transient", 400, SENTENCE, {"aadsts": "AADSTS90033"}),
        ("login_required", "", 400, "choice of an account", {}),
        ("consent_required", "", 400, "consent", {}),
        ("permission_denied", "", 400, "was cancelled", {}),
    ],
)  # fmt: skip
def test_forged_refusal_chooses_among_our_sentences(
    service: Service, person: Person, error: str, description: str, status: int, words: str,
    logged: dict[str, str],
) -> None:  # fmt: skip
    address, parameters = split_callback(person.start_sign_in())
    state = [pair for pair in parameters if pair[0] == "state"]
    forged = [*state, ("error", error), ("error_description", description)]
    response = person.finish_sign_in(join_callback(address, forged))
    assert words in assert_error_page(response, status).get_text()
    event = read_event(service, response, "authn_login_fail")
    assert {name: event[name] for name in IDS if name in event} == logged
    for planted in ("canary", "555", JWT, "AADSTS"):
        assert planted not in response.text
    assert "canary" not in "".join(request_lines(service.log(), response.headers["X-Request-ID"]))
    assert_not_logged(service, JWT)


@pytest.mark.parametrize(
    "member",
    [
        {"error": f"invalid_{JWT}", "error_description": JWT, "error_codes": [JWT]},
        {"error": "invalid_client", "error_codes": {"0": 1}, "trace_id": JWT, "correlation_id": ["canary"]},
        {"error": "invalid_client", "suberror": "canary sub", "claims": "canary", "error_uri": "canary"},
        {"error": ["canary"], "error_codes": [-1, 7000215], "timestamp": "canary"},
        {"error": "invalid_client", "error_description": "x" * 100_000, "error_codes": [10**30]},
    ],
)
def test_odd_refusal_logs_nothing_else(world: World, person: Person, member: dict[str, object]) -> None:
    world.azure.plant_fault("entra", "token", "status", status=401, body=member)
    response = person.sign_in()
    assert_error_page(response, 503)
    lines = "".join(request_lines(world.service.log(), response.headers["X-Request-ID"]))
    assert "canary" not in lines
    assert len(lines) < 4000
    assert_not_logged(world.service, JWT)


def test_throttled_and_failing_entra_name_the_number(world: World, person: Person) -> None:
    for status in (429, 503, 403):
        world.azure.plant_fault("entra", "token", "status", status=status, code="AADSTS90033")
        response = person.sign_in()
        assert_error_page(response, 503)
        assert_ids(read_event(world.service, response, "upstream_error"), 90033)


def test_refusal_of_teams_names_the_policy(world: World, person: Person) -> None:
    person.signed_in()
    for number, words in ((53003, "Conditional Access"), (90094, "Microsoft Teams")):
        world.azure.plant_fault("entra", "authorize", "refuse", code=f"AADSTS{number}")
        start = person.get("/auth/teams").headers["Location"]
        callback = world.azure.sign_in(person.http, start, person.account.username)
        response = person.finish_sign_in(callback)
        assert words in assert_error_page(response, 403).get_text()
        assert_ids(read_event(world.service, response, "authz_fail"), number)
