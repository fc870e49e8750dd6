"""Mappings that the authentication hero stored in Microsoft Graph, exported as CSV for `users import`."""

import csv
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.support.http_server import QuietHandler, serving

TENANT = "5c2f0b1a-7d34-4e86-9a1b-0c0ffee0c001"
EXTENSION = "com.contoso.identityMapping"
IDENTITY = "8:acs:aaaaaaaa-0000-4000-8000-000000000000_0000"
PEOPLE = [f"00000000-0000-4000-8000-00000000000{number}" for number in range(4)]
MAPPED = (0, 2, 3)
USERS = [{"id": key, "displayName": None, "userPrincipalName": f"{key[-1]}@x"} for key in PEOPLE]
USERS[0]["displayName"] = "Zoë, K."


@pytest.fixture
def graph_url() -> Iterator[str]:
    """A stand-in for Microsoft Graph that throttles one request."""
    refusals = [429]
    documents: dict[str, object] = {
        f"/users/{PEOPLE[n]}/extensions/{EXTENSION}": {"id": EXTENSION, "acsUserIdentity": f"{IDENTITY}{n}"}
        for n in MAPPED
    }

    class Handler(QuietHandler):
        def do_GET(self) -> None:  # noqa: N802 - as http.server calls it
            path = self.path.partition("?$")[0]
            if self.headers["Authorization"] != "Bearer of-an-administrator":
                self.respond(401, {})
            elif path.startswith("/users/") and refusals:
                self.respond(refusals.pop(), {}, ("Retry-After", "1"))
            elif path in documents:
                self.respond(200, documents[path])
            else:
                self.respond(404, {"error": {"code": "ResourceNotFound"}})

    with serving(Handler) as url:
        documents["/users"] = {"value": USERS[:2], "@odata.nextLink": f"{url}/users?later"}
        documents["/users?later"] = {"value": USERS[2:]}
        yield url


def write_mappings(graph_url: str, token: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tools.graph_mappings", TENANT, EXTENSION]
    env = os.environ | {"GRAPH_URL": graph_url, "GRAPH_TOKEN": token}
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)


def test_mappings_of_all_pages_are_written(graph_url: str) -> None:
    refused = write_mappings(graph_url, "of-somebody")
    assert refused.returncode != 0
    assert "401" in refused.stderr
    assert "of-somebody" not in refused.stderr
    ended = write_mappings(graph_url, "of-an-administrator")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert list(csv.reader(ended.stdout.splitlines())) == [
        ["tenantId", "objectId", "communicationUserId", "name", "username"],
        *([TENANT, PEOPLE[n], f"{IDENTITY}{n}", "" if n else "Zoë, K.", f"{n}@x"] for n in MAPPED),
    ]
