"""MDN HTTP Observatory grades the home page, through something that ends TLS in front of the service.

Its own command-line scan runs unchanged, against localhost and a port. What it would fetch from elsewhere
when it is installed is the list of sites for which browsers know HSTS beforehand: here nobody stands in it,
which earns us nothing. There is no plain http here: on App Service, "HTTPS Only" redirects before a request
reaches us.
https://github.com/mdn/mdn-http-observatory
"""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.support.service import Service
from tests.support.tls_front import TlsFront
from tools.node import NODE

PACKAGE = Path(__file__).parent / "observatory" / "node_modules" / "@mdn" / "mdn-http-observatory"
SCAN_SECONDS = 60


@pytest.fixture(scope="module")
def front(settings: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[TlsFront]:
    """The service as browsers reach it over https."""
    with TlsFront(tmp_path_factory.mktemp("front")) as running:
        service = Service(settings | {"PUBLIC_URL": running.url, "TRUSTED_PROXY_HOPS": "1"})
        running.target = service.port
        with service:
            yield running


def scan(front: TlsFront) -> dict[str, Any]:
    (PACKAGE / "conf" / "hsts-preload.json").write_text("{}")
    ended = subprocess.run(
        [NODE, "src/scan.js", front.url.removeprefix("https://")],
        cwd=PACKAGE,
        env=os.environ | {"NODE_EXTRA_CA_CERTS": str(front.ca_path)},
        capture_output=True,
        text=True,
        timeout=SCAN_SECONDS,
        check=False,
    )
    document: dict[str, Any] = json.loads(ended.stdout)
    assert ended.returncode == 0, document
    return document


def test_home_is_graded_a_plus(front: TlsFront) -> None:
    document = scan(front)
    verdict = {name: (test["pass"], test["result"]) for name, test in document["tests"].items()}
    assert document["scan"]["grade"] == "A+", verdict
    assert document["scan"]["testsFailed"] == 0, verdict
    assert document["scan"]["statusCode"] == 200


def test_browsers_are_asked_to_stay_with_https_behind_the_front(front: TlsFront) -> None:
    answer = requests.get(
        f"{front.url}/auth/sign-in", verify=str(front.ca_path), allow_redirects=False, timeout=30
    )
    assert answer.headers["Strict-Transport-Security"] == "max-age=63072000; includeSubDomains"
    assert answer.headers["Set-Cookie"].startswith("__Host-sign-in-")
    assert "; Secure" in answer.headers["Set-Cookie"]
