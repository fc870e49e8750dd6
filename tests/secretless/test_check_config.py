"""`check-config --connect` with a managed identity, whose roles an upstream may refuse."""

import subprocess
import sys

import pytest

from tests.support.local_azure import LocalAzure
from tests.support.service import ROOT, Service

CHECK = [sys.executable, "-m", "flask", "--app", "wsgi", "check-config", "--connect"]
OTHER = "00000000-0000-4000-8000-000000000000"


def connect(env: dict[str, str]) -> list[str]:
    """Return the lines that are not `ok`."""
    done = subprocess.run(CHECK, cwd=ROOT, env=env, capture_output=True, text=True, timeout=60, check=False)
    first, *lines = done.stdout.splitlines()
    assert first == "The settings are usable.", done.stderr
    assert len(lines) == 3
    failing = [line for line in lines if not line.endswith(": ok")]
    assert done.returncode == bool(failing)
    return failing


def test_identity_connects_to_every_upstream(service: Service, azure: LocalAzure) -> None:
    before = azure.list_identities()
    assert connect(service.env) == []
    assert azure.list_identities() == before


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("ENTRA_MANAGED_IDENTITY_CLIENT_ID", OTHER, "HTTP 400 No User Assigned"),
        ("IDENTITY_HEADER", "wrong", "HTTP 401"),
    ],
)
def test_unusable_identity_is_named_for_each(service: Service, name: str, value: str, words: str) -> None:
    failing = connect(service.env | {name: value})
    assert len(failing) == 3
    assert all("managed identity" in line and words in line for line in failing)
