"""Whatever gunicorn is told to log about requests, it logs no code, state, cookie, token or header."""

import json
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from gunicorn.glogging import Logger

from tests.support.admin_client import bearer
from tests.support.own_azure import World
from tests.support.service import ROOT
from tests.support.settings import REQUIRED

HEADERS = ["cookie", "authorization", "referer", "user-agent", "x-planted", "set-cookie", "location"]
VARIABLES = ["http_cookie", "http_authorization", "raw_uri", "query_string", "http_referer"]
ATOMS = [*"rqfUuahltmHsbBTDMLp", *(f"{{{name}}}{kind}" for name in HEADERS for kind in "io")]
FORMAT = " ".join(f"%({atom})s" for atom in (*ATOMS, *(f"{{{name}}}e" for name in VARIABLES)))
ON = "--access-logfile -"
WAYS = {
    "as App Service does": f"--timeout 600 {ON} --error-logfile - --chdir {ROOT}",
    "with every field": f"{ON} --access-logformat '{FORMAT}'",
    "to a file, all else too": "--access-logfile {folder}/access --capture-output --log-level debug "
    "--error-logfile {folder}/error",
    "to syslog": "--log-syslog --log-syslog-to udp://127.0.0.1:{port}",
    "to statsd": ON + " --statsd-host 127.0.0.1:{port}",
    "by another logger": f"{ON} --logger-class tests.server.test_access_log.Talkative",
    "by a configuration": ON + " --log-config {folder}/logging.ini",
    "by a JSON configuration": ON + " --log-config-json {folder}/logging.json",
    "by another worker": f"{ON} --worker-class sync --threads 1 --access-logformat '{FORMAT}'",
}


class Talkative(Logger):  # type: ignore[misc] # gunicorn has no annotations
    """Writes everything it is given."""

    def access(self, resp: Any, req: Any, environ: dict[str, Any], request_time: Any) -> None:
        print(vars(resp), vars(req), environ, request_time, file=sys.stderr)  # noqa: T201


@pytest.fixture
def receiver() -> Iterator[socket.socket]:
    with socket.socket(type=socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.setblocking(False)
        yield server


def write_configurations(folder: Path) -> None:
    """All loggers, down to those of libraries, to one file."""
    names = ["gunicorn.access", "gunicorn.error", "msal", "msal.application", "urllib3.connectionpool"]
    loggers: dict[str, dict[str, object]] = {
        name: {"level": "DEBUG", "handlers": ["file"], "propagate": True} for name in names
    }
    handlers = {"file": {"class": "logging.FileHandler", "filename": f"{folder}/all"}}
    root = {"level": "DEBUG", "handlers": ["file"]}
    document = {"loggers": loggers, "handlers": handlers, "root": root}
    (folder / "logging.json").write_text(json.dumps(document))
    sections = "".join(f"[logger_{name}]\nlevel=DEBUG\nhandlers=file\nqualname={name}\n" for name in names)
    (folder / "logging.ini").write_text(
        f"[loggers]\nkeys=root,{','.join(names)}\n[handlers]\nkeys=file\n[formatters]\nkeys=\n"
        f"[logger_root]\nlevel=DEBUG\nhandlers=file\n{sections}"
        f"[handler_file]\nclass=FileHandler\nargs=('{folder}/all',)\n"
    )


@pytest.mark.parametrize("way", WAYS)
def test_access_log_holds_no_secret(world: World, tmp_path: Path, receiver: socket.socket, way: str) -> None:
    write_configurations(tmp_path)
    arguments = WAYS[way].replace("{folder}", str(tmp_path)).replace("{port}", str(receiver.getsockname()[1]))
    person = world.new_person()
    token = bearer(world.azure, person)
    planted = {"X-Planted": "planted-0123456789", "Referer": "https://a.example/?planted-0123456789"}
    with world.new_instance({"GUNICORN_CMD_ARGS": arguments, "TOKEN_LIFETIME_MINUTE": "60"}) as service:
        person = person.at(service.url)
        callback = person.start_sign_in().replace(world.service.url, service.url)
        assert person.finish_sign_in(callback).status_code == 302
        assert person.get("/api/me?planted-0123456789", headers=token | planted).status_code == 200
        assert person.get("/planted-0123456789", headers=planted).status_code == 404
        cookies = [str(cookie.value) for cookie in person.http.cookies]
    texts = [service.log(), *(path.read_text() for path in tmp_path.iterdir() if "." not in path.name)]
    while True:
        try:
            texts.append(receiver.recv(65_536).decode())
        except BlockingIOError:
            break
    everything = "\n".join(texts)
    query = parse_qs(urlsplit(callback).query)
    assert cookies
    tokens = [*query["code"], *query["state"], *cookies, token["Authorization"][7:]]
    for secret in (*tokens, "planted-0123456789"):
        assert secret not in everything
    assert "code=" not in everything
    assert everything.count("TOKEN_LIFETIME_MINUTE is no setting") == 1
    assert "/auth/callback" in everything.replace('"route": "/auth/callback"', "")  # it is switched on


def test_spew_is_refused() -> None:
    done = run("--spew")
    assert done.returncode != 0
    assert "--spew would print" in done.stderr
    assert REQUIRED["SECRET_KEY"] not in done.stdout + done.stderr


def test_printed_configuration_holds_no_secret() -> None:
    done = run("--print-config", WEB_CONCURRENCY="4")
    assert done.returncode == 0, done.stderr
    assert re.search(r"^workers += 4$", done.stdout, re.MULTILINE)
    for name in ("SECRET_KEY", "ENTRA_CLIENT_SECRET"):
        assert REQUIRED[name] not in done.stdout + done.stderr


def run(*arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "gunicorn", "wsgi:app", *arguments]
    env = {"PATH": "/usr/bin:/bin"} | REQUIRED | variables
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=60, check=False)
