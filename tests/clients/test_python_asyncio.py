"""The Python client for asyncio: the same rules, and callers who are cancelled."""

import asyncio

import pytest
from azure.communication.chat.aio import CommunicationTokenCredential
from azure.core.credentials import AccessToken
from trusted_service_client import TokenRequestError
from trusted_service_client.aio import create_token_refresher

from tests.support.local_azure import LocalAzure
from tests.support.person import Person
from tests.support.together import timed
from tests.support.tokens import make_token

LEFT = "nobody waits any more"


def test_credential_gets_a_token(azure: LocalAzure, person: Person, access_token: str) -> None:
    async def get_access_token(_: bool) -> str:
        return access_token

    async def main() -> AccessToken:
        refresh = create_token_refresher(person.url, get_access_token, scopes=["chat"])
        first = await refresh()
        async with CommunicationTokenCredential(
            first.token, token_refresher=refresh, proactive_refresh=True
        ) as credential:
            token: AccessToken = await credential.get_token()
        return token

    check = azure.check_token(asyncio.run(main()).token)
    assert (check["valid"], check["scopes"]) == (True, ["chat"])


def test_credential_refreshes_proactively(azure: LocalAzure, person: Person, access_token: str) -> None:
    async def get_access_token(_: bool) -> str:
        return access_token

    async def main() -> AccessToken:
        refreshed = asyncio.Event()
        refresh = create_token_refresher(person.url, get_access_token)

        async def note() -> AccessToken:
            token = await refresh()
            refreshed.set()
            return token

        async with CommunicationTokenCredential(
            make_token(3), token_refresher=note, proactive_refresh=True
        ) as credential:
            await asyncio.wait_for(refreshed.wait(), 10)
            token: AccessToken = await credential.get_token()
        return token

    assert azure.check_token(asyncio.run(main()).token)["valid"]


def test_coroutines_at_once_share_one_request_and_leave_it_as_they_like(
    azure: LocalAzure, person: Person, access_token: str
) -> None:
    async def get_access_token(_: bool) -> str:
        return access_token

    async def main() -> list[AccessToken | BaseException]:
        refresh = create_token_refresher(person.url, get_access_token)
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
    assert sum(azure.count_calls("acs").values()) == 1


def test_refresh_ends_with_its_last_caller(azure: LocalAzure, person: Person, access_token: str) -> None:
    ended: list[str] = []

    async def get_access_token(_: bool) -> str:
        try:
            if not ended:
                await asyncio.sleep(60)
        except asyncio.CancelledError:
            ended.append(LEFT)
            raise
        return access_token

    async def main() -> AccessToken:
        refresh = create_token_refresher(person.url, get_access_token)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.gather(refresh(), refresh()), 0.2)
        await asyncio.sleep(0)
        assert ended == [LEFT]
        return await refresh()

    assert azure.check_token(asyncio.run(main()).token)["valid"]


def test_wait_is_cut_short(azure: LocalAzure, person: Person, access_token: str) -> None:
    async def get_access_token(_: bool) -> str:
        return access_token

    async def main() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(create_token_refresher(person.url, get_access_token)(), 1)

    azure.plant_fault("acs", "create", "status", status=503, retryAfter="100")
    _, seconds = timed(lambda: asyncio.run(main()))
    assert seconds < 10


def test_refused_access_token_is_got_anew_once_and_then_an_error(person: Person) -> None:
    asked: list[bool] = []

    async def get_access_token(force_refresh: bool) -> str:
        asked.append(force_refresh)
        return "no.good.token"

    async def main() -> None:
        with pytest.raises(TokenRequestError) as caught:
            await create_token_refresher(person.url, get_access_token)()
        assert (caught.value.status, caught.value.code) == (401, "invalid_token")

    asyncio.run(main())
    assert asked == [False, True]
