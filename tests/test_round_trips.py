"""How often a request calls upstream, in sequence: the floor of a warm token is two."""

from tests.support.local_azure import LocalAzure
from tests.support.person import Person
from tests.support.storage_proxy import StorageProxy


def test_warm_token_makes_one_storage_read_and_one_acs_call(
    azure: LocalAzure, storage_proxy: StorageProxy, signed_in: Person
) -> None:
    csrf = signed_in.csrf_headers()
    assert signed_in.token(csrf=csrf).status_code == 200
    assert signed_in.token(csrf=csrf).status_code == 200
    azure.reset_calls()
    storage_proxy.clear()
    answer = signed_in.token(csrf=csrf)
    assert answer.status_code == 200
    calls = storage_proxy.calls()
    assert [(call.method, call.table) for call in calls] == [("GET", "sessions")]
    assert azure.count_calls("acs") == {"issue": 1}
    assert sum(azure.count_calls("entra").values()) == 0
    assert calls[0].request_id == answer.headers["X-Request-ID"]
    assert azure.list_recent_calls()[-1]["x-ms-client-request-id"] == answer.headers["X-Request-ID"]
