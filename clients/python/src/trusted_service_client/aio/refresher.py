"""The refresher for asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from azure.core.credentials import AccessToken

from trusted_service_client.steps import GetAccessToken, Refresh, Sleep, StartRefresh, plan_refresh
from trusted_service_client.transport import send


def create_token_refresher(
    service_url: str,
    get_access_token: Callable[[bool], Awaitable[str]],
    *,
    scopes: Sequence[str] | None = None,
    expires_in_minutes: int | None = None,
) -> Callable[[], Awaitable[AccessToken]]:
    """Like `trusted_service_client.create_token_refresher`, but with coroutines of one event loop.

    Cancelling one caller does not affect the others; cancelling the last one cancels the refresh.
    """
    start = plan_refresh(service_url, scopes=scopes, expires_in_minutes=expires_in_minutes)
    return _OneInFlight(start, get_access_token)


class _OneInFlight:
    def __init__(self, start: StartRefresh, get_access_token: Callable[[bool], Awaitable[str]]) -> None:
        self._start = start
        self._get_access_token = get_access_token
        self._flight: asyncio.Task[AccessToken] | None = None
        self._waiting = 0

    async def __call__(self) -> AccessToken:
        if self._flight is None:
            self._flight, self._waiting = asyncio.create_task(self._run(self._start())), 0
        flight = self._flight
        self._waiting += 1
        try:
            return await asyncio.shield(flight)
        finally:
            if self._flight is flight:
                self._waiting -= 1
                if flight.done() or self._waiting == 0:
                    self._flight = None
                    flight.cancel()

    async def _run(self, refresh: Refresh) -> AccessToken:
        result: object = None
        while True:
            try:
                step = refresh.send(result)
            except StopIteration as done:
                token: AccessToken = done.value
                return token
            if isinstance(step, Sleep):
                await asyncio.sleep(step.seconds)
                result = None
            elif isinstance(step, GetAccessToken):
                result = await self._get_access_token(step.force_refresh)
            else:
                result = await asyncio.to_thread(send, step.request)
