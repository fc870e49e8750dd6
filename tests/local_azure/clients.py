"""Helpers for the real SDK of Communication Services."""

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
    azure: LocalAzure, *, credential: TokenCredential | None = None, retries: int = 3
) -> Iterator[CommunicationIdentityClient]:
    """Open a client with the access key or another credential; closes its transport at the end."""
    connection_string = azure.env["COMMUNICATION_SERVICES_CONNECTION_STRING"]
    endpoint, key = (part.partition("=")[2] for part in connection_string.split(";"))
    host, proof = endpoint.rstrip("/"), credential or AzureKeyCredential(key)
    with RequestsTransport() as transport:
        yield CommunicationIdentityClient(host, proof, transport=transport, retry_total=retries)


def get_response(error: HttpResponseError) -> HttpResponse:
    """Return the response in an exception of the SDK."""
    assert isinstance(error.response, HttpResponse)
    return error.response
