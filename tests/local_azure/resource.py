"""Hand-signed requests to Communication Services, for tests of requests that the SDK would not send."""

import hashlib
import hmac
from base64 import b64decode, b64encode
from collections.abc import Mapping
from email.utils import formatdate
from time import time
from urllib.parse import urlsplit

import requests

from tests.support.local_azure import CALL_SECONDS, LocalAzure


class Resource:
    """Calls the resource with requests signed by hand."""

    def __init__(self, azure: LocalAzure, session: requests.Session) -> None:
        connection_string = azure.env["COMMUNICATION_SERVICES_CONNECTION_STRING"]
        endpoint, self.key = (part.partition("=")[2] for part in connection_string.split(";"))
        self.origin = endpoint.rstrip("/")
        self.session = session

    def sign(
        self, target: str, *, verb: str = "POST", date: float | None = None, body: bytes = b""
    ) -> dict[str, str]:
        day = formatdate(time() if date is None else date, usegmt=True)
        digest = b64encode(hashlib.sha256(body).digest()).decode()
        text = f"{verb}\n{target}\n{day};{urlsplit(self.origin).netloc};{digest}"
        signature = b64encode(hmac.digest(b64decode(self.key), text.encode(), "sha256")).decode()
        proof = f"HMAC-SHA256 SignedHeaders=x-ms-date;host;x-ms-content-sha256&Signature={signature}"
        return {"x-ms-date": day, "x-ms-content-sha256": digest, "Authorization": proof}

    def send(
        self, target: str, headers: Mapping[str, str], body: bytes = b"", *, verb: str = "POST"
    ) -> requests.Response:
        """Send a request with exactly this target."""
        url = self.origin + target
        return self.session.request(verb, url, data=body, headers=headers, timeout=CALL_SECONDS)
