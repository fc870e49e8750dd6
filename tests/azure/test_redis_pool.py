"""Redis with a token of the managed identity as the password: a real one, behind a front that checks it."""

import json
import os
import time
from collections.abc import Iterator
from unittest import mock

import pytest
import requests
from structlog.testing import capture_logs

from local_azure.entra.registration import IDENTITY_CLIENT_ID
from tests.support.concurrency import run_concurrently, wait_until
from tests.support.entra_redis import EntraRedis, IdentityEndpoint, identity_endpoint
from tests.support.local_azure import LocalAzure
from tests.support.log import assert_not_logged
from tests.support.redis import Redis, close_pools, closed_later
from tests.support.service import Service
from trusted_service.azure import managed_identity, transport
from trusted_service.azure.managed_identity import ManagedIdentity
from trusted_service.azure.redis_pool import SCOPE, Pool
from trusted_service.azure.shares import Shares


@pytest.fixture
def endpoint(azure: LocalAzure) -> Iterator[IdentityEndpoint]:
    with identity_endpoint(azure) as running, mock.patch.dict(os.environ, azure.env | running.env):
        yield running


@pytest.fixture
def front(redis: Redis, azure: LocalAzure) -> Iterator[EntraRedis]:
    with EntraRedis(redis, azure) as running:
        yield running
    close_pools()


def connect(front: EntraRedis) -> Shares:
    identity = ManagedIdentity(IDENTITY_CLIENT_ID, transport.new_session(8))
    return closed_later(Shares(front.uri, identity))


def pool_of(shares: Shares) -> Pool:
    assert shares.redis is not None
    return shares.redis


def test_token_is_the_password(endpoint: IdentityEndpoint, front: EntraRedis) -> None:
    shares = connect(front)
    assert run_concurrently([shares.find_redis_failure] * 8) == [None] * 8
    assert (len(set(front.tokens)), endpoint.calls) == (1, 1)


def test_token_is_renewed_on_kept_connections(endpoint: IdentityEndpoint, front: EntraRedis) -> None:
    pool = pool_of(connect(front))
    endpoint.lifetime = 8
    pool.renew()
    used, idle = pool.get_connection(), pool.get_connection()
    pool.release(idle)
    before = front.tokens[:]

    def renew() -> bool:
        pool.renew()
        return endpoint.calls > 1

    wait_until(renew)  # a token is not used to its very end
    pool.release(used)
    for connection in [pool.get_connection() for _ in range(2)]:
        pool.release(connection)
    assert (len(before), len(front.tokens)) == (2, 4)
    assert not set(before) & set(front.tokens[2:])


def test_kept_token_replaces_no_connection(endpoint: IdentityEndpoint, front: EntraRedis) -> None:
    shares = connect(front)
    for _ in range(3):
        pool_of(shares).renew()
        assert shares.find_redis_failure() is None
    assert (len(front.tokens), endpoint.calls) == (1, 1)


def test_connection_outlives_its_token(endpoint: IdentityEndpoint, front: EntraRedis) -> None:
    shares = connect(front)
    endpoint.lifetime = 2
    assert shares.find_redis_failure() is None
    first = front.tokens[-1]
    time.sleep(3)  # Redis has ended the connection
    assert shares.find_redis_failure() is None
    assert front.tokens[-1] != first


@pytest.mark.parametrize("claims", [{"aud": "https://redis.example"}, {"oid": "somebody else"}])
def test_token_for_others_is_refused(
    endpoint: IdentityEndpoint, front: EntraRedis, claims: dict[str, object]
) -> None:
    endpoint.claims |= claims
    assert str(connect(front).find_redis_failure()).startswith("WRONGPASS ")


def test_user_removed_from_redis_is_refused(endpoint: IdentityEndpoint, front: EntraRedis) -> None:
    front.users.clear()
    assert str(connect(front).find_redis_failure()).startswith("WRONGPASS ")


@pytest.mark.parametrize("status", [400, 404, 429, 500])
def test_failing_identity_endpoint_is_named(
    endpoint: IdentityEndpoint, front: EntraRedis, status: int
) -> None:
    shares = connect(front)
    endpoint.status = status
    assert str(shares.find_redis_failure()).startswith(f"managed identity: HTTP {status}")
    pool_of(shares).renew()  # the failure is logged
    shares.take("users", "delete")  # counts alone
    endpoint.status = 200
    wait_until(lambda: shares.find_redis_failure() is None)


def test_failing_endpoint_ends_no_connection(endpoint: IdentityEndpoint, front: EntraRedis) -> None:
    shares = connect(front)
    assert shares.find_redis_failure() is None
    endpoint.status = 500
    pool_of(shares).renew()  # the token in hand is good
    assert shares.find_redis_failure() is None
    assert len(front.tokens) <= 2


def test_failure_that_msal_hides_is_logged(
    endpoint: IdentityEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    identity = ManagedIdentity(IDENTITY_CLIENT_ID, transport.new_session(8))
    token, later = identity.get_token(SCOPE), time.time() + endpoint.lifetime * 0.6
    endpoint.status = 500
    monkeypatch.setattr(managed_identity, "RETRY_SECONDS", 0)
    monkeypatch.setattr(time, "time", lambda: later)
    with capture_logs() as logs:
        assert identity.get_token(SCOPE).token == token.token
        wait_until(lambda: bool(logs))
    assert [(line["event"], line["reason"]) for line in logs] == [("refresh_failed", "HTTP 500")]


def test_late_caller_takes_the_token_that_another_got(endpoint: IdentityEndpoint) -> None:
    """It found none, and begins as the other's call ends; MSAL would answer a second one from its cache."""
    identity = ManagedIdentity(IDENTITY_CLIENT_ID, transport.new_session(8))
    token = identity.get_token(SCOPE).token
    late = identity._ensure_cached(SCOPE).call.start().wait()
    assert (late.token, endpoint.calls) == (token, 1)


def test_silent_identity_endpoint_delays_few(endpoint: IdentityEndpoint, front: EntraRedis) -> None:
    endpoint.seconds = 4.0
    shares = connect(front)
    reasons = run_concurrently([shares.find_redis_failure] * 24)
    assert "managed identity: too many calls wait for it already" in reasons
    assert reasons.count(None) <= 8


def test_managed_identity_counts_rate_limits(
    settings: dict[str, str], endpoint: IdentityEndpoint, front: EntraRedis, redis: Redis
) -> None:
    def sign_ins(service: Service, times: int) -> list[int]:
        url = f"{service.url}/auth/sign-in"
        return [requests.get(url, allow_redirects=False, timeout=30).status_code for _ in range(times)]

    redis.client.flushdb()
    identity = {"AZURE_CLIENT_ID": IDENTITY_CLIENT_ID, "RATE_LIMIT_STORAGE_URI": front.uri}
    strict = settings | identity | endpoint.env | {"RATE_LIMIT_SIGN_IN": "3 per hour"}
    with Service(strict) as first, Service(strict) as second:
        assert sign_ins(first, 2) + sign_ins(second, 2) == [302, 302, 302, 429]
        assert endpoint.calls == 2
        assert_not_logged(first, *front.tokens)
    endpoint.status = 500
    with Service(strict) as alone:
        assert sign_ins(alone, 4) == [302, 302, 302, 429]
    (line,) = [line for line in alone.log().splitlines() if "rate_limits_counted_alone" in line]
    assert json.loads(line)["reason"].startswith("managed identity: ")
    assert '"reason": "HTTP 500"' in alone.log()  # of the task that renews
