"""Identities that a first token made in vain: deleted, or known to be lost, and never the user's."""

import json
from dataclasses import replace
from functools import partial

import pytest
from azure.data.tables import TableServiceClient

from tests.support.identity_rows import list_identity_rows
from tests.support.local_azure import LocalAzure
from tests.support.person import Person
from tests.support.problems import assert_problem
from tests.support.service import Service, request_lines
from tests.support.storage_proxy import StorageProxy
from tests.support.together import run_together, wait_until
from tests.support.upstream_calls import CREATE, IDENTITY_READ, INSERT, Upstreams

AT_ONCE = 8


@pytest.fixture
def upstreams(azure: LocalAzure, storage_proxy: StorageProxy) -> Upstreams:
    return Upstreams(azure, storage_proxy)


@pytest.mark.parametrize("then", ["status", "reset"])
def test_create_whose_answer_never_came_leaves_one_orphan_and_a_log_line(
    service: Service, azure: LocalAzure, tables: TableServiceClient, signed_in: Person, then: str
) -> None:
    csrf = signed_in.csrf_headers()
    before = set(azure.list_identities())
    azure.plant_fault("acs", "create", "fail-after-commit", then=then, status=500)
    refused = signed_in.token(csrf=csrf)
    problem = assert_problem(refused, 503, "upstream_unavailable")
    events = [json.loads(line)["event"] for line in request_lines(service.log(), problem["requestId"])]
    assert "identity_may_be_orphaned" in events
    answer = signed_in.token(csrf=csrf)
    identity = answer.json()["user"]["communicationUserId"]
    (row,) = list_identity_rows(tables, signed_in)
    assert row["AcsUserId"] == identity
    made = set(azure.list_identities()) - before
    assert identity in made
    assert len(made) == 2


def test_insert_whose_outcome_stays_unknown_leaves_one_identity(
    upstreams: Upstreams, tables: TableServiceClient, signed_in: Person
) -> None:
    csrf = signed_in.csrf_headers()
    before = set(upstreams.azure.list_identities())
    upstreams.plant(INSERT, "fail-after-commit", times=1, status=500)
    upstreams.plant(replace(IDENTITY_READ, skip=1), "status")
    assert_problem(signed_in.token(csrf=csrf), 503, "upstream_unavailable")
    upstreams.clear()
    answer = signed_in.token(csrf=csrf)
    assert answer.status_code == 200
    (identity,) = set(upstreams.azure.list_identities()) - before
    (row,) = list_identity_rows(tables, signed_in)
    assert row["AcsUserId"] == identity == answer.json()["user"]["communicationUserId"]


def test_identity_in_vain_goes_even_where_its_first_deletion_fails(
    azure: LocalAzure, upstreams: Upstreams, signed_in: Person
) -> None:
    csrf = signed_in.csrf_headers()
    before = set(azure.list_identities())
    upstreams.plant(INSERT, "status", status=500, times=1)
    azure.plant_fault("acs", "delete", "status", status=503, times=1)
    assert_problem(signed_in.token(csrf=csrf), 503, "upstream_unavailable")
    wait_until(lambda: set(azure.list_identities()) == before, seconds=15)


def test_identities_of_a_lost_race_go_even_where_a_deletion_fails(
    azure: LocalAzure, tables: TableServiceClient, signed_in: Person
) -> None:
    csrf = signed_in.csrf_headers()
    before = set(azure.list_identities())
    azure.plant_fault("acs", "create", "delay", seconds=0.3, times=AT_ONCE)
    azure.plant_fault("acs", "delete", "status", status=500, times=1)
    browsers = [signed_in.at(signed_in.url) for _ in range(AT_ONCE)]
    answers = run_together([partial(browser.token, csrf=csrf) for browser in browsers])
    assert {answer.status_code for answer in answers} == {200}
    (row,) = list_identity_rows(tables, signed_in)
    wait_until(lambda: set(azure.list_identities()) - before == {row["AcsUserId"]}, seconds=5)


def test_lost_race_is_no_error_even_where_the_clean_up_fails(azure: LocalAzure, signed_in: Person) -> None:
    csrf = signed_in.csrf_headers()
    azure.plant_fault("acs", "create", "delay", seconds=0.3, times=AT_ONCE)
    azure.plant_fault("acs", "delete", "reset", times=None)
    browsers = [signed_in.at(signed_in.url) for _ in range(AT_ONCE)]
    answers = run_together([partial(browser.token, csrf=csrf) for browser in browsers])
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.json()["user"]["communicationUserId"] for answer in answers}) == 1


GOOD = {"token": "header.claims.signature", "expiresOn": "2099-01-01T00:00:00.0000000+00:00"}
NONSENSE: dict[str, object] = {
    "nothing": "",
    "markup": "<html>busy</html>",
    "cut off": '{"token": "a',
    "a list": [],
    "empty object": {},
    "null": "null",
    "no token": {"expiresOn": GOOD["expiresOn"]},
    "null token": GOOD | {"token": None},
    "empty token": GOOD | {"token": ""},
    "no expiry": {"token": "x"},
    "null expiry": GOOD | {"expiresOn": None},
    "garbage expiry": GOOD | {"expiresOn": "soon"},
}


@pytest.mark.parametrize("answer", NONSENSE.values(), ids=NONSENSE)
def test_nonsense_from_issue_is_an_upstream_failure(
    azure: LocalAzure, upstreams: Upstreams, regular: Person, answer: object
) -> None:
    azure.plant_fault("acs", "issue", "status", status=200, body=answer)
    assert_problem(regular.token(), 503, "upstream_unavailable")
    assert regular.token().status_code == 200


CREATED: dict[str, object] = {"identity": {"id": "8:acs:1_2"}, "accessToken": GOOD}


@pytest.mark.parametrize(
    "answer",
    [
        *("", "<html>", [], {}, {"identity": None}, {"accessToken": GOOD}),
        *(
            CREATED | {"identity": {"id": None}},
            CREATED | {"identity": {"id": ""}},
            CREATED | {"identity": {}},
        ),
        *({"identity": CREATED["identity"]}, CREATED | {"accessToken": None}, CREATED | {"accessToken": {}}),
    ],
    ids=json.dumps,
)
def test_nonsense_from_create_is_an_upstream_failure_and_makes_no_row(
    azure: LocalAzure, upstreams: Upstreams, tables: TableServiceClient, signed_in: Person, answer: object
) -> None:
    csrf = signed_in.csrf_headers()
    upstreams.plant(CREATE, "status", status=201, body=answer, times=1)
    assert_problem(signed_in.token(csrf=csrf), 503, "upstream_unavailable")
    assert list_identity_rows(tables, signed_in) == []
    assert signed_in.token(csrf=csrf).status_code == 200


@pytest.mark.parametrize(
    "retry_after",
    [
        *(
            "soon",
            "",
            "-1",
            "1.5",
            "0",
            "99999999999",
            "1e3",
            "1, 2",
            "a b c d e f",
            "Mon, 1 Jan 0 0:0:0 -9999999",
        ),
        *(
            "Wed, 21 Oct 2099 07:28:00 GMT",
            "Wed, 99 Foo 2099 07:28:00",
            "Mon, 01 Jan 99999999999 00:00:00 GMT",
        ),
    ],
)
def test_retry_after_is_always_one_that_clients_understand(
    azure: LocalAzure, upstreams: Upstreams, regular: Person, retry_after: str
) -> None:
    azure.plant_fault("acs", "issue", "status", status=429, retryAfter=retry_after)
    answer = regular.token()
    assert_problem(answer, 503, "upstream_throttled")
    passed_on = answer.headers["Retry-After"]
    assert passed_on.isascii()
    assert passed_on.isdigit() or passed_on.endswith("GMT")
