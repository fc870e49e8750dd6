"""Requests to Communication Services signed by hand, for tests that need what the SDK would not send."""

import base64
import hashlib
import hmac
from collections.abc import Mapping
from email.utils import formatdate
from time import time
from urllib.parse import urlsplit

import requests

from tests.support.local_azure import CALL_SECONDS, LocalAzure


class Resource:
    """Calls the resource with requests signed by hand."""

    def __init__(self, azure: LocalAzure, session: requests.Session) -> None:
        """Call the resource of `azure`."""
        connection_string = azure.env["COMMUNICATION_SERVICES_CONNECTION_STRING"]
        self.endpoint, self.key = (part.partition("=")[2] for part in connection_string.split(";"))
        self.origin = self.endpoint.rstrip("/")
        self.session = session

    def sign(
        self, target: str, *, verb: str = "POST", date: float | None = None, body: bytes = b""
    ) -> dict[str, str]:
        """Return the headers of a signed request."""
        day = formatdate(time() if date is None else date, usegmt=True)
        digest = base64.b64encode(hashlib.sha256(body).digest()).decode()
        text = f"{verb}\n{target}\n{day};{urlsplit(self.origin).netloc};{digest}"
        code = hmac.digest(base64.b64decode(self.key), text.encode(), "sha256")
        return {
            "x-ms-date": day,
            "x-ms-content-sha256": digest,
            "Authorization": "HMAC-SHA256 SignedHeaders=x-ms-date;host;x-ms-content-sha256&Signature="
            + base64.b64encode(code).decode(),
        }

    def send(
        self, verb: str, target: str, headers: Mapping[str, str], body: bytes = b""
    ) -> requests.Response:
        """Send a request whose target goes out as it stands."""
        url = self.origin + target
        return self.session.request(verb, url, data=body, headers=headers, timeout=CALL_SECONDS)

    def post(self, target: str, headers: Mapping[str, str], body: bytes = b"") -> requests.Response:
        """POST to a target."""
        return self.send("POST", target, headers, body)
