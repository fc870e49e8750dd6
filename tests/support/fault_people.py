"""Who the cells of the fault matrix are about, and what each of them asks for."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import requests

from tests.support.desk import Desk, bearer, call
from tests.support.fault_matrix import Case
from tests.support.former_resource import give_former_identity
from tests.support.identity_rows import get_identity, list_identity_rows
from tests.support.own_azure import OwnAzure
from tests.support.person import Person
from tests.support.rows import get_session, list_sessions


@dataclass(frozen=True)
class People:
    """Makes somebody for each cell: a person at the service, ready for a request whose call will fail."""

    world: OwnAzure
    desk: Desk
    minutes: Iterator[int]

    def user(self) -> Person:
        """Somebody with an identity."""
        person = self.world.new_person()
        answer = call("POST", f"{person.url}/api/token", headers=bearer(self.world.azure, person))
        assert answer.status_code == 200, answer.text
        return person

    def first_token(self, *, about_create: bool = False, browser: bool = False) -> Case:
        """In a create, only the lifetime of the token tells one person from another."""
        person, minutes = self.world.new_person(), next(self.minutes)
        about = f'"expiresInMinutes": {minutes}' if about_create else person.account.object_id
        return self._token(person, about, minutes, browser=browser)

    def first_token_of_session(self) -> Case:
        return self._about_session(self.first_token(browser=True))

    def warm_token(self, *, about_session: bool) -> Case:
        person = self.user()
        case = self._token(person, get_identity(self.world.tables, person), 60, browser=True)
        return self._about_session(case) if about_session else case

    def token_that_moves(self, *, about_session: bool = False, about_identity: bool = False) -> Case:
        """The user is still at a resource from which users were moved away."""
        person = self.user()
        if about_session:
            assert person.sign_in().status_code == 302
        gone = give_former_identity(self.world.tables, person)
        about = gone.partition("_")[2] if about_identity else person.account.object_id
        case = replace(self._token(person, about, 60, browser=False), gone=gone)
        return self._about_session(case) if about_session else case

    def _about_session(self, case: Case) -> Case:
        partition = get_session(self.world.tables, case.person)["PartitionKey"]
        return replace(case, about=partition)

    def _token(self, person: Person, about: str, minutes: int, *, browser: bool) -> Case:
        body = {"expiresInMinutes": minutes}
        if browser:
            assert person.sign_in().status_code == 302
            ask = partial(person.token, body, csrf=person.csrf_headers())
        else:
            headers = bearer(self.world.azure, person)
            ask = partial(call, "POST", f"{person.url}/api/token", headers=headers, json=body)
        return Case(
            person=person,
            about=about,
            ask=ask,
            again=ask,
            check=partial(self._check_token, person),
        )

    def _check_token(self, person: Person, answer: requests.Response) -> None:
        (row,) = list_identity_rows(self.world.tables, person)
        check = self.world.azure.check_token(answer.json()["token"])
        assert row["AcsUserId"] == answer.json()["user"]["communicationUserId"] == check["identity"]
        assert check["valid"] is True

    def sign_in(self) -> Case:
        person = self.world.new_person()
        callback = person.start_sign_in()

        def check(_answer: requests.Response) -> None:
            # A session whose insert was not answered may be there too, but nobody holds its key.
            assert list_sessions(self.world.tables, person)
            assert person.get("/api/me").status_code == 200

        return Case(
            person=person,
            about=person.account.object_id,
            ask=partial(person.finish_sign_in, callback),
            again=person.sign_in,
            check=check,
        )

    def sign_out(self) -> Case:
        person = self.world.new_person()
        assert person.sign_in().status_code == 302
        form = {"csrf_token": person.me()["csrfToken"]}
        # Once it has ended, only a form of ours may send the browser on to Entra ID.
        post = partial(person.post, "/auth/sign-out", data=form, headers={"Origin": person.url})

        def check(_answer: requests.Response) -> None:
            assert list_sessions(self.world.tables, person) == []

        about = get_session(self.world.tables, person)["PartitionKey"]
        return Case(person=person, about=about, ask=post, again=post, check=check)

    def revocation(self, about: Literal["object id", "identity"]) -> Case:
        person = self.user()
        headers, identity = bearer(self.world.azure, person), get_identity(self.world.tables, person)
        token = call("POST", f"{person.url}/api/token", headers=headers).json()["token"]
        ask = partial(call, "POST", f"{person.url}/api/me/revoke", headers=headers)

        def check(_answer: requests.Response) -> None:
            assert self.world.azure.check_token(token)["valid"] is False
            assert get_identity(self.world.tables, person) == identity

        key = {"object id": person.account.object_id, "identity": identity}[about]
        return Case(person=person, about=key, ask=ask, again=ask, check=check)

    def block(self) -> Case:
        person = self.user()
        ask = partial(self.desk.act, "api", person, "block")

        def check(answer: requests.Response) -> None:
            assert answer.json()["blocked"] is True
            assert (
                call("GET", f"{person.url}/api/me", headers=bearer(self.world.azure, person)).status_code
                == 403
            )

        return Case(person=person, about=person.account.object_id, ask=ask, again=ask, check=check)

    def erasure(self, about: Literal["object id", "identity", "session"]) -> Case:
        person = self.user()
        assert person.sign_in().status_code == 302
        headers, identity = bearer(self.world.azure, person), get_identity(self.world.tables, person)
        ask = partial(call, "DELETE", f"{person.url}/api/me", headers=headers)

        def check(_answer: requests.Response) -> None:
            assert (
                list_identity_rows(self.world.tables, person)
                == list_sessions(self.world.tables, person)
                == []
            )
            assert identity not in self.world.azure.list_identities()

        keys = {
            "object id": person.account.object_id,
            "identity": identity,
            "session": get_session(self.world.tables, person)["PartitionKey"],
        }
        return Case(person=person, about=keys[about], ask=ask, again=ask, check=check)

    def export(self) -> Case:
        person = self.user()
        ask = partial(call, "GET", f"{person.url}/api/me/export", headers=bearer(self.world.azure, person))

        def check(answer: requests.Response) -> None:
            assert answer.json()["user"]["objectId"] == person.account.object_id

        return Case(person=person, about=person.account.object_id, ask=ask, again=ask, check=check)
