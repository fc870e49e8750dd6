"""What `make run` starts, as its user sees it: an address, accounts, and nothing left behind."""

import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
import requests

from local_azure.examples import Examples
from local_azure.run import make_environment
from tests.support.run import START_SECONDS, STOP_SECONDS, Run
from tests.support.settings import UNMEASURED

Start = Callable[[Path], Run]


@pytest.fixture
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        number: int = probe.getsockname()[1]
        return number


@pytest.fixture
def start(tmp_path: Path, port: int) -> Iterator[Start]:
    """Starts runs on `port`, and stops those that a test leaves running."""
    runs: list[Run] = []

    def start_run(data: Path) -> Run:
        runs.append(Run.start(port, data, output_file=tmp_path / f"output-{len(runs)}"))
        return runs[-1]

    yield start_run
    for run in runs:
        run.stop()


def ask_health(host: str, port: int) -> int:
    connection = http.client.HTTPConnection(host, port, timeout=5)
    connection.request("GET", "/healthz")
    status = connection.getresponse().status
    connection.close()
    return status


def ask_page(url: str) -> int:
    return requests.get(url, timeout=5).status_code


def assert_gone(descendants: list[psutil.Process], ports: set[int]) -> None:
    """Neither the processes nor anything that listens where they did is there, now or in a moment."""
    _, alive = psutil.wait_procs(descendants, timeout=STOP_SECONDS)
    assert alive == []
    for port in ports:
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", port)) != 0


def listening_ports(descendants: list[psutil.Process]) -> set[int]:
    connections = [each for process in descendants for each in process.net_connections("tcp")]
    return {each.laddr.port for each in connections if each.status == psutil.CONN_LISTEN}


def test_run_serves_at_the_printed_address_until_ctrl_c(start: Start, tmp_path: Path) -> None:
    run = start(tmp_path / "data")
    run.wait_until_ready()

    assert f"http://localhost:{run.port}\n" in run.output
    printed = [line.split() for line in run.output.splitlines() if ".example " in line]
    assert {username: words[0] for username, *words in printed} == {
        "alice@contoso.example": "user",
        "bob@contoso.example": "user",
        "admin@contoso.example": "administrator",
        "guest@fabrikam.example": "of",
    }
    assert ask_health("127.0.0.1", run.port) == http.HTTPStatus.OK

    assert ask_page(run.examples_url) == http.HTTPStatus.OK

    descendants = run.descendants()
    ports = listening_ports(descendants)
    assert {run.port, int(run.examples_url.rpartition(":")[2])} <= ports
    # A browser's idle connection must not hold up the end, and a terminal signals the whole group, twice
    # when the user is impatient.
    with socket.create_connection(("127.0.0.1", run.port)):
        os.killpg(run.process.pid, signal.SIGINT)
        os.killpg(run.process.pid, signal.SIGINT)
        assert run.process.wait(STOP_SECONDS) == 0
    assert_gone(descendants, ports)
    assert "Traceback" not in run.output


def test_run_keeps_its_data_across_restarts(start: Start, tmp_path: Path) -> None:
    data = tmp_path / "data"
    kept = []
    for _ in range(2):
        run = start(data)
        run.wait_until_ready()
        settings = (data / "azure.env").read_text(encoding="utf-8").splitlines()
        secret = next(line for line in settings if line.startswith("ENTRA_CLIENT_SECRET="))
        kept.append((secret, (data / "secret-key").read_bytes()))
        run.process.terminate()
        assert run.process.wait(STOP_SECONDS) == 0
    assert kept[0] == kept[1]
    assert (data / "secret-key").stat().st_mode & 0o777 == 0o600


def test_run_refuses_data_that_another_run_uses(start: Start, tmp_path: Path, unused_port: int) -> None:
    data = tmp_path / "data"
    start(data).wait_until_ready()
    second = run_to_its_end(unused_port, data)
    assert second.returncode == 1
    assert second.stderr.count("\n") == 1
    assert "LOCAL_DATA=" in second.stderr


def test_run_serves_the_examples_on_the_next_port_when_theirs_is_taken(
    start: Start, tmp_path: Path, port: int
) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", port + 100))
        run = start(tmp_path / "data")
        run.wait_until_ready()
    examples_port = int(run.examples_url.rpartition(":")[2])
    assert port + 100 < examples_port < port + 120
    assert ask_page(run.examples_url) == http.HTTPStatus.OK


@pytest.mark.parametrize("module", ["gunicorn", "local_azure", "examples"])
def test_run_ends_when_a_part_dies(start: Start, tmp_path: Path, module: str) -> None:
    run = start(tmp_path / "data")
    run.wait_until_ready()
    descendants = run.descendants()
    ports = listening_ports(descendants)
    run.find(module).kill()
    assert run.process.wait(STOP_SECONDS) == 1
    assert_gone(descendants, ports)
    assert run.output.splitlines()[-1].endswith("ended by itself (exit code -9).")


def test_run_that_is_killed_leaves_nothing(start: Start, tmp_path: Path) -> None:
    run = start(tmp_path / "data")
    run.wait_until_ready()
    descendants = run.descendants()
    ports = listening_ports(descendants)
    run.process.kill()
    run.process.wait()
    assert_gone(descendants, ports)


def test_run_stops_while_it_is_starting(start: Start, tmp_path: Path) -> None:
    run = start(tmp_path / "data")
    deadline = time.monotonic() + START_SECONDS
    while not (descendants := run.descendants()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    run.process.send_signal(signal.SIGINT)
    assert run.process.wait(STOP_SECONDS) == 0
    assert_gone(descendants, {run.port})


@pytest.fixture
def unused_port(port: int) -> int:
    with socket.socket() as probe, socket.socket() as taken:
        taken.bind(("127.0.0.1", port))
        probe.bind(("127.0.0.1", 0))
        number: int = probe.getsockname()[1]
        return number


def run_to_its_end(port: int | str, data: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "local_azure.run", "--data", str(data)],
        check=False,
        env=os.environ | UNMEASURED | {"PORT": str(port)},
        capture_output=True,
        text=True,
        timeout=START_SECONDS,
    )


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "0.0.0.0"])  # noqa: S104 - so do other programs
def test_run_names_a_taken_port_and_starts_nothing(tmp_path: Path, host: str) -> None:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as other:
        other.bind((host, 0))
        other.listen()
        port = other.getsockname()[1]
        refused = run_to_its_end(port, tmp_path / "data")
    assert refused.returncode == 1
    assert refused.stdout == ""
    assert refused.stderr == (
        f"Port {port} is taken by another program; take another port: PORT={port + 1} make run\n"
    )
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("port", ["0", "65536", "http", "-1", "²"])
def test_run_refuses_what_is_no_port(tmp_path: Path, port: str) -> None:
    refused = run_to_its_end(port, tmp_path / "data")
    assert refused.returncode == 1
    assert refused.stderr.startswith("PORT is ")
    assert refused.stderr.count("\n") == 1


def test_line_of_the_examples_says_when_the_service_refuses_them() -> None:
    examples = Examples(8100)
    assert examples.describe({"CORS_ORIGINS": "https://a.example,http://localhost:8100"}) == (
        "Examples: http://localhost:8100"
    )
    assert "CORS_ORIGINS" in examples.describe({"CORS_ORIGINS": "https://a.example"})


SETTINGS = {
    # pragma: allowlist nextline secret (of the local Azure)
    "ENTRA_CLIENT_SECRET": "local",
    "LOCAL_AZURE_CONTROL_URL": "http://127.0.0.1:1/control",
    "REQUESTS_CA_BUNDLE": "/local/ca.pem",
    "SSL_CERT_FILE": "/local/ca.pem",
}


def test_environment_leaves_the_callers_variables_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOG_FORMAT", "json")
    monkeypatch.setenv("SECRET_KEY_FILE", "/run/secrets/key")
    monkeypatch.setenv("TOKEN_LIFETIME_MINUTES", "120")
    monkeypatch.setenv("ENTRA_CLIENT_SECRET", "")
    environment = make_environment(SETTINGS, "http://localhost:8000", "made up")
    assert environment["LOG_FORMAT"] == "json"
    assert "SECRET_KEY" not in environment
    assert environment["TOKEN_LIFETIME_MINUTES"] == "120"
    # pragma: allowlist nextline secret (of the local Azure)
    assert environment["ENTRA_CLIENT_SECRET"] == "local"
    assert environment["PUBLIC_URL"] == "http://localhost:8000"
    assert "LOCAL_AZURE_CONTROL_URL" not in environment


def test_environment_leads_to_the_local_azure_whatever_ca_or_proxy_the_caller_has(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/etc/company.pem")
    monkeypatch.setenv("https_proxy", "http://proxy.example:3128")
    monkeypatch.setenv("NO_PROXY", "company.example")
    environment = make_environment(SETTINGS, "http://localhost:8000", "made up")
    assert environment["REQUESTS_CA_BUNDLE"] == "/local/ca.pem"
    assert "localhost" in environment["NO_PROXY"].split(",")
