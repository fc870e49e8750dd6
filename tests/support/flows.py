"""The cookie of a sign-in in progress, read and written with the service's own key."""

import json
import time
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from cryptography.fernet import MultiFernet

from tests.support.person import Person
from tests.support.service import Service
from trusted_service.web.security.signing import cipher

PREFIX = "trusted-service-sign-in-"

Parameters = list[tuple[str, str]]


def flow_cookies(person: Person) -> dict[str, str]:
    """Return the flow cookies that the browser has, by name."""
    return {
        cookie.name: cookie.value or "" for cookie in person.http.cookies if cookie.name.startswith(PREFIX)
    }


def read_own_flow(service: Service, person: Person) -> dict[str, Any]:
    """Return the content of the browser's only flow cookie."""
    (cookie,) = flow_cookies(person).values()
    padded = cookie + "=" * (-len(cookie) % 4)
    return dict(json.loads(_cipher(service).decrypt(padded)))


def write_own_flow(
    service: Service, person: Person, document: dict[str, Any], *, seconds_ago: int = 0
) -> None:
    """Give the browser the cookie that the service would have set `seconds_ago`."""
    at = int(time.time()) - seconds_ago
    replace_flow(person, _cipher(service).encrypt_at_time(json.dumps(document).encode(), at).decode())


def replace_flow(person: Person, cookie: str) -> None:
    """Replace the browser's only flow cookie."""
    (name,) = flow_cookies(person)
    for kept in person.http.cookies:
        if kept.name == name:
            kept.value = cookie


def split_callback(url: str) -> tuple[str, Parameters]:
    """Return the callback's address and its parameters."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}{parts.path}", parse_qsl(parts.query)


def join_callback(address: str, parameters: Parameters) -> str:
    return f"{address}?{urlencode(parameters)}"


def _cipher(service: Service) -> MultiFernet:
    return cipher((service.env["SECRET_KEY"],), "sign-in")
