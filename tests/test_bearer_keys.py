"""Entra ID's signing keys as the API lives with them: rotation, outage, strangers who name keys of their own.

What one process knows of the keys is looked at from outside, so each service here has one worker of its own.
"""

from collections.abc import Callable, Iterator

import pytest

from tests.support.desk import bearer, call
from tests.support.local_azure import LocalAzure
from tests.support.person import Person
from tests.support.problems import assert_problem
from tests.support.service import Service
from tests.support.together import run_together

MOST_FETCHES = 4


@pytest.fixture
def fresh(settings: dict[str, str]) -> Iterator[Service]:
    """A service that has never seen a key."""
    with Service(settings) as running:
        yield running


@pytest.fixture
def ask(fresh: Service) -> Callable[[dict[str, str]], int]:
    """The status of GET /api/me with a header."""
    return lambda headers: call("GET", f"{fresh.url}/api/me", headers=headers).status_code


def test_key_rotation_goes_unnoticed(
    azure: LocalAzure, person: Person, ask: Callable[[dict[str, str]], int]
) -> None:
    old = bearer(azure, person)
    assert ask(old) == 200
    azure.rotate_keys(keep_old=True)
    assert ask(bearer(azure, person)) == 200
    assert ask(old) == 200


def test_outage_of_entra_id_goes_unnoticed_once_keys_are_known(
    azure: LocalAzure, person: Person, fresh: Service, ask: Callable[[dict[str, str]], int]
) -> None:
    headers = bearer(azure, person)
    assert ask(headers) == 200
    for kind in ("reset", "status"):
        azure.clear_faults()
        azure.plant_fault("entra", "*", kind, times=None, status=503)
        assert ask(headers) == 200
        answer = call("POST", f"{fresh.url}/api/token", headers=headers)
        assert answer.status_code == 200
        assert ask(bearer(azure, person, tamper="unknown-kid")) == 401


def test_outage_before_any_key_is_known_is_503(
    azure: LocalAzure, person: Person, fresh: Service, ask: Callable[[dict[str, str]], int]
) -> None:
    headers = bearer(azure, person)
    azure.plant_fault("entra", "keys", "status", times=None, status=503, retryAfter="9")
    answer = call("GET", f"{fresh.url}/api/me", headers=headers)
    assert_problem(answer, 503, "upstream_unavailable")
    assert answer.headers["Retry-After"] == "9"
    azure.clear_faults()
    assert ask(headers) == 200


def test_unknown_keys_do_not_make_us_fetch_keys_again_and_again(
    azure: LocalAzure, person: Person, ask: Callable[[dict[str, str]], int]
) -> None:
    headers = bearer(azure, person)
    assert ask(headers) == 200
    strangers = [bearer(azure, person, tamper="unknown-kid") for _ in range(12)]
    azure.reset_calls()
    assert set(run_together([lambda: ask(strangers[0])] * 12)) == {401}
    assert {ask(stranger) for stranger in strangers} == {401}
    assert azure.count_calls("entra").get("keys", 0) <= MOST_FETCHES
    assert ask(headers) == 200


def test_key_that_a_token_brings_along_is_not_fetched(
    azure: LocalAzure, person: Person, ask: Callable[[dict[str, str]], int]
) -> None:
    assert ask(bearer(azure, person)) == 200
    azure.reset_calls()
    assert ask(bearer(azure, person, tamper="embedded-jwk")) == 401
    assert azure.count_calls("entra").get("keys", 0) == 0
    assert ask(bearer(azure, person, tamper="jku")) == 401
    assert set(azure.count_calls("entra")) <= {"keys", "discovery"}


def test_unsigned_rubbish_costs_no_call(
    azure: LocalAzure, person: Person, fresh: Service, ask: Callable[[dict[str, str]], int]
) -> None:
    azure.reset_calls()
    for kind in ("garbage", "alg-none", "hs256-with-public-key"):
        assert ask(bearer(azure, person, tamper=kind)) == 401
    assert set(azure.count_calls("entra")) <= {"discovery"}


def test_withdrawn_key_is_refused_by_a_new_process(
    azure: LocalAzure, person: Person, ask: Callable[[dict[str, str]], int]
) -> None:
    old = bearer(azure, person)
    azure.rotate_keys(keep_old=False)
    assert ask(old) == 401
    assert ask(bearer(azure, person)) == 200


def test_token_that_is_known_is_refused_when_its_key_is_withdrawn(
    azure: LocalAzure, person: Person, ask: Callable[[dict[str, str]], int]
) -> None:
    old = bearer(azure, person)
    assert [ask(old) for _ in range(3)] == [200] * 3
    azure.rotate_keys(keep_old=False)
    # A token by the new key has the keys fetched anew; what the old one signed is worth nothing from then on.
    assert ask(bearer(azure, person)) == 200
    assert [ask(old) for _ in range(2)] == [401] * 2


def test_known_token_cannot_be_changed(
    azure: LocalAzure, person: Person, ask: Callable[[dict[str, str]], int]
) -> None:
    headers = bearer(azure, person)
    assert [ask(headers) for _ in range(3)] == [200] * 3
    head, payload, signature = headers["Authorization"].split(".")
    for changed in (f"{head}.{payload}.", f"{head}.{payload[:-2]}.{signature}", f"{head}.{payload}"):
        assert ask({"Authorization": changed}) == 401
