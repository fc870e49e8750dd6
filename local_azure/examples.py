"""Runs the examples: single-page apps on another origin than the service."""

import json
import subprocess  # nosec B404 # our own programs, never through a shell
import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from local_azure.entra.registration import APP_SCOPE
from local_azure.loopback import PortTakenError, get_json, reserve_port
from local_azure.supervision import ROOT, start_program

BUILT = ROOT / "examples" / "dist" / ".built"
# Not the port after the service's, which a second run is told to use.
DISTANCE = 100
TRIES = 20
STOP_SECONDS = 3


@dataclass(frozen=True)
class Examples:
    """The server of the examples, on a port of its own."""

    port: int

    @property
    def origin(self) -> str:
        """The origin that `CORS_ORIGINS` has to allow."""
        return f"http://localhost:{self.port}"

    def start(
        self, settings_file: Path, azure: Mapping[str, str], service: Mapping[str, str]
    ) -> AbstractContextManager[subprocess.Popen[bytes]]:
        """Start the server for a local Azure and a service with these environments."""
        settings = make_settings(azure, service["PUBLIC_URL"])
        settings_file.write_text(json.dumps(settings, indent=2), encoding="utf-8")
        arguments = ["--settings", str(settings_file), "--port", str(self.port), "--quiet"]
        return start_program(
            [sys.executable, "-m", "examples", *arguments], service, stop_seconds=STOP_SECONDS
        )

    def describe(self, service: Mapping[str, str]) -> str:
        """Return a line with the URL and, if the service refuses its pages, the reason."""
        line = f"Examples: {self.origin}"
        if self.origin in service.get("CORS_ORIGINS", "").split(","):
            return line
        return f"{line} (but CORS_ORIGINS does not name it: the service refuses its pages)"


def find_examples(service_port: int, reserved: ExitStack) -> Examples | None:
    """Reserve the first free port of the twenty from `service_port` + 100 on.

    Returns None if all are taken, or if the examples are not built; `make run` builds them.
    """
    first = service_port + DISTANCE
    for port in range(first, min(first + TRIES, 65536)) if BUILT.exists() else ():
        try:
            reserve_port(port, reserved)
        except PortTakenError:
            continue
        return Examples(port)
    return None


def make_settings(azure: Mapping[str, str], service_url: str) -> dict[str, object]:
    """Return the content of settings.example.json for the local Azure with the settings `azure`."""
    app = get_json(f"{azure['LOCAL_AZURE_CONTROL_URL']}/entra/app")
    endpoint = get_json(f"{azure['LOCAL_AZURE_CONTROL_URL']}/acs")["endpoints"][0]["endpoint"]
    return {
        "serviceUrl": service_url,
        "clientId": app["spaClientId"],
        "authority": azure["ENTRA_AUTHORITY"],
        "scope": f"{app['clientId']}/{APP_SCOPE}",
        "communicationEndpoint": endpoint,
        "authorityMetadata": describe_authority(azure["ENTRA_AUTHORITY"], app["pageOrigin"]),
    }


def describe_authority(authority: str, page_origin: str) -> dict[str, object]:
    """Return the discovery document of the local Entra ID, with the token endpoint over plain http.

    MSAL.js insists on an https authority, but browsers do not trust the local Azure's certificate.
    """
    address = urlsplit(authority)
    document = get_json(f"{page_origin}{address.path}/v2.0/.well-known/openid-configuration")
    tls_origin = f"{address.scheme}://{address.netloc}"
    addresses = {
        name: document[name].replace(tls_origin, page_origin) for name in ("token_endpoint", "jwks_uri")
    }
    return {**document, **addresses}
