"""`make run` prints its URL and accounts, and leaves no process behind."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
import requests

from local_azure.bearer import describe_token
from local_azure.examples import Examples
from local_azure.run import make_environment
from tests.support.concurrency import wait_until
from tests.support.run import START_SECONDS, STOP_SECONDS, Run
from tests.support.secretless import find_secrets, list_environments
from tests.support.service import free_port
from tests.support.settings import UNMEASURED

Start = Callable[..., Run]


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def start(tmp_path: Path, port: int) -> Iterator[Start]:
    """Start runs on `port` and wait until they are ready; stop those still running after the test."""
    runs: list[Run] = []

    def start_run(*, wait: bool = True) -> Run:
        runs.append(Run.start(port, tmp_path / "data", output_file=tmp_path / f"output-{len(runs)}"))
        if wait:
            runs[-1].wait_until_ready()
        return runs[-1]

    yield start_run
    for run in runs:
        run.stop()


def get_status(url: str) -> int:
    return requests.get(url, timeout=5).status_code


def assert_gone(descendants: list[psutil.Process], ports: set[int]) -> None:
    """Check that the processes end and that their ports are closed."""
    _, alive = psutil.wait_procs(descendants, timeout=STOP_SECONDS)
    assert alive == []
    for port in ports:
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", port)) != 0


def listening_ports(descendants: list[psutil.Process]) -> set[int]:
    connections = [each for process in descendants for each in process.net_connections("tcp")]
    return {each.laddr.port for each in connections if each.status == psutil.CONN_LISTEN}


def test_run_serves_printed_address_until_ctrl_c(start: Start) -> None:
    run = start()
    assert f"http://localhost:{run.port}\n" in run.output
    printed = [line.split() for line in run.output.splitlines() if ".example " in line]
    kinds = {"alice@contoso.example": "user", "bob@contoso.example": "user"}
    kinds |= {"admin@contoso.example": "administrator", "guest@fabrikam.example": "from"}
    assert {username: words[0] for username, *words in printed} == kinds
    assert get_status(f"http://127.0.0.1:{run.port}/healthz") == get_status(run.examples_url) == 200
    descendants = run.descendants()
    ports = listening_ports(descendants)
    assert {run.port, int(run.examples_url.rpartition(":")[2])} <= ports
    # An idle browser connection must not delay the shutdown, and a terminal signals the whole process
    # group, twice when the user is impatient.
    with socket.create_connection(("127.0.0.1", run.port)):
        os.killpg(run.process.pid, signal.SIGINT)
        os.killpg(run.process.pid, signal.SIGINT)
        assert run.process.wait(STOP_SECONDS) == 0
    assert_gone(descendants, ports)
    assert "Traceback" not in run.output


def test_secretless_run_has_no_secret_and_works(tmp_path: Path, port: int) -> None:
    data = tmp_path / "data"
    run = Run.start(port, data, "--managed-identity", output_file=tmp_path / "output")
    try:
        run.wait_until_ready()
        assert f"http://localhost:{run.port}\n" in run.output
        for environment in list_environments(run.find("gunicorn").pid):
            assert list(find_secrets(environment)) == []
            assert environment["SECRET_KEY_FILE"] == str(data / "secret-key")
        told = describe_token(data, "alice@contoso.example").splitlines()
        response = requests.post(
            told[-1].split()[3], headers={"Authorization": f"Bearer {told[0]}"}, timeout=20
        )
        assert response.json()["user"]["communicationUserId"].startswith("8:acs:")
        assert get_status(run.examples_url) == 200
    finally:
        run.stop()


def test_run_keeps_its_data_across_restarts(start: Start, tmp_path: Path) -> None:
    data, kept = tmp_path / "data", []
    for _ in range(2):
        run = start()
        settings = (data / "azure.env").read_text(encoding="utf-8").splitlines()
        secret = next(line for line in settings if line.startswith("ENTRA_CLIENT_SECRET="))
        kept.append((secret, (data / "secret-key").read_bytes()))
        run.process.terminate()
        assert run.process.wait(STOP_SECONDS) == 0
    assert kept[0] == kept[1]
    assert (data / "secret-key").stat().st_mode & 0o777 == 0o600


def test_run_refuses_data_that_another_run_uses(start: Start, tmp_path: Path) -> None:
    start()
    second = run_to_completion(free_port(), tmp_path / "data")
    assert second.returncode == 1
    assert second.stderr.count("\n") == 1
    assert "LOCAL_DATA=" in second.stderr


def test_examples_use_the_next_free_port(start: Start, port: int) -> None:
    with socket.socket() as other:
        with contextlib.suppress(OSError):  # taken by another program already, which does as well
            other.bind(("127.0.0.1", port + 100))
        run = start()
    examples_port = int(run.examples_url.rpartition(":")[2])
    assert port + 100 < examples_port < port + 120
    assert get_status(run.examples_url) == 200


@pytest.mark.parametrize("module", ["gunicorn", "local_azure", "examples", None])
def test_run_ends_when_a_process_dies(start: Start, module: str | None) -> None:
    """A module of None kills the run itself."""
    run = start()
    descendants = run.descendants()
    ports = listening_ports(descendants)
    (run.find(module) if module else run.process).kill()
    assert run.process.wait(STOP_SECONDS) == (1 if module else -signal.SIGKILL)
    assert_gone(descendants, ports)
    assert not module or run.output.splitlines()[-1].endswith("stopped unexpectedly (exit code -9).")


def test_run_can_be_stopped_during_startup(start: Start) -> None:
    run = start(wait=False)
    wait_until(lambda: bool(run.descendants()), START_SECONDS)
    descendants = run.descendants()
    run.process.send_signal(signal.SIGINT)
    assert run.process.wait(STOP_SECONDS) == 0
    assert_gone(descendants, {run.port})


def run_to_completion(port: int | str, data: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "local_azure.run", "--data", str(data)]
    env = os.environ | UNMEASURED | {"PORT": str(port)}
    return subprocess.run(
        command, env=env, capture_output=True, text=True, timeout=START_SECONDS, check=False
    )


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "0.0.0.0"])  # noqa: S104 - another program may
def test_run_reports_port_in_use_and_starts_nothing(tmp_path: Path, host: str) -> None:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as other:
        other.bind((host, 0))
        other.listen()
        port = other.getsockname()[1]
        refused = run_to_completion(port, tmp_path / "data")
    message = f"Port {port} is in use by another program; choose another port: PORT={port + 1} make run\n"
    assert (refused.returncode, refused.stdout, refused.stderr) == (1, "", message)
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("port", ["0", "65536", "http", "-1", "²"])
def test_run_refuses_an_invalid_port(tmp_path: Path, port: str) -> None:
    refused = run_to_completion(port, tmp_path / "data")
    assert refused.returncode == 1
    assert refused.stderr.startswith("PORT is ")
    assert refused.stderr.count("\n") == 1


def test_examples_line_names_a_missing_origin() -> None:
    describe, url = Examples(8100).describe, "http://localhost:8100"
    assert describe({"CORS_ORIGINS": f"https://a.example,{url}"}) == f"Examples: {url}"
    assert "CORS_ORIGINS" in describe({"CORS_ORIGINS": "https://a.example"})


SETTINGS = {
    # pragma: allowlist nextline secret (of the local Azure)
    "ENTRA_CLIENT_SECRET": "local",
    "LOCAL_AZURE_CONTROL_URL": "http://127.0.0.1:1/control",
    # pragma: allowlist nextline secret (made up)
    "SECRET_KEY": "made up",
    "REQUESTS_CA_BUNDLE": "/local/ca.pem",
    "SSL_CERT_FILE": "/local/ca.pem",
}


def test_environment_overrides_only_required_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    given = {"LOG_FORMAT": "json", "TOKEN_LIFETIME_MINUTES": "120", "SECRET_KEY_FILE": "/run/secrets/key"}
    given |= {"ENTRA_CLIENT_SECRET": "", "REQUESTS_CA_BUNDLE": "/etc/company.pem"}
    given |= {"https_proxy": "http://proxy.example:3128", "NO_PROXY": "company.example"}
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    environment = make_environment(SETTINGS, "http://localhost:8000")
    kept = {"LOG_FORMAT": "json", "TOKEN_LIFETIME_MINUTES": "120", "PUBLIC_URL": "http://localhost:8000"}
    # pragma: allowlist nextline secret (of the local Azure)
    kept |= {"ENTRA_CLIENT_SECRET": "local", "REQUESTS_CA_BUNDLE": "/local/ca.pem"}
    assert environment | kept == environment
    assert not {"SECRET_KEY", "LOCAL_AZURE_CONTROL_URL"} & set(environment)
    assert "localhost" in environment["NO_PROXY"].split(",")
