"""Ports of this machine, and plain HTTP to what listens there."""

import errno
import http.client
import json
import socket
from contextlib import ExitStack
from typing import Any
from urllib.parse import urlsplit

from local_azure.supervision import RunError

CALL_SECONDS = 10
# Loopback only; browsers take `localhost` to be either of these.
HOSTS = {"127.0.0.1": socket.AF_INET, "::1": socket.AF_INET6}


class PortTakenError(RunError):
    """Another program has the port."""


def reserve_port(port: int, reserved: ExitStack) -> list[str]:
    """Bind `port` on each loopback address there is, so that nothing else takes it, and return those.

    Raises PortTakenError where another program has it, RunError where this user may not have it.
    """
    hosts = []
    for host, family in HOSTS.items():
        try:
            listener = reserved.enter_context(socket.socket(family))
            # As gunicorn does: connections of an earlier run that are not quite gone don't count.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((host, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                other = f"PORT={port + 1} make run"
                raise PortTakenError(
                    f"Port {port} is taken by another program; take another port: {other}"
                ) from error
            if error.errno == errno.EACCES:
                raise RunError(f"Port {port} takes root; take another port: PORT=8000 make run") from error
            if family == socket.AF_INET:
                raise
        else:
            hosts.append(host)
    return hosts


def answers(port: int, path: str) -> bool:
    """Say whether what listens on `port` answers 200."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def get_json(url: str) -> Any:
    """The document at an address on this machine, whatever proxy the environment names."""
    address = urlsplit(url)
    connection = http.client.HTTPConnection(address.netloc, timeout=CALL_SECONDS)
    try:
        connection.request("GET", address.path)
        return json.load(connection.getresponse())
    finally:
        connection.close()
