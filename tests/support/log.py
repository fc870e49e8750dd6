"""What a service has logged about a request, and what it must never log."""

import json
from typing import Any

import requests

from tests.support.log_scan import JWT
from tests.support.service import Service, request_lines

Event = dict[str, Any]


def read_events(service: Service, answer: requests.Response) -> list[Event]:
    """Return the log lines of the request that got this answer, oldest first; the last is about itself."""
    lines = request_lines(service.log(), answer.headers["X-Request-ID"])
    return [json.loads(line) for line in lines]


def read_event(service: Service, answer: requests.Response, name: str) -> Event:
    """Return the one log line of this name that the request left."""
    (event,) = [event for event in read_events(service, answer) if event["event"] == name]
    return event


def assert_not_logged(service: Service, *secrets: str) -> None:
    """Check that none of these secrets stands anywhere in the log, nor anything that looks like a JWT.

    Nothing but secrets, which stand nowhere else: other tests write to the same log.
    """
    log = service.log()
    for secret in (*secrets, service.env["SECRET_KEY"]):
        assert secret
        assert secret not in log, "a secret stands in the log"
    assert JWT.search(log) is None
