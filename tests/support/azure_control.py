"""A client for the control routes of the local Azure."""

import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import requests

from tests.support import log_scan

CALL_SECONDS = 20

Json = dict[str, object]
Document = TypeVar("Document")


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


class AzureControl:
    """Calls the control routes; raises LocalAzureError if a request is refused."""

    def __init__(self) -> None:
        self.env: dict[str, str] = {}
        """The settings for the local Azure, empty until it runs."""
        self._control = requests.Session()
        self._control.trust_env = False

    def get_app(self) -> EntraApp:
        return _read_app(self._call("GET", "/entra/app"))

    def change_app(self, **members: object) -> EntraApp:
        """Change `redirectUris`, `frontChannelLogoutUrl`, `clientSecret` or `identityTokenSeconds`."""
        return _read_app(self._call("PATCH", "/entra/app", members))

    def add_certificate(self) -> EntraApp:
        """Register one more certificate of the app, which `certificate_path` names from now on."""
        return _read_app(self._call("POST", "/entra/certificates"))

    def remove_old_certificates(self) -> None:
        self._call("DELETE", "/entra/certificates")

    def list_accounts(self) -> list[Account]:
        return [_read(Account, document) for document in self._call("GET", "/accounts")]

    def get_account(self, username: str) -> Account:
        return next(account for account in self.list_accounts() if account.username == username)

    def put_account(self, username: str, **members: object) -> Account:
        """Create or replace an account from `name`, `tenantId`, `objectId`, `roles`, `enabled`."""
        return _read(Account, self._call("PUT", f"/accounts/{quote(username)}", members))

    def new_account(self, username: str = "", /, **members: object) -> Account:
        """Create a new account in the allowed tenant."""
        defaults = {"name": "Test Person", "tenantId": self.env["ENTRA_ALLOWED_TENANTS"]}
        return self.put_account(
            username or f"{uuid.uuid4().hex[:12]}@contoso.example", **(defaults | members)
        )

    def delete_account(self, username: str) -> None:
        self._call("DELETE", f"/accounts/{quote(username)}")

    def tamper(self, kind: str, *, of: str = "id", times: int = 1, claims: Json | None = None) -> None:
        """Tamper with the next tokens `of` this kind: `id` or `access`."""
        self._call("POST", "/entra/tamper", {"kind": kind, "token": of, "times": times, "claims": claims})

    def rotate_keys(self, *, keep_old: bool) -> None:
        """Make Entra ID sign with a new key."""
        self._call("POST", "/entra/rotate-keys", {"keepOld": keep_old})

    def mint_tokens(self, **members: object) -> tuple[str, str | None]:
        """Mint tokens by `username` or `app`, `scope`, `clientId`, `tamper`, `claims`, `lifetimeSeconds`."""
        document = self._call("POST", "/entra/token", members)
        log_scan.remember("access token", document["access_token"])
        log_scan.remember("ID token", document["id_token"] or "")
        return document["access_token"], document["id_token"]

    def plant_fault(self, service: str, operation: str, kind: str, **members: object) -> None:
        """Make calls of an operation fail (see `local_azure.faults.Fault`)."""
        self._call("POST", "/faults", {"service": service, "operation": operation, "kind": kind} | members)

    def list_faults(self) -> list[Json]:
        return list(self._call("GET", "/faults"))

    def clear_faults(self) -> None:
        """Remove all faults and tamperings."""
        self._call("DELETE", "/faults")

    def count_calls(self, service: str) -> dict[str, int]:
        """Return how often each operation of a service was called since the last reset."""
        return dict(self._call("GET", "/calls")["counts"][service])

    def count_tokens(self) -> int:
        """Return how often a token was asked for since the last reset; other tests may revoke some."""
        calls = self.count_calls("acs")
        return calls.get("create", 0) + calls.get("issue", 0)

    def list_recent_calls(self) -> list[Json]:
        """Return the last calls, oldest first."""
        return list(self._call("GET", "/calls")["recent"])

    def calls_for(self, response: requests.Response) -> list[str]:
        """Return the operations of both services that were called for this response of the service."""
        own = (
            call
            for call in self.list_recent_calls()
            if call["clientRequestId"] == response.headers["X-Request-ID"]
        )
        return [str(call["operation"]) for call in own]

    def reset_calls(self) -> None:
        self._call("DELETE", "/calls")

    def list_identities(self) -> list[str]:
        """Return the raw ids of the live identities, oldest first."""
        return list(self.list_origins())

    def list_origins(self) -> dict[str, str]:
        """Return the live identities with the request ids of their creates."""
        return {found["id"]: found["clientRequestId"] for found in self._call("GET", "/acs/identities")}

    def delete_identity(self, raw_id: str) -> None:
        self._call("DELETE", f"/acs/identities/{quote(raw_id)}")

    def check_token(self, token: str) -> Json:
        """Return whether an ACS token is good: `valid`, `reason`, `identity`, `scopes`."""
        return dict(self._call("POST", "/acs/tokens/check", {"token": token}))

    def list_endpoints(self) -> list[dict[str, Any]]:
        """Return both endpoints of Communication Services: `endpoint`, `connectionStrings`, `resourceId`."""
        return list(self._call("GET", "/acs")["endpoints"])

    @property
    def other_connection_string(self) -> str:
        """The connection string of the resource that is not in the settings."""
        return str(self.list_endpoints()[1]["connectionStrings"][0])

    def regenerate_key(self, kind: str) -> None:
        """Replace the `primary` or `secondary` key of Communication Services."""
        self._call("PATCH", "/acs", {"regenerate": kind})

    def list_storage_keys(self) -> list[str]:
        """Return the storage's connection strings, by its first and by its second key."""
        return list(self._call("GET", "/storage")["connectionStrings"])

    def new_unknown_identity(self) -> str:
        """Return the id of an identity that the resource does not have."""
        return f"8:acs:{self.list_endpoints()[0]['resourceId']}_{uuid.uuid4()}"

    def swap_resources(self) -> None:
        self._call("PATCH", "/acs", {"swap": True})

    @property
    def telemetry_connection_string(self) -> str:
        """The value of `APPLICATIONINSIGHTS_CONNECTION_STRING` that leads to the ingestion endpoint."""
        return str(self._call("GET", "/telemetry")["connectionString"])

    def list_envelopes(self) -> list[Json]:
        """Return the telemetry that arrived, oldest first."""
        return list(self._call("GET", "/telemetry")["envelopes"])

    def clear_envelopes(self) -> None:
        self._call("DELETE", "/telemetry")

    def turn_limits(self, on: bool) -> None:
        self._call("PATCH", "/acs", {"limits": on})

    def _call(self, method: str, path: str, members: Mapping[str, object] | None = None) -> Any:
        url = self.env["LOCAL_AZURE_CONTROL_URL"] + path
        response = self._control.request(method, url, json=members, timeout=CALL_SECONDS)
        if not response.ok:
            raise LocalAzureError(f"{method} {path}: {response.status_code} {response.text}")
        return response.json() if response.content else {}


def _read_app(document: dict[str, Any]) -> EntraApp:
    identity, path = document["managedIdentityClientId"], Path(document["certificatePath"])
    return _read(EntraApp, document | {"identityClientId": identity, "certificatePath": path})


def _read(kind: type[Document], document: Mapping[str, Any]) -> Document:
    members = {
        re.sub("[A-Z]", lambda letter: f"_{letter[0].lower()}", name): document[name] for name in document
    }
    return kind(**{field.name: members[field.name] for field in fields(kind)})  # type: ignore[arg-type]
