"""Calls to Entra ID over HTTP, with their failures in the domain's words."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import requests

from trusted_service import upstream
from trusted_service.errors import UpstreamThrottled, UpstreamUnavailable

SERVICE: Final = "Entra ID"


class EntraHttp:
    """What MSAL and we use to call Entra ID. Raises UpstreamThrottled or UpstreamUnavailable.

    Answers of the OAuth protocol, good and bad (400 and 401 with a JSON body), are returned.
    """

    def __init__(self, session: requests.Session) -> None:
        self._session = session

    def get(self, url: str, **options: Any) -> requests.Response:
        return self._answer("GET", url, options)

    def post(self, url: str, **options: Any) -> requests.Response:
        return self._answer("POST", url, options)

    def _answer(self, method: str, url: str, options: dict[str, Any]) -> requests.Response:
        with _entra_call():
            response = self._session.request(method, url, allow_redirects=False, **options)
        retry_after = response.headers.get("Retry-After")
        if response.status_code == 429:
            raise UpstreamThrottled(SERVICE, "HTTP 429", retry_after)
        if response.status_code not in (200, 400, 401) or _json_object(response) is None:
            raise UpstreamUnavailable(SERVICE, f"HTTP {response.status_code}, not as agreed", retry_after)
        return response


def _json_object(response: requests.Response) -> dict[str, Any] | None:
    try:
        document = response.json()
    except ValueError:
        return None
    return document if isinstance(document, dict) else None


@contextmanager
def _entra_call() -> Iterator[None]:
    try:
        with upstream.call(SERVICE):
            yield
    except upstream.NotSent as error:
        raise UpstreamUnavailable(SERVICE, str(error)) from error
    except requests.RequestException as error:
        raise UpstreamUnavailable(SERVICE, type(error).__name__, outcome_unknown=True) from error
