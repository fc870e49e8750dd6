"""Connecting to an upstream ends in time, whatever holds it up: looked at where it can be seen apart."""

import socket
import threading
from collections.abc import Iterator

import pytest
import requests

from tests.support.concurrency import timed
from trusted_service.azure import deadlines, transport

LIMIT_SECONDS = 2 * transport.CONNECT_SECONDS + 1
"""Twice, since what was never sent is tried again."""


@pytest.fixture
def black_hole() -> Iterator[int]:
    """A port whose server accepts nobody: its queue is full, so the kernel answers no further caller."""
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


def test_address_that_swallows_everything_is_given_up_in_time(black_hole: int) -> None:
    error, seconds = timed(lambda: fail_to_connect(f"http://127.0.0.1:{black_hole}/"))
    assert isinstance(error, requests.ConnectTimeout)
    assert seconds < LIMIT_SECONDS


def test_many_such_addresses_take_no_longer_than_one(
    black_hole: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Patched, since what a name leads to is the machine's business.
    address = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", black_hole))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_arguments, **_options: [address] * 8)
    error, seconds = timed(lambda: fail_to_connect("http://many.example/"))
    assert isinstance(error, requests.ConnectTimeout)
    assert seconds < LIMIT_SECONDS


def test_name_lookup_that_hangs_is_given_up_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    given_up = threading.Event()

    def hang(*_arguments: object, **_options: object) -> list[object]:
        given_up.wait(30)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    error, seconds = timed(lambda: fail_to_connect("http://silent.example/"))
    given_up.set()
    assert isinstance(error, requests.ConnectTimeout)
    assert seconds < LIMIT_SECONDS
