"""/healthz calls no upstream; /readyz names the failing upstream, creates nothing and caches its result."""

import re
import time
from collections.abc import Iterator
from functools import partial

import pytest
import requests

from tests.support.concurrency import run_concurrently, timed, wait_until
from tests.support.gate import Gate
from tests.support.local_azure import SWEEPS, LocalAzure
from tests.support.person import Person
from tests.support.service import Service, free_port
from tests.support.storage_proxy import Fault, StorageProxy
from trusted_service.observability.health import FRESH_SECONDS, Readiness

PARTS = ["entraId", "tableStorage", "communicationServices"]
LIMIT_SECONDS = 15.0
CACHED_SECONDS = 10.0
AT_ONCE_SECONDS = 2.0
ACS, STORAGE = "COMMUNICATION_SERVICES_CONNECTION_STRING", "TABLE_STORAGE_CONNECTION_STRING"


def get(service: Service, path: str, **options: dict[str, str]) -> requests.Response:
    return requests.get(service.url + path, allow_redirects=False, timeout=LIMIT_SECONDS, **options)  # type: ignore[arg-type]


def assert_ready(response: requests.Response, **states: str) -> None:
    """Check that the response reports `states`, `ok` for every other part, and nothing else."""
    expected = dict.fromkeys(PARTS, "ok") | states
    assert response.json() == expected
    assert list(response.json()) == PARTS
    assert response.status_code == (200 if set(expected.values()) == {"ok"} else 503)
    assert response.headers["Content-Type"] == "application/json"
    assert response.headers["Cache-Control"] == "no-store"
    assert ("Retry-After" in response.headers) == (response.status_code == 503)


def test_healthz_calls_no_upstream(azure: LocalAzure, storage_proxy: StorageProxy, service: Service) -> None:
    response = get(service, "/healthz", cookies={"session": "x"})
    assert response.status_code == 200
    assert "Set-Cookie" not in response.headers
    assert storage_proxy.calls_for(response) == []
    assert azure.calls_for(response) == []
    for path in ("/healthz", "/readyz"):  # with any Host header
        assert get(service, path, headers={"Host": "10.0.0.1:8000"}).status_code == 200


def test_readyz_creates_nothing_and_shares_checks(
    azure: LocalAzure, storage_proxy: StorageProxy, service: Service
) -> None:
    identities = azure.list_identities()
    storage_proxy.wait_until_quiet()  # a new service checks its index
    azure.reset_calls()
    storage_proxy.clear()
    for response in run_concurrently([partial(get, service, "/readyz")] * 10):
        assert_ready(response)
    assert {call.method for call in storage_proxy.calls()} <= {"GET"}
    # A second check may start in between, if the cached result has expired.
    assert len(storage_proxy.calls()) <= 2
    assert azure.count_calls("acs").keys() <= SWEEPS
    assert sum(azure.count_calls("entra").values()) <= 2
    assert azure.list_identities() == identities


def move_endpoint(connection_string: str, port: int) -> str:
    """Return the connection string with another port."""
    return re.sub(r":\d+/", f":{port}/", connection_string)


@pytest.mark.parametrize("part", PARTS)
def test_readyz_names_the_unreachable_part(settings: dict[str, str], part: str) -> None:
    unused = free_port()
    wrong = {
        "entraId": {"ENTRA_AUTHORITY": f"https://localhost:{unused}/organizations"},
        "tableStorage": {STORAGE: move_endpoint(settings[STORAGE], unused)},
        "communicationServices": {ACS: move_endpoint(settings[ACS], unused)},
    }
    with Service(settings | wrong[part]) as broken:
        response, seconds = timed(partial(get, broken, "/readyz"))
        assert_ready(response, **{part: "failing"})
        assert seconds < LIMIT_SECONDS
        assert get(broken, "/healthz").status_code == 200


@pytest.fixture
def gated(azure: LocalAzure, settings: dict[str, str]) -> Iterator[tuple[Service, Gate]]:
    """A service with a gate in front of Communication Services, as faults do not affect its health check."""
    (port,) = re.findall(r":(\d+)/", settings[ACS])
    with (
        Gate(int(port)) as gate,
        Service(settings | {ACS: move_endpoint(settings[ACS], gate.port)}) as service,
    ):
        yield service, gate


def test_readyz_follows_outage_and_recovery(
    azure: LocalAzure, storage_proxy: StorageProxy, gated: tuple[Service, Gate]
) -> None:
    service, gate = gated
    azure.plant_fault("entra", "discovery", "hang", times=None)
    storage_proxy.plant(Fault(kind="hang"))
    gate.close()
    # Every upstream is silent from the start: the service is up and names them all.
    first, healthy = run_concurrently(
        [partial(timed, partial(get, service, path)) for path in ("/readyz", "/healthz")]
    )
    assert_ready(first[0], **dict.fromkeys(PARTS, "failing"))
    assert first[1] < LIMIT_SECONDS
    assert healthy[0].status_code == 200
    assert healthy[1] < AT_ONCE_SECONDS
    assert storage_proxy.calls_for(first[0]), "the checks carry the request's id"
    azure.clear_faults()
    storage_proxy.clear()
    gate.open()
    wait_until(lambda: get(service, "/readyz").status_code == 200, seconds=CACHED_SECONDS)
    assert_ready(get(service, "/readyz"))


def test_readyz_reports_refusing_storage_as_failing(
    storage_proxy: StorageProxy, other_service: Service
) -> None:
    storage_proxy.plant(Fault(kind="status", status=403))
    wait_until(lambda: get(other_service, "/readyz").status_code == 503, seconds=CACHED_SECONDS)
    assert_ready(get(other_service, "/readyz"), tableStorage="failing")


def test_readyz_reports_silent_data_calls_as_failing(
    azure: LocalAzure, shared_user: Person, other_service: Service
) -> None:
    assert shared_user.get_token(), "there is a resource to ask about"
    azure.plant_fault("acs", "*", "reset", times=None)
    failing = {"communicationServices": "failing", "tableStorage": "ok"}  # an earlier test had it fail
    wait_until(lambda: get(other_service, "/readyz").json() == {"entraId": "ok"} | failing, CACHED_SECONDS)
    assert_ready(get(other_service, "/readyz"), communicationServices="failing")


def test_slow_check_hides_no_recent_result() -> None:
    seconds = 0.0
    readiness = Readiness({"x": lambda: time.sleep(seconds)})
    assert readiness.failures() == {"x": None}
    readiness._checked_at -= FRESH_SECONDS
    seconds = 1.5
    assert run_concurrently([readiness.failures] * 20) == [{"x": None}] * 20
