"""The cookie of a sign-in in progress, read and written with the service's own key."""

import hashlib
import time
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from itsdangerous import TimestampSigner, URLSafeTimedSerializer

from tests.support.person import Person
from tests.support.service import Service

PREFIX = "sign-in-"

Parameters = list[tuple[str, str]]


def flow_cookies(person: Person) -> dict[str, str]:
    """Return the flow cookies that the browser has, by name."""
    return {
        cookie.name: cookie.value or "" for cookie in person.http.cookies if cookie.name.startswith(PREFIX)
    }


def read_own_flow(service: Service, person: Person) -> dict[str, Any]:
    """Return the content of the browser's only flow cookie."""
    (cookie,) = flow_cookies(person).values()
    return dict(_serializer(service, 0).loads(cookie))


def write_own_flow(
    service: Service, person: Person, document: dict[str, Any], *, seconds_ago: int = 0
) -> None:
    """Give the browser the cookie that the service would have set `seconds_ago`."""
    replace_flow(person, str(_serializer(service, seconds_ago).dumps(document)))


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


def _serializer(service: Service, seconds_ago: int) -> URLSafeTimedSerializer:
    class Signer(TimestampSigner):
        def get_timestamp(self) -> int:
            return int(time.time()) - seconds_ago

    return URLSafeTimedSerializer(
        service.env["SECRET_KEY"],
        salt="sign-in",
        signer=Signer,
        signer_kwargs={"key_derivation": "hmac", "digest_method": hashlib.sha256},
    )
