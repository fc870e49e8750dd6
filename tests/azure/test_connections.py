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


def test_extra_time_only_extends_a_request() -> None:
    for budget, expected in (
        (contextlib.nullcontext(), deadlines.CALL_SECONDS),
        (deadlines.request_budget("request", 0.0), 2.0),
    ):
        with budget, deadlines.extra_time(2.0), deadlines.call("Entra ID") as call:
            assert call.seconds_left() == pytest.approx(expected, abs=0.5)


@pytest.mark.parametrize("connected", [True, False])
def test_tls_error_counts_as_sent_after_handshake(
    azure: LocalAzure, settings: dict[str, str], connected: bool
) -> None:
    name = "COMMUNICATION_SERVICES_CONNECTION_STRING"
    (port,) = re.findall(r":(\d+)/", settings[name])
    with Gate(int(port)) as gate, azure.in_environment(), transport.new_session(2) as session:
        moved = settings | OWN_SETTINGS | {name: settings[name].replace(port, str(gate.port))}
        communication = Communication(Settings.from_env(moved), None, session)
        if connected:
            communication.create_identity(("chat",), 60)
        before = azure.list_identities()
        gate.garbles = True
        with pytest.raises(UpstreamUnavailable) as caught:
            communication.create_identity(("chat",), 60)
    assert caught.value.outcome_unknown == (azure.list_identities() != before) == connected
