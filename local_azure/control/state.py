"""The state that the control routes act on."""

from dataclasses import dataclass
from pathlib import Path

from flask import current_app, request

from local_azure.azurite import Azurite
from local_azure.communication.service import CommunicationServices, Endpoint
from local_azure.documents import Members
from local_azure.entra.service import EntraId
from local_azure.faults import Faults
from local_azure.ingestion import Ingestion
from local_azure.journal import Journal


@dataclass(frozen=True, kw_only=True)
class Controlled:
    """The running parts of the local Azure."""

    entra: EntraId
    endpoints: tuple[Endpoint, Endpoint]
    """Of Communication Services; the settings name the first one."""
    ingestion: Ingestion
    journal: Journal
    faults: Faults
    client_certificates: Path
    """The folder for files with certificate and private key, for `ENTRA_CLIENT_CERTIFICATE_PATH`."""
    azurite: Azurite

    @property
    def communication(self) -> CommunicationServices:
        """The resource behind the first endpoint."""
        return self.endpoints[0].resource

    def write_client_certificate(self) -> Path:
        """Write the web app's newest certificate and its private key to one file, and return its path."""
        certificate = self.entra.registrations.web.certificates.current
        path = self.client_certificates / f"client-{certificate.thumbprint}.pem"
        if not path.exists():  # a service may be reading it
            path.touch(mode=0o600)
            path.write_text(certificate.private_pem + certificate.certificate_pem, encoding="ascii")
        return path


def get_controlled() -> Controlled:
    """Return the state that the running app controls."""
    controlled: Controlled = current_app.extensions["controlled"]
    return controlled


def read_document() -> dict[str, object]:
    """Return the JSON object of the request, empty without a body. Raises ValueError."""
    if not request.get_data():
        return {}
    document = request.get_json(force=True, silent=True)
    if not isinstance(document, dict):
        raise ValueError("the body must be a JSON object")
    return document


def read_members() -> Members:
    """Return the members of the request's JSON object."""
    return Members(read_document())
