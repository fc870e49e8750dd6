"""Runs the tests that ship with azure-communication-identity against the local Azure, over TLS."""

import importlib.util
import os
import re
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from tests.support.local_azure import LocalAzure

SDK = "azure-communication-identity"
VERSION = "1.5.0"
TESTS = 98
# The SDK's asynchronous tests need these; the project itself does not.
EXTRAS = ("aiohttp==3.13.2", "python-dateutil==2.9.0.post0")
SHIM = Path(__file__).parent / "shim"
ACCOUNT = "alice@contoso.example"
CONNECTION_STRING = "COMMUNICATION_SERVICES_CONNECTION_STRING"


@pytest.fixture
def sdk_folder(pytestconfig: pytest.Config) -> Path:
    """The unpacked source of the SDK, with `extras` beside it; downloaded once."""
    assert pytestconfig.cache is not None
    folder = pytestconfig.cache.mkdir(f"{SDK}-{VERSION}")
    ready = folder / "ready"
    if not ready.exists():  # an interrupted download leaves no such file
        run_pip("download", "--no-deps", "--no-binary", ":all:", f"{SDK}=={VERSION}", "--dest", str(folder))
        run_pip("install", "--upgrade", "--target", str(folder / "extras"), *EXTRAS)
        with tarfile.open(folder / f"{SDK}-{VERSION}.tar.gz") as archive:
            # Debian 12's Python does not have this filter.
            archive.extraction_filter = getattr(tarfile, "data_filter", None)
            archive.extractall(folder)  # noqa: S202 (the SDK's own package, by pip)
        ready.touch()
    return folder


@pytest.mark.timeout(600)
def test_sdk_tests_pass_against_local_azure(sdk_folder: Path) -> None:
    tests = sdk_folder / f"{SDK}-{VERSION}" / "tests"
    files = sorted(str(path) for path in tests.glob("test_communication_identity_client*.py"))
    plugins = ["-p", "no:cacheprovider", "-p", "no:socket"]
    command = [sys.executable, "-m", "pytest", "-q", "-c", os.devnull, *plugins, "--rootdir", str(tests)]
    with LocalAzure() as azure:
        env = make_environment(azure, sdk_folder / "extras")
        result = subprocess.run(
            [*command, *files], cwd=tests, env=env, stdout=subprocess.PIPE, text=True, timeout=300
        )
        identities, calls = len(azure.list_identities()), azure.count_calls("acs")
    assert result.returncode == 0, result.stdout
    assert re.search(rf"^{TESTS} passed", result.stdout, re.MULTILINE), result.stdout
    # All tests called the local Azure, including the asynchronous ones.
    assert calls["create"] > TESTS / 2
    assert calls["exchange"] >= 20
    assert identities > 0


def make_environment(azure: LocalAzure, extras: Path) -> dict[str, str]:
    """Return the variables that point the SDK's tests at a live service."""
    app = azure.get_app()
    expired, _ = azure.mint_tokens(username=ACCOUNT, scope="teams", lifetimeSeconds=-60)
    return {
        **os.environ,
        **azure.env,
        "PYTHONPATH": os.pathsep.join((str(SHIM), str(extras))),
        "COMMUNICATION_LIVETEST_DYNAMIC_CONNECTION_STRING": azure.env[CONNECTION_STRING],
        "COMMUNICATION_M365_APP_ID": app.client_id,
        "COMMUNICATION_M365_AAD_AUTHORITY": app.tls_origin,
        "COMMUNICATION_M365_AAD_TENANT": "organizations",
        "COMMUNICATION_MSAL_USERNAME": ACCOUNT,
        # pragma: allowlist nextline secret (none)
        "COMMUNICATION_MSAL_PASSWORD": "not asked for",
        "COMMUNICATION_EXPIRED_TEAMS_TOKEN": expired,
        # DefaultAzureCredential finds the managed identity by these.
        "AZURE_CLIENT_ID": app.identity_client_id,
        "IDENTITY_ENDPOINT": app.identity_endpoint,
        "IDENTITY_HEADER": app.identity_header,
    }


def run_pip(*arguments: str) -> None:
    """Run pip for this environment: the base Python's if the environment has none."""
    pip = [sys.executable, "-m", "pip"]
    if importlib.util.find_spec("pip") is None:
        pip = [str(Path(sys.base_prefix, "bin", "python3")), "-m", "pip", "--python", sys.executable]
    options = ["--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, *arguments, *options], check=True, timeout=300)
