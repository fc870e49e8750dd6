"""The request limits of Communication Services, which tests may turn on."""

from collections.abc import Iterator

import pytest

from tests.local_azure.resource import Resource
from tests.support.local_azure import LocalAzure

LIMIT = 500
WINDOW_SECONDS = 30
# Deleting what is not there counts as well, and costs the least.
DELETE = "/identities/x?api-version=2023-10-01"


@pytest.fixture
def limited(local_azure: LocalAzure) -> Iterator[LocalAzure]:
    """The local Azure with limits."""
    local_azure.turn_limits(True)
    yield local_azure
    local_azure.turn_limits(False)


def test_limit_is_per_operation_and_tells_when_to_come_back(limited: LocalAzure, resource: Resource) -> None:
    headers = resource.sign(DELETE, verb="DELETE")
    for _ in range(LIMIT):
        assert resource.send("DELETE", DELETE, headers).status_code == 401
    refused = resource.send("DELETE", DELETE, headers)
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "TooManyRequests")
    assert 1 <= int(refused.headers["Retry-After"]) <= WINDOW_SECONDS
    create = "/identities?api-version=2023-10-01"
    assert resource.post(create, resource.sign(create)).status_code == 201
    limited.turn_limits(False)
    assert resource.send("DELETE", DELETE, headers).status_code == 401
