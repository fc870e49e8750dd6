"""Instances stop and start behind a front end, and no request is lost."""

import itertools
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http.client import HTTPConnection
from pathlib import Path

import pytest

from tests.support.admin_client import ROLE, bearer
from tests.support.concurrency import wait_until
from tests.support.front_end import FrontEnd, fleet
from tests.support.local_azure import LocalAzure
from tests.support.person import Person
from tests.support.service import ROOT, Service
from trusted_service.server.worker import STOP_SECONDS

CLIENTS, REQUESTS = 32, 1000
OPERATE = ROOT / "docs" / "operate.md"
GET = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"

Fleet = tuple[FrontEnd, list[Service]]


@pytest.fixture(scope="module")
def instances(settings: dict[str, str]) -> Iterator[Fleet]:
    with fleet(settings) as running:
        yield running


@pytest.fixture(scope="module")
def people(azure: LocalAzure, instances: Fleet) -> list[Person]:
    """Seven users and an administrator."""
    url = instances[0].url
    accounts = [azure.new_account(roles=[ROLE] if n == 0 else []) for n in range(8)]
    return [Person(azure, url, account).signed_in() for account in accounts]


def drain(front: FrontEnd, instance: Service) -> None:
    """As App Service: the front end knows before the instance does."""
    front.take_out(instance)
    instance.stop(signal.SIGTERM)
    instance.start()
    front.put_in(instance)


def restart(_: FrontEnd, instance: Service) -> None:
    """The front end only notices that connections are refused."""
    instance.stop(signal.SIGTERM)
    instance.start()


def reload(_: FrontEnd, instance: Service) -> None:
    """The master goes on listening, with new workers."""
    booted = instance.log().count("Booting worker")
    assert instance.process is not None
    instance.process.send_signal(signal.SIGHUP)
    wait_until(lambda: instance.log().count("Booting worker") == booted + 2)
    time.sleep(STOP_SECONDS + 3)  # until the former workers are gone


def use(azure: LocalAzure, person: Person, ends: threading.Event, total: Iterator[int]) -> Counter[str]:
    """One client, which sends request after request; return the number of each outcome."""
    browser, outcomes = person.at(person.url), Counter[str]()
    csrf, token = browser.csrf_headers(), bearer(azure, person)
    path = "/admin/users" if ROLE in person.account.roles else "/account"
    calls: dict[str, Callable[[], int]] = {
        "cookie": lambda: browser.token(csrf=csrf).status_code,
        "bearer": lambda: browser.post("/api/token", headers=token).status_code,
        "page": lambda: browser.get(path).status_code,
        "health": lambda: browser.get("/healthz").status_code,
    }
    for kind in itertools.cycle(calls):
        if next(total) > REQUESTS and ends.is_set():
            return outcomes
        outcomes[f"{kind} {calls[kind]()}"] += 1
    raise AssertionError


@pytest.mark.parametrize("how", [drain, restart, reload])
def test_rolling_restart_loses_no_request(
    azure: LocalAzure, instances: Fleet, people: list[Person], how: Callable[[FrontEnd, Service], None]
) -> None:
    front, services = instances
    front.failures.clear()
    ends, total = threading.Event(), itertools.count(1)
    with ThreadPoolExecutor(CLIENTS) as pool:
        clients = [pool.submit(use, azure, people[n % len(people)], ends, total) for n in range(CLIENTS)]
        try:
            time.sleep(1)
            for instance in services:
                before = front.served[instance.port]
                how(front, instance)
                wait_until(partial(front.has_served, instance, before + 50))
        finally:
            ends.set()
        outcomes = sum((client.result() for client in clients), Counter[str]())
    assert front.failures == []
    assert set(outcomes) == {f"{kind} 200" for kind in ("cookie", "bearer", "page", "health")}
    assert sum(outcomes.values()) >= REQUESTS


def test_stop_serves_kept_connections(settings: dict[str, str]) -> None:
    """For a while, in which the client learns that they end; an unused one is closed then."""
    with Service(settings) as stopping:
        address = ("127.0.0.1", stopping.port)
        with socket.create_connection(address) as used, socket.create_connection(address) as unused:
            for client in (used, unused):
                client.sendall(GET)
                head, _, body = client.recv(65536).partition(b"\r\n\r\n")
                assert b"Connection: keep-alive" in head
                assert body or client.recv(65536)
            stopper = threading.Thread(target=stopping.stop, args=(signal.SIGTERM,))
            stopper.start()
            time.sleep(1)
            used.sendall(GET)
            response = used.makefile("rb").read()
            assert b" 200 OK" in response
            assert b"Connection: close" in response
            unused.settimeout(4 * STOP_SECONDS)
            assert unused.recv(1) == b""
            stopper.join()


def test_worker_replaced_after_requests_drops_none(settings: dict[str, str]) -> None:
    """Clients use a connection until a response announces its end."""

    def call(times: int) -> set[int]:
        client, statuses = HTTPConnection("127.0.0.1", recycled.port, timeout=30), set[int]()
        for _ in range(times):
            client.request("GET", "/healthz")
            response = client.getresponse()
            response.read()
            statuses.add(response.status)
        client.close()
        return statuses

    few = {"GUNICORN_CMD_ARGS": "--max-requests 100"}
    with Service(settings | few) as recycled, ThreadPoolExecutor(8) as pool:
        assert set().union(*pool.map(call, [50] * 8)) == {200}
        assert recycled.log().count("Booting worker") >= 3


def test_startup_command_gets_the_signal(settings: dict[str, str]) -> None:
    """App Service signals the shell that runs its script. This is the end of the script that Oryx writes.

    https://github.com/microsoft/Oryx/blob/main/src/startupscriptgenerator/src/python/scriptgenerator.go
    """
    starting = Service(settings)
    (startup,) = set(re.findall(r"`(exec gunicorn .*?)`", OPERATE.read_text(encoding="utf-8")))
    script = starting.log_path.with_name("startup.sh")
    script.write_text(f'#!/bin/sh\ncd {ROOT}\n\nPATH="$PATH:{ROOT}" {startup}\n', encoding="utf-8")
    bin_folder = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    env = starting.env | {"PORT": str(starting.port), "PATH": bin_folder}
    with starting.log_path.open("ab") as log:
        command = ["/bin/sh", str(script)]
        starting.process = subprocess.Popen(command, env=env, stdout=log, stderr=log, start_new_session=True)
    try:
        wait_until(starting.is_healthy)
        starting.stop(signal.SIGTERM)
        assert starting.process.returncode == 0
        assert "Worker exiting" in starting.log()
        assert not starting.is_healthy()
    finally:
        starting.kill()
