"""What it takes to refresh a token, step by step; whoever drives it sleeps, asks and sends in its own way."""

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

MOST_TRIES = 4
# A window of the service's rate limit is a minute. To wait for less than was asked would add to the load.
LONGEST_WAIT_SECONDS = 120


@dataclass(frozen=True)
class Sleep:
    """Comes back after `seconds`."""

    seconds: float


@dataclass(frozen=True)
class GetAccessToken:
    """Comes back with an Entra ID access token; not with the last one where `force_refresh`."""

    force_refresh: bool


@dataclass(frozen=True)
class Send:
    """Comes back with what `transport.send` returns."""

    request: Request


Step = Union[Sleep, GetAccessToken, Send]
Refresh = Generator[Step, Any, AccessToken]
StartRefresh = Callable[[], Refresh]


def plan_refresh(
    service_url: str, *, scopes: Sequence[str] | None, expires_in_minutes: int | None
) -> StartRefresh:
    """Return what starts a refresh. Raises ValueError unless `service_url` is one of http or https."""
    parts = urlsplit(service_url)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise ValueError("service_url must be the origin of the service, as https://calls.contoso.com")
    url = f"{parts.scheme}://{parts.netloc}/api/token"
    chosen = {"scopes": scopes and list(scopes), "expiresInMinutes": expires_in_minutes}
    body = {name: value for name, value in chosen.items() if value is not None}
    return lambda: _refresh(url, json.dumps(body).encode() if body else b"")


def _refresh(url: str, body: bytes) -> Refresh:
    try:
        answer = yield from _request(url, body, (yield GetAccessToken(force_refresh=False)))
    except TokenRequestError as error:
        if error.code != "invalid_token":
            raise
        answer = yield from _request(url, body, (yield GetAccessToken(force_refresh=True)))
    expires_on = datetime.fromisoformat(answer["expiresOn"].replace("Z", "+00:00"))
    return AccessToken(answer["token"], int(expires_on.timestamp()))


def _request(url: str, body: bytes, access_token: str) -> Generator[Step, Any, dict[str, Any]]:
    headers = {"Authorization": f"Bearer {access_token}", "Content-Type": "application/json"}
    request = Request(url, body, headers, method="POST")  # noqa: S310 - http or https: plan_refresh has looked
    for tries in range(1, MOST_TRIES + 1):
        result = yield Send(request)
        if not isinstance(result, TokenRequestError):
            return result  # type: ignore[no-any-return]
        seconds = 2.0 ** (tries - 1) if result.retry_after is None else result.retry_after
        passes_by_itself = result.status in (None, 429, 503) and seconds <= LONGEST_WAIT_SECONDS
        if not passes_by_itself or tries == MOST_TRIES:
            break
        yield Sleep(seconds * random.uniform(1, 1.1))  # noqa: S311 # nosec B311 # spreads clients
    raise result
