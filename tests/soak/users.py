"""What a user does, again and again: signs in and out, takes tokens, revokes them, erases themselves."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import requests

from tests.soak.scene import Grant, Member, Scene, chance_of
from tests.support.desk import bearer
from tests.support.person import Person

AT_ONCE = 4
PAUSE_SECONDS = 1.2
COOKIES_KEPT, GRANTS_KEPT = 5, 30


class User:
    """One user; `live` runs in a thread of its own. The same seed makes the same choices."""

    def __init__(self, scene: Scene, member: Member, seed: str) -> None:
        self._scene, self._member, self._chance = (
            scene,
            member,
            chance_of(seed, member.person.account.username),
        )
        self._csrf: dict[str, str] = {}
        self._bearer = bearer(scene.world.azure, member.person, lifetimeSeconds=7200)
        # A browser without cookies: what is said with a bearer token needs none.
        self._program = Person(scene.world.azure, member.person.url, member.person.account)

    def live(self) -> None:
        """Act until the scene is over."""
        actions = {
            self._token: 8, self._bearer_token: 4, self._many_tokens: 1, self._look: 3, self._revoke: 0.6,
            self._sign_out: 0.6, self._sign_in_again: 0.6, self._erase: 0.3, self._erase_by_bearer: 0.2,
        }  # fmt: skip
        while not self._scene.stop.wait(self._chance.expovariate(1 / PAUSE_SECONDS)):
            if not self._csrf and not self._enter():
                continue
            (action,) = self._chance.choices([*actions], [*actions.values()])
            action()

    def _enter(self) -> bool:
        if not self._scene.sign_in(self._chance, self._member.person):
            return False
        answer = self._send("me", "GET", "/api/me")
        if answer is not None and answer.status_code == 200:
            self._csrf = {"X-CSRFToken": answer.json()["csrfToken"]}
        return bool(self._csrf)

    def _token(self) -> None:
        self._ask_for_token(self._member.person, self._csrf)

    def _bearer_token(self) -> None:
        self._ask_for_token(self._program, self._bearer)

    def _many_tokens(self) -> None:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            for _ in range(AT_ONCE):
                browser = self._member.person.at(self._member.person.url)
                pool.submit(self._ask_for_token, browser, self._csrf)

    def _ask_for_token(self, who: Person, headers: dict[str, str]) -> None:
        blocked_at, began = self._member.blocked_at, time.monotonic()
        answer = self._scene.send(self._chance, who, "token", "POST", "/api/token", headers=headers)
        if answer is None or answer.status_code != 200:
            self._leave_where_told(answer)
            return
        document = answer.json()
        identity = document["user"]["communicationUserId"]
        grant = Grant(token=document["token"], identity=identity, began=began, ended=time.monotonic())
        self._look_at(grant, still_blocked=blocked_at is not None and self._member.blocked_at == blocked_at)

    def _look_at(self, grant: Grant, *, still_blocked: bool) -> None:
        member, tally = self._member, self._scene.tally
        if still_blocked:
            tally.violate(f"{member.key} was blocked and got a token")
        with member.lock:
            member.grants = [*member.grants, grant][-GRANTS_KEPT:]
            changed = member.identity not in ("", grant.identity)
            explained = member.deleting or member.half_deleted or member.deleted_at >= member.seen_at
            if changed and not explained and grant.began >= member.seen_at:
                tally.violate(f"{member.key} has another identity though nobody deleted the first")
            if changed:
                member.half_deleted = False
            member.identity, member.seen_at = grant.identity, grant.began

    def _look(self) -> None:
        answer = self._send(
            "page", "GET", self._chance.choice(["/", "/account", "/api/me", "/api/me/export"])
        )
        self._leave_where_told(answer)

    def _revoke(self) -> None:
        answer = self._send("revoke", "POST", "/api/me/revoke", headers=self._csrf)
        self._leave_where_told(answer)

    def _sign_out(self) -> None:
        form = {"csrf_token": self._csrf["X-CSRFToken"]}
        cookies = self._member.person.http.cookies.get_dict()
        answer = self._send("sign-out", "POST", "/auth/sign-out", data=form)
        if answer is not None and answer.status_code == 303:
            self._note_ended(cookies)
            self._csrf = {}

    def _sign_in_again(self) -> None:
        cookies = self._member.person.http.cookies.get_dict()
        self._csrf = {}
        if self._enter():
            self._note_ended(cookies)

    def _erase(self) -> None:
        cookies = self._member.person.http.cookies.get_dict()
        with deleting(self._member) as outcome:
            answer = self._send("erase", "DELETE", "/api/me", headers=self._csrf)
            outcome.append(answer is not None and answer.status_code == 204)
        if outcome[0]:
            self._note_ended(cookies)
            self._csrf = {}
        self._leave_where_told(answer)

    def _erase_by_bearer(self) -> None:
        with deleting(self._member) as outcome:
            answer = self._scene.send(
                self._chance, self._program, "erase", "DELETE", "/api/me", headers=self._bearer
            )
            outcome.append(answer is not None and answer.status_code == 204)

    def _note_ended(self, cookies: dict[str, str]) -> None:
        self._member.ended_cookies = [*self._member.ended_cookies, cookies][-COOKIES_KEPT:]

    def _leave_where_told(self, answer: requests.Response | None) -> None:
        if answer is not None and answer.status_code in (302, 401):
            self._csrf = {}

    def _send(self, action: str, method: str, path: str, **options: object) -> requests.Response | None:
        return self._scene.send(self._chance, self._member.person, action, method, path, **options)


@contextmanager
def deleting(member: Member) -> Iterator[list[bool]]:
    """Note a deletion of the user while it is under way; the list is to hold whether it was confirmed."""
    with member.lock:
        member.deleting += 1
    outcome: list[bool] = []
    try:
        yield outcome
    finally:
        with member.lock:
            member.deleting -= 1
            member.deleted_at = time.monotonic()
            member.half_deleted = member.half_deleted or outcome != [True]
