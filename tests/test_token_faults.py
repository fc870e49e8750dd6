"""What a token request answers when one of the calls behind it is refused or broken off, and what is left."""

from dataclasses import replace
from typing import Any

import pytest
from azure.data.tables import TableServiceClient

from tests.support.identity_rows import find_identity_row, list_identity_rows
from tests.support.local_azure import LocalAzure
from tests.support.person import Person
from tests.support.problems import assert_problem
from tests.support.storage_proxy import StorageProxy
from tests.support.upstream_calls import (
    CREATE,
    FIRST_TOKEN,
    IDENTITY_READ,
    INSERT,
    ISSUE,
    WARM_TOKEN,
    UpstreamCall,
    Upstreams,
)

HTTP_DATE = "Wed, 21 Oct 2099 07:28:00 GMT"

UNAVAILABLE: list[dict[str, Any]] = [
    *({"kind": "status", "status": status} for status in (400, 401, 403, 404, 409, 412, 500, 503)),
    {"kind": "status", "status": 503, "retry_after": "11"},
    {"kind": "status", "status": 503, "retry_after": HTTP_DATE},
    {"kind": "reset"},
    {"kind": "half"},
]
THROTTLED: list[dict[str, Any]] = [
    {"kind": "status", "status": 429},
    {"kind": "status", "status": 429, "retry_after": "7"},
]


def name_fault(fault: dict[str, Any]) -> str:
    return " ".join(str(value) for value in fault.values())


# A 404 to an issue means that the identity is gone: tests/test_healing.py. Half an answer to an insert comes
# after the insert: test_insert_that_fails_after_it_was_done_counts_as_done.
NO_REFUSALS = [(ISSUE, {"kind": "status", "status": 404}), (INSERT, {"kind": "half"})]


def every_fault_of(*calls: UpstreamCall) -> pytest.MarkDecorator:
    """Run a test with `call` and `fault` for each way in which one of these calls can be refused."""
    pairs = [(call, fault) for call in calls for fault in UNAVAILABLE + THROTTLED]
    return pytest.mark.parametrize(
        ("call", "fault"),
        [pair for pair in pairs if pair not in NO_REFUSALS],
        ids=lambda value: name_fault(value) if isinstance(value, dict) else str(value),
    )


@pytest.fixture
def upstreams(azure: LocalAzure, storage_proxy: StorageProxy) -> Upstreams:
    return Upstreams(azure, storage_proxy)


def assert_refused(person: Person, fault: dict[str, Any], csrf: dict[str, str]) -> None:
    """Check that a token request ends as the contract says for this fault."""
    throttled = fault in THROTTLED
    answer = person.token(csrf=csrf)
    assert_problem(answer, 503, "upstream_throttled" if throttled else "upstream_unavailable")
    retry_after = answer.headers["Retry-After"]
    assert retry_after == fault.get("retry_after", retry_after)
    assert retry_after.isdigit() or retry_after == HTTP_DATE
    assert answer.elapsed.total_seconds() < 5


@every_fault_of(*WARM_TOKEN)
def test_warm_token_is_refused_plainly_and_works_right_after(
    upstreams: Upstreams, regular: Person, call: UpstreamCall, fault: dict[str, Any]
) -> None:
    csrf = regular.csrf_headers()
    identity = regular.me()["communicationUserId"]
    upstreams.plant(call, **fault)
    assert_refused(regular, fault, csrf)
    upstreams.clear()
    answer = regular.token(csrf=csrf)
    assert answer.status_code == 200
    assert answer.json()["user"]["communicationUserId"] == identity


@every_fault_of(*FIRST_TOKEN[1:])
def test_first_token_is_refused_plainly_and_leaves_nothing_behind(
    upstreams: Upstreams,
    tables: TableServiceClient,
    signed_in: Person,
    call: UpstreamCall,
    fault: dict[str, Any],
) -> None:
    csrf = signed_in.csrf_headers()
    before = set(upstreams.azure.list_identities())
    upstreams.plant(call, **fault)
    assert_refused(signed_in, fault, csrf)
    upstreams.clear()
    made = set(upstreams.azure.list_identities()) - before
    row = find_identity_row(tables, signed_in)
    if call is CREATE and fault["kind"] == "half":
        assert row is None  # and an identity, whose id never reached us
    else:
        # Either nothing at all, or the identity with its row.
        assert made == (set() if row is None else {row["AcsUserId"]})
    answer = signed_in.token(csrf=csrf)
    assert answer.status_code == 200
    (row,) = list_identity_rows(tables, signed_in)
    identity = answer.json()["user"]["communicationUserId"]
    assert row["AcsUserId"] == identity
    assert set(upstreams.azure.list_identities()) - before == made | {identity}
    assert upstreams.azure.check_token(answer.json()["token"])["valid"] is True


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "half"},
        {"kind": "fail-after-commit", "status": 500},
        {"kind": "fail-after-commit", "status": 503, "retry_after": "11"},
    ],
    ids=name_fault,
)
def test_insert_that_fails_after_it_was_done_counts_as_done(
    upstreams: Upstreams, tables: TableServiceClient, signed_in: Person, fault: dict[str, Any]
) -> None:
    csrf = signed_in.csrf_headers()
    before = set(upstreams.azure.list_identities())
    upstreams.plant(INSERT, times=1, **fault)
    first, second = signed_in.token(csrf=csrf), signed_in.token(csrf=csrf)
    assert (first.status_code, second.status_code) == (200, 200)
    (identity,) = set(upstreams.azure.list_identities()) - before
    assert first.json()["user"] == second.json()["user"] == {"communicationUserId": identity}
    (row,) = list_identity_rows(tables, signed_in)
    assert row["AcsUserId"] == identity


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
