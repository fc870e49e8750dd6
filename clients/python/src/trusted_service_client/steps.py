"""The steps of a token refresh, without I/O: the refreshers for threads and asyncio carry them out."""

from __future__ import annotations

import contextlib
import json
import random
import re
import string
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Union
from urllib.parse import urlsplit
from urllib.request import Request

from azure.core.credentials import AccessToken

from trusted_service_client.errors import TokenRequestError
from trusted_service_client.transport import describe_stranger, is_temporary

MAX_TRIES = 4
# The window of the service's rate limit is one minute. Retrying earlier than requested would add to the load.
MAX_WAIT_SECONDS = 120
ORIGIN = re.compile(r"(https?://[^/?#@\\\s]+)(/|/api(/[^?#]*)?)?", re.IGNORECASE)
"""An origin, alone or as part of an address of the service's API."""

TOKEN = re.compile("[!-~]+")


@dataclass(frozen=True)
class Sleep:
    """Wait for `seconds`."""

    seconds: float


@dataclass(frozen=True)
class GetAccessToken:
    """Get an Entra ID access token; a new one if `force_refresh`."""

    force_refresh: bool


@dataclass(frozen=True)
class Send:
    """Send `request`; the result is that of `transport.send`."""

    request: Request


Step = Union[Sleep, GetAccessToken, Send]
Refresh = Generator[Step, Any, AccessToken]
StartRefresh = Callable[[], Refresh]


def plan_refresh(
    service_url: str, *, scopes: Sequence[str] | None, expires_in_minutes: int | None
) -> StartRefresh:
    """Return a function that starts a refresh. Raises ValueError if `service_url` is not an origin."""
    url = f"{_read_origin(service_url)}/api/token"
    chosen = {"scopes": scopes and list(scopes), "expiresInMinutes": expires_in_minutes}
    body = {name: value for name, value in chosen.items() if value is not None}
    return lambda: _refresh(url, json.dumps(body).encode() if body else b"")


def _read_origin(service_url: str) -> str:
    """Return the origin. Raises ValueError, which does not repeat a password or a query."""
    text = str(service_url).strip()
    match = ORIGIN.fullmatch(text)
    if match:
        with contextlib.suppress(ValueError):
            urlsplit(match[1]).port  # noqa: B018 # raises ValueError for a port that there cannot be
            return match[1]
    given = "" if re.search("[@?#]", text) else f", not {text!r}"
    expected = "the service's origin, without a query or fragment, such as https://calls.contoso.com"
    raise ValueError(f"service_url must be {expected}{given}")


def _refresh(url: str, body: bytes) -> Refresh:
    try:
        response = yield from _request(url, body, (yield GetAccessToken(force_refresh=False)))
    except TokenRequestError as error:
        if error.code != "invalid_token":
            raise
        response = yield from _request(url, body, (yield GetAccessToken(force_refresh=True)))
    try:
        expires_on = datetime.fromisoformat(response["expiresOn"].replace("Z", "+00:00"))
        if not TOKEN.fullmatch(response["token"]):
            raise ValueError("no token")
        return AccessToken(response["token"], int(expires_on.timestamp()))
    except (KeyError, AttributeError, TypeError, ValueError) as error:  # JSON of another site
        raise TokenRequestError(f"200: {describe_stranger(url)}", status=200) from error


def _read_access_token(returned: object) -> str:
    """Return the text. Raises TypeError or ValueError, which does not repeat it: it may be a token."""
    expected = "get_access_token must return the access token's text, for example result['access_token']"
    if not isinstance(returned, str):
        raise TypeError(expected)
    text = returned.strip(string.whitespace + "\ufeff")  # of a file that it was read from
    if not TOKEN.fullmatch(text):
        raise ValueError(expected)
    return text


def _request(url: str, body: bytes, returned: object) -> Generator[Step, Any, dict[str, Any]]:
    headers = {"Authorization": f"Bearer {_read_access_token(returned)}", "Content-Type": "application/json"}
    request = Request(url, body, headers, method="POST")  # noqa: S310 - plan_refresh has checked the scheme
    for tries in range(1, MAX_TRIES + 1):
        result = yield Send(request)
        if not isinstance(result, TokenRequestError):
            return result  # type: ignore[no-any-return]
        seconds = 2.0 ** (tries - 1) if result.retry_after is None else result.retry_after
        if not is_temporary(result) or seconds > MAX_WAIT_SECONDS or tries == MAX_TRIES:
            break
        yield Sleep(seconds * random.uniform(1, 1.1))  # noqa: S311 # nosec B311 # jitter
    raise result
