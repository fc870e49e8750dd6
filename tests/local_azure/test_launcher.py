"""`python -m local_azure`: its settings file, its shutdown, and data kept across restarts."""

import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest
import requests
from azure.core.exceptions import AzureError
from azure.data.tables import TableServiceClient

from tests.local_azure.clients import open_client
from tests.local_azure.flows import EntraFlow
from tests.support.local_azure import CALL_SECONDS, ROOT, STOP_SECONDS, LocalAzure, read_env_file

ACS = "COMMUNICATION_SERVICES_CONNECTION_STRING"
STORAGE = "TABLE_STORAGE_CONNECTION_STRING"
NAMES = [
    *("ENTRA_AUTHORITY", "ENTRA_CLIENT_ID", "ENTRA_CLIENT_SECRET", "ENTRA_ALLOWED_TENANTS", ACS, STORAGE),
    *("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "LOCAL_AZURE_CONTROL_URL"),
]
KEYS = "/common/discovery/v2.0/keys"


def find_azurite(azure: LocalAzure) -> psutil.Process:
    assert azure.process is not None
    [azurite] = psutil.Process(azure.process.pid).children(recursive=True)
    return azurite


def list_ports(azure: LocalAzure) -> list[int]:
    connections = (part for name in NAMES for part in azure.env[name].split(";"))
    urls = (urlsplit(part[part.find("http") :]) for part in connections if "://" in part)
    return [url.port for url in urls if url.port]


def is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def wait_for_end(process: psutil.Process) -> None:
    _, alive = psutil.wait_procs([process], timeout=STOP_SECONDS)
    assert not alive


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_leaves_nothing_behind(tmp_path: Path, number: signal.Signals) -> None:
    env_file = tmp_path / "azure.env"
    command = [sys.executable, "-m", "local_azure", "--env-file", str(env_file)]
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    env = os.environ | {"TMPDIR": str(temporary)}
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, env=env) as process:
        while not env_file.exists():
            assert process.poll() is None
            time.sleep(0.02)
        azure = LocalAzure()
        azure.process, azure.env = process, read_env_file(env_file)  # type: ignore[assignment]
        assert sorted(azure.env) == sorted(NAMES)
        assert stat.S_IMODE(env_file.stat().st_mode) == 0o600
        assert list(temporary.iterdir())
        azurite, ports = find_azurite(azure), list_ports(azure)
        assert len(ports) == 4
        assert all(is_open(port) for port in ports)
        process.send_signal(number)
        assert process.wait(STOP_SECONDS) == 0
        assert process.stderr is not None
        assert process.stderr.read() == b""
    wait_for_end(azurite)
    assert not any(is_open(port) for port in ports)
    assert not env_file.exists()
    assert not list(temporary.iterdir())


def test_kill_leaves_no_azurite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))  # pytest removes the files that a kill leaves there
    azure = LocalAzure().start()
    azurite = find_azurite(azure)
    assert azure.process is not None
    azure.process.kill()
    azure.process.communicate()
    wait_for_end(azurite)


def test_azurite_crash_is_reported_in_one_line() -> None:
    azure = LocalAzure().start()
    assert azure.process is not None
    find_azurite(azure).kill()
    _, errors = azure.process.communicate(timeout=STOP_SECONDS)
    assert azure.process.returncode == 1
    assert errors == "local_azure: Azurite stopped unexpectedly with code -9\n"


def test_hanging_calls_do_not_delay_shutdown() -> None:
    with LocalAzure() as azure:
        azure.plant_fault("entra", "keys", "hang")
        with azure.make_session() as session, pytest.raises(requests.Timeout):
            session.get(f"{azure.get_app().tls_origin}{KEYS}", timeout=0.1)
        start = time.monotonic()
    assert time.monotonic() - start < 3


def run_elsewhere(folder: Path, *arguments: str, **env: str) -> str:
    """Run the program in another folder, where it must fail; return its one-line error."""
    command = [sys.executable, "-m", "local_azure", *arguments]
    ended = subprocess.run(
        command, cwd=folder, env=os.environ | env, stderr=subprocess.PIPE, text=True, timeout=60
    )
    assert ended.returncode == 1
    assert ended.stderr.startswith("local_azure: ")
    assert ended.stderr.count("\n") == 1
    return ended.stderr


@pytest.mark.parametrize("arguments", [["/proc/nowhere/azure.env"], ["azure.env", "--data", "/proc/no"]])
def test_unusable_path_is_reported_in_one_line(arguments: list[str], tmp_path: Path) -> None:
    run_elsewhere(tmp_path, "--env-file", *arguments, PYTHONPATH=str(ROOT))
    assert not list(tmp_path.iterdir())


def test_missing_node_modules_are_reported_in_one_line(tmp_path: Path) -> None:
    without = shutil.ignore_patterns("node_modules", "__pycache__")
    shutil.copytree(ROOT / "local_azure", tmp_path / "local_azure", ignore=without)
    error = run_elsewhere(tmp_path, "--env-file", "azure.env")
    assert error.startswith("local_azure: Azurite is not installed")


def test_data_survives_a_restart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = tmp_path / "data"
    with LocalAzure(data=data) as azure:
        first_env, first_app = azure.env, azure.get_app()
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", azure.ca_path)
        account = azure.put_account("aaron@contoso.example", roles=["x"])
        azure.delete_account("bob@contoso.example")
        azure.rotate_keys(keep_old=True)
        certificate = first_app.certificate_path.read_bytes()
        with open_client(azure) as client:
            kept, gone = (client.create_user_and_token(["chat"]) for _ in range(2))
            client.revoke_tokens(gone[0])
        with TableServiceClient.from_connection_string(azure.env[STORAGE]) as tables:
            tables.create_table("kept").create_entity({"PartitionKey": "a", "RowKey": "b", "Value": "ä"})
        with azure.make_session() as session:
            id_token = EntraFlow(azure, session).sign_in()["id_token"]
    with LocalAzure("--front-channel-logout-url", "http://localhost:8000/out", data=data) as azure:
        assert azure.env["ENTRA_CLIENT_SECRET"] == first_env["ENTRA_CLIENT_SECRET"]
        assert len({env[ACS].partition("accesskey=")[2] for env in (azure.env, first_env)}) == 1
        assert azure.get_account("aaron@contoso.example") == account
        names = [known.username.partition("@")[0] for known in azure.list_accounts()]
        assert names == ["alice", "admin", "guest", "aaron"]  # the initial ones first, without Bob
        assert azure.get_app().certificate_path.read_bytes() == certificate
        assert azure.list_identities() == [kept[0].raw_id, gone[0].raw_id]
        assert azure.check_token(kept[1].token)["valid"] is True
        assert azure.check_token(gone[1].token)["reason"] == "the token was revoked"
        with TableServiceClient.from_connection_string(azure.env[STORAGE]) as tables:
            assert tables.get_table_client("kept").get_entity("a", "b")["Value"] == "ä"
        with azure.make_session() as session:
            assert EntraFlow(azure, session).verify(id_token)["name"] == "Alice Example"
        url = f"{azure.env['LOCAL_AZURE_CONTROL_URL']}/entra/app"
        app = requests.get(url, timeout=CALL_SECONDS).json()
        assert app["frontChannelLogoutUrl"] == "http://localhost:8000/out"
        # The CA of the first run is still trusted.
        url, ca_path = azure.get_app().tls_origin + KEYS, first_env["SSL_CERT_FILE"]
        assert requests.get(url, timeout=CALL_SECONDS, verify=ca_path).status_code == 200


# The clients' handshakes are cut, too, which leaves sockets to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_shutdown_under_load_is_quiet() -> None:
    azure = LocalAzure().start()
    assert azure.process is not None

    def call_until_end() -> None:
        with open_client(azure, retries=0) as client, pytest.raises(AzureError):  # noqa: PT012
            while True:
                client.create_user()

    threads = [threading.Thread(target=call_until_end) for _ in range(8)]
    with azure.in_environment():
        for thread in threads:
            thread.start()
        while azure.count_calls("acs").get("create", 0) < 100:
            time.sleep(0.02)
        azure.process.send_signal(signal.SIGTERM)
        _, errors = azure.process.communicate(timeout=STOP_SECONDS)
        for thread in threads:
            thread.join()
    assert (azure.process.returncode, errors) == (0, "")
