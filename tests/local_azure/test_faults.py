"""Planted faults, as clients see them."""

import http.client
import os
import ssl
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from azure.core.exceptions import HttpResponseError, ServiceResponseError

from tests.local_azure.clients import get_response, open_client
from tests.local_azure.flows import EntraFlow, read_error
from tests.support.local_azure import CALL_SECONDS, LocalAzure, LocalAzureError

KEYS = "/common/discovery/v2.0/keys"
SHORT_SECONDS = 0.3


def create(local_azure: LocalAzure) -> str:
    """Create an identity with the real SDK, without retries and with a short timeout."""
    with open_client(local_azure, retries=0) as client:
        return client.create_user(read_timeout=SHORT_SECONDS).raw_id


def get_keys(local_azure: LocalAzure, browser: requests.Session, timeout: float = SHORT_SECONDS) -> int:
    return browser.get(f"{local_azure.get_app().tls_origin}{KEYS}", timeout=timeout).status_code


def test_status_fault_sends_retry_after(local_azure: LocalAzure) -> None:
    local_azure.plant_fault("acs", "create", "status", status=429, retryAfter="7", code="TooManyRequests")
    with pytest.raises(HttpResponseError) as refused:
        create(local_azure)
    assert refused.value.status_code == 429
    response = get_response(refused.value)
    assert response.headers["Retry-After"] == "7"
    assert response.json()["error"]["code"] == "TooManyRequests"
    assert create(local_azure)


def test_entra_status_fault_has_entra_format(local_azure: LocalAzure, flow: EntraFlow) -> None:
    code = flow.pick()["code"]
    local_azure.plant_fault("entra", "token", "status", status=503, code="AADSTS90033")
    assert read_error(flow.redeem(code)) == (503, "temporarily_unavailable", 90033)
    local_azure.plant_fault("entra", "token", "status", status=500, body="<html>not JSON")
    assert flow.redeem(code).text == "<html>not JSON"
    local_azure.plant_fault("entra", "token", "status", status=200, body=[1, 2])
    assert flow.redeem(code).json() == [1, 2]
    assert flow.redeem(code).status_code == 200


def test_fault_skips_lasts_and_is_cleared(local_azure: LocalAzure, browser: requests.Session) -> None:
    local_azure.plant_fault("entra", "*", "status", status=500, skip=1, times=2)
    assert [get_keys(local_azure, browser) for _ in range(4)] == [200, 500, 500, 200]
    local_azure.plant_fault("entra", "keys", "status", status=503, times=None)
    assert [get_keys(local_azure, browser) for _ in range(3)] == [503, 503, 503]
    assert [fault["operation"] for fault in local_azure.list_faults()] == ["keys"]
    local_azure.clear_faults()
    assert local_azure.list_faults() == []
    assert get_keys(local_azure, browser) == 200


@pytest.mark.parametrize("secure", [True, False])
def test_reset_is_a_tcp_reset(local_azure: LocalAzure, secure: bool) -> None:
    app = local_azure.get_app()
    address = urlsplit(app.tls_origin if secure else app.page_origin).netloc
    local_azure.plant_fault("entra", "keys", "reset")
    connection = http.client.HTTPConnection(address, timeout=CALL_SECONDS)
    if secure:
        context = ssl.create_default_context(cafile=local_azure.ca_path)
        connection = http.client.HTTPSConnection(address, context=context, timeout=CALL_SECONDS)
    connection.request("GET", KEYS)
    # Read below TLS: Python's `ssl` reports a reset as an ordinary end.
    descriptor = connection.sock.fileno()
    os.set_blocking(descriptor, True)
    with pytest.raises(ConnectionResetError, match="reset by peer"):  # noqa: PT012  # TLS tickets come first
        while os.read(descriptor, 1 << 16):
            pass
    connection.close()


@pytest.mark.parametrize(
    ("fault", "made", "message"),
    [
        ({"kind": "hang"}, 0, "timed out"),
        ({"kind": "half"}, 1, "IncompleteRead"),
        ({"kind": "fail-after-commit", "then": "status", "status": 500}, 1, "PlantedFault"),
        ({"kind": "fail-after-commit", "then": "reset"}, 1, "Connection"),
        ({"kind": "fail-after-commit", "then": "hang"}, 1, "timed out"),
    ],
)
def test_failure_before_or_after_commit(
    local_azure: LocalAzure, fault: dict[str, Any], made: int, message: str
) -> None:
    before = len(local_azure.list_identities())
    local_azure.plant_fault("acs", "create", **fault)
    with pytest.raises((HttpResponseError, ServiceResponseError), match=message):
        create(local_azure)
    assert len(local_azure.list_identities()) == before + made
    create(local_azure)


def test_fault_affects_matching_calls_only(local_azure: LocalAzure) -> None:
    with open_client(local_azure, retries=0) as client:
        matching, other = client.create_user(), client.create_user()
        local_azure.plant_fault("acs", "issue", "status", about=matching.raw_id)
        local_azure.plant_fault("acs", "create", "status", about='"expiresInMinutes": 77')
        client.get_token(other, ["chat"])
        client.create_user_and_token(["chat"], token_expires_in=timedelta(minutes=78))
        assert len(local_azure.list_faults()) == 2
        with pytest.raises(HttpResponseError):
            client.get_token(matching, ["chat"])
        with pytest.raises(HttpResponseError):
            client.create_user_and_token(["chat"], token_expires_in=timedelta(minutes=77))
    assert local_azure.list_faults() == []


def test_calls_are_counted_and_recorded(local_azure: LocalAzure, browser: requests.Session) -> None:
    with open_client(local_azure) as client:
        user = client.create_user(request_id="the-request")
        client.get_token(user, ["chat"])
        client.revoke_tokens(user)
        client.delete_user(user)
    get_keys(local_azure, browser)
    assert local_azure.count_calls("acs") == {"create": 1, "issue": 1, "revoke": 1, "delete": 1}
    assert local_azure.count_calls("entra") == {"keys": 1}
    first, *_, last = local_azure.list_recent_calls()
    assert (first["service"], first["operation"], first["status"]) == ("acs", "create", 201)
    assert first["clientRequestId"] == "the-request"
    assert "communication-identity" in str(first["userAgent"])
    assert last["operation"] == "keys"
    local_azure.reset_calls()
    assert local_azure.count_calls("acs") == {}


def test_control_routes_refuse_invalid_requests(local_azure: LocalAzure) -> None:
    with pytest.raises(LocalAzureError, match="tenantId"):
        local_azure.put_account("eve@contoso.example", tenantId="somewhere")
    with pytest.raises(LocalAzureError, match="400"):
        local_azure.put_account("eve@contoso.example", objectId="not-a-guid")
    with pytest.raises(LocalAzureError, match="kind must be one of"):
        local_azure.tamper("nonsense")
    with pytest.raises(LocalAzureError, match="username"):
        local_azure.mint_tokens(username="nobody@contoso.example")
