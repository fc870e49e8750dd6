"""How often a request calls upstream, in sequence: the floor of a warm token is two."""

from tests.support.local_azure import LocalAzure
from tests.support.person import Person
from tests.support.storage_proxy import StorageProxy


def test_warm_token_makes_one_storage_read_and_one_acs_call(
    azure: LocalAzure, storage_proxy: StorageProxy, signed_in: Person
) -> None:
    csrf = signed_in.csrf_headers()
    for _ in range(2):
        assert signed_in.token(csrf=csrf).status_code == 200
    entra_before = azure.count_calls("entra")
    answer = signed_in.token(csrf=csrf)
    assert answer.status_code == 200
    assert [(call.method, call.table) for call in storage_proxy.calls_for(answer)] == [("GET", "sessions")]
    assert azure.calls_for(answer) == ["issue"]
    assert azure.count_calls("entra") == entra_before
