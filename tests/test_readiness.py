"""/healthz touches nothing; /readyz tells which upstream fails, makes nothing, and does not ask too often."""

from collections.abc import Iterator
from functools import partial
from urllib.parse import urlsplit

import pytest
import requests

from tests.support.gate import Gate
from tests.support.local_azure import SWEEPS, LocalAzure
from tests.support.service import Service, free_port
from tests.support.storage_proxy import Fault, StorageProxy
from tests.support.together import run_together, timed, wait_until

PARTS = ["entraId", "tableStorage", "communicationServices"]
LIMIT_SECONDS = 15.0
CACHED_SECONDS = 10.0
AT_ONCE_SECONDS = 2.0
ACS, STORAGE = "COMMUNICATION_SERVICES_CONNECTION_STRING", "TABLE_STORAGE_CONNECTION_STRING"


def get(service: Service, path: str) -> requests.Response:
    return requests.get(service.url + path, allow_redirects=False, timeout=LIMIT_SECONDS)


def assert_ready(answer: requests.Response, **states: str) -> None:
    """Check that the answer says `states`, and `ok` of every other part, and nothing more."""
    expected = dict.fromkeys(PARTS, "ok") | states
    assert answer.json() == expected
    assert list(answer.json()) == PARTS
    assert answer.status_code == (200 if set(expected.values()) == {"ok"} else 503)
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["Cache-Control"] == "no-store"


def test_healthz_touches_nothing(azure: LocalAzure, storage_proxy: StorageProxy, service: Service) -> None:
    answer = requests.get(f"{service.url}/healthz", cookies={"session": "x"}, timeout=LIMIT_SECONDS)
    assert answer.status_code == 200
    assert "Set-Cookie" not in answer.headers
    assert storage_proxy.calls_for(answer) == []
    assert azure.calls_for(answer) == []


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_health_routes_need_no_host_that_we_know(service: Service, path: str) -> None:
    answer = requests.get(service.url + path, headers={"Host": "10.0.0.1:8000"}, timeout=LIMIT_SECONDS)
    assert answer.status_code == 200


def test_readyz_makes_nothing_and_asks_once_for_many(
    azure: LocalAzure, storage_proxy: StorageProxy, service: Service
) -> None:
    identities = azure.list_identities()
    azure.reset_calls()
    storage_proxy.clear()
    for answer in run_together([partial(get, service, "/readyz")] * 10):
        assert_ready(answer)
    assert {call.method for call in storage_proxy.calls()} <= {"GET"}
    # A second round may begin in between, where what was known before had become too old.
    assert len(storage_proxy.calls()) <= 2
    assert azure.count_calls("acs").keys() <= SWEEPS
    assert sum(azure.count_calls("entra").values()) <= 2
    assert azure.list_identities() == identities


@pytest.fixture(scope="module")
def broken(settings: dict[str, str]) -> Iterator[dict[str, Service]]:
    """For each part, a service that cannot connect to it."""
    nobody = free_port()
    key = settings[ACS].partition("accesskey=")[2]
    wrong = {
        "entraId": {"ENTRA_AUTHORITY": f"https://localhost:{nobody}/organizations"},
        "tableStorage": {STORAGE: settings[STORAGE].replace(port_of_storage(settings), f":{nobody}/")},
        "communicationServices": {ACS: f"endpoint=https://localhost:{nobody}/;accesskey={key}"},
    }
    services = {part: Service(settings | wrong[part]) for part in PARTS}
    try:
        run_together([service.start for service in services.values()])
        yield services
    finally:
        run_together([service.stop for service in services.values()])


def port_of_storage(settings: dict[str, str]) -> str:
    """`:<port>/` as it stands in the connection string."""
    endpoint = settings[STORAGE].partition("TableEndpoint=")[2].split(";")[0]
    return f":{urlsplit(endpoint).port}/"


@pytest.mark.parametrize("part", PARTS)
def test_readyz_names_the_part_that_cannot_be_reached(broken: dict[str, Service], part: str) -> None:
    answer, seconds = timed(partial(get, broken[part], "/readyz"))
    assert_ready(answer, **{part: "failing"})
    assert seconds < LIMIT_SECONDS
    assert get(broken[part], "/healthz").status_code == 200


@pytest.fixture
def gated(azure: LocalAzure, settings: dict[str, str]) -> Iterator[tuple[Service, Gate]]:
    """A service with a gate in front of Communication Services, whose health the faults do not reach."""
    port = urlsplit(settings[ACS].partition("endpoint=")[2].split(";")[0]).port
    assert port is not None
    with Gate(port) as gate:
        through = settings[ACS].replace(f":{port}/", f":{gate.port}/")
        with Service(settings | {ACS: through}) as service:
            yield service, gate


def test_readyz_turns_with_the_upstreams_and_back(
    azure: LocalAzure, storage_proxy: StorageProxy, gated: tuple[Service, Gate]
) -> None:
    service, gate = gated
    azure.plant_fault("entra", "discovery", "hang", times=None)
    storage_proxy.plant(Fault(kind="hang"))
    gate.close()
    # Silence everywhere, from the start: the service is up, and says what is wrong.
    first, healthy = run_together(
        [partial(timed, partial(get, service, path)) for path in ("/readyz", "/healthz")]
    )
    assert_ready(first[0], **dict.fromkeys(PARTS, "failing"))
    assert first[1] < LIMIT_SECONDS
    assert healthy[0].status_code == 200
    assert healthy[1] < AT_ONCE_SECONDS
    azure.clear_faults()
    storage_proxy.clear()
    gate.open()
    wait_until(lambda: get(service, "/readyz").status_code == 200, seconds=CACHED_SECONDS)
    assert_ready(get(service, "/readyz"))


def test_readyz_counts_a_refusing_storage_as_failing(
    storage_proxy: StorageProxy, other_service: Service
) -> None:
    storage_proxy.plant(Fault(kind="status", status=403))
    wait_until(lambda: get(other_service, "/readyz").status_code == 503, seconds=CACHED_SECONDS)
    assert_ready(get(other_service, "/readyz"), tableStorage="failing")
