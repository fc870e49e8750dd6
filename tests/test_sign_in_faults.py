"""Entra ID fails while somebody signs in: a page that says so within 15 s, and the next sign-in works."""

from collections.abc import Callable, Iterator
from functools import partial

import pytest
import requests

from tests.support.fault_matrix import COLUMNS, TABLE
from tests.support.local_azure import LocalAzure
from tests.support.log import read_event
from tests.support.pages import assert_error_page
from tests.support.person import Person
from tests.support.report import NoteCell
from tests.support.service import Service
from tests.support.together import run_together, timed, wait_until

Note = Callable[[str, str, requests.Response], None]

ANSWER_SECONDS = 15.0
AT_ONCE_SECONDS = 2.0

FAULTS: dict[str, tuple[str, dict[str, object]]] = {
    "400": ("status", {"status": 400}),
    "401": ("status", {"status": 401}),
    "403": ("status", {"status": 403}),
    "404": ("status", {"status": 404}),
    "409": ("status", {"status": 409}),
    "412": ("status", {"status": 412}),
    "429": ("status", {"status": 429}),
    "429 RA": ("status", {"status": 429, "retryAfter": "37"}),
    "429 with a date": ("status", {"status": 429, "retryAfter": "Wed, 21 Oct 2026 07:28:00 GMT"}),
    "500": ("status", {"status": 500}),
    "503": ("status", {"status": 503}),
    "503 RA": ("status", {"status": 503, "retryAfter": "41"}),
    "302": ("status", {"status": 302}),
    "reset": ("reset", {}),
    "half": ("half", {}),
    "not JSON": ("status", {"status": 200, "body": "<html>maintenance</html>"}),
    "empty": ("status", {"status": 200, "body": ""}),
    "a list": ("status", {"status": 200, "body": []}),
    "an empty object": ("status", {"status": 200, "body": {}}),
}
MALFORMED: dict[str, list[dict[str, object]]] = {
    "discovery": [
        {"issuer": 5, "jwks_uri": [], "token_endpoint": None, "end_session_endpoint": {}},
        {"authorization_endpoint": "x"},
    ],
    "keys": [
        {"keys": None},
        {"keys": 5},
        {"keys": "RS256"},
        {"keys": {"kid": "a"}},
        {"keys": [None, 5, [], {}, {"kid": "a"}, {"kid": [], "kty": "RSA"}, {"kid": "a", "kty": 5}]},
    ],
}


KEYS, DISCOVERY = "keys: GET /auth/callback", "discovery: GET /auth/sign-in"
TOKEN_ENDPOINT = "token endpoint: GET /auth/callback"
COLUMN_NAMES = {column.name for column in COLUMNS}


@pytest.fixture
def note(note_cell: NoteCell) -> Note:
    """Note the answer in the fault matrix, where the fault is one of its columns."""

    def in_matrix(row: str, fault: str, answer: requests.Response) -> None:
        if fault in COLUMN_NAMES:
            throttled = fault.startswith("429")
            note_cell(TABLE, row, fault, f"{answer.status_code}{'t' if throttled else ''}")

    return in_matrix


def plant(azure: LocalAzure, operation: str, kind: str, members: dict[str, object]) -> None:
    azure.plant_fault("entra", operation, kind, **({"times": None} | members))


@pytest.fixture
def unaware(settings: dict[str, str], service: Service) -> Iterator[Service]:
    """An instance that has not spoken to Entra ID yet."""
    with Service(settings | {"PUBLIC_URL": service.url}) as running:
        yield running


@pytest.mark.parametrize("fault", FAULTS)
def test_token_endpoint_that_fails_is_503(
    azure: LocalAzure, service: Service, person: Person, note: Note, fault: str
) -> None:
    kind, members = FAULTS[fault]
    callback = person.start_sign_in()
    plant(azure, "token", kind, members)
    answer = person.finish_sign_in(callback)
    azure.clear_faults()
    note(TOKEN_ENDPOINT, fault, answer)
    assert_error_page(answer, 503)
    assert answer.headers["Retry-After"] == members.get("retryAfter", "5")
    event = read_event(service, answer, "upstream_error")
    assert event["upstream"] == "Entra ID"
    assert event["throttled"] == fault.startswith("429")
    assert person.get("/api/me").status_code == 401
    assert person.sign_in().status_code == 302


@pytest.mark.parametrize("fault", FAULTS)
def test_keys_endpoint_that_fails_is_503(
    azure: LocalAzure, service: Service, person: Person, note: Note, fault: str
) -> None:
    kind, members = FAULTS[fault]
    azure.rotate_keys(keep_old=True)  # so that the service has to ask for the new key
    plant(azure, "keys", kind, members)
    answer = person.sign_in()
    azure.clear_faults()
    note(KEYS, fault, answer)
    assert_error_page(answer, 503)
    assert answer.headers["Retry-After"] == members.get("retryAfter", "5")
    assert read_event(service, answer, "upstream_error")["upstream"] == "Entra ID"
    assert person.get("/api/me").status_code == 401
    assert person.sign_in().status_code == 302


@pytest.mark.parametrize("number", range(len(MALFORMED["keys"])))
def test_key_set_without_a_usable_key_is_503(azure: LocalAzure, person: Person, number: int) -> None:
    azure.rotate_keys(keep_old=True)
    plant(azure, "keys", "status", {"status": 200, "body": MALFORMED["keys"][number]})
    answer = person.sign_in()
    azure.clear_faults()
    assert_error_page(answer, 503)
    assert person.sign_in().status_code == 302


def test_discovery_that_fails_is_503_until_it_answers(
    azure: LocalAzure,
    service: Service,
    unaware: Service,
    new_person: Callable[..., Person],
    signed_in: Person,
    note: Note,
) -> None:
    person = new_person(at=unaware)
    malformed = {str(body): ("status", {"status": 200, "body": body}) for body in MALFORMED["discovery"]}
    for fault, (kind, members) in (FAULTS | malformed).items():
        plant(azure, "discovery", kind, members)
        answer = person.get("/auth/sign-in")
        note(DISCOVERY, fault, answer)
        assert_error_page(answer, 503)
        assert answer.headers["Retry-After"] == members.get("retryAfter", "5"), fault
        assert person.http.cookies.keys() == []
        azure.clear_faults()
    plant(azure, "discovery", "status", {"status": 503})
    # Who is signed in already notices nothing, and a sign-out ends the session whatever Entra ID does.
    elsewhere = signed_in.at(unaware.url)
    assert elsewhere.get("/").status_code == 200
    assert elsewhere.sign_out().status_code in (303, 503)
    assert signed_in.get("/api/me").status_code == 401
    azure.clear_faults()
    callback = person.start_sign_in().replace(service.url, unaware.url)
    assert person.finish_sign_in(callback).status_code == 302


def test_pages_of_a_cold_instance_do_not_wait_for_a_silent_entra(
    azure: LocalAzure, unaware: Service, signed_in: Person
) -> None:
    plant(azure, "discovery", "hang", {})
    elsewhere = signed_in.at(unaware.url)
    answers = [timed(lambda: elsewhere.get("/")) for _ in range(5)]
    assert [answer.status_code for answer, _ in answers] == [200] * 5
    # The first one looks where sign-out leads, for a second; the others know that it looked in vain.
    assert sum(seconds for _, seconds in answers) < AT_ONCE_SECONDS
    azure.clear_faults()
    callback = elsewhere.start_sign_in().replace(signed_in.url, unaware.url)
    assert elsewhere.finish_sign_in(callback).status_code == 302
    policy = elsewhere.get("/").headers["Content-Security-Policy"]
    assert f"form-action 'self' {azure.get_app().page_origin};" in policy


@pytest.mark.parametrize("kind", ["hang", "drip"])
def test_silent_entra_is_503_in_time_and_holds_up_nobody_else(
    azure: LocalAzure, unaware: Service, new_person: Callable[..., Person], note: Note, kind: str
) -> None:
    at_token, at_keys, somebody = new_person(), new_person(), new_person()
    at_discovery = new_person(at=unaware)
    assert somebody.sign_in().status_code == 302
    callback, token_callback = somebody.start_sign_in(), at_token.start_sign_in()
    azure.plant_fault("entra", "token", kind, seconds=0.2)
    plant(azure, "discovery", kind, {"seconds": 0.2})

    def at_token_endpoint() -> tuple[requests.Response, float]:
        return timed(lambda: at_token.finish_sign_in(token_callback))

    def at_keys_endpoint() -> tuple[requests.Response, float]:
        wait_until(lambda: not any(fault["operation"] == "token" for fault in azure.list_faults()))
        answer, seconds = timed(lambda: somebody.finish_sign_in(callback))
        assert (answer.status_code, seconds < AT_ONCE_SECONDS) == (302, True)
        azure.rotate_keys(keep_old=True)
        plant(azure, "keys", kind, {"seconds": 0.2})
        return timed(at_keys.sign_in)

    answers = run_together(
        [at_token_endpoint, at_keys_endpoint, lambda: timed(lambda: at_discovery.get("/auth/sign-in"))]
    )
    azure.clear_faults()
    for row, (answer, seconds) in zip((TOKEN_ENDPOINT, KEYS, DISCOVERY), answers, strict=True):
        note(row, kind, answer)
        assert_error_page(answer, 503)
        assert seconds < ANSWER_SECONDS
    for person in (at_token, at_keys):
        assert person.sign_in().status_code == 302
    assert at_discovery.get("/auth/sign-in").status_code == 302


@pytest.mark.parametrize("retry_after", ["60", None])
def test_throttled_sign_in_of_one_is_not_held_against_another(
    azure: LocalAzure,
    service: Service,
    new_person: Callable[..., Person],
    person: Person,
    retry_after: str | None,
) -> None:
    azure.plant_fault("entra", "token", "status", status=429, retryAfter=retry_after)
    assert_error_page(person.sign_in(), 503)
    somebody = new_person()
    assert somebody.sign_in().status_code == 302
    assert person.sign_in().status_code == 302


def test_key_rotation_without_overlap_passes(azure: LocalAzure, signed_in: Person, person: Person) -> None:
    azure.rotate_keys(keep_old=False)
    assert signed_in.sign_in().status_code == 302
    azure.tamper("unknown-kid")
    assert signed_in.sign_in().status_code == 400
    assert signed_in.sign_in().status_code == 302


def test_slow_entra_is_waited_for(
    azure: LocalAzure, unaware: Service, person: Person, new_person: Callable[..., Person], note: Note
) -> None:
    azure.rotate_keys(keep_old=True)
    for operation in ("token", "keys", "discovery"):
        plant(azure, operation, "delay", {"seconds": 1.0})
    start = partial(new_person(at=unaware).get, "/auth/sign-in")
    signing_in, starting = run_together([lambda: person.sign_in(), lambda: start()])
    note(TOKEN_ENDPOINT, "slow", signing_in)
    note(KEYS, "slow", signing_in)
    note(DISCOVERY, "slow", starting)
    assert signing_in.status_code == starting.status_code == 302


@pytest.mark.parametrize("then", ["reset", "status"])
def test_code_that_was_redeemed_before_an_answer_was_lost_is_a_broken_sign_in(
    azure: LocalAzure, person: Person, note: Note, then: str
) -> None:
    callback = person.start_sign_in()
    azure.plant_fault("entra", "token", "fail-after-commit", then=then, status=500)
    answer = person.finish_sign_in(callback)
    note(TOKEN_ENDPOINT, "done 500", answer)
    assert_error_page(answer, 503)
    assert_error_page(person.finish_sign_in(callback), 400)
    assert person.sign_in().status_code == 302
