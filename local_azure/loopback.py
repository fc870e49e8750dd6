"""Loopback ports, and plain HTTP to the servers that listen on them."""

import errno
import http.client
import json
import socket
from contextlib import ExitStack
from typing import Any
from urllib.parse import urlsplit

from local_azure.supervision import RunError

CALL_SECONDS = 10
# Loopback only; browsers resolve `localhost` to either of these.
HOSTS = {"127.0.0.1": socket.AF_INET, "::1": socket.AF_INET6}


class PortTakenError(RunError):
    """Another program uses the port."""


def reserve_port(port: int, reserved: ExitStack) -> list[str]:
    """Reserve `port` on each loopback address, and return the addresses.

    Raises PortTakenError if another program uses it, RunError if this user may not use it.
    """
    hosts = []
    for host, family in HOSTS.items():
        try:
            listener = reserved.enter_context(socket.socket(family))
            # As gunicorn does, ignore connections of an earlier run that are still closing.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((host, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                other = f"PORT={port + 1} make run"
                raise PortTakenError(
                    f"Port {port} is in use by another program; choose another port: {other}"
                ) from error
            if error.errno == errno.EACCES:
                raise RunError(
                    f"Port {port} is reserved for root; choose another port: PORT=8000 make run"
                ) from error
            if family == socket.AF_INET:
                raise
        else:
            hosts.append(host)
    return hosts


def responds(port: int, path: str) -> bool:
    """Tell whether the server on `port` responds with 200."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def get_json(url: str, document: object = None) -> Any:
    """Return the JSON document at a local URL, ignoring proxies in the environment; post one if given."""
    address = urlsplit(url)
    connection = http.client.HTTPConnection(address.netloc, timeout=CALL_SECONDS)
    try:
        if document is None:
            connection.request("GET", address.path)
        else:
            headers = {"Content-Type": "application/json"}
            connection.request("POST", address.path, json.dumps(document), headers)
        return json.load(connection.getresponse())
    finally:
        connection.close()
