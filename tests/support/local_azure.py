"""Runs the local Azure for tests and speaks to its control routes."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote, urljoin

import requests
from bs4 import BeautifulSoup

from tests.support import log_scan
from tests.support.settings import UNMEASURED

ROOT = Path(__file__).parents[2]
START_SECONDS = 30
STOP_SECONDS = 15
CALL_SECONDS = 20

Json = dict[str, object]

SWEEPS = {"revoke"}
"""What Communication Services may be asked at any time: after a block, tokens are revoked twice more."""


class LocalAzureError(Exception):
    """The local Azure did not start, or refused a control request."""


@dataclass(frozen=True, kw_only=True)
class EntraApp:
    """The app registrations, as `GET /control/entra/app` shows them."""

    client_id: str
    client_secret: str
    spa_client_id: str
    certificate_path: Path
    identity_client_id: str
    identity_endpoint: str
    identity_header: str
    redirect_uris: list[str]
    tls_origin: str
    page_origin: str


@dataclass(frozen=True, kw_only=True)
class Account:
    """An account of the local Entra ID."""

    username: str
    name: str
    tenant_id: str
    object_id: str
    roles: list[str]
    enabled: bool


class LocalAzure:
    """One `python -m local_azure`, and a client for its control routes."""

    def __init__(
        self,
        *,
        data: Path | None = None,
        redirect_uris: Sequence[str] = (),
        front_channel_logout_url: str | None = None,
    ) -> None:
        """Say how to start it; `start` does."""
        self._arguments = [argument for uri in redirect_uris for argument in ("--redirect-uri", uri)]
        if data is not None:
            self._arguments += ["--data", str(data.resolve())]
        if front_channel_logout_url is not None:
            self._arguments += ["--front-channel-logout-url", front_channel_logout_url]
        self._control = requests.Session()
        self._control.trust_env = False
        self.process: subprocess.Popen[str] | None = None
        self.env: dict[str, str] = {}
        """The settings that lead to it, empty until it runs."""

    def start(self) -> Self:
        """Start the process and wait for its settings; LocalAzureError with what it said otherwise."""
        folder = Path(tempfile.mkdtemp(prefix="local-azure-env-"))
        env_file = folder / "azure.env"
        command = [sys.executable, "-m", "local_azure", "--env-file", str(env_file), *self._arguments]
        self.process = subprocess.Popen(
            command, cwd=ROOT, env=os.environ | UNMEASURED, stderr=subprocess.PIPE, text=True
        )
        deadline = time.monotonic() + START_SECONDS
        while not env_file.exists():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.process.kill()
                raise LocalAzureError(self.process.communicate()[1].strip())
            time.sleep(0.02)
        self.env = read_env_file(env_file)
        shutil.rmtree(folder)  # it holds secrets, and nobody reads it again
        return self

    def stop(self) -> None:
        """Stop the process with SIGTERM and wait for its end."""
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
        """Start it."""
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop it."""
        self.stop()

    @contextlib.contextmanager
    def in_environment(self) -> Iterator[None]:
        """Let `os.environ` hold the settings, as SDKs read the CA from there; puts back what was."""
        before = dict(os.environ)
        os.environ.update(self.env)
        try:
            yield
        finally:
            os.environ.clear()
            os.environ.update(before)

    @property
    def ca_path(self) -> str:
        """The file of the certificate authority."""
        return self.env["SSL_CERT_FILE"]

    def make_session(self) -> requests.Session:
        """Return a session that trusts the CA: a browser without cookies."""
        session = requests.Session()
        session.verify = self.ca_path
        session.trust_env = False
        return session

    def sign_in(self, session: requests.Session, authorize_url: str, account: str) -> str:
        """Pick `account` on the picker behind `authorize_url`; return the URL the browser is sent to.

        LocalAzureError where there is no such account, or the pick ends on a page.
        """
        page = session.get(authorize_url, timeout=CALL_SECONDS)
        action, fields = read_form(page.text, "account", account)
        answer = session.post(
            urljoin(page.url, action), data=fields, allow_redirects=False, timeout=CALL_SECONDS
        )
        if "Location" not in answer.headers:
            raise LocalAzureError(f"the pick of {account} ended on a page: {answer.text}")
        return answer.headers["Location"]

    def get_app(self) -> EntraApp:
        """Return the app registrations."""
        return _read_app(self._call("GET", "/entra/app"))

    def change_app(self, **members: object) -> EntraApp:
        """Change `redirectUris`, `frontChannelLogoutUrl` or `clientSecret`."""
        return _read_app(self._call("PATCH", "/entra/app", members))

    def list_accounts(self) -> list[Account]:
        """Return the accounts that can sign in."""
        return [_read_account(document) for document in self._call_list("GET", "/accounts")]

    def get_account(self, username: str) -> Account:
        """Return the account with this user name."""
        return next(account for account in self.list_accounts() if account.username == username)

    def put_account(self, username: str, **members: object) -> Account:
        """Create or replace an account from `name`, `tenantId`, `objectId`, `roles`, `enabled`."""
        return _read_account(self._call("PUT", f"/accounts/{quote(username)}", members))

    def delete_account(self, username: str) -> None:
        """Delete an account."""
        self._call("DELETE", f"/accounts/{quote(username)}")

    def tamper(
        self, kind: str, *, of: str = "id", times: int = 1, claims: Mapping[str, object] | None = None
    ) -> None:
        """Make the next tokens wrong, `of` which kind: `id` or `access`."""
        members: Json = {"kind": kind, "token": of, "times": times, "claims": claims}
        self._call("POST", "/entra/tamper", members)

    def rotate_keys(self, *, keep_old: bool) -> None:
        """Let Entra ID sign with a new key."""
        self._call("POST", "/entra/rotate-keys", {"keepOld": keep_old})

    def mint_tokens(self, **members: object) -> tuple[str, str | None]:
        """Return an access token and an ID token, minted without a browser.

        Members: `username` or `app`, `scope`, `clientId`, `tamper`, `claims`, `lifetimeSeconds`.
        """
        document = self._call("POST", "/entra/token", members)
        access_token, id_token = _text(document, "access_token"), document["id_token"]
        log_scan.remember("access token", access_token)
        log_scan.remember("ID token", str(id_token or ""))
        return access_token, None if id_token is None else str(id_token)

    def plant_fault(self, service: str, operation: str, kind: str, **members: object) -> None:
        """Let calls of an operation misbehave (see `local_azure.faults.Fault`)."""
        self._call("POST", "/faults", {"service": service, "operation": operation, "kind": kind} | members)

    def list_faults(self) -> list[Json]:
        """Return the faults that are still planted."""
        return self._call_list("GET", "/faults")

    def clear_faults(self) -> None:
        """Remove all faults and tamperings."""
        self._call("DELETE", "/faults")

    def count_calls(self, service: str) -> dict[str, int]:
        """Return how often each operation of a service was called since the last reset."""
        counts = self._call("GET", "/calls")["counts"]
        assert isinstance(counts, dict)
        return {name: int(number) for name, number in counts[service].items()}

    def list_recent_calls(self) -> list[Json]:
        """Return the last calls, oldest first."""
        recent = self._call("GET", "/calls")["recent"]
        assert isinstance(recent, list)
        return recent

    def calls_for(self, answer: requests.Response) -> list[str]:
        """The operations that were called for this answer of the service, of both services."""
        mine = answer.headers["X-Request-ID"]
        return [
            str(call["operation"]) for call in self.list_recent_calls() if call["clientRequestId"] == mine
        ]

    def reset_calls(self) -> None:
        """Count calls from zero."""
        self._call("DELETE", "/calls")

    def list_identities(self) -> list[str]:
        """Return the raw ids of the live identities, oldest first."""
        return [_text(document, "id") for document in self._call_list("GET", "/acs/identities")]

    def list_origins(self) -> dict[str, str]:
        """Return the live identities with the request ids that their creates carried."""
        documents = self._call_list("GET", "/acs/identities")
        return {_text(document, "id"): _text(document, "clientRequestId") for document in documents}

    def delete_identity(self, raw_id: str) -> None:
        """Delete an identity behind the service's back."""
        self._call("DELETE", f"/acs/identities/{quote(raw_id)}")

    def check_token(self, token: str) -> Json:
        """Return whether an ACS token is good: `valid`, `reason`, `identity`, `scopes`."""
        return self._call("POST", "/acs/tokens/check", {"token": token})

    def list_endpoints(self) -> list[Json]:
        """The two endpoints of Communication Services: `endpoint`, `connectionString`, `resourceId`."""
        endpoints = self._call("GET", "/acs")["endpoints"]
        assert isinstance(endpoints, list)
        return endpoints

    @property
    def other_connection_string(self) -> str:
        """What leads to another Communication Services resource than the settings do."""
        return _text(self.list_endpoints()[1], "connectionString")

    def new_unknown_identity(self) -> str:
        """The id of an identity that the resource does not have."""
        return f"8:acs:{self.list_endpoints()[0]['resourceId']}_{uuid.uuid4()}"

    def swap_resources(self) -> None:
        """Let the two endpoints exchange their resources."""
        self._call("PATCH", "/acs", {"swap": True})

    def turn_limits(self, on: bool) -> None:
        """Turn the request limits of ACS on or off."""
        self._call("PATCH", "/acs", {"limits": on})

    def _call(self, method: str, path: str, members: Mapping[str, object] | None = None) -> Json:
        document = self._request(method, path, members)
        assert isinstance(document, dict)
        return document

    def _call_list(self, method: str, path: str) -> list[Json]:
        documents = self._request(method, path, None)
        assert isinstance(documents, list)
        return documents

    def _request(self, method: str, path: str, members: Mapping[str, object] | None) -> object:
        url = self.env["LOCAL_AZURE_CONTROL_URL"] + path
        answer = self._control.request(method, url, json=members, timeout=CALL_SECONDS)
        if not answer.ok:
            raise LocalAzureError(f"{method} {path}: {answer.status_code} {answer.text}")
        return answer.json() if answer.content else {}


def read_env_file(path: Path) -> dict[str, str]:
    """Return the settings in a file of `KEY=VALUE` lines."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return {name: value for name, _, value in (line.partition("=") for line in lines)}


def read_form(page: str, button: str, value: str) -> tuple[str, dict[str, str]]:
    """Return action and fields of the form that is sent by the button `button` with `value`."""
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


def _read_app(document: Mapping[str, object]) -> EntraApp:
    redirect_uris = document["redirectUris"]
    assert isinstance(redirect_uris, list)
    return EntraApp(
        client_id=_text(document, "clientId"),
        client_secret=_text(document, "clientSecret"),
        spa_client_id=_text(document, "spaClientId"),
        certificate_path=Path(_text(document, "certificatePath")),
        identity_client_id=_text(document, "managedIdentityClientId"),
        identity_endpoint=_text(document, "identityEndpoint"),
        identity_header=_text(document, "identityHeader"),
        redirect_uris=redirect_uris,
        tls_origin=_text(document, "tlsOrigin"),
        page_origin=_text(document, "pageOrigin"),
    )


def _read_account(document: Mapping[str, object]) -> Account:
    roles = document["roles"]
    assert isinstance(roles, list)
    return Account(
        username=_text(document, "username"),
        name=_text(document, "name"),
        tenant_id=_text(document, "tenantId"),
        object_id=_text(document, "objectId"),
        roles=roles,
        enabled=document["enabled"] is True,
    )


def _text(document: Mapping[str, object], name: str) -> str:
    value = document[name]
    assert isinstance(value, str)
    return value
