"""A person with a browser, as far as HTTP goes: cookies, sign-in, the API."""

from typing import Any, Self
from urllib.parse import urljoin

import requests

from tests.support import log_scan
from tests.support.local_azure import Account, LocalAzure, read_form

CALL_SECONDS = 30


class Person:
    """One browser of one account at one service. Several instances of the service share `url`'s host."""

    def __init__(self, azure: LocalAzure, url: str, account: Account) -> None:
        self.azure = azure
        self.url = url
        self.account = account
        self.http = requests.Session()
        self.http.trust_env = False
        self.http.hooks["response"].append(log_scan.remember_response)

    @property
    def key(self) -> str:
        """The user's key in the service and its log."""
        return f"{self.account.tenant_id}/{self.account.object_id}"

    def at(self, url: str) -> "Person":
        """Return the same browser at another instance: cookies ignore the port."""
        other = Person(self.azure, url, self.account)
        other.http.cookies.update(self.http.cookies)
        return other

    def in_new_browser(self) -> "Person":
        """Return the same person, signed in with another browser."""
        return Person(self.azure, self.url, self.account).signed_in()

    def start_sign_in(self, next_path: str | None = None) -> str:
        """Go to Entra ID and pick the account; return the callback's URL, which has not been called yet."""
        response = self.get("/auth/sign-in", params={"next": next_path})
        assert response.status_code == 302, response.text
        return self.azure.sign_in(self.http, response.headers["Location"], self.account.username)

    def cancel_sign_in(self, address: str | None = None) -> str:
        """Go to Entra ID, by default to sign in, and press "Cancel"; return the callback's URL."""
        page = self.http.get(address or f"{self.url}/auth/sign-in", timeout=CALL_SECONDS)
        action, fields = read_form(page.text, "cancel", "1")
        return self.post(urljoin(page.url, action), data=fields).headers["Location"]

    def finish_sign_in(self, callback_url: str) -> requests.Response:
        """Call the callback; return its response without following redirects."""
        return self.http.get(callback_url, allow_redirects=False, timeout=CALL_SECONDS)

    def sign_in(self, next_path: str | None = None) -> requests.Response:
        """Sign in; return the callback's response."""
        return self.finish_sign_in(self.start_sign_in(next_path))

    def signed_in(self) -> Self:
        assert self.sign_in().status_code == 302
        return self

    def get(self, path: str, **options: Any) -> requests.Response:
        return self.call("GET", path, **options)

    def post(self, path: str, **options: Any) -> requests.Response:
        return self.call("POST", path, **options)

    def call(self, method: str, path: str, **options: Any) -> requests.Response:
        """Send a request with the browser's cookies, without following redirects."""
        options = {"allow_redirects": False, "timeout": CALL_SECONDS} | options
        return self.http.request(method, urljoin(self.url, path), **options)

    def is_signed_in(self) -> bool:
        return self.get("/api/me").status_code == 200

    def me(self) -> dict[str, Any]:
        """Return the body of GET /api/me, which must succeed."""
        response = self.get("/api/me")
        assert response.status_code == 200, response.text
        return dict(response.json())

    def csrf_headers(self) -> dict[str, str]:
        return {"X-CSRFToken": self.me()["csrfToken"]}

    def submit(self, path: str, **fields: str) -> requests.Response:
        """Send a form of a page, with the CSRF value."""
        return self.post(path, data={"csrf_token": self.me()["csrfToken"]} | fields)

    def token(self, body: object = None, *, csrf: dict[str, str] | None = None) -> requests.Response:
        """Return the response of POST /api/token; fetches the CSRF value unless given."""
        headers = self.csrf_headers() if csrf is None else csrf
        return self.post("/api/token", headers=headers, json=body)

    def get_token(self) -> str:
        response = self.token()
        assert response.status_code == 200, response.text
        return str(response.json()["token"])

    def erase(self, csrf: dict[str, str] | None = None) -> requests.Response:
        """Return the response of DELETE /api/me; fetches the CSRF value unless given."""
        return self.call("DELETE", "/api/me", headers=csrf or self.csrf_headers())

    def sign_out(self) -> requests.Response:
        return self.submit("/auth/sign-out")
