"""Runs the local Azure: servers in this process, and Azurite as another process."""

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from local_azure.authority import Authority
from local_azure.azurite import Azurite
from local_azure.communication.app import create_app as create_communication_app
from local_azure.communication.service import CommunicationServices, Endpoint
from local_azure.control.app import PREFIX
from local_azure.control.app import create_app as create_control_app
from local_azure.control.state import Controlled
from local_azure.entra.accounts import CONTOSO
from local_azure.entra.app import create_app as create_entra_app
from local_azure.entra.identity import PATH as IDENTITY_PATH
from local_azure.entra.registration import IDENTITY_CLIENT_ID
from local_azure.entra.service import EntraId
from local_azure.faults import Faults
from local_azure.ingestion import Ingestion
from local_azure.ingestion import create_app as create_ingestion_app
from local_azure.journal import Journal
from local_azure.servers import LoopbackServer
from local_azure.store import Store


@dataclass(frozen=True, kw_only=True)
class LocalAzure:
    """The running parts: their settings, and Azurite, which may stop unexpectedly."""

    settings: dict[str, str]
    azurite: Azurite


@contextlib.contextmanager
def run_local_azure(
    data: Path | None,
    *,
    redirect_uris: Sequence[str] = (),
    front_channel_logout_url: str | None = None,
    managed_identity: bool = False,
) -> Iterator[LocalAzure]:
    """Start everything, and stop everything at the end; `data` keeps the state across restarts.

    With `managed_identity` the settings hold no key, secret or connection string. Raises AzuriteError if
    Azurite is not installed or does not start, OSError if `data` cannot be used.
    """
    with contextlib.ExitStack() as stack:
        folder = data or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="local-azure-")))
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        authority = Authority(folder)
        certificate = authority.write_server_certificate("azurite") if managed_identity else None
        # Before the others, because it takes the longest to start.
        azurite = stack.enter_context(
            contextlib.closing(Azurite(folder / "azurite" if data else None, certificate))
        )
        store = Store(folder / "local-azure.sqlite3" if data else None)
        stack.callback(store.close)
        context = authority.make_server_context()
        tls, acs, other_acs = LoopbackServer(context), LoopbackServer(context), LoopbackServer(context)
        pages, control, telemetry = LoopbackServer(), LoopbackServer(), LoopbackServer(context)
        ingestion = Ingestion(telemetry.origin)
        entra = EntraId.load(store, tls_origin=tls.origin, page_origin=pages.origin)
        web = entra.registrations.web
        web.redirect_uris += tuple(redirect_uris)
        web.front_channel_logout_url = front_channel_logout_url
        communication = CommunicationServices.load(store, entra.keys)
        other = CommunicationServices.load(
            store, entra.keys, name="-other", access_keys=communication.callers.access_keys
        )
        endpoint = Endpoint(origin=acs.origin, resource=communication)
        other_endpoint = Endpoint(origin=other_acs.origin, resource=other)
        journal, faults = Journal(), Faults()
        controlled = Controlled(
            entra=entra,
            endpoints=(endpoint, other_endpoint),
            ingestion=ingestion,
            journal=journal,
            faults=faults,
            client_certificates=folder,
            azurite=azurite,
        )
        entra_app = create_entra_app(entra, journal, faults)
        for server, app in (
            (tls, entra_app),
            (pages, entra_app),
            (acs, create_communication_app(endpoint, journal, faults)),
            (other_acs, create_communication_app(other_endpoint, journal, faults)),
            (telemetry, create_ingestion_app(ingestion, journal, faults)),
            (control, create_control_app(controlled)),
        ):
            server.start(app)
            stack.callback(server.stop)
        stack.callback(faults.clear)  # before the servers stop, so that hanging calls end
        azurite.wait_until_ready()
        certificate_path = str(authority.certificate_path.resolve())
        settings = {
            "ENTRA_AUTHORITY": f"{tls.origin}/organizations",
            "ENTRA_CLIENT_ID": web.client_id,
            "ENTRA_ALLOWED_TENANTS": CONTOSO,
            "REQUESTS_CA_BUNDLE": certificate_path,
            "SSL_CERT_FILE": certificate_path,
            "LOCAL_AZURE_CONTROL_URL": f"http://127.0.0.1:{control.port}{PREFIX}",
        }
        if managed_identity:
            settings |= {
                "ENTRA_MANAGED_IDENTITY_CLIENT_ID": IDENTITY_CLIENT_ID,
                "COMMUNICATION_SERVICES_ENDPOINT": endpoint.origin,
                "TABLE_STORAGE_ENDPOINT": azurite.endpoint,
                "IDENTITY_ENDPOINT": f"{pages.origin}{IDENTITY_PATH}",
                "IDENTITY_HEADER": entra.identity_header,
            }
        else:
            settings |= {
                "ENTRA_CLIENT_SECRET": web.secret,
                "COMMUNICATION_SERVICES_CONNECTION_STRING": endpoint.connection_strings[0],
                "TABLE_STORAGE_CONNECTION_STRING": azurite.connection_strings[0],
            }
        yield LocalAzure(settings=settings, azurite=azurite)
