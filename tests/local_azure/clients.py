"""The real SDK of Communication Services, with what its types leave to be done."""

import contextlib
from collections.abc import Iterator

from azure.communication.identity import CommunicationIdentityClient
from azure.core.credentials import AzureKeyCredential, TokenCredential
from azure.core.exceptions import HttpResponseError
from azure.core.pipeline.transport import RequestsTransport
from azure.core.rest import HttpResponse

from tests.support.local_azure import LocalAzure


@contextlib.contextmanager
def open_client(
    azure: LocalAzure,
    *,
    endpoint: str | None = None,
    credential: TokenCredential | AzureKeyCredential | None = None,
    retries: int = 3,
) -> Iterator[CommunicationIdentityClient]:
    """Open a client, by connection string or with another endpoint or credential.

    The client cannot be closed, only its transport can.
    """
    connection_string = azure.env["COMMUNICATION_SERVICES_CONNECTION_STRING"]
    own_endpoint, key = (part.partition("=")[2] for part in connection_string.split(";"))
    with RequestsTransport() as transport:
        if endpoint is None and credential is None:
            yield CommunicationIdentityClient.from_connection_string(
                connection_string, transport=transport, retry_total=retries
            )
        else:
            yield CommunicationIdentityClient(
                endpoint or own_endpoint.rstrip("/"),
                credential or AzureKeyCredential(key),
                transport=transport,
                retry_total=retries,
            )


def get_response(error: HttpResponseError) -> HttpResponse:
    """Return the response that an exception of the SDK holds."""
    assert isinstance(error.response, HttpResponse)
    return error.response
