"""`check-config --connect` authenticates to each upstream, and says why one refuses and what to do."""

import os
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from unittest import mock

import pytest
from azure.core.credentials import AzureNamedKeyCredential
from azure.data.tables import AccountSasPermissions, ResourceTypes, generate_account_sas

from local_azure.signing import SigningKey
from tests.support.commands import run_command
from tests.support.entra_redis import EntraRedis
from tests.support.fake_redis import fake_redis
from tests.support.local_azure import LocalAzure
from tests.support.own_azure import World
from tests.support.redis import Redis
from tests.support.service import free_port
from tests.support.settings import OWN_SETTINGS
from trusted_service.app import create_app
from trusted_service.settings import Settings

PARTS = ["entraId", "tableStorage", "communicationServices"]
GUID = "[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
UNKNOWN = "00000000-0000-4000-8000-000000000000"
ACS, STORAGE = "COMMUNICATION_SERVICES_CONNECTION_STRING", "TABLE_STORAGE_CONNECTION_STRING"
REDIS = "RATE_LIMIT_STORAGE_URI"
ADDRESSES = ("ENTRA_AUTHORITY", STORAGE, ACS)
# pragma: allowlist nextline secret (opens nothing)
SECRET = "sEcReT-canary"

Connect = Callable[..., dict[str, str]]


@pytest.fixture
def connect(settings: dict[str, str]) -> Connect:
    """Run the command with other settings; return its lines. Its exit status must fit them."""

    def run(changes: Mapping[str, str | None] | None = None) -> dict[str, str]:
        changed = OWN_SETTINGS | settings | dict(changes or {})
        env = {name: value for name, value in changed.items() if value is not None}
        with mock.patch.dict(os.environ, env):  # where SDKs look for the identity's endpoint
            for name in changed.keys() - env.keys():
                os.environ.pop(name, None)
            application = create_app(Settings.from_env(env))
            result = run_command(application, "check-config", "--connect")
        first, *lines = result.stdout.splitlines()
        assert first == "The settings are usable."
        found = dict(line.split(": ", 1) for line in lines)
        assert list(found) == PARTS + ["redis"] * (REDIS in env)
        assert result.exit_code == (0 if set(found.values()) == {"ok"} else 1)
        for secret in (SECRET, env.get("ENTRA_CLIENT_SECRET") or SECRET, env["SECRET_KEY"]):
            assert secret not in result.output
        return found

    return run


def assert_fails(found: dict[str, str], part: str, *words: str) -> None:
    """Check that only this part fails, with these words, the last of them in the remedy."""
    assert {name for name, line in found.items() if line != "ok"} == {part}
    for word in words:
        assert word in found[part]
    assert words[-1] in found[part].rpartition(": ")[2]


def test_connect_needs_every_part_to_work(connect: Connect, azure: LocalAzure, redis: Redis) -> None:
    before = azure.list_identities()
    assert set(connect({REDIS: redis.uri}).values()) == {"ok"}
    assert azure.list_identities() == before


@pytest.fixture
def identity(azure: LocalAzure) -> dict[str, str | None]:
    app = azure.get_app()
    endpoint = {"IDENTITY_ENDPOINT": app.identity_endpoint, "IDENTITY_HEADER": app.identity_header}
    own_id = {"ENTRA_MANAGED_IDENTITY_CLIENT_ID": app.identity_client_id}
    return {"ENTRA_CLIENT_SECRET": None, **own_id, **endpoint}


def test_wrong_credential_is_named(connect: Connect, tmp_path: Path) -> None:
    other = SigningKey.generate("somebody else")
    pem = tmp_path / "other.pem"
    pem.write_text(other.private_pem + other.certificate_pem, encoding="ascii")
    certificate = {"ENTRA_CLIENT_SECRET": None, "ENTRA_CLIENT_CERTIFICATE_PATH": str(pem)}
    for changes, number, remedy in (
        ({"ENTRA_CLIENT_SECRET": SECRET}, 7000215, "ENTRA_CLIENT_SECRET"),
        ({"ENTRA_CLIENT_ID": UNKNOWN}, 700016, "ENTRA_CLIENT_ID"),
        (certificate, 700027, "ENTRA_CLIENT_CERTIFICATE_PATH"),
    ):
        found = connect(changes)
        assert_fails(found, "entraId", f"AADSTS{number}", "correlation_id", remedy)
        assert re.search(f"trace_id {GUID}", found["entraId"])


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (7000222, "a current secret"),
        (700213, "federated credential"),
        (70021, "federated credential"),
        (90002, "ENTRA_AUTHORITY"),
        (7000112, "login.microsoftonline.com/error"),
    ],
)
def test_refused_app_gets_a_remedy(connect: Connect, azure: LocalAzure, number: int, remedy: str) -> None:
    azure.plant_fault("entra", "token", "refuse", code=f"AADSTS{number}")
    assert_fails(connect(), "entraId", f"AADSTS{number}", remedy)


def test_unknown_tenant_is_named(connect: Connect, settings: dict[str, str]) -> None:
    base = settings["ENTRA_AUTHORITY"].rpartition("/")[0]
    found = connect({"ENTRA_AUTHORITY": f"{base}/{UNKNOWN}", "ENTRA_ALLOWED_TENANTS": UNKNOWN})
    assert_fails(found, "entraId", "AADSTS90002", "trace_id", "correlation_id", "ENTRA_AUTHORITY")


def test_app_not_assigned_to_itself_is_ok(connect: Connect, azure: LocalAzure) -> None:
    azure.plant_fault("entra", "token", "refuse", code="AADSTS501051")
    assert connect()["entraId"] == "ok"


def test_every_credential_is_accepted(
    connect: Connect, azure: LocalAzure, identity: dict[str, str | None]
) -> None:
    certificate = {"ENTRA_CLIENT_CERTIFICATE_PATH": str(azure.get_app().certificate_path)}
    for changes in (certificate | {"ENTRA_CLIENT_SECRET": None}, identity):
        assert connect(changes)["entraId"] == "ok"


def test_multi_tenant_app_asks_tenants_in_turn(
    connect: Connect, azure: LocalAzure, settings: dict[str, str]
) -> None:
    base = settings["ENTRA_AUTHORITY"].rpartition("/")[0]
    other = azure.get_account("guest@fabrikam.example").tenant_id
    home = settings["ENTRA_ALLOWED_TENANTS"]
    several = {"ENTRA_AUTHORITY": f"{base}/organizations", "ENTRA_ALLOWED_TENANTS": f"{other},{home}"}
    azure.plant_fault("entra", "token", "refuse", code="AADSTS700016")
    assert connect(several)["entraId"] == "ok"
    assert_fails(connect(several | {"ENTRA_CLIENT_SECRET": SECRET}), "entraId", "7000215", "SECRET")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"ENTRA_MANAGED_IDENTITY_CLIENT_ID": UNKNOWN}, "HTTP 400 No User Assigned"),
        ({"IDENTITY_HEADER": "wrong"}, "HTTP 401"),
        ({"IDENTITY_ENDPOINT": "http://127.0.0.1:1/msi"}, "not reachable: connection refused"),
        ({"IDENTITY_ENDPOINT": None, "AZURE_POD_IDENTITY_AUTHORITY_HOST": "http://127.0.0.1:1"}, "not set"),
    ],
)
def test_managed_identity_failure_is_named(
    connect: Connect, identity: dict[str, str | None], changes: dict[str, str | None], words: str
) -> None:
    found = connect(identity | changes)
    assert_fails(found, "entraId", "managed identity", words, "ENTRA_MANAGED_IDENTITY_CLIENT_ID")


@pytest.mark.parametrize(
    ("part", "name", "status", "id"),
    [("tableStorage", STORAGE, 403, "x_ms_request_id"), ("communicationServices", ACS, 401, "ms_cv")],
)
def test_wrong_key_is_named(
    connect: Connect, settings: dict[str, str], part: str, name: str, status: int, id: str
) -> None:
    wrong = re.sub("(?i)(accesskey|accountkey)=[^;]*", r"\1=d3Jvbmc=", settings[name])
    found = connect({name: wrong})
    assert_fails(found, part, f"HTTP {status}", id, f"check the key in {name}")
    assert "d3Jvbmc" not in found[part]


def test_storage_that_only_reads_is_named(connect: Connect, azure: LocalAzure) -> None:
    parts = dict(part.partition("=")[::2] for part in azure.env[STORAGE].split(";"))
    signature = generate_account_sas(
        AzureNamedKeyCredential(parts["AccountName"], parts["AccountKey"]),
        resource_types=ResourceTypes(service=True, object=True),
        permission=AccountSasPermissions(read=True, list=True),
        expiry=datetime.now(UTC) + timedelta(hours=1),
    )
    reading = f"TableEndpoint={parts['TableEndpoint']};SharedAccessSignature={signature}"
    assert_fails(connect({STORAGE: reading}), "tableStorage", "HTTP 403", "Storage Table Data Contributor")


@pytest.mark.parametrize(("part", "name"), list(zip(PARTS, ADDRESSES, strict=True)))
def test_unreachable_part_is_named(connect: Connect, settings: dict[str, str], part: str, name: str) -> None:
    elsewhere = re.sub(r"://[^/;]+", "://localhost:1", settings[name])
    assert_fails(connect({name: elsewhere}), part, "connection refused", f"check {name}")


def test_other_resource_is_named_with_both(connect: Connect, world: World) -> None:
    world.new_user()  # the resource is pinned now
    own, other = (endpoint["resourceId"] for endpoint in world.azure.list_endpoints())
    found = connect({ACS: world.azure.other_connection_string})
    assert_fails(found, "communicationServices", own, other, "users move-resource")


def test_identity_that_stays_is_a_failure(connect: Connect, azure: LocalAzure) -> None:
    before = azure.list_identities()
    azure.plant_fault("acs", "delete", "status", status=403, code="Forbidden")
    assert_fails(connect(), "communicationServices", "HTTP 403 Forbidden", "role")
    for left in set(azure.list_identities()) - set(before):
        azure.delete_identity(left)


FAKES = {
    b"-MOVED 1 10.0.0.1:6379\r\n": "cluster mode",
    b"-LOADING Redis is loading\r\n": "see its log",
    b"-BUSY Redis is busy running a script.\r\n": "see its log",
    b"-MISCONF Redis is configured to save RDB snapshots\r\n": "see its log",
    b"-ERR max number of clients reached\r\n": "see its log",
    f"-ERR unknown command `HELLO`, with args `AUTH` `{SECRET}`\r\n".encode(): "use Redis 6 or newer",
    b"HTTP/1.1 400 Bad Request\r\n\r\n": "host and port",
    f"-odd {SECRET}\r\n".encode(): "host and port",
    b"": "host and port",
}


@pytest.mark.parametrize("response", FAKES)
def test_refusal_of_redis_is_named(connect: Connect, response: bytes) -> None:
    word = re.match(rb"-([A-Z]+)", response)
    with fake_redis(response) as port:
        found = connect({REDIS: f"redis://:{SECRET}@127.0.0.1:{port}/0"})
    assert_fails(found, "redis", word[1].decode() if word else "", FAKES[response])


def test_real_redis_says_what_it_refuses(connect: Connect, redis: Redis) -> None:
    def command(text: str) -> None:
        redis.client.execute_command(*text.split())  # type: ignore[no-untyped-call]

    address = redis.uri.partition("@")[2]
    command(f"ACL SETUSER bob on >{SECRET} ~x* +@all")
    for uri, word in (
        (f"redis://:{SECRET}@{address}", "WRONGPASS"),
        (f"redis://{address}", "NOAUTH"),
        (f"redis://bob:{SECRET}@{address}", "NOPERM"),
        (f"redis://127.0.0.1:{free_port()}", "connection refused"),
        (f"redis://{SECRET.lower()}.invalid", "the name is not known"),
    ):
        assert_fails(connect({REDIS: uri}), "redis", word, "")
    for on, off, word, remedy in (
        ("CONFIG SET maxmemory 1", "CONFIG SET maxmemory 0", "OOM", "memory"),
        ("REPLICAOF 127.0.0.1 1", "REPLICAOF NO ONE", "READONLY", "primary"),
    ):
        command(on)
        found = connect({REDIS: redis.uri})
        command(off)
        assert_fails(found, "redis", word, remedy)


def test_managed_identity_connects_to_redis(connect: Connect, azure: LocalAzure, redis: Redis) -> None:
    app = azure.get_app()
    endpoint = {"IDENTITY_ENDPOINT": app.identity_endpoint, "IDENTITY_HEADER": app.identity_header}
    with EntraRedis(redis, azure) as front:
        identity = {REDIS: front.uri, "AZURE_CLIENT_ID": app.identity_client_id} | endpoint
        assert connect(identity)["redis"] == "ok"
        found = connect(identity | {"IDENTITY_HEADER": "wrong"})
        assert_fails(found, "redis", "managed identity: HTTP 401", "AZURE_CLIENT_ID")
        found = connect(identity | {"AZURE_CLIENT_ID": None})
        assert_fails(found, "redis", "managed identity: HTTP 400", "AZURE_CLIENT_ID")
        front.users.clear()
        assert_fails(connect(identity), "redis", "WRONGPASS", "its object id (not its client id)")


def test_untrusted_certificate_is_named(connect: Connect, azure: LocalAzure) -> None:
    endpoint = azure.list_endpoints()[0]["endpoint"].rstrip("/").partition("//")[2]
    found = connect({"SSL_CERT_FILE": None, "REQUESTS_CA_BUNDLE": None, REDIS: f"rediss://{endpoint}"})
    for part in ("entraId", "communicationServices", "redis"):
        assert "TLS: " in found[part]
        assert "REQUESTS_CA_BUNDLE or SSL_CERT_FILE" in found[part]
