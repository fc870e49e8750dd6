"""Telemetry under load and with a failing endpoint: no request waits for it, and few cost more."""

from functools import partial
from typing import Any

import pytest
import requests

from tests.support.concurrency import run_concurrently, timed
from tests.support.service import Service
from tests.support.telemetry import OFTEN, Tables, Telemetry
from trusted_service.observability.signals import BURST_SECONDS, DETAIL_SECONDS

HANGS_SECONDS = 1.0
STOP_SECONDS = 15.0
"""Each of three exports ends in two seconds; the statistics of the SDK took twenty."""
ISSUES = 'dependencies | where name == "POST /:issueAccessToken" | project resultCode'


def test_few_requests_have_spans_of_calls(telemetry: Telemetry) -> None:
    world = telemetry.world
    person = world.new_user()
    csrf = person.csrf_headers()
    telemetry.settle()
    world.azure.clear_envelopes()
    tokens = [partial(person.token, csrf=csrf)] * 10
    responses, seconds = timed(lambda: [one for _ in range(4) for one in run_concurrently(tokens)])
    assert {response.status_code for response in responses} == {200}
    tables = Tables(telemetry.settle())
    assert len(tables.query('requests | where operation_Name == "POST /api/token"')) == len(responses)
    details = len(tables.query(ISSUES))
    assert 0 < details <= (BURST_SECONDS + seconds) / DETAIL_SECONDS + 1
    world.azure.clear_envelopes()
    world.azure.plant_fault("acs", "issue", "status", status=503, times=None)
    failed = [one.status_code for _ in range(2) for one in run_concurrently(tokens)]
    assert len(Tables(telemetry.settle()).query(ISSUES)) == len(failed), "those that fail have all"


def request_often(service: Service) -> list[float]:
    """Return the seconds that each of some requests took, in several threads."""
    get = partial(timed, partial(requests.get, f"{service.url}/api/me", timeout=30))
    return [seconds for _ in range(20) for _, seconds in run_concurrently([get] * 10)]


@pytest.mark.parametrize("fault", [{"kind": "hang"}, {"kind": "status", "status": 500}, {"kind": "reset"}])
def test_failing_ingestion_affects_no_request(telemetry: Telemetry, fault: dict[str, Any]) -> None:
    world = telemetry.world
    with Service(world.settings | OFTEN) as service:
        world.azure.plant_fault("ingestion", "track", times=None, **fault)
        assert max(request_often(service)) < HANGS_SECONDS
        _, seconds = timed(service.stop)
        assert seconds < STOP_SECONDS
