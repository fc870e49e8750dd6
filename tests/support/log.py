"""The log lines of a request, and a check for secrets in the log."""

import json
from pathlib import Path
from typing import Any

import requests

from tests.support.log_scan import JWT
from tests.support.service import Service, request_lines

Event = dict[str, Any]


def read_events(service: Service, response: requests.Response) -> list[Event]:
    """Return the log lines of the request with this response, oldest first; the last is its summary."""
    return [json.loads(line) for line in request_lines(service.log(), response.headers["X-Request-ID"])]


def read_event(service: Service, response: requests.Response, name: str) -> Event:
    """Return the request's only log line of this name."""
    (event,) = [event for event in read_events(service, response) if event["event"] == name]
    return event


def assert_not_logged(service: Service, *secrets: str) -> None:
    """Check that the log contains no JWT and none of these secrets, which no other test uses."""
    log = service.log()
    key = service.env["SECRET_KEY"] or Path(service.env["SECRET_KEY_FILE"]).read_text(encoding="ascii")
    for secret in (*secrets, key):
        assert secret
        assert secret not in log, "the log contains a secret"
    assert JWT.search(log) is None
