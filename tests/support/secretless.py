"""The settings of a secretless service, access to its storage, and a search for secrets in both."""

import os
import re
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil
import requests
from azure.core.credentials import AccessToken
from azure.data.tables import TableServiceClient

from tests.support.local_azure import CALL_SECONDS, LocalAzure
from tests.support.own_azure import GENEROUS

ENDPOINT = "TABLE_STORAGE_ENDPOINT"
SECRET_NAMES = re.compile("KEY$|KEYS|SECRET|PASSWORD|CONNECTION|FALLBACKS|CERTIFICATE")
SECRET_VALUES = re.compile("(?i)(account|access)key=|sig=|-----BEGIN|endpoints?protocol=")


class IdentityToken:
    """A credential for the SDKs: the managed identity's tokens, in a process without its variables."""

    def __init__(self, azure: LocalAzure) -> None:
        self._app = azure.get_app()

    def get_token(self, *scopes: str, **_: Any) -> AccessToken:
        response = requests.get(
            self._app.identity_endpoint,
            {
                "api-version": "2019-08-01",
                "resource": scopes[0].removesuffix("/.default"),
                "client_id": self._app.identity_client_id,
            },
            headers={"X-IDENTITY-HEADER": self._app.identity_header},
            timeout=CALL_SECONDS,
        )
        document = response.json()
        return AccessToken(document["access_token"], int(document["expires_on"]))


def open_tables(azure: LocalAzure) -> TableServiceClient:
    endpoint = azure.env[ENDPOINT]
    return TableServiceClient(endpoint, credential=IdentityToken(azure), connection_verify=azure.ca_path)


def secretless_settings(azure: LocalAzure, folder: Path) -> dict[str, str]:
    """Return the settings of a service whose signing key is in a file in `folder`."""
    key = folder / "secret-key"
    key.write_text(secrets.token_urlsafe(48), encoding="ascii")
    return azure.env | GENEROUS | {"SECRET_KEY": "", "SECRET_KEY_FILE": str(key)}


def find_secrets(variables: Mapping[str, str]) -> Iterator[str]:
    """Yield the names of variables that hold, by name or value, a secret, and are not our own too."""
    for name, value in variables.items():
        if not value or os.environ.get(name) == value:
            continue
        if SECRET_VALUES.search(value) or (SECRET_NAMES.search(name) and not name.endswith("_FILE")):
            yield name


def list_environments(pid: int) -> list[dict[str, str]]:
    """Return the environment of a process and of each of its descendants."""
    process = psutil.Process(pid)
    return [each.environ() for each in (process, *process.children(recursive=True))]
