"""The refresher for threads."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future

from azure.core.credentials import AccessToken

from trusted_service_client.steps import GetAccessToken, Refresh, Sleep, StartRefresh, plan_refresh
from trusted_service_client.transport import send


def create_token_refresher(
    service_url: str,
    get_access_token: Callable[[bool], str],
    *,
    scopes: Sequence[str] | None = None,
    expires_in_minutes: int | None = None,
) -> Callable[[], AccessToken]:
    """Return the `token_refresher` of a CommunicationTokenCredential.

    `get_access_token` returns an Entra ID access token for the service at `service_url`. It is called with
    True, once per request, after the service refused the previous token.

    Concurrent calls from several threads share one request. The refresher raises TokenRequestError (status
    401: the user has to sign in again), or the exception of `get_access_token`.
    """
    start = plan_refresh(service_url, scopes=scopes, expires_in_minutes=expires_in_minutes)
    return _OneInFlight(start, get_access_token)


class _OneInFlight:
    def __init__(self, start: StartRefresh, get_access_token: Callable[[bool], str]) -> None:
        self._start = start
        self._get_access_token = get_access_token
        self._lock = threading.Lock()
        self._flight: Future[AccessToken] | None = None

    def __call__(self) -> AccessToken:
        with self._lock:
            shared = self._flight
            if shared is None:
                own = self._flight = Future()
        if shared is not None:
            return shared.result()
        try:
            own.set_result(self._run(self._start()))
        except BaseException as error:
            own.set_exception(error)
        finally:
            with self._lock:
                self._flight = None
        return own.result()

    def _run(self, refresh: Refresh) -> AccessToken:
        result: object = None
        while True:
            try:
                step = refresh.send(result)
            except StopIteration as done:
                token: AccessToken = done.value
                return token
            if isinstance(step, Sleep):
                time.sleep(step.seconds)
                result = None
            elif isinstance(step, GetAccessToken):
                result = self._get_access_token(step.force_refresh)
            else:
                result = send(step.request)
