"""Runs the local Azure for tests."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Self
from unittest import mock
from urllib.parse import urljoin

import requests
from bs4 import BeautifulSoup

from tests.support.azure_control import CALL_SECONDS, Account, AzureControl, EntraApp, LocalAzureError
from tests.support.settings import UNMEASURED

__all__ = ["CALL_SECONDS", "Account", "EntraApp", "LocalAzure", "LocalAzureError"]

ROOT = Path(__file__).parents[2]
START_SECONDS = 30
STOP_SECONDS = 15

SWEEPS = {"revoke"}
"""The calls of background tasks: after a block, tokens are revoked twice more."""


class LocalAzure(AzureControl):
    """One `python -m local_azure`, with a client for its control routes."""

    def __init__(self, *arguments: str, data: Path | None = None) -> None:
        super().__init__()
        self._arguments = [*arguments]
        if data is not None:
            self._arguments += ["--data", str(data.resolve())]
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> Self:
        """Start the process and wait for its settings. Raises LocalAzureError with its standard error."""
        folder = Path(tempfile.mkdtemp(prefix="local-azure-env-"))
        env_file = folder / "azure.env"
        command = [sys.executable, "-m", "local_azure", "--env-file", str(env_file), *self._arguments]
        env = os.environ | UNMEASURED
        self.process = subprocess.Popen(command, cwd=ROOT, env=env, stderr=subprocess.PIPE, text=True)
        deadline = time.monotonic() + START_SECONDS
        while not env_file.exists():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.process.kill()
                raise LocalAzureError(self.process.communicate()[1].strip())
            time.sleep(0.02)
        self.env = read_env_file(env_file)
        shutil.rmtree(folder)  # it holds secrets, and is not read again
        return self

    def stop(self) -> None:
        self._control.close()
        if self.process is None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.communicate(timeout=STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()
            raise

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def in_environment(self) -> AbstractContextManager[object]:
        """Put the settings into `os.environ`, where SDKs find the CA; restores it at the end."""
        return mock.patch.dict(os.environ, self.env)

    @property
    def ca_path(self) -> str:
        return self.env["SSL_CERT_FILE"]

    def make_session(self) -> requests.Session:
        """Return a session that trusts the CA: a browser without cookies."""
        session = requests.Session()
        session.verify = self.ca_path
        session.trust_env = False
        return session

    def sign_in(self, session: requests.Session, authorize_url: str, account: str) -> str:
        """Pick `account` behind `authorize_url`; return the redirect's URL. Raises LocalAzureError."""
        page = session.get(authorize_url, timeout=CALL_SECONDS)
        action, fields = read_form(page.text, "account", account)
        url = urljoin(page.url, action)
        response = session.post(url, data=fields, allow_redirects=False, timeout=CALL_SECONDS)
        if "Location" not in response.headers:
            raise LocalAzureError(f"the pick of {account} ended on a page: {response.text}")
        return response.headers["Location"]


def read_env_file(path: Path) -> dict[str, str]:
    """Return the settings in a file of `KEY=VALUE` lines."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return {name: value for name, _, value in (line.partition("=") for line in lines)}


def read_form(page: str, button: str, value: str) -> tuple[str, dict[str, str]]:
    """Return action and fields of the form that the button `button` with `value` submits."""
    for part in page.split("<form")[1:]:
        # Only that form is parsed: late in a run the picker lists hundreds of accounts.
        if f'name="{button}"' not in part or value not in part:
            continue
        form = BeautifulSoup(f"<form{part}", "html.parser").form
        if form is None or form.find("button", attrs={"name": button, "value": value}) is None:
            continue
        fields = {str(item["name"]): str(item["value"]) for item in form.find_all("input")}
        return str(form["action"]), fields | {button: value}
    raise LocalAzureError(f"no button {button}={value} on the page: {page}")
