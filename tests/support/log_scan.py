"""A pytest plugin that scans all services' logs for secrets of the tests, after the last test."""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import requests

JWT = re.compile(r"eyJ[A-Za-z0-9_-]{10,}\.eyJ")
SHORTEST = 16
"""Shorter values could be in a log by chance."""
IN_REDIRECTS = ("code", "state", "nonce", "code_challenge", "sid")
IN_DOCUMENTS = ("token", "csrfToken")
SETTINGS = (
    *("SECRET_KEY", "SECRET_KEY_FALLBACKS", "ENTRA_CLIENT_SECRET"),
    *("COMMUNICATION_SERVICES_CONNECTION_STRING", "TABLE_STORAGE_CONNECTION_STRING"),
)

Secrets = dict[str, str]

LEAKED = 8
"""The exit code of a run with a secret in a log; pytest does not use it."""
LEAKS = "leaks"
FOUND = pytest.StashKey[list[str]]()

_logs: list[Path] = []
_secrets: Secrets = {}


def watch(log: Path) -> None:
    """Scan this file at the end of the run."""
    _logs.append(log)


def remember(kind: str, value: str) -> None:
    """Remember a value that must not be in any log, and its kind."""
    if len(value) >= SHORTEST:
        _secrets[value] = kind


def remember_settings(env: Mapping[str, str]) -> None:
    """Remember the secrets in the settings, including those in connection strings."""
    if key_file := env.get("SECRET_KEY_FILE"):
        remember("SECRET_KEY", Path(key_file).read_text(encoding="ascii"))
    remember("IDENTITY_HEADER", env.get("IDENTITY_HEADER", ""))
    for name in SETTINGS:
        for part in (env.get(name, ""), *re.split(r"[;,]", env.get(name, ""))):
            _, _, key = part.partition("Key=") if "Key=" in part else part.partition("accesskey=")
            remember(name, key if key else part if "KEY" in name or "SECRET" in name else "")


def remember_response(response: requests.Response, *_args: object, **_options: object) -> None:
    """Remember the cookies, codes and tokens of a response: a hook for `requests`."""
    for cookie in response.raw.headers.getlist("Set-Cookie"):
        name, _, value = cookie.partition(";")[0].partition("=")
        remember(f"cookie {name}", value)
        if name.endswith("session"):
            remember("session id", value.partition(".")[0])
    query = parse_qs(urlsplit(response.headers.get("Location", "")).query)
    for name in IN_REDIRECTS:
        remember(name, query.get(name, [""])[0])
    if response.headers.get("Content-Type") == "application/json" and response.content:
        document = response.json()
        for name in IN_DOCUMENTS if isinstance(document, dict) else ():
            remember(name, str(document.get(name) or ""))


def find_leaks(logs: Sequence[Path] = _logs) -> list[str]:
    """Return where secrets are in these logs, by default those of this run, without the secrets."""
    return [leak for log in logs if log.exists() for leak in scan(log, _secrets)]


def scan(log: Path, secrets: Secrets) -> Iterator[str]:
    """Yield the lines of this log that hold one of these secrets, or something like a JWT."""
    by_beginning = defaultdict(list)
    for secret in secrets:
        by_beginning[secret[:SHORTEST]].append(secret)
    for number, line in enumerate(log.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
        if JWT.search(line):
            yield f"{log}:{number}: something like a JWT"
        # One pass for all secrets: a run has thousands.
        for at in range(len(line) - SHORTEST + 1):
            for secret in by_beginning.get(line[at : at + SHORTEST], ()):
                if line.startswith(secret, at):
                    yield f"{log}:{number}: {secrets[secret]}"


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Scan the logs when all services have stopped; a secret fails the run."""
    found = find_leaks()
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput[LEAKS] = found  # a worker of pytest-xdist: the controller reports
    session.config.stash.setdefault(FOUND, []).extend(found)
    if session.config.stash[FOUND]:
        session.exitstatus = LEAKED


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Collect the findings of a worker."""
    node.config.stash.setdefault(FOUND, []).extend(getattr(node, "workeroutput", {}).get(LEAKS, []))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    found = config.stash.get(FOUND, [])
    if found:
        terminalreporter.section("secrets in the logs", red=True)
        terminalreporter.write_line("\n".join(found))
