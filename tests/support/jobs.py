"""Jobs as an administrator's browser creates and follows them, and their rows in the tables."""

import csv
import io
import re
import time
from collections.abc import Callable, Iterable
from typing import Any

import requests
from azure.data.tables import TableServiceClient

from tests.support.person import Person
from tests.support.rows import list_rows
from tests.support.seed import seed_users
from trusted_service.models import Identity


class JobAdmin:
    """A signed-in administrator, with the CSRF value and direct access to the tables."""

    def __init__(self, person: Person) -> None:
        self.person, self.azure = person, person.azure
        self.csrf = person.me()["csrfToken"]
        connection_string = person.azure.env["TABLE_STORAGE_CONNECTION_STRING"]
        self.tables = TableServiceClient.from_connection_string(connection_string)

    def at(self, url: str) -> "JobAdmin":
        """Return the same browser at another instance."""
        return JobAdmin(self.person.at(url))

    def select(self, action: str, users: Iterable[object]) -> requests.Response:
        """Send the selection as the user list does."""
        return self._post("/admin/jobs", [("action", action), *(("user", key_of(user)) for user in users)])

    def upload(self, action: str, content: bytes | str) -> requests.Response:
        form, file = {"csrf_token": self.csrf, "action": action}, ("leavers.csv", content, "text/csv")
        return self.person.post("/admin/jobs", data=form, files={"file": file})

    def draft(self, response: requests.Response, seconds: float = 30) -> str:
        """Wait for the dry run of the job that was just created; return its path."""
        path = job_path(response)
        self.wait_for(path, "draft", seconds)
        return path

    def start(self, path: str, **fields: str) -> requests.Response:
        """Start the job, with the confirmation that a deletion needs."""
        return self._post(f"{path}/start", [*({"confirm": "yes"} | fields).items()])

    def finish(self, path: str, seconds: float = 30, **fields: str) -> str:
        """Start the job and wait for its end; return its path."""
        self.start(path, **fields)
        self.wait_for(path, "done", seconds)
        return path

    def cancel(self, path: str) -> requests.Response:
        return self._post(f"{path}/cancel", [])

    def status(self, path: str) -> dict[str, Any]:
        response = self.person.get(f"{path}.json")
        assert response.status_code == 200, response.text
        return dict(response.json())

    def wait_for(self, path: str, state: str, seconds: float = 30) -> None:
        self.wait_until(path, lambda status: status["state"] == state, seconds)

    def wait_until(self, path: str, holds: Callable[[dict[str, Any]], bool], seconds: float = 30) -> None:
        ends = time.monotonic() + seconds
        while not holds(status := self.status(path)):
            assert time.monotonic() < ends, status
            time.sleep(0.1)

    def rows(self, path: str) -> list[dict[str, str]]:
        """Return the rows of the results CSV."""
        response = self.person.get(f"{path}.csv")
        assert response.status_code == 200, response.text
        assert response.headers["Content-Type"].startswith("text/csv")
        return list(csv.DictReader(io.StringIO(response.content.decode("utf-8-sig"))))

    def results(self, path: str) -> list[str]:
        return [row["result"] for row in self.rows(path)]

    def new_users(self, count: int, *, blocked: float = 0.0) -> list[Identity]:
        """Create users with identities at Communication Services."""
        return seed_users(self.azure.env, count, acs=True, blocked=blocked)

    def find(self, user: object) -> dict[str, Any]:
        """Return the mapping row, or {}, of an identity, object id or `<tenant id>/<object id>`."""
        rows = list_rows(self.tables, "identities", "PartitionKey", key_of(user).rpartition("/")[2])
        return dict(*rows)

    def audit(self, user: object) -> list[tuple[str, str]]:
        """Return the audited actions on a user with their outcomes, in order."""
        rows = list_rows(self.tables, "audit", "TargetObjectId", key_of(user).rpartition("/")[2])
        rows = sorted((row for row in rows if row["PartitionKey"] == "all"), key=lambda row: row["At"])
        return [(row["Action"], row["Outcome"]) for row in rows]

    def _post(self, path: str, fields: list[tuple[str, str]]) -> requests.Response:
        return self.person.post(path, data=[("csrf_token", self.csrf), *fields])


def key_of(user: object) -> str:
    return str(user.user_id if isinstance(user, Identity) else user)


def job_path(response: requests.Response) -> str:
    """Return the path of the job that the response redirects to."""
    assert response.status_code == 303, response.text
    assert re.fullmatch(r"/admin/jobs/[0-9]{15}-[0-9a-f]{16}", response.headers["Location"])
    return response.headers["Location"]
