"""Users who sign in and out, get tokens, revoke them and erase themselves, repeatedly."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import requests

from tests.soak.scene import Grant, Member, Scene, chance_of
from tests.support.admin_client import bearer
from tests.support.person import Person

AT_ONCE = 4
PAUSE_SECONDS = 1.2
COOKIES_KEPT, GRANTS_KEPT = 5, 30


class User:
    """One user, whose choices depend on the seed; `live` runs in its own thread."""

    def __init__(self, scene: Scene, member: Member, seed: str) -> None:
        self._scene, self._member = scene, member
        self._chance = chance_of(seed, member.person.account.username)
        self._csrf: dict[str, str] = {}
        self._bearer = bearer(scene.world.azure, member.person, lifetimeSeconds=7200)
        # A client without cookies, for bearer tokens.
        self._program = Person(scene.world.azure, member.person.url, member.person.account)

    def live(self) -> None:
        actions = {
            self._token: 8, self._bearer_token: 4, self._many_tokens: 1, self._read_page: 3,
            self._revoke: 0.6, self._sign_out: 0.6, self._sign_in_again: 0.6,
            self._erase: 0.3, self._erase_by_bearer: 0.2,
        }  # fmt: skip
        while not self._scene.stop.wait(self._chance.expovariate(1 / PAUSE_SECONDS)):
            self._csrf = self._csrf or self._scene.fetch_csrf(self._chance, self._member.person)
            if not self._csrf:
                continue
            (action,) = self._chance.choices([*actions], [*actions.values()])
            action()

    def _token(self) -> None:
        self._request_token(self._member.person, self._csrf)

    def _bearer_token(self) -> None:
        self._request_token(self._program, self._bearer)

    def _many_tokens(self) -> None:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            for _ in range(AT_ONCE):
                browser = self._member.person.at(self._member.person.url)
                pool.submit(self._request_token, browser, self._csrf)

    def _request_token(self, user: Person, headers: dict[str, str]) -> None:
        blocked_at, began = self._member.blocked_at, time.monotonic()
        response = self._scene.send(self._chance, user, "token", "POST", "/api/token", headers=headers)
        if response is None or response.status_code != 200:
            self._record_sign_out(response)
            return
        document = response.json()
        identity = document["user"]["communicationUserId"]
        grant = Grant(token=document["token"], identity=identity, began=began, ended=time.monotonic())
        self._check(grant, still_blocked=blocked_at is not None and self._member.blocked_at == blocked_at)

    def _check(self, grant: Grant, *, still_blocked: bool) -> None:
        member, tally = self._member, self._scene.tally
        if still_blocked:
            tally.violate(f"{member.key} was blocked and got a token")
        with member.lock:
            member.grants = [*member.grants, grant][-GRANTS_KEPT:]
            changed = member.identity not in ("", grant.identity)
            explained = member.deleting or member.half_deleted or member.deleted_at >= member.seen_at
            if changed and not explained and grant.began >= member.seen_at:
                tally.violate(f"{member.key} has another identity without a deletion of the first")
            if changed:
                member.half_deleted = False
            member.identity, member.seen_at = grant.identity, grant.began

    def _read_page(self) -> None:
        path = self._chance.choice(["/", "/account", "/api/me", "/api/me/export"])
        self._record_sign_out(self._send("page", "GET", path))

    def _revoke(self) -> None:
        self._record_sign_out(self._send("revoke", "POST", "/api/me/revoke", headers=self._csrf))

    def _sign_out(self) -> None:
        form = {"csrf_token": self._csrf["X-CSRFToken"]}
        cookies = self._member.person.http.cookies.get_dict()
        response = self._send("sign-out", "POST", "/auth/sign-out", data=form)
        if response is not None and response.status_code == 303:
            self._record_ended(cookies)
            self._csrf = {}

    def _sign_in_again(self) -> None:
        cookies = self._member.person.http.cookies.get_dict()
        self._csrf = self._scene.fetch_csrf(self._chance, self._member.person)
        if self._csrf:
            self._record_ended(cookies)

    def _erase(self) -> None:
        cookies = self._member.person.http.cookies.get_dict()
        response = delete(self._member, lambda: self._send("erase", "DELETE", "/api/me", headers=self._csrf))
        if response is not None and response.status_code == 204:
            self._record_ended(cookies)
            self._csrf = {}
        self._record_sign_out(response)

    def _erase_by_bearer(self) -> None:
        request = (self._program, "erase", "DELETE", "/api/me")
        delete(self._member, lambda: self._scene.send(self._chance, *request, headers=self._bearer))

    def _record_ended(self, cookies: dict[str, str]) -> None:
        self._member.ended_cookies = [*self._member.ended_cookies, cookies][-COOKIES_KEPT:]

    def _record_sign_out(self, response: requests.Response | None) -> None:
        if response is not None and response.status_code in (302, 401):
            self._csrf = {}

    def _send(self, action: str, method: str, path: str, **options: object) -> requests.Response | None:
        return self._scene.send(self._chance, self._member.person, action, method, path, **options)


def delete(member: Member, send: Callable[[], requests.Response | None]) -> requests.Response | None:
    """Send a deletion and return its response; record that it is in progress, and how it ended."""
    with member.lock:
        member.deleting += 1
    response = None
    try:
        response = send()
    finally:
        with member.lock:
            member.deleting -= 1
            member.deleted_at = time.monotonic()
            failed = response is None or response.status_code != 204
            member.half_deleted = member.half_deleted or failed
    return response
