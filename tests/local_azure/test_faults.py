"""Planted faults, seen from the client's side of the wire."""

import http.client
import os
import ssl
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from urllib.parse import urlsplit

import psutil
import pytest
import requests
from azure.core.exceptions import HttpResponseError, ServiceResponseError

from tests.local_azure.clients import get_response, open_client
from tests.local_azure.flows import EntraFlow, read_error
from tests.support.local_azure import CALL_SECONDS, LocalAzure, LocalAzureError
from tests.support.together import wait_until

SHORT_SECONDS = 0.3


@pytest.fixture
def create(local_azure: LocalAzure) -> Callable[[], str]:
    """Create an identity with the real SDK: one attempt, and little patience."""

    def run() -> str:
        with open_client(local_azure, retries=0) as client:
            return client.create_user(read_timeout=SHORT_SECONDS).raw_id

    return run


def get_keys(local_azure: LocalAzure, browser: requests.Session, timeout: float = SHORT_SECONDS) -> int:
    url = f"{local_azure.get_app().tls_origin}/common/discovery/v2.0/keys"
    return browser.get(url, timeout=timeout).status_code


def test_status_with_retry_after(local_azure: LocalAzure, create: Callable[[], str]) -> None:
    local_azure.plant_fault("acs", "create", "status", status=429, retryAfter="7", code="TooManyRequests")
    with pytest.raises(HttpResponseError) as refused:
        create()
    assert refused.value.status_code == 429
    response = get_response(refused.value)
    assert response.headers["Retry-After"] == "7"
    assert response.json()["error"]["code"] == "TooManyRequests"
    assert create()


def test_status_of_entra_has_its_form(local_azure: LocalAzure, flow: EntraFlow) -> None:
    code = flow.pick()["code"]
    local_azure.plant_fault("entra", "token", "status", status=503, code="AADSTS90033")
    assert read_error(flow.redeem(code)) == (503, "temporarily_unavailable", 90033)
    local_azure.plant_fault("entra", "token", "status", status=500, body="<html>not JSON")
    assert flow.redeem(code).text == "<html>not JSON"
    assert flow.redeem(code).status_code == 200


def test_body_may_be_any_json(local_azure: LocalAzure, flow: EntraFlow) -> None:
    local_azure.plant_fault("entra", "token", "status", status=200, body=[1, 2])
    assert flow.post_token().json() == [1, 2]


@pytest.mark.parametrize("operation", ["discovery", "keys", "authorize", "token", "msi"])
def test_every_operation_of_entra_can_fail(
    local_azure: LocalAzure, browser: requests.Session, operation: str
) -> None:
    app = local_azure.get_app()
    urls = {
        "discovery": f"{app.tls_origin}/common/v2.0/.well-known/openid-configuration",
        "keys": f"{app.tls_origin}/common/discovery/v2.0/keys",
        "authorize": f"{app.page_origin}/common/oauth2/v2.0/authorize",
        "token": f"{app.tls_origin}/common/oauth2/v2.0/token",
        "msi": app.identity_endpoint,
    }
    local_azure.plant_fault("entra", operation, "status", status=418)
    method = "POST" if operation == "token" else "GET"
    assert browser.request(method, urls[operation], timeout=CALL_SECONDS).status_code == 418
    assert local_azure.count_calls("entra") == {operation: 1}


def test_fault_skips_lasts_and_is_cleared(local_azure: LocalAzure, browser: requests.Session) -> None:
    local_azure.plant_fault("entra", "*", "status", status=500, skip=1, times=2)
    assert [get_keys(local_azure, browser) for _ in range(4)] == [200, 500, 500, 200]
    local_azure.plant_fault("entra", "keys", "status", status=503, times=None)
    assert [get_keys(local_azure, browser) for _ in range(3)] == [503, 503, 503]
    assert [fault["operation"] for fault in local_azure.list_faults()] == ["keys"]
    local_azure.clear_faults()
    assert local_azure.list_faults() == []
    assert get_keys(local_azure, browser) == 200


def test_hang_never_answers(local_azure: LocalAzure, create: Callable[[], str]) -> None:
    before = len(local_azure.list_identities())
    local_azure.plant_fault("acs", "create", "hang")
    with pytest.raises(ServiceResponseError, match="timed out"):
        create()
    assert len(local_azure.list_identities()) == before


def test_hanging_threads_end_when_clients_leave(local_azure: LocalAzure, browser: requests.Session) -> None:
    assert local_azure.process is not None
    process = psutil.Process(local_azure.process.pid)
    get_keys(local_azure, browser)
    before = process.num_threads()
    local_azure.plant_fault("entra", "keys", "hang", times=10)
    for _ in range(10):
        with pytest.raises(requests.Timeout):
            get_keys(local_azure, browser, timeout=0.05)
    deadline = time.monotonic() + 5
    while process.num_threads() > before and time.monotonic() < deadline:
        time.sleep(0.05)
    assert process.num_threads() <= before


def test_clearing_ends_a_hang(local_azure: LocalAzure, browser: requests.Session) -> None:
    local_azure.plant_fault("entra", "keys", "hang", times=1)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(get_keys, local_azure, browser, CALL_SECONDS)
        wait_until(lambda: local_azure.list_faults() == [])  # it has met the fault
        local_azure.clear_faults()
        with pytest.raises(requests.ConnectionError):
            waiting.result()


@pytest.mark.parametrize("secure", [True, False])
def test_reset_is_a_tcp_reset(local_azure: LocalAzure, secure: bool) -> None:
    app = local_azure.get_app()
    address = urlsplit(app.tls_origin if secure else app.page_origin).netloc
    local_azure.plant_fault("entra", "keys", "reset")
    context = ssl.create_default_context(cafile=local_azure.ca_path)
    connection = (
        http.client.HTTPSConnection(address, context=context, timeout=CALL_SECONDS)
        if secure
        else http.client.HTTPConnection(address, timeout=CALL_SECONDS)
    )
    connection.request("GET", "/common/discovery/v2.0/keys")
    # Read below TLS: Python's `ssl` tells a reset as a mere end.
    descriptor = connection.sock.fileno()
    os.set_blocking(descriptor, True)
    with pytest.raises(ConnectionResetError, match="reset by peer"):  # noqa: PT012  # tickets of TLS come first
        while os.read(descriptor, 1 << 16):
            pass
    connection.close()


def test_delay_answers_late(local_azure: LocalAzure, browser: requests.Session) -> None:
    local_azure.plant_fault("entra", "keys", "delay", seconds=0.2)
    start = time.monotonic()
    assert get_keys(local_azure, browser, timeout=CALL_SECONDS) == 200
    assert time.monotonic() - start >= 0.2


def test_half_an_answer(local_azure: LocalAzure, create: Callable[[], str]) -> None:
    before = len(local_azure.list_identities())
    local_azure.plant_fault("acs", "create", "half")
    with pytest.raises(HttpResponseError, match="IncompleteRead"):
        create()
    assert len(local_azure.list_identities()) == before + 1


def test_drip_never_ends(local_azure: LocalAzure, browser: requests.Session) -> None:
    local_azure.plant_fault("entra", "keys", "drip", seconds=0.02)
    url = f"{local_azure.get_app().tls_origin}/common/discovery/v2.0/keys"
    with browser.get(url, stream=True, timeout=CALL_SECONDS) as answer:
        assert answer.status_code == 200
        drops = answer.iter_content(1)
        assert [next(drops) for _ in range(10)] == [b" "] * 10


@pytest.mark.parametrize("then", ["status", "reset", "hang"])
def test_failure_after_commit(local_azure: LocalAzure, create: Callable[[], str], then: str) -> None:
    before = len(local_azure.list_identities())
    local_azure.plant_fault("acs", "create", "fail-after-commit", status=500, then=then)
    with pytest.raises((HttpResponseError, ServiceResponseError)):
        create()
    assert len(local_azure.list_identities()) == before + 1
    create()


def test_fault_about_something_strikes_nobody_else(local_azure: LocalAzure) -> None:
    with open_client(local_azure, retries=0) as client:
        struck, spared = client.create_user(), client.create_user()
        local_azure.plant_fault("acs", "issue", "status", about=struck.raw_id)
        local_azure.plant_fault("acs", "create", "status", about='"expiresInMinutes": 77')
        client.get_token(spared, ["chat"])
        client.create_user_and_token(["chat"], token_expires_in=timedelta(minutes=78))
        assert len(local_azure.list_faults()) == 2
        with pytest.raises(HttpResponseError):
            client.get_token(struck, ["chat"])
        with pytest.raises(HttpResponseError):
            client.create_user_and_token(["chat"], token_expires_in=timedelta(minutes=77))
    assert local_azure.list_faults() == []


def test_calls_are_counted_and_noted(local_azure: LocalAzure, browser: requests.Session) -> None:
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


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"service": "storage"}, "service"),
        ({"kind": "earthquake"}, "kind"),
        ({"operation": "keys"}, "operation"),
        ({"times": "two"}, "times"),
        ({"seconds": "long"}, "seconds"),
        ({"status": True}, "status"),
        ({"then": "again"}, "then"),
    ],
)
def test_malformed_fault_is_refused(
    local_azure: LocalAzure, members: dict[str, object], message: str
) -> None:
    fault: dict[str, object] = {"service": "acs", "operation": "create", "kind": "status"}
    url = f"{local_azure.env['LOCAL_AZURE_CONTROL_URL']}/faults"
    answer = requests.post(url, json=fault | members, timeout=CALL_SECONDS)
    assert answer.status_code == 400
    assert message in answer.json()["error"]
    assert local_azure.list_faults() == []


def test_control_routes_refuse_what_is_not_an_object(local_azure: LocalAzure) -> None:
    url = f"{local_azure.env['LOCAL_AZURE_CONTROL_URL']}/faults"
    for body in (b"[]", b"{", b"null"):
        assert requests.post(url, data=body, timeout=CALL_SECONDS).status_code == 400


def test_account_of_an_unknown_tenant_is_refused(local_azure: LocalAzure) -> None:
    with pytest.raises(LocalAzureError, match="tenantId"):
        local_azure.put_account("eve@contoso.example", tenantId="somewhere")
    with pytest.raises(LocalAzureError, match="400"):
        local_azure.put_account("eve@contoso.example", objectId="not-a-guid")


def test_account_is_put_replaced_and_deleted(local_azure: LocalAzure) -> None:
    first = local_azure.put_account("frank@contoso.example", roles=["TrustedService.Admin"])
    assert (first.name, first.roles, first.enabled) == ("Frank", ["TrustedService.Admin"], True)
    second = local_azure.put_account("frank@contoso.example", objectId=first.object_id, name="Frank Two")
    assert local_azure.get_account("frank@contoso.example") == second
    assert (second.object_id, second.roles) == (first.object_id, [])
    local_azure.delete_account("frank@contoso.example")
    assert "frank@contoso.example" not in {account.username for account in local_azure.list_accounts()}


def test_redirect_uris_are_replaced(local_azure: LocalAzure, flow: EntraFlow) -> None:
    before = local_azure.get_app().redirect_uris
    local_azure.change_app(redirectUris=["https://other.example/"])
    assert flow.open_page().status_code == 400
    assert flow.open_page(redirect_uri="https://other.example/").status_code == 200
    local_azure.change_app(redirectUris=before)
    assert flow.open_page().status_code == 200
