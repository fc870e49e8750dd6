"""What a service has logged about a request, and what it must never log."""

import json
from typing import Any

import requests

from tests.support.log_scan import JWT
from tests.support.service import Service, request_lines

Event = dict[str, Any]


def read_events(service: Service, response: requests.Response) -> list[Event]:
    """Return the log lines of the request that got this answer, oldest first; the last is about itself."""
    return [json.loads(line) for line in request_lines(service.log(), response.headers["X-Request-ID"])]


def read_event(service: Service, response: requests.Response, name: str) -> Event:
    """Return the one log line of this name that the request left."""
    (event,) = [event for event in read_events(service, response) if event["event"] == name]
    return event


def assert_not_logged(service: Service, *secrets: str) -> None:
    """Check that none of these secrets, which other tests do not have, and no JWT stands in the log."""
    log = service.log()
    for secret in (*secrets, service.env["SECRET_KEY"]):
        assert secret
        assert secret not in log, "a secret stands in the log"
    assert JWT.search(log) is None
