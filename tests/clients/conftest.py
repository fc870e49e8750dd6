"""What gets into a client's way: a limit, a connection that breaks, a redirect, a long answer."""

from collections.abc import Iterator

import pytest

from tests.support.desk import bearer
from tests.support.gate import Gate
from tests.support.http_server import QuietHandler, serving
from tests.support.local_azure import LocalAzure
from tests.support.person import Person
from tests.support.service import Service


@pytest.fixture
def access_token(azure: LocalAzure, person: Person) -> str:
    """An Entra ID access token of `person` for the service."""
    return bearer(azure, person)["Authorization"].removeprefix("Bearer ")


@pytest.fixture(scope="session")
def strict_service(settings: dict[str, str]) -> Iterator[Service]:
    """A service that gives a user one token in two seconds."""
    with Service(settings | {"RATE_LIMIT_TOKEN": "1 per 2 second"}) as running:
        yield running


@pytest.fixture
def gate(service: Service) -> Iterator[Gate]:
    """The way to the service, for breaking connections on."""
    with Gate(service.port) as running:
        yield running


@pytest.fixture
def redirecting_url(service: Service) -> Iterator[str]:
    """A server that sends everybody on to the service, as a gateway in front that wants a sign-in would."""

    class Handler(QuietHandler):
        def do_POST(self) -> None:  # noqa: N802 - as http.server calls it
            self.answer(302, {}, ("Location", service.url + self.path))

    with serving(Handler) as url:
        yield url
