"""The Python client for threads and asyncio: tokens, retries, shared requests, cancelled callers, errors."""

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from functools import partial
from itertools import count
from typing import Any

import pytest
import trusted_service_client.aio
from azure.communication.chat import ChatClient, CommunicationTokenCredential
from azure.communication.chat.aio import CommunicationTokenCredential as AsyncCredential
from azure.core.credentials import AccessToken
from trusted_service_client import TokenRequestError, create_token_refresher

from tests.clients.front_end import front_end
from tests.clients.javascript import BAD_URLS
from tests.support.concurrency import run_concurrently, timed, wait_until
from tests.support.local_azure import LocalAzure
from tests.support.person import Person
from tests.support.tokens import make_token

Refresh = Callable[[], AccessToken]
NewRefresher = Callable[..., Refresh]
NewAsyncRefresher = Callable[..., Callable[[], Awaitable[AccessToken]]]


@pytest.fixture
def new_refresher(person: Person, access_token: str) -> NewRefresher:
    return partial(create_token_refresher, person.url, lambda _: access_token)


@pytest.fixture
def new_async_refresher(person: Person, access_token: str) -> NewAsyncRefresher:
    async def get_access_token(_: bool) -> str:
        return access_token

    return partial(trusted_service_client.aio.create_token_refresher, person.url, get_access_token)


def test_credential_gets_token_with_scopes(azure: LocalAzure, new_refresher: NewRefresher) -> None:
    refresh = new_refresher(scopes=["chat"], expires_in_minutes=60)
    token = refresh()
    check = azure.check_token(token.token)
    assert (check["valid"], check["scopes"]) == (True, ["chat"])
    assert 59 * 60 < token.expires_on - datetime.now(UTC).timestamp() <= 60 * 60
    azure.reset_calls()
    with CommunicationTokenCredential(make_token(-60), token_refresher=refresh) as credential:
        tokens = [credential.get_token(), credential.get_token()]
        ChatClient("https://contoso.communication.example", credential).close()
    assert tokens[0] is tokens[1]
    assert azure.check_token(tokens[0].token)["valid"]
    assert azure.count_tokens() == 1


def test_credential_refreshes_proactively(azure: LocalAzure, new_refresher: NewRefresher) -> None:
    old, refresh = make_token(3), new_refresher()
    with CommunicationTokenCredential(old, token_refresher=refresh, proactive_refresh=True) as credential:
        wait_until(lambda: credential._token.token != old)
        assert azure.check_token(credential.get_token().token)["valid"]


def test_async_credential_refreshes_itself(azure: LocalAzure, new_async_refresher: NewAsyncRefresher) -> None:
    async def main() -> AccessToken:
        refreshed = asyncio.Event()
        refresh = new_async_refresher(scopes=["chat"])

        async def tracked() -> AccessToken:
            token = await refresh()
            refreshed.set()
            return token

        old = make_token(3)
        async with AsyncCredential(old, token_refresher=tracked, proactive_refresh=True) as credential:
            await asyncio.wait_for(refreshed.wait(), 10)
            token: AccessToken = await credential.get_token()
        return token

    check = azure.check_token(asyncio.run(main()).token)
    assert (check["valid"], check["scopes"]) == (True, ["chat"])


@pytest.mark.parametrize("url", [*BAD_URLS, "file:///etc/passwd", None, b"https://h"])
def test_url_without_origin_is_refused(url: Any) -> None:
    with pytest.raises(ValueError, match="service_url") as caught:
        create_token_refresher(url, lambda _: "x")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("asynchronous", [False, True], ids=["threads", "asyncio"])
def test_opaque_token_is_refreshed_at_its_end(asynchronous: bool) -> None:
    body = json.dumps({"token": "opaque", "expiresOn": "2100-01-01T00:00:00Z"}).encode()

    async def get_tokens(url: str) -> list[AccessToken]:
        async def get_access_token(_: bool) -> str:
            return "x"

        refresh = trusted_service_client.aio.create_token_refresher(url, get_access_token)
        async with AsyncCredential(make_token(-60), token_refresher=refresh) as credential:
            return [await credential.get_token(), await credential.get_token()]

    with front_end((200, body, {})) as (url, paths):
        if asynchronous:
            tokens = asyncio.run(get_tokens(url))
        else:
            refresh = create_token_refresher(url, lambda _: "x")
            with CommunicationTokenCredential(make_token(-60), token_refresher=refresh) as credential:
                tokens = [credential.get_token(), credential.get_token()]
    end = int(datetime(2100, 1, 1, tzinfo=UTC).timestamp())
    assert (tokens, len(paths)) == ([AccessToken("opaque", end)] * 2, 1)


def test_coroutines_share_one_request(azure: LocalAzure, new_async_refresher: NewAsyncRefresher) -> None:
    async def main() -> list[AccessToken | BaseException]:
        refresh = new_async_refresher()
        tasks = [asyncio.ensure_future(refresh()) for _ in range(5)]
        await asyncio.sleep(0.1)
        tasks[0].cancel()
        tasks[3].cancel()
        return await asyncio.gather(*tasks, refresh(), return_exceptions=True)

    azure.plant_fault("acs", "create", "delay", seconds=0.5)
    azure.reset_calls()
    outcomes = asyncio.run(main())
    left = [isinstance(outcome, asyncio.CancelledError) for outcome in outcomes]
    assert left == [True, False, False, True, False, False]
    tokens = {outcome for outcome in outcomes if isinstance(outcome, AccessToken)}
    assert [azure.check_token(token.token)["valid"] for token in tokens] == [True]
    assert azure.count_tokens() == 1


def test_coroutine_ends_with_its_last_caller(azure: LocalAzure, person: Person, access_token: str) -> None:
    ended: list[str] = []

    async def get_access_token(_: bool) -> str:
        try:
            if not ended:
                await asyncio.sleep(60)
        except asyncio.CancelledError:
            ended.append("every caller has left")
            raise
        return access_token

    async def main() -> AccessToken:
        refresh = trusted_service_client.aio.create_token_refresher(person.url, get_access_token)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.gather(refresh(), refresh()), 0.2)
        await asyncio.sleep(0)
        assert len(ended) == 1
        return await refresh()

    assert azure.check_token(asyncio.run(main()).token)["valid"]


def test_cancelled_coroutine_stops_waiting(azure: LocalAzure, new_async_refresher: NewAsyncRefresher) -> None:
    async def main() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(new_async_refresher()(), 1)

    azure.plant_fault("acs", "create", "status", status=503, retryAfter="100")
    _, seconds = timed(lambda: asyncio.run(main()))
    assert seconds < 10


@pytest.mark.parametrize("asynchronous", [False, True], ids=["threads", "asyncio"])
def test_refused_access_token_is_replaced(person: Person, access_token: str, asynchronous: bool) -> None:
    calls = []

    def refresh_with(later: str) -> Refresh:
        def get_access_token(force_refresh: bool) -> str:
            calls.append(force_refresh)
            return later if force_refresh else "an.expired.token"

        async def get_asynchronously(force_refresh: bool) -> str:
            return get_access_token(force_refresh)

        async def main() -> AccessToken:
            return await trusted_service_client.aio.create_token_refresher(person.url, get_asynchronously)()

        if asynchronous:
            return lambda: asyncio.run(main())
        return create_token_refresher(person.url, get_access_token)

    assert refresh_with(access_token)().token
    with pytest.raises(TokenRequestError) as caught:
        refresh_with("no.better.token")()
    assert (caught.value.status, caught.value.code) == (401, "invalid_token")
    assert calls == [False, True] * 2


def test_failure_is_shared_until_the_next_call(azure: LocalAzure, person: Person, access_token: str) -> None:
    calls = count()
    gate = threading.Event()

    def get_access_token(_: bool) -> str:
        if next(calls) == 0:
            gate.wait(10)
            raise RuntimeError("interaction required")
        return access_token

    refresh = create_token_refresher(person.url, get_access_token)

    def fail() -> None:
        with pytest.raises(RuntimeError, match="interaction required"):
            refresh()

    timer = threading.Timer(0.5, gate.set)
    timer.start()
    run_concurrently([fail] * 5)
    timer.join()
    assert azure.check_token(refresh().token)["valid"]
