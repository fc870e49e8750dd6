"""Invalid settings stop every program at startup with one message; `check-config` finds them beforehand."""

import os
import subprocess
import sys

import pytest

from tests.support.local_azure import SWEEPS, LocalAzure
from tests.support.service import ROOT, free_port
from tests.support.settings import NAMES, REQUIRED

BAD = {
    # pragma: allowlist nextline secret (made up)
    "SECRET_KEY": "canary-short",
    "TOKEN_LIFETIME_MINUTES": "59",
    "ENTRA_CLIENT_ID": "canary",
    "COMMUNICATION_SERVICES_CONNECTION_STRING": "endpoint=https://a.example;accesskey=canary!",
    "RATE_LIMIT_STORAGE_URI": "rediss://:canary/x=@cache.example:6380/0",
    "APPLICATIONINSIGHTS_CONNECTION_STRING": "InstrumentationKey=canary",
    "REQUESTS_CA_BUNDLE": "/nowhere/canary",
    "WEB_CONCURRENCY": "0",
}

FLASK = ("flask", "--app", "wsgi")
CHECK = (*FLASK, "check-config")


def run(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run a Python module with exactly these settings."""
    command = [sys.executable, "-m", *arguments]
    env = {name: value for name, value in os.environ.items() if name not in NAMES} | settings
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=60, check=False)


def assert_names_every_bad_setting_once(output: str) -> None:
    """Check for one line per bad setting, no traceback and no value."""
    lines = output.splitlines()
    for name in BAD:
        assert len([line for line in lines if name in line]) == 1, output
    assert "Traceback" not in output
    assert "canary" not in output


@pytest.mark.parametrize("command", ["check-config", "routes", "users list"])
def test_bad_settings_stop_every_command(command: str) -> None:
    done = run(*FLASK, *command.split(), **REQUIRED | BAD)
    assert done.returncode == 1
    assert_names_every_bad_setting_once(done.stdout + done.stderr)


def test_check_config_needs_no_network() -> None:
    done = run(*CHECK, **REQUIRED)  # their addresses do not exist
    assert (done.returncode, done.stdout) == (0, "The settings are usable.\n"), done.stderr
    assert "Traceback" not in done.stderr
    assert run(*CHECK, "--conect", **REQUIRED).returncode == 2


def test_check_config_shows_warnings() -> None:
    done = run(*CHECK, **REQUIRED | {"TOKEN_LIFETIME_MINUTE": "canary"})
    assert done.returncode == 0
    assert done.stdout.splitlines()[1].startswith("Warning: TOKEN_LIFETIME_MINUTE ")
    assert "canary" not in done.stdout + done.stderr


def test_gunicorn_with_bad_settings_starts_no_worker() -> None:
    done = run("gunicorn", "wsgi:app", "--bind", f"127.0.0.1:{free_port()}", **REQUIRED | BAD)
    assert done.returncode not in (0, None)
    output = done.stdout + done.stderr
    assert_names_every_bad_setting_once(output)
    assert not [word for word in ("Booting worker", "Listening") if word in output]


@pytest.mark.parametrize("command", ["", "check-config", "users", "users block"])
def test_help_needs_no_setting(command: str) -> None:
    done = run(*FLASK, *command.split(), "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert "Usage: " in done.stdout
    assert command or "check-config" in done.stdout


@pytest.mark.parametrize(
    "command", ["check-config", "check-config --connect", "users list", "users show x", "run", "shell"]
)
def test_command_without_settings_names_them(command: str) -> None:
    done = run(*FLASK, *command.split(), SECRET_KEY="S" * 32)
    output = done.stdout + done.stderr
    assert done.returncode == 1
    assert output.count("Error: The settings are not usable") == output.count("PUBLIC_URL is missing") == 1
    assert "Traceback" not in output
    assert "usable." not in output


@pytest.fixture
def connecting(azure: LocalAzure) -> dict[str, str]:
    """Settings that connect to the local Azure."""
    return REQUIRED | azure.env | {"PUBLIC_URL": "http://localhost:8000"}


def test_check_config_connects_and_leaves_nothing(connecting: dict[str, str], azure: LocalAzure) -> None:
    before = azure.list_identities()
    azure.reset_calls()
    done = run(*CHECK, "--connect", **connecting)
    assert done.returncode == 0, done.stdout + done.stderr
    for part in ("entraId", "tableStorage", "communicationServices"):
        assert f"\n{part}: ok\n" in done.stdout
    assert azure.list_identities() == before
    assert azure.count_calls("acs").keys() <= SWEEPS | {"create", "delete"}
    assert azure.count_calls("entra")["token"] == 1
