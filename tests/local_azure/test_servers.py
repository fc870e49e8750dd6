"""The servers: many connections, slow clients, keep-alive."""

import contextlib
import http.client
import select
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import pytest

from tests.support.local_azure import CALL_SECONDS, LocalAzure

KEYS = "/common/discovery/v2.0/keys"
CONNECTIONS = 200
CONNECT_SECONDS = 0.9
"""Less than the TCP timeout after which a client retries a dropped connection attempt."""


@pytest.fixture
def connect(local_azure: LocalAzure) -> Callable[[], http.client.HTTPSConnection]:
    context = ssl.create_default_context(cafile=local_azure.ca_path)
    address = urlsplit(local_azure.get_app().tls_origin).netloc
    return lambda: http.client.HTTPSConnection(address, context=context, timeout=CALL_SECONDS)


@pytest.fixture
def connection(connect: Callable[[], http.client.HTTPSConnection]) -> Iterator[http.client.HTTPSConnection]:
    with contextlib.closing(connect()) as opened:
        yield opened


def test_connection_serves_many_requests(connection: http.client.HTTPSConnection) -> None:
    connection.connect()
    first = connection.sock
    requests = [("GET", KEYS, 200), ("POST", KEYS, 405), ("HEAD", KEYS, 200), ("POST", "/nowhere", 404)]
    # A body that the operation does not read must not be taken as the next request.
    for method, path, status in [*requests, requests[0]]:
        connection.request(method, path, body=b"x" * 1000 if method == "POST" else None)
        response = connection.getresponse()
        response.read()
        assert response.status == status
        assert connection.sock is first


def test_body_is_read_by_chunks_or_length(connection: http.client.HTTPSConnection) -> None:
    headers = {"Content-Type": "application/x-www-form-urlencoded", "Transfer-Encoding": "chunked"}
    body = iter([b"grant_", b"type=authorization_code"])
    connection.request("POST", "/common/oauth2/v2.0/token", body, headers, encode_chunked=True)
    # The grant type was read; the client id is missing.
    assert b"'client_id'" in connection.getresponse().read()
    connection.request("POST", KEYS, headers={"Content-Length": "-1"})
    assert connection.getresponse().status == 400


def test_burst_of_connections_fits_the_backlog(local_azure: LocalAzure) -> None:
    port = urlsplit(local_azure.get_app().tls_origin).port or 0
    poll = select.poll()
    clients = [socket.socket() for _ in range(CONNECTIONS)]
    for client in clients:
        client.setblocking(False)
        client.connect_ex(("127.0.0.1", port))
        poll.register(client, select.POLLOUT)
    time.sleep(CONNECT_SECONDS)
    connected = len(poll.poll(0))
    for client in clients:
        client.close()
    assert connected == CONNECTIONS
