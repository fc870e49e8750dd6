"""Bad settings stop every program at its start, with one message; `check-config` finds them beforehand."""

import subprocess
import sys
from collections.abc import Callable

import pytest

from tests.support.local_azure import SWEEPS, LocalAzure
from tests.support.service import ROOT, free_port
from tests.support.settings import NAMES, REQUIRED

PROGRAM_SECONDS = 60
BAD = {
    # pragma: allowlist nextline secret (made up)
    "SECRET_KEY": "canary-short",
    "TOKEN_LIFETIME_MINUTES": "59",
    "ENTRA_CLIENT_ID": "canary",
    "COMMUNICATION_SERVICES_CONNECTION_STRING": "endpoint=https://a.example;accesskey=canary!",
}

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a Python module with exactly these settings; its output and exit status."""
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)

    def run_module(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
        for name, value in settings.items():
            monkeypatch.setenv(name, value)
        return subprocess.run(
            [sys.executable, "-m", *arguments],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=PROGRAM_SECONDS,
            check=False,
        )

    return run_module


CHECK = ("flask", "--app", "wsgi", "check-config")
SERVE = ("gunicorn", "wsgi:app", "--bind")


def assert_names_every_bad_setting_once(output: str) -> None:
    """Check for one line for each bad setting, no traceback and no value."""
    lines = output.splitlines()
    for name in BAD:
        assert len([line for line in lines if name in line]) == 1, output
    assert "Traceback" not in output
    assert "canary" not in output


def test_check_config_with_bad_settings_names_each_on_a_line(run: Run) -> None:
    done = run(*CHECK, **REQUIRED | BAD)
    assert done.returncode == 1
    assert_names_every_bad_setting_once(done.stdout + done.stderr)


def test_check_config_with_an_unknown_option_is_a_usage_error(run: Run) -> None:
    assert run(*CHECK, "--conect", **REQUIRED).returncode == 2


def test_every_command_is_stopped_by_bad_settings(run: Run) -> None:
    done = run("flask", "--app", "wsgi", "routes", **REQUIRED | BAD)
    assert done.returncode == 1
    assert_names_every_bad_setting_once(done.stdout + done.stderr)


def test_gunicorn_with_bad_settings_starts_no_worker(run: Run) -> None:
    done = run(*SERVE, f"127.0.0.1:{free_port()}", **REQUIRED | BAD)
    assert done.returncode not in (0, None)
    output = done.stdout + done.stderr
    assert_names_every_bad_setting_once(output)
    assert "Booting worker" not in output
    assert "Listening" not in output


@pytest.fixture
def connecting(azure: LocalAzure) -> dict[str, str]:
    """Settings that lead to the local Azure."""
    return REQUIRED | azure.env | {"PUBLIC_URL": "http://localhost:8000"}


PARTS = {
    "entraId": lambda port: {"ENTRA_AUTHORITY": f"https://localhost:{port}/organizations"},
    "tableStorage": lambda port: {
        "TABLE_STORAGE_CONNECTION_STRING": (
            "DefaultEndpointsProtocol=http;AccountName=devstoreaccount1;AccountKey=a2V5;"
            f"TableEndpoint=http://127.0.0.1:{port}/devstoreaccount1;"
        )
    },
    "communicationServices": lambda port: {
        "COMMUNICATION_SERVICES_CONNECTION_STRING": f"endpoint=https://localhost:{port}/;accesskey=a2V5"
    },
}


def test_check_config_without_connecting_needs_no_network(run: Run) -> None:
    done = run(*CHECK, **REQUIRED)  # these lead nowhere
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    assert "Traceback" not in done.stderr


def test_check_config_connects_line_by_line_and_makes_nothing(
    run: Run, connecting: dict[str, str], azure: LocalAzure
) -> None:
    before = azure.list_identities()
    azure.reset_calls()
    done = run(*CHECK, "--connect", **connecting)
    assert done.returncode == 0, done.stdout + done.stderr
    for part in PARTS:
        assert [line for line in done.stdout.splitlines() if part in line] == [f"{part}: ok"]
    assert azure.list_identities() == before
    assert azure.count_calls("acs").keys() <= SWEEPS


@pytest.mark.parametrize("broken", PARTS)
def test_check_config_tells_which_part_cannot_be_reached(
    run: Run, connecting: dict[str, str], broken: str
) -> None:
    done = run(*CHECK, "--connect", **connecting | PARTS[broken](free_port()))
    assert done.returncode == 1
    for part in PARTS:
        (line,) = (line for line in done.stdout.splitlines() if line.startswith(part))
        assert (line == f"{part}: ok") == (part != broken)
    assert "Traceback" not in done.stdout + done.stderr


def test_check_config_finds_a_wrong_storage_key(run: Run, connecting: dict[str, str]) -> None:
    parts = connecting["TABLE_STORAGE_CONNECTION_STRING"].split("AccountKey=")
    wrong = f"{parts[0]}AccountKey=d3Jvbmc=;{parts[1].partition(';')[2]}"
    done = run(*CHECK, "--connect", **connecting | {"TABLE_STORAGE_CONNECTION_STRING": wrong})
    assert done.returncode == 1
    assert "d3Jvbmc=" not in done.stdout + done.stderr
