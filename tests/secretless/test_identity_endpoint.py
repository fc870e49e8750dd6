"""An identity endpoint that is slow, refuses or is silent: requests end in time, valid tokens outlive it."""

import time
from collections.abc import Iterator
from functools import partial

import pytest
import requests

from tests.support.admin_client import bearer, post_token
from tests.support.concurrency import repeat, run_concurrently, timed, wait_until
from tests.support.local_azure import LocalAzure
from tests.support.person import Person
from tests.support.secretless import secretless_settings
from tests.support.service import Service
from trusted_service.azure.managed_identity import RETRY_SECONDS

LIMIT_SECONDS, QUICK_SECONDS = 15.0, 2.0
SHORT, DUE, USUAL = 3, 240, 86_400
"""Lifetimes of the identity's tokens: too short to be kept; kept, and due to be renewed; a day."""
REQUESTS = 12
REVOKED = 'Bearer realm="", error="insufficient_claims", claims="eyJ4IjogMX0="'
"""https://learn.microsoft.com/entra/identity-platform/claims-challenge"""


@pytest.fixture(scope="module")
def own(azure: LocalAzure, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service whose identity's tokens are too short to be kept, until a test changes that."""
    azure.change_app(identityTokenSeconds=SHORT)
    with Service(secretless_settings(azure, tmp_path_factory.mktemp("own"))) as running:
        yield running
    azure.change_app(identityTokenSeconds=USUAL)


class Caller:
    """A user who gets tokens by bearer token, hence without a page."""

    def __init__(self, azure: LocalAzure, service: Service) -> None:
        self._person = Person(azure, service.url, azure.new_account())
        self._headers = bearer(azure, self._person)

    def get(self) -> requests.Response:
        return post_token(self._person, self._headers)


@pytest.mark.parametrize(
    ("kind", "members"),
    [
        ("status", {"status": 404}),
        ("status", {"status": 404, "body": "<html>not found</html>"}),
        ("status", {"status": 410}),
        ("status", {"status": 429, "retryAfter": "3600"}),
        ("status", {"status": 500}),
        ("status", {"status": 200, "body": '{"access_token": '}),
        ("status", {"status": 200, "body": {"access_token": "", "expires_on": "soon"}}),
        ("reset", {}),
        ("hang", {}),
        ("drip", {"seconds": 0.5}),
    ],
)
def test_failing_endpoint_is_503_in_time(
    azure: LocalAzure, own: Service, kind: str, members: dict[str, object]
) -> None:
    caller = Caller(azure, own)
    assert caller.get().status_code == 200
    azure.plant_fault("entra", "msi", kind, times=None, **members)
    answers = run_concurrently(
        [partial(timed, caller.get)] * REQUESTS + [partial(timed, lambda: healthz(own))]
    )
    *failed, healthy = answers
    assert {response.status_code for response, _ in failed} == {503}
    assert max(seconds for _, seconds in failed) < LIMIT_SECONDS
    assert (healthy[0].status_code, healthy[1] < QUICK_SECONDS) == (200, True)
    pause = float(failed[-1][0].headers["Retry-After"])
    azure.clear_faults()
    # MSAL repeats a 429 or a 500 for five seconds, which is what our response says.
    wait_until(lambda: caller.get().status_code == 200, pause + QUICK_SECONDS)


def healthz(service: Service) -> requests.Response:
    return requests.get(f"{service.url}/healthz", timeout=LIMIT_SECONDS)


def test_valid_token_outlives_its_endpoint(azure: LocalAzure, own: Service) -> None:
    azure.change_app(identityTokenSeconds=DUE)
    try:
        caller = Caller(azure, own)
        assert caller.get().status_code == 200
        azure.plant_fault("entra", "msi", "hang", times=None)
        azure.reset_calls()
        answers = repeat(partial(timed, caller.get), RETRY_SECONDS + 3)
        assert {response.status_code for response, _ in answers} == {200}
        assert max(seconds for _, seconds in answers) < QUICK_SECONDS, "nobody waits for a renewal"
        assert 2 <= azure.count_calls("entra")["msi"] < len(answers)
    finally:
        azure.change_app(identityTokenSeconds=SHORT)


def test_token_is_renewed_before_it_ends(azure: LocalAzure, own: Service) -> None:
    azure.change_app(identityTokenSeconds=DUE)
    try:
        caller = Caller(azure, own)
        assert caller.get().status_code == 200
        azure.reset_calls()
        azure.change_app(identityTokenSeconds=USUAL)

        def renewed() -> bool:
            assert caller.get().status_code == 200
            return azure.count_calls("entra").get("msi", 0) == 2

        wait_until(renewed)
        azure.plant_fault("entra", "msi", "status", status=500, times=None)
        assert {response.status_code for response in repeat(caller.get, 6)} == {200}
        assert azure.count_calls("entra")["msi"] == 2, "one call for each upstream, and none afterwards"
    finally:
        azure.change_app(identityTokenSeconds=SHORT)


def test_revoked_token_is_replaced_at_once(azure: LocalAzure, own: Service) -> None:
    azure.change_app(identityTokenSeconds=USUAL)
    try:
        caller = Caller(azure, own)
        assert caller.get().status_code == 200
        azure.reset_calls()
        azure.plant_fault("acs", "issue", "status", status=401, authenticate=REVOKED)
        assert [caller.get().status_code for _ in range(3)] == [200] * 3
        assert azure.count_calls("entra").get("msi") == 1
        azure.plant_fault("acs", "issue", "status", status=401, authenticate=REVOKED)
        azure.plant_fault("entra", "msi", "status", status=500)
        assert caller.get().status_code == 503, "nobody gets the revoked token"
    finally:
        azure.change_app(identityTokenSeconds=SHORT)


def test_cold_endpoint_delays_the_first_requests(
    azure: LocalAzure, tmp_path_factory: pytest.TempPathFactory
) -> None:
    azure.change_app(identityTokenSeconds=USUAL)
    azure.plant_fault("entra", "msi", "hang", times=None)
    with Service(secretless_settings(azure, tmp_path_factory.mktemp("cold"))) as service:
        caller = Caller(azure, service)
        response, seconds = timed(caller.get)
        assert (response.status_code, seconds < LIMIT_SECONDS) == (503, True)
        azure.clear_faults()
        azure.plant_fault("entra", "msi", "delay", seconds=2.0, times=None)
        begin = time.monotonic()
        wait_until(lambda: caller.get().status_code == 200)
        assert time.monotonic() - begin < LIMIT_SECONDS
        answers = [timed(caller.get) for _ in range(3)]
    assert {response.status_code for response, _ in answers} == {200}
    assert max(seconds for _, seconds in answers) < QUICK_SECONDS
    azure.change_app(identityTokenSeconds=SHORT)
