"""The worker: what it cuts off, and that clients that mean well notice nothing."""

import contextlib
import hashlib
import inspect
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
import requests
from gunicorn.http import parser, unreader
from gunicorn.workers import gthread

from tests.support.concurrency import run_concurrently, timed, wait_until
from tests.support.cookies import SESSION
from tests.support.hostile_sockets import LARGE_FILE
from tests.support.local_azure import LocalAzure
from tests.support.person import Person
from tests.support.service import ROOT, STOP_SECONDS, Service
from trusted_service.server.connection import MAX_UNSENT, PLACES, ClientSocket
from trusted_service.server.framing import Framing

HEALTH = b"GET /healthz HTTP/1.1\r\nHost: x\r\n"
POST = b"POST /healthz HTTP/1.1\r\nHost: x\r\n"
CLOSE = b"Connection: close\r\n\r\n"


@contextlib.contextmanager
def connected(service: Service) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", service.port), timeout=30) as client:
        yield client


def ask(service: Service, *parts: bytes, pause: float = 0.1, half_closes: bool = False) -> bytes:
    """Send the parts with pauses between them; return everything until the connection is closed."""
    with connected(service) as client:
        for number, part in enumerate(parts):
            time.sleep(pause if number else 0)
            client.sendall(part)
        if half_closes:
            client.shutdown(socket.SHUT_WR)
        return client.makefile("rb").read()


@pytest.mark.parametrize(
    ("parts", "statuses"),
    [
        ([HEALTH + CLOSE], [200]),
        ([HEALTH[:9], HEALTH[9:] + b"\r", b"\n" + HEALTH + CLOSE], [200, 200]),
        ([(HEALTH + b"\r\n") * 50 + HEALTH + CLOSE], [200] * 51),
        ([b"\r\n" + HEALTH + CLOSE], [200]),
        ([b"GET /healthz HTTP/1.0\r\n\r\n"], [200]),
        ([HEALTH.replace(b"\r", b"") + b"\n"], [400]),
        ([HEALTH + b"Content-Length: 5\r\n\r\n12", b"345" + HEALTH + CLOSE], [200, 200]),
        ([POST + b"Content-Length: 70000\r\n" + CLOSE, b"x" * 70000], [405]),
        ([POST + b"Transfer-Encoding: chunked\r\n" + CLOSE, b"2\r\n{}\r\n", b"0\r\n\r\n"], [405]),
        ([POST + b"Expect: 100-continue\r\nContent-Length: 2\r\n" + CLOSE, b"{}"], [100, 405]),
        ([HEALTH + b"X: y\r\n" * 24000], [431]),
        ([HEALTH + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n"], [400]),
    ],
)
def test_honest_clients_are_served(service: Service, parts: list[bytes], statuses: list[int]) -> None:
    response = ask(service, *parts)
    lines = [line for line in response.split(b"\r\n") if b"HTTP/1.1 " in line or b"HTTP/1.0 " in line]
    assert [int(line.rpartition(b"HTTP/1.")[2][2:5]) for line in lines] == statuses
    assert b"Retry-After" not in response, "the same again has the same response"


def test_many_slow_uploads_are_all_served(service: Service) -> None:
    head = POST + b"Transfer-Encoding: chunked\r\n" + CLOSE
    upload = partial(ask, service, head, b"2\r\n{}\r\n", b"0\r\n\r\n", pause=0.5)
    assert all(b" 405 " in response for response in run_concurrently([upload] * 5 * PLACES))


def test_connection_is_closed_as_announced(service: Service) -> None:
    """gunicorn discards less than 64 KB of a body that the application does not read."""
    for length, announced in ((60_000, b"keep-alive"), (70_000, b"close")):
        response = ask(
            service, POST + f"Content-Length: {length}\r\n\r\n".encode() + b"x" * length, half_closes=True
        )
        assert b"Connection: " + announced + b"\r\n" in response


def test_half_closed_connection_gets_its_response(service: Service) -> None:
    assert b" 200 OK" in ask(service, HEALTH + b"\r\n", half_closes=True)
    assert ask(service, HEALTH, half_closes=True) == b""


@pytest.mark.parametrize("head", [POST, POST + b"Expect: 100-continue\r\n"])
def test_half_a_body_is_not_acted_on(service: Service, person: Person, head: bytes) -> None:
    cookie = f"Cookie: {SESSION}={person.signed_in().http.cookies[SESSION]}\r\n".encode()
    csrf = f"X-CSRFToken: {person.csrf_headers()['X-CSRFToken']}\r\n".encode()
    head = head.replace(b"/healthz", b"/api/token") + b"Content-Type: application/json\r\n" + cookie + csrf
    whole = ask(service, head + b"Content-Length: 2\r\n" + CLOSE, b"{}")
    assert b" 200 OK" in whole
    half = ask(service, head + b"Content-Length: 200\r\n" + CLOSE, b"{}", half_closes=True)
    assert b" 200 OK" not in half


def test_no_new_client_is_reset_by_a_stop(settings: dict[str, str]) -> None:
    """It is served or refused; before, the kernel reset those that had connected and were not accepted."""
    outcomes = list[str]()

    def call_until_refused(url: str) -> None:
        while "refused" not in outcomes[-1:]:
            try:
                outcomes.append(str(requests.get(url, timeout=30).status_code))
            except requests.ConnectionError as error:
                outcomes.append("refused" if "refused" in str(error) else f"broken: {error}")

    with Service(settings) as service, ThreadPoolExecutor(20) as pool:
        for _ in range(20):
            pool.submit(call_until_refused, f"{service.url}/healthz")
        wait_until(lambda: len(outcomes) > 100)
        service.stop()
    assert set(outcomes) == {"200", "refused"}


@pytest.mark.parametrize("head", [HEALTH + b"a\n" * 30_000, HEALTH + b"Content-Length:" + b"\t" * 60_000])
def test_each_byte_of_a_head_is_looked_at_once(head: bytes) -> None:
    def drip(start: bytes) -> float:
        received, framing = bytearray(start), Framing()
        began = time.process_time()
        for _ in range(2000):
            received += b"x"
            framing.judge(received)
        return time.process_time() - began

    assert drip(head) < 0.05 + 20 * drip(HEALTH)  # by far more, if each byte began a new search


def test_waiting_clients_are_cut_off_idle_are_not(service: Service) -> None:
    kinds = [b"", HEALTH, POST + b"Content-Length: 99\r\n\r\n{", HEALTH + b"\r\n" + HEALTH]

    def drip(start: bytes) -> float:
        with connected(service) as client:
            began = time.monotonic()
            client.sendall(start)
            client.settimeout(1)
            while time.monotonic() - began < 30:
                try:
                    client.sendall(b" " if start else b"")
                    if not client.recv(65536):
                        break
                except TimeoutError:
                    pass
                except ConnectionError:
                    break
            return time.monotonic() - began

    with requests.Session() as idle:
        kept = idle.get(f"{service.url}/healthz", stream=True, timeout=30)
        local = kept.raw.connection.sock.getsockname()  # type: ignore[union-attr]
        assert kept.json() is not None
        for seconds in run_concurrently([partial(drip, kind) for kind in kinds]):
            assert 9 < seconds < 16
        again = idle.get(f"{service.url}/healthz", stream=True, timeout=30)
        assert again.raw.connection.sock.getsockname() == local  # type: ignore[union-attr]
        again.close()


def test_requests_are_not_dropped_for_room(settings: dict[str, str]) -> None:
    few = {"GUNICORN_CMD_ARGS": "--worker-connections 40 --threads 2"}
    with Service(settings | few) as small, contextlib.ExitStack() as open_clients:
        clients = []
        for _ in range(300):
            clients.append(open_clients.enter_context(connected(small)))
            clients[-1].sendall(HEALTH + CLOSE)
        assert all(client.recv(65536).startswith(b"HTTP/1.1 ") for client in clients)


def test_slow_reader_gets_whole_response(service: Service) -> None:
    """Others that never read need all the room for unread responses."""
    get = f"GET {LARGE_FILE} HTTP/1.0\r\n\r\n".encode()

    def open_reader(into: contextlib.ExitStack) -> socket.socket:
        client = into.enter_context(socket.socket())
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * 1024)
        client.settimeout(30)
        client.connect(("127.0.0.1", service.port))
        client.sendall(get)
        return client

    whole = ask(service, get)
    with contextlib.ExitStack() as stack:
        reader = open_reader(stack)
        received = b""
        for second in range(14):
            received += reader.recv(65536 if second == 2 else 3000)
            time.sleep(1)
            if second == 4:
                for _ in range(700):
                    open_reader(stack)
        while data := reader.recv(65536):
            received += data
    assert len(received) == len(whole)


def test_oldest_make_room_for_new_connections(settings: dict[str, str]) -> None:
    few = {"GUNICORN_CMD_ARGS": "--worker-connections 40"}
    with Service(settings | few) as small, connected(small) as oldest:
        others = [socket.create_connection(("127.0.0.1", small.port)) for _ in range(200)]
        _, seconds = timed(lambda: ask(small, HEALTH + CLOSE))
        assert seconds < 5
        oldest.settimeout(5)
        assert oldest.recv(1) == b""
        for other in others:
            other.close()


def test_stop_lets_requests_end(settings: dict[str, str]) -> None:
    with Service(settings) as stopping, connected(stopping) as client:
        client.sendall(HEALTH)
        wait_until(stopping.is_healthy)
        stopper = threading.Thread(target=stopping.stop, args=(signal.SIGTERM,))
        stopper.start()
        time.sleep(3)
        client.sendall(b"\r\n")
        response = client.makefile("rb").read()
        assert b" 200 OK" in response
        assert b"Connection: close" in response
        stopper.join()


def test_stop_of_workers_that_boot_is_clean(settings: dict[str, str]) -> None:
    starting = Service(settings)
    with starting.log_path.open("ab") as log:
        command = [sys.executable, "-m", "gunicorn", "wsgi:app", "--workers", "2"]
        command += ["--bind", f"127.0.0.1:{starting.port}"]
        process = subprocess.Popen(command, cwd=ROOT, env=starting.env, stdout=log, stderr=log)
    wait_until(lambda: starting.log().count("Booting worker") == 2)
    process.send_signal(signal.SIGTERM)
    assert process.wait(STOP_SECONDS) == 0
    assert "Traceback" not in starting.log()


def test_quick_stop_waits_for_no_upstream(settings: dict[str, str], azure: LocalAzure) -> None:
    with Service(settings) as stopping:
        person = Person(azure, stopping.url, azure.new_account()).signed_in()
        csrf = person.csrf_headers()
        azure.plant_fault("acs", "create", "hang", times=None)

        def request_token() -> None:
            with pytest.raises(requests.ConnectionError):
                person.token(csrf=csrf)

        waiting = threading.Thread(target=request_token)
        waiting.start()
        time.sleep(1)
        _, seconds = timed(lambda: stopping.stop(signal.SIGINT))
        waiting.join()
        assert seconds < 8  # of which background tasks may take four


def test_one_client_delays_nobody_in_queue(settings: dict[str, str], azure: LocalAzure) -> None:
    one = {"GUNICORN_CMD_ARGS": "--threads 1"}
    with Service(settings | one) as single, connected(single) as queued, connected(single) as resets:
        person = Person(azure, single.url, azure.new_account()).signed_in()
        csrf = person.csrf_headers()
        azure.plant_fault("acs", "create", "hang", times=None)
        holder = threading.Thread(target=person.token, kwargs={"csrf": csrf})
        holder.start()
        time.sleep(0.5)
        resets.sendall(HEALTH + b"\r\n")
        queued.sendall(HEALTH + b"\r\n")
        time.sleep(0.5)
        resets.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        resets.close()
        response, seconds = timed(queued.makefile("rb").read)
        holder.join()
        for part in (
            b" 503 ",
            b"Retry-After: 5\r\n",
            b"Cache-Control: no-store\r\n",
            b'"code": "upstream_unavailable"',
        ):
            assert part in response
        assert seconds < 5
        assert "Exception in worker" not in single.log()


def test_threads_wait_for_readers_within_bounds() -> None:
    def stream() -> bool:
        served, client = socket.socketpair()
        with ClientSocket(served) as own, client:

            def read() -> None:
                time.sleep(1)
                while client.recv(65536):
                    pass

            reader = threading.Thread(target=read)
            reader.start()
            try:
                own.sendall(bytes(2 * MAX_UNSENT))
                return True
            except ConnectionResetError:
                return False
            finally:
                own.release_place()
                own.abort()
                reader.join()

    assert sum(run_concurrently([stream] * (PLACES + 4))) == PLACES


def test_gunicorn_is_the_one_we_extend() -> None:
    # When this fails: read what changed around the methods that trusted_service/server overrides or calls.
    sources = "".join(map(inspect.getsource, (gthread, unreader, parser)))
    assert hashlib.sha256(sources.encode()).hexdigest()[:16] == "097ed3b64816e0a7"  # pragma: allowlist secret
