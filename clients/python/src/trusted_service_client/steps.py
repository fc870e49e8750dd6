"""The steps of a token refresh, without I/O: the refreshers for threads and asyncio carry them out."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Union
from urllib.parse import urlsplit
from urllib.request import Request

from azure.core.credentials import AccessToken

from trusted_service_client.errors import TokenRequestError

MAX_TRIES = 4
# The window of the service's rate limit is one minute. Retrying earlier than requested would add to the load.
MAX_WAIT_SECONDS = 120


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
    """Return a function that starts a refresh. Raises ValueError if `service_url` is not an http(s) URL."""
    parts = urlsplit(service_url)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise ValueError("service_url must be the origin of the service, such as https://calls.contoso.com")
    url = f"{parts.scheme}://{parts.netloc}/api/token"
    chosen = {"scopes": scopes and list(scopes), "expiresInMinutes": expires_in_minutes}
    body = {name: value for name, value in chosen.items() if value is not None}
    return lambda: _refresh(url, json.dumps(body).encode() if body else b"")


def _refresh(url: str, body: bytes) -> Refresh:
    try:
        response = yield from _request(url, body, (yield GetAccessToken(force_refresh=False)))
    except TokenRequestError as error:
        if error.code != "invalid_token":
            raise
        response = yield from _request(url, body, (yield GetAccessToken(force_refresh=True)))
    expires_on = datetime.fromisoformat(response["expiresOn"].replace("Z", "+00:00"))
    return AccessToken(response["token"], int(expires_on.timestamp()))


def _request(url: str, body: bytes, access_token: str) -> Generator[Step, Any, dict[str, Any]]:
    headers = {"Authorization": f"Bearer {access_token}", "Content-Type": "application/json"}
    request = Request(url, body, headers, method="POST")  # noqa: S310 - plan_refresh has checked the scheme
    for tries in range(1, MAX_TRIES + 1):
        result = yield Send(request)
        if not isinstance(result, TokenRequestError):
            return result  # type: ignore[no-any-return]
        seconds = 2.0 ** (tries - 1) if result.retry_after is None else result.retry_after
        temporary = result.status in (None, 429, 503) and seconds <= MAX_WAIT_SECONDS
        if not temporary or tries == MAX_TRIES:
            break
        yield Sleep(seconds * random.uniform(1, 1.1))  # noqa: S311 # nosec B311 # jitter
    raise result
