"""A person with a browser, as far as HTTP goes: cookies, sign-in, the API."""

from typing import Any
from urllib.parse import urljoin

import requests

from tests.support import log_scan
from tests.support.local_azure import Account, LocalAzure

CALL_SECONDS = 30


class Person:
    """One browser of one account at one service. Several instances of the service share `url`'s host."""

    def __init__(self, azure: LocalAzure, url: str, account: Account) -> None:
        self.azure = azure
        self.url = url
        self.account = account
        self.http = requests.Session()
        self.http.trust_env = False
        self.http.hooks["response"].append(log_scan.remember_answer)

    @property
    def key(self) -> str:
        """How the service and its log name this user."""
        return f"{self.account.tenant_id}/{self.account.object_id}"

    def at(self, url: str) -> "Person":
        """The same browser at another instance: cookies do not tell ports apart."""
        other = Person(self.azure, url, self.account)
        other.http.cookies.update(self.http.cookies)
        return other

    def start_sign_in(self, next_path: str | None = None) -> str:
        """Go to Entra ID and pick the account; return the callback's URL, which has not been called yet."""
        parameters = {} if next_path is None else {"next": next_path}
        answer = self.get("/auth/sign-in", params=parameters)
        assert answer.status_code == 302, answer.text
        return self.azure.sign_in(self.http, answer.headers["Location"], self.account.username)

    def finish_sign_in(self, callback_url: str) -> requests.Response:
        """Call the callback; its answer, redirects not followed."""
        return self.http.get(callback_url, allow_redirects=False, timeout=CALL_SECONDS)

    def sign_in(self, next_path: str | None = None) -> requests.Response:
        """Sign in the whole way; the callback's answer."""
        return self.finish_sign_in(self.start_sign_in(next_path))

    def get(self, path: str, **options: Any) -> requests.Response:
        return self._call("GET", path, options)

    def post(self, path: str, **options: Any) -> requests.Response:
        return self._call("POST", path, options)

    def me(self) -> dict[str, Any]:
        """Body of GET /api/me, which must succeed."""
        answer = self.get("/api/me")
        assert answer.status_code == 200, answer.text
        document: dict[str, Any] = answer.json()
        return document

    def csrf_headers(self) -> dict[str, str]:
        return {"X-CSRFToken": self.me()["csrfToken"]}

    def token(self, body: object = None, *, csrf: dict[str, str] | None = None) -> requests.Response:
        """Answer of POST /api/token, with the CSRF value (asked for, unless given)."""
        headers = self.csrf_headers() if csrf is None else csrf
        return self.post("/api/token", headers=headers, json=body)

    def sign_out(self) -> requests.Response:
        return self.post("/auth/sign-out", data={"csrf_token": self.me()["csrfToken"]})

    def _call(self, method: str, path: str, options: dict[str, Any]) -> requests.Response:
        options = {"allow_redirects": False, "timeout": CALL_SECONDS} | options
        return self.http.request(method, urljoin(self.url, path), **options)
