"""Entra ID's signing keys as one process caches them: rotation, outages and foreign keys."""

import json
from collections.abc import Callable, Iterator

import pytest
import requests

from tests.support.admin_client import bearer, call
from tests.support.local_azure import LocalAzure
from tests.support.person import Person
from tests.support.problems import assert_problem
from tests.support.service import Service
from tests.support.settings import OTHER_TENANT

Get = Callable[[dict[str, str]], int]


@pytest.fixture
def fresh(settings: dict[str, str]) -> Iterator[Service]:
    """A service with an empty key cache."""
    with Service(settings) as running:
        yield running


@pytest.fixture
def get(fresh: Service) -> Get:
    """Return the status of GET /api/me with these headers."""
    return lambda headers: call("GET", f"{fresh.url}/api/me", headers=headers).status_code


def test_cached_keys_survive_an_outage(azure: LocalAzure, person: Person, fresh: Service, get: Get) -> None:
    headers = bearer(azure, person)
    assert get(headers) == 200
    for kind in ("reset", "status"):
        azure.clear_faults()
        azure.plant_fault("entra", "*", kind, times=None, status=503)
        assert get(headers) == 200
        assert call("POST", f"{fresh.url}/api/token", headers=headers).status_code == 200
        assert get(bearer(azure, person, tamper="unknown-kid")) == 503, "it may be a new key"


def test_outage_without_keys_is_503(azure: LocalAzure, person: Person, fresh: Service, get: Get) -> None:
    headers = bearer(azure, person)
    azure.plant_fault("entra", "keys", "status", times=None, status=503, retryAfter="9")
    response = call("GET", f"{fresh.url}/api/me", headers=headers)
    assert_problem(response, 503, "upstream_unavailable")
    assert response.headers["Retry-After"] == "9"
    azure.clear_faults()
    assert get(headers) == 200


def test_key_embedded_in_token_is_ignored(azure: LocalAzure, person: Person, get: Get) -> None:
    azure.reset_calls()
    for kind in ("garbage", "alg-none", "hs256-with-public-key"):
        assert get(bearer(azure, person, tamper=kind)) == 401
    assert set(azure.count_calls("entra")) <= {"discovery"}, "unverifiable tokens cause no key request"
    headers = bearer(azure, person)
    assert [get(headers) for _ in range(3)] == [200] * 3
    azure.reset_calls()
    assert get(bearer(azure, person, tamper="embedded-jwk")) == 401
    head, payload, signature = headers["Authorization"].split(".")
    for changed in (f"{head}.{payload}.", f"{head}.{payload[:-2]}.{signature}", f"{head}.{payload}"):
        assert get({"Authorization": changed}) == 401
    assert azure.count_calls("entra").get("keys", 0) == 0
    assert get(bearer(azure, person, tamper="jku")) == 401
    assert set(azure.count_calls("entra")) <= {"keys", "discovery"}


def test_key_rotation_goes_unnoticed(azure: LocalAzure, person: Person, get: Get) -> None:
    old = bearer(azure, person)
    assert get(old) == 200
    azure.rotate_keys(keep_old=True)
    assert [get(bearer(azure, person)), get(old)] == [200, 200]


@pytest.mark.parametrize("uses", [0, 3])
def test_token_is_refused_after_key_removal(azure: LocalAzure, person: Person, get: Get, uses: int) -> None:
    old = bearer(azure, person)
    assert [get(old) for _ in range(uses)] == [200] * uses
    azure.rotate_keys(keep_old=False)
    if not uses:
        assert get(old) == 401
    # A token signed with the new key triggers a key refresh, which invalidates tokens of the old key.
    assert get(bearer(azure, person)) == 200
    assert [get(old) for _ in range(2)] == [401] * 2


def test_key_of_another_issuer_is_refused(azure: LocalAzure, fresh: Service, signed_in: Person) -> None:
    origin = azure.get_app().tls_origin
    url = f"{origin}/organizations/discovery/v2.0/keys"
    keys = requests.get(url, verify=azure.env["REQUESTS_CA_BUNDLE"], timeout=10).json()["keys"]
    published = [key | {"issuer": f"{origin}/{OTHER_TENANT}/v2.0"} for key in keys]
    azure.plant_fault("entra", "keys", "status", times=None, status=200, body={"keys": published})
    headers = bearer(azure, signed_in)
    assert_problem(call("GET", f"{fresh.url}/api/me", headers=headers), 401, "invalid_token")
    person = signed_in.at(fresh.url)
    token, _ = azure.mint_tokens(username=person.account.username, scope="teams")
    body = {"teamsUserAadToken": token}
    response = person.post("/api/token/teams", headers=person.csrf_headers(), json=body)
    assert_problem(response, 400, "invalid_request")
    reasons = {json.loads(line).get("reason") for line in fresh.log().splitlines()}
    assert {"key-issuer", "teams-key-issuer"} <= reasons
