"""The service as an Azure Function."""

import sys
from collections.abc import Iterator

import pytest

from tests.support.service import Service


class FunctionApp(Service):
    """function_app.py behind the stand-in for the host of Azure Functions."""

    def command(self) -> list[str]:
        return [sys.executable, "-m", "tests.support.functions_host", str(self.port)]


@pytest.fixture(scope="module")
def function_app(settings: dict[str, str]) -> Iterator[Service]:
    with FunctionApp(settings | {"TRUSTED_PROXY_HOPS": "1"}) as running:
        yield running
