"""A silent Entra ID and forged tokens hold up nobody who needs neither."""

import time
from collections.abc import Iterator
from functools import partial

import pytest
import requests

from tests.support.admin_client import bearer, call
from tests.support.concurrency import crowd, run_concurrently, timed, wait_until
from tests.support.local_azure import LocalAzure
from tests.support.person import Person
from tests.support.service import Service
from tests.support.tokens import forge

AT_ONCE = 140
"""More than twice the threads of a worker."""
LIMIT_SECONDS, AT_ONCE_SECONDS, RECOVERY_SECONDS = 15.0, 2.0, 20.0
ROLLOVER_SECONDS = 60.0
FLOODS = {
    "junk": ("/api/me", {401}),
    "forged": ("/api/me", {503}),
    "sign-in": ("/auth/sign-in", {503}),
}
"""What strangers send, and the responses."""
UNFIT = ["wrong-aud", "wrong-iss", "wrong-tid", "malformed-tid", "no-oid", "expired", "not-yet-valid", "v1"]
UNFIT += ["alg-none", "hs256-with-public-key", "garbage"]
"""Tokens that are refused whoever signed them."""


@pytest.fixture
def cold(azure: LocalAzure, settings: dict[str, str], service: Service) -> Iterator[Service]:
    """A service that has never reached Entra ID, which is silent."""
    azure.plant_fault("entra", "discovery", "hang", times=None)
    with Service(settings | {"PUBLIC_URL": service.url}) as running:
        yield running


@pytest.mark.parametrize("flood", FLOODS)
def test_silent_entra_delays_nobody_else(
    azure: LocalAzure, signed_in: Person, cold: Service, flood: str
) -> None:
    path, statuses = FLOODS[flood]
    there = signed_in.at(cold.url)
    headers = {"junk": {"Authorization": "Bearer x"}, "forged": forge(bearer(azure, signed_in), "unknown")}

    def ask(_number: int) -> requests.Response:
        return call("GET", cold.url + path, headers=headers.get(flood, {}))

    asked, *others = crowd(
        ask, AT_ONCE, [partial(call, "GET", f"{cold.url}/healthz"), partial(there.get, "/api/me")]
    )
    assert {response.status_code for response, _ in asked} == statuses
    assert max(seconds for _, seconds in asked) < LIMIT_SECONDS
    for responses in others:
        assert {response.status_code for response, _ in responses} == {200}
        assert max(seconds for _, seconds in responses) < AT_ONCE_SECONDS


def test_unfit_tokens_wait_for_no_key(azure: LocalAzure, signed_in: Person, cold: Service) -> None:
    guest, _ = azure.mint_tokens(username="guest@fabrikam.example")
    unfit = [bearer(azure, signed_in, tamper=kind) for kind in UNFIT]
    unfit += [bearer(azure, signed_in, claims={"nonce": "x"}), {"Authorization": f"Bearer {guest}"}]
    azure.reset_calls()
    there = signed_in.at(cold.url)
    csrf = there.csrf_headers()

    def exchange(headers: dict[str, str]) -> requests.Response:
        body = {"teamsUserAadToken": headers["Authorization"].partition(" ")[2]}
        return there.post("/api/token/teams", headers=csrf, json=body)

    for headers in unfit:
        response, seconds = timed(partial(call, "GET", f"{cold.url}/api/me", headers=headers))
        assert (response.status_code, seconds < AT_ONCE_SECONDS) == (401, True)
        response, seconds = timed(partial(exchange, headers))
        assert (response.status_code, seconds < AT_ONCE_SECONDS) == (400, True)
    assert "keys" not in azure.count_calls("entra")


def test_service_recovers_by_itself(azure: LocalAzure, cold: Service, person: Person) -> None:
    """The endpoints come without a request, and are there when Entra ID falls silent again."""
    there, headers = person.at(cold.url), bearer(azure, person)
    azure.reset_calls()  # before the hanging call ends, which may be repeated at once
    azure.clear_faults()
    wait_until(lambda: "discovery" in azure.count_calls("entra"), seconds=RECOVERY_SECONDS)
    wait_until(lambda: there.get("/auth/sign-in").status_code == 302)
    azure.plant_fault("entra", "discovery", "hang", times=None)
    assert timed(lambda: there.get("/auth/sign-in"))[1] < AT_ONCE_SECONDS
    assert call("GET", f"{cold.url}/api/me", headers=headers).status_code == 200


@pytest.mark.timeout(180)
def test_forged_tokens_hide_no_key_rollover(
    azure: LocalAzure, settings: dict[str, str], person: Person
) -> None:
    with Service(settings) as fresh:
        genuine = bearer(azure, person)

        def get(headers: dict[str, str]) -> int:
            return call("GET", f"{fresh.url}/api/me", headers=headers).status_code

        def send_forged(number: int) -> int:
            return get(forge(genuine, f"forged-{number}"))

        assert get(genuine) == 200
        azure.reset_calls()
        assert [send_forged(number) for number in range(3)] == [401] * 3
        azure.rotate_keys(keep_old=True)
        rotated, begin = bearer(azure, person), time.monotonic()
        for first in range(0, 300, 30):
            forged = [partial(send_forged, number) for number in range(first, first + 30)]
            assert set(run_concurrently(forged)) == {401}
        assert azure.count_calls("entra").get("keys", 0) <= 3
        wait_until(lambda: get(rotated) == 200, seconds=ROLLOVER_SECONDS - (time.monotonic() - begin))
