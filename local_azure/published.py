"""The environment of a running `make run`, for the commands beside it."""

import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path

from local_azure.loopback import get_json
from local_azure.supervision import RunError

FILE, CONTROL_URL = "service.json", "LOCAL_AZURE_CONTROL_URL"
# What the service reads, and nothing else of the caller's environment.
OURS = re.compile(
    "(PUBLIC_URL|SECRET_KEY|ENTRA_|COMMUNICATION_SERVICES_|TABLE_STORAGE_|TOKEN_|SESSION_|MISSING_IDENTITY_|CORS_"
    "|RATE_LIMIT_|TRUSTED_PROXY_|RETENTION_|LOG_FORMAT|APPLICATIONINSIGHTS_|IDENTITY_|AZURE_CLIENT_ID"
    "|REQUESTS_CA_BUNDLE|SSL_CERT_FILE|NO_PROXY|no_proxy)"
)


@contextmanager
def publish(data: Path, environment: Mapping[str, str], control_url: str) -> Iterator[None]:
    """Write the service's settings to the data folder, readable by its owner only; remove them at the end."""
    path = data / FILE
    path.unlink(missing_ok=True)
    path.touch(mode=0o600)
    settings = {name: value for name, value in environment.items() if OURS.match(name)}
    path.write_text(json.dumps(settings | {CONTROL_URL: control_url}), encoding="utf-8")
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def read_published(data: Path) -> dict[str, str]:
    """Return the service's settings and `LOCAL_AZURE_CONTROL_URL`. Raises RunError unless it runs."""
    try:
        settings: dict[str, str] = json.loads((data / FILE).read_text(encoding="utf-8"))
        get_json(f"{settings[CONTROL_URL]}/accounts")
    except (OSError, ValueError, KeyError, HTTPException) as error:
        folder = "" if data.name == ".local" else f"LOCAL_DATA={data} "
        raise RunError(
            f"There is no service to talk to: start it in another terminal, {folder}make run"
        ) from error
    return settings


def service_environment(settings: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a command that runs beside the service: ours, with its settings alone."""
    others = {name: value for name, value in os.environ.items() if not OURS.match(name)}
    return others | {name: value for name, value in settings.items() if name != CONTROL_URL}
