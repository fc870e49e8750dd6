"""Redis as Azure Managed Redis serves it, which takes tokens of Entra ID, and an endpoint that gives them.

https://learn.microsoft.com/azure/redis/entra-for-authentication
"""

import contextlib
import select
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import jwt

from local_azure.authority import Authority
from local_azure.entra.registration import IDENTITY_PRINCIPAL_ID
from tests.support import log_scan
from tests.support.gate import Forwarder
from tests.support.http_server import QuietHandler, serving
from tests.support.local_azure import CALL_SECONDS, LocalAzure
from tests.support.redis import Redis

AUDIENCE = "https://redis.azure.com"
WRONG = b"-WRONGPASS invalid username-password pair or user is disabled.\r\n"


class EntraRedis(Forwarder):
    """In front of a real Redis: TLS, and a token as the password. A connection ends with its token."""

    def __init__(self, redis: Redis, azure: LocalAzure) -> None:
        super().__init__(redis.port)
        self.tokens = list[str]()
        """With which connections began, the latest last."""
        self.users = {IDENTITY_PRINCIPAL_ID}
        self.uri = f"rediss://{IDENTITY_PRINCIPAL_ID}@localhost:{self.port}"
        self._redis, self._azure = redis, azure
        self._context = Authority(Path(azure.ca_path).parent).make_server_context()

    def handle(self, client: socket.socket) -> None:
        with (
            contextlib.suppress(OSError, ValueError),
            self._context.wrap_socket(client, server_side=True) as plain,
        ):
            *command, user, token = _read_command(plain.makefile("rb", buffering=0))
            log_scan.remember("token for Redis", token)
            ends = self._check(user, token)
            if ends is None:
                plain.sendall(WRONG)
                return
            self.tokens.append(token)
            with socket.create_connection(("127.0.0.1", self.target)) as server:
                server.sendall(_to_resp([*command, "default", self._redis.password]))
                _pump(plain, server, ends)

    def _check(self, user: str, token: str) -> float | None:
        """When the token ends; None if it does not let this user in."""
        session = self._azure.make_session()
        url = f"{self._azure.env['ENTRA_AUTHORITY']}/discovery/v2.0/keys"
        keys = jwt.PyJWKSet.from_dict(session.get(url, timeout=CALL_SECONDS).json())
        try:
            key = keys[jwt.get_unverified_header(token)["kid"]]
            claims = jwt.decode(token, key, ["RS256"], audience=AUDIENCE, options={"require": ["exp", "oid"]})
        except (jwt.InvalidTokenError, KeyError):
            return None
        return float(claims["exp"]) if user == claims["oid"] and user in self.users else None


def _read_command(stream: "BinaryIO | socket.SocketIO") -> list[str]:
    """https://redis.io/docs/latest/develop/reference/protocol-spec/#arrays"""

    def line() -> bytes:
        found = b""
        while not found.endswith(b"\r\n"):
            found += stream.read(1) or b"\r\n"
        return found[1:-2]

    parts = list[str]()
    for _ in range(int(line())):
        size, text = int(line()) + 2, b""
        while len(text) < size:
            text += stream.read(size - len(text)) or b"\0" * size
        parts.append(text[:-2].decode())
    return parts


def _to_resp(parts: list[str]) -> bytes:
    return "".join([f"*{len(parts)}\r\n", *(f"${len(part)}\r\n{part}\r\n" for part in parts)]).encode()


def _pump(client: ssl.SSLSocket, server: socket.socket, ends: float) -> None:
    others: dict[socket.socket, socket.socket] = {client: server, server: client}
    while (left := ends - time.time()) > 0:
        for readable in select.select([*others], [], [], min(left, 0.2))[0]:
            data = readable.recv(1 << 16)  # a record of TLS has at most 16 KB, so nothing stays
            if not data:
                return
            others[readable].sendall(data)


class IdentityEndpoint:
    """App Service's endpoint for the local Azure's identity, whose tokens' lifetime and status tests choose.

    https://learn.microsoft.com/azure/app-service/overview-managed-identity#rest-endpoint-reference
    """

    def __init__(self) -> None:
        self.lifetime, self.status, self.seconds, self.calls = 86_400, 200, 0.0, 0
        self.claims: dict[str, object] = {"aud": AUDIENCE, "oid": IDENTITY_PRINCIPAL_ID}
        self.env = dict[str, str]()


@contextmanager
def identity_endpoint(azure: LocalAzure) -> Iterator[IdentityEndpoint]:
    endpoint = IdentityEndpoint()

    class Handler(QuietHandler):
        def do_GET(self) -> None:  # noqa: N802 # as the base class calls it
            endpoint.calls += 1
            time.sleep(endpoint.seconds)
            if endpoint.status != 200:
                self.respond(endpoint.status, {"statusCode": endpoint.status, "message": "Planted."})
                return
            members = {"lifetimeSeconds": endpoint.lifetime, "claims": endpoint.claims}
            token, _ = azure.mint_tokens(app=True, **members)
            expires_on = str(int(time.time()) + endpoint.lifetime)
            members = {"access_token": token, "expires_on": expires_on, "token_type": "Bearer"}
            self.respond(200, members | {"resource": AUDIENCE})

    with serving(Handler) as url:
        endpoint.env = {"IDENTITY_ENDPOINT": f"{url}/msi/token", "IDENTITY_HEADER": "anything"}
        yield endpoint
