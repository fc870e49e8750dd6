"""Connection attempts to an upstream time out, with each cause of delay tested in isolation."""

import contextlib
import re
import socket
import threading
import time
from collections.abc import Iterator

import pytest
import requests

from tests.support.concurrency import timed
from tests.support.gate import Gate
from tests.support.local_azure import LocalAzure
from tests.support.settings import OWN_SETTINGS
from trusted_service.azure import deadlines, transport
from trusted_service.azure.communication import Communication
from trusted_service.errors import UpstreamUnavailable
from trusted_service.settings import Settings

LIMIT_SECONDS = 2 * transport.CONNECT_SECONDS + 1
"""Twice, as a request that was never sent is retried."""


@pytest.fixture
def black_hole() -> Iterator[int]:
    """A port whose server accepts no connection: its backlog is full, so the kernel ignores new ones."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        address = server.getsockname()
        waiting = [socket.socket() for _ in range(4)]
        for client in waiting:
            client.setblocking(False)
            client.connect_ex(address)
        yield address[1]
        for client in waiting:
            client.close()


def fail_to_connect(url: str) -> Exception:
    with transport.new_session(2) as session, deadlines.call("Entra ID"):
        try:
            session.get(url)
        except requests.ConnectionError as error:
            return error
    raise AssertionError("there was a connection")


def test_unresponsive_address_times_out(black_hole: int) -> None:
    error, seconds = timed(lambda: fail_to_connect(f"http://127.0.0.1:{black_hole}/"))
    assert isinstance(error, requests.ConnectTimeout)
    assert seconds < LIMIT_SECONDS


def test_many_unresponsive_addresses_share_one_timeout(
    black_hole: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Patched, as name resolution depends on the machine.
    address = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", black_hole))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_arguments, **_options: [address] * 8)
    error, seconds = timed(lambda: fail_to_connect("http://many.example/"))
    assert isinstance(error, requests.ConnectTimeout)
    assert seconds < LIMIT_SECONDS


def test_hanging_name_lookup_times_out(monkeypatch: pytest.MonkeyPatch) -> None:
    given_up = threading.Event()

    def hang(*_arguments: object, **_options: object) -> list[object]:
        given_up.wait(30)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    error, seconds = timed(lambda: fail_to_connect("http://silent.example/"))
    given_up.set()
    assert isinstance(error, requests.ConnectTimeout)
    assert seconds < LIMIT_SECONDS


def test_call_waits_for_others_while_its_request_has_time() -> None:
    with contextlib.ExitStack() as others:
        for _ in range(deadlines.MAX_CALLS_OF_ONE):
            others.enter_context(deadlines.call("Entra ID"))
        started_at = time.monotonic()
        with pytest.raises(deadlines.NotSent), deadlines.request_budget("request", 0.1):
            others.enter_context(deadlines.call("Entra ID"))
    assert time.monotonic() - started_at < deadlines.MAX_WAIT_SECONDS / 2


def test_extra_time_shortens_no_call() -> None:
    with deadlines.extra_time(0.1), deadlines.call("Entra ID") as call:
        assert call.seconds_left() > 1


def test_broken_tls_response_has_unknown_outcome(azure: LocalAzure, settings: dict[str, str]) -> None:
    acs, own = "COMMUNICATION_SERVICES_CONNECTION_STRING", settings | OWN_SETTINGS
    (port,) = re.findall(r":(\d+)/", own[acs])
    with Gate(int(port)) as gate, azure.in_environment(), transport.new_session(2) as session:
        own[acs] = own[acs].replace(port, str(gate.port))
        communication = Communication(Settings.from_env(own), None, session)
        communication.create_identity(("chat",), 60)  # the handshake
        gate.garbles = True
        with pytest.raises(UpstreamUnavailable) as caught:
            communication.create_identity(("chat",), 60)
    assert caught.value.outcome_unknown
