"""Jobs as an administrator's browser makes and watches them."""

import csv
import io
import re
import time
from collections.abc import Callable, Iterable

import requests

from tests.support.person import Person

PATIENCE_SECONDS = 30.0


class Administrator:
    """A signed-in administrator, with the value that forms carry."""

    def __init__(self, person: Person) -> None:
        self.person = person
        self.csrf = person.me()["csrfToken"]

    def at(self, url: str) -> "Administrator":
        """The same browser at another instance."""
        return Administrator(self.person.at(url))

    def select(self, action: str, users: Iterable[str]) -> requests.Response:
        """Send the selection as the page with all users does."""
        return self._post("/admin/jobs", [("action", action), *(("user", user) for user in users)])

    def upload(self, action: str, content: bytes | str) -> requests.Response:
        data = content.encode() if isinstance(content, str) else content
        return self.person.post(
            "/admin/jobs",
            data={"csrf_token": self.csrf, "action": action},
            files={"file": ("leavers.csv", data, "text/csv")},
        )

    def start(self, path: str, **fields: str) -> requests.Response:
        return self._post(f"{path}/start", [*fields.items()])

    def cancel(self, path: str) -> requests.Response:
        return self._post(f"{path}/cancel", [])

    def status(self, path: str) -> dict[str, object]:
        answer = self.person.get(f"{path}.json")
        assert answer.status_code == 200, answer.text
        document: dict[str, object] = answer.json()
        return document

    def wait_for(self, path: str, *states: str, seconds: float = PATIENCE_SECONDS) -> dict[str, object]:
        """Wait until the job is in one of these states."""
        return self.wait_until(path, lambda status: status["state"] in states, seconds)

    def wait_until(
        self, path: str, condition: Callable[[dict[str, object]], bool], seconds: float = PATIENCE_SECONDS
    ) -> dict[str, object]:
        ends = time.monotonic() + seconds
        while not condition(status := self.status(path)):
            assert time.monotonic() < ends, status
            time.sleep(0.1)
        return status

    def rows(self, path: str) -> list[dict[str, str]]:
        """The rows as the CSV of results has them."""
        answer = self.person.get(f"{path}.csv")
        assert answer.status_code == 200, answer.text
        assert answer.headers["Content-Type"].startswith("text/csv")
        return list(csv.DictReader(io.StringIO(answer.text)))

    def draft(self, answer: requests.Response, seconds: float = PATIENCE_SECONDS) -> str:
        """Wait for the dry run of the job that was just made; its path."""
        path = job_path(answer)
        self.wait_for(path, "draft", seconds=seconds)
        return path

    def _post(self, path: str, fields: list[tuple[str, str]]) -> requests.Response:
        return self.person.post(path, data=[("csrf_token", self.csrf), *fields])


def job_path(answer: requests.Response) -> str:
    """The path of the job that this answer leads to."""
    assert answer.status_code == 303, answer.text
    assert re.fullmatch(r"/admin/jobs/[0-9]{15}-[0-9a-f]{16}", answer.headers["Location"])
    return answer.headers["Location"]
