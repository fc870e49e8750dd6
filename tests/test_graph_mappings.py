"""What the authentication hero stored in Microsoft Graph, as a CSV that `users import` takes."""

import csv
import os
import subprocess
import sys
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from tests.support.http_server import QuietHandler, serving

TENANT = "5c2f0b1a-7d34-4e86-9a1b-0c0ffee0c001"
EXTENSION = "com.contoso.identityMapping"
IDENTITY = "8:acs:aaaaaaaa-0000-4000-8000-000000000000_0000"
PEOPLE = [f"00000000-0000-4000-8000-00000000000{number}" for number in range(4)]
WITHOUT_ONE = PEOPLE[1]


@pytest.fixture
def graph_url() -> Iterator[str]:
    """A server that says about users what Microsoft Graph does, and once that it is asked too often."""
    refusals = [429]

    class Handler(QuietHandler):
        def do_GET(self) -> None:  # noqa: N802 - as http.server calls it
            parts = urlsplit(self.path)
            own = f"http://{self.headers['Host']}"
            if self.headers["Authorization"] != "Bearer of-an-administrator":
                self.answer(401, {})
            elif parts.path == "/users":
                later = "later" in parts.query
                people = PEOPLE[2:] if later else PEOPLE[:2]
                name = None if later else "Zoë, K."
                users = [
                    {"id": key, "displayName": name, "userPrincipalName": f"{key[-1]}@x"} for key in people
                ]
                following = {} if later else {"@odata.nextLink": f"{own}/users?later"}
                self.answer(200, {"value": users} | following)
            elif refusals:
                self.answer(refusals.pop(), {}, ("Retry-After", "1"))
            elif parts.path.endswith(f"/extensions/{EXTENSION}") and WITHOUT_ONE not in parts.path:
                key = parts.path.split("/")[2]
                self.answer(200, {"id": EXTENSION, "acsUserIdentity": f"{IDENTITY}{key[-1]}"})
            else:
                self.answer(404, {"error": {"code": "ResourceNotFound"}})

    with serving(Handler) as url:
        yield url


def write_mappings(graph_url: str, token: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tools.graph_mappings", TENANT, EXTENSION]
    env = os.environ | {"GRAPH_URL": graph_url, "GRAPH_TOKEN": token}
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)


def test_mappings_of_all_pages_are_written(graph_url: str) -> None:
    ended = write_mappings(graph_url, "of-an-administrator")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert list(csv.DictReader(ended.stdout.splitlines())) == [
        {
            "tenantId": TENANT,
            "objectId": key,
            "communicationUserId": f"{IDENTITY}{key[-1]}",
            "name": "Zoë, K." if key == PEOPLE[0] else "",
            "username": f"{key[-1]}@x",
        }
        for key in PEOPLE
        if key != WITHOUT_ONE
    ]


def test_refused_token_is_an_error_and_not_an_empty_list(graph_url: str) -> None:
    ended = write_mappings(graph_url, "of-somebody")
    assert ended.returncode != 0
    assert "401" in ended.stderr
    assert "of-somebody" not in ended.stderr
