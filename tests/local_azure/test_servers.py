"""The servers: many connections, slow clients, keep-alive."""

import http.client
import select
import socket
import ssl
import threading
import time
from urllib.parse import urlsplit

from tests.support.local_azure import CALL_SECONDS, LocalAzure

KEYS = "/common/discovery/v2.0/keys"
CONNECTIONS = 200
CONNECT_SECONDS = 0.9
"""Less than a client waits before it tries again, when the kernel dropped its first attempt."""


def connect(local_azure: LocalAzure, context: ssl.SSLContext) -> http.client.HTTPSConnection:
    address = urlsplit(local_azure.get_app().tls_origin).netloc
    return http.client.HTTPSConnection(address, context=context, timeout=CALL_SECONDS)


def test_connection_serves_many_requests(local_azure: LocalAzure) -> None:
    connection = connect(local_azure, ssl.create_default_context(cafile=local_azure.ca_path))
    connection.connect()
    first = connection.sock
    # A body that the operation does not read must not be taken for the next request.
    for method, path, status in (
        ("GET", KEYS, 200),
        ("POST", KEYS, 405),
        ("HEAD", KEYS, 200),
        ("POST", "/nowhere", 404),
        ("GET", KEYS, 200),
    ):
        connection.request(method, path, body=b"x" * 1000 if method == "POST" else None)
        answer = connection.getresponse()
        answer.read()
        assert answer.status == status
        assert connection.sock is first
    connection.close()


def test_chunked_body_is_read(local_azure: LocalAzure) -> None:
    connection = connect(local_azure, ssl.create_default_context(cafile=local_azure.ca_path))
    headers = {"Content-Type": "application/x-www-form-urlencoded", "Transfer-Encoding": "chunked"}
    connection.request(
        "POST",
        "/common/oauth2/v2.0/token",
        body=iter([b"grant_", b"type=authorization_code"]),
        headers=headers,
        encode_chunked=True,
    )
    answer = connection.getresponse()
    # The grant type was read; the client id is what is missing.
    assert b"'client_id'" in answer.read()
    connection.close()


def test_slow_handshakes_stall_nobody(local_azure: LocalAzure) -> None:
    port = urlsplit(local_azure.get_app().tls_origin).port
    slow = [socket.create_connection(("127.0.0.1", port or 0)) for _ in range(20)]
    connection = connect(local_azure, ssl.create_default_context(cafile=local_azure.ca_path))
    connection.request("GET", KEYS)
    assert connection.getresponse().read()
    connection.close()
    for client in slow:
        client.close()


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


def test_many_connections_at_once_are_served(local_azure: LocalAzure) -> None:
    context = ssl.create_default_context(cafile=local_azure.ca_path)
    connections = [connect(local_azure, context) for _ in range(CONNECTIONS)]
    all_connected = threading.Barrier(CONNECTIONS)
    statuses: list[int] = []

    def use(connection: http.client.HTTPSConnection) -> None:
        connection.connect()
        all_connected.wait(CALL_SECONDS)
        connection.request("GET", KEYS)
        answer = connection.getresponse()
        answer.read()
        statuses.append(answer.status)
        connection.close()

    threads = [threading.Thread(target=use, args=(connection,)) for connection in connections]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [200] * CONNECTIONS


def test_wrong_length_is_refused(local_azure: LocalAzure) -> None:
    connection = connect(local_azure, ssl.create_default_context(cafile=local_azure.ca_path))
    connection.request("POST", KEYS, headers={"Content-Length": "-1"})
    assert connection.getresponse().status == 400
    connection.close()
