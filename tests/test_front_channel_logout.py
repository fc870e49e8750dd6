"""Entra ID tells us in a frame, without our cookie, that a person signed out elsewhere."""

import uuid
from collections.abc import Callable, Iterator
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
from azure.data.tables import TableServiceClient
from bs4 import BeautifulSoup

from tests.support.cookies import send_cookies
from tests.support.local_azure import LocalAzure
from tests.support.log import assert_not_logged, read_event
from tests.support.person import Person
from tests.support.rows import list_rows, list_sessions
from tests.support.service import Service
from tests.support.storage_proxy import Fault, StorageProxy
from tests.support.together import timed

PATH = "/auth/front-channel-logout"


@pytest.fixture
def registered(azure: LocalAzure, service: Service) -> Iterator[None]:
    """Entra ID knows where to tell us."""
    azure.change_app(frontChannelLogoutUrl=f"{service.url}{PATH}")
    yield
    azure.change_app(frontChannelLogoutUrl=None)


@pytest.fixture
def sid(azure: LocalAzure, person: Person) -> str:
    """The Entra ID session that the person's only session here was started by."""
    value = str(uuid.uuid4())
    azure.tamper("claims", claims={"sid": value})
    assert person.sign_in().status_code == 302
    return value


def frame(url: str) -> requests.Response:
    """Load the URL as a browser loads a frame of another site: no Lax cookie comes with it."""
    answer = send_cookies(url, "")
    assert answer.status_code == 200
    assert answer.headers["Cache-Control"] == "no-store"
    assert "Set-Cookie" not in answer.headers
    return answer


@pytest.mark.usefixtures("registered")
def test_signing_out_at_entra_ends_the_sessions_that_it_started(
    azure: LocalAzure,
    service: Service,
    other_service: Service,
    new_person: Callable[..., Person],
    person: Person,
) -> None:
    assert person.sign_in().status_code == 302
    again = person.at(service.url)
    again.http.cookies.clear("localhost.local", "/", "session")
    somebody = new_person()
    assert somebody.sign_in().status_code == 302
    # The same Entra ID session also started this one, in a window of its own.
    assert again.sign_in().status_code == 302
    location = somebody.get("/auth/sign-in").headers["Location"].partition("?")[0]
    page = person.http.get(location.replace("/authorize", "/logout"), timeout=30)
    frames = [str(item["src"]) for item in BeautifulSoup(page.text, "html.parser").find_all("iframe")]
    assert len(frames) == 1
    assert urlsplit(frames[0]).path == PATH
    assert set(parse_qs(urlsplit(frames[0]).query)) == {"sid", "iss"}
    answer = frame(frames[0])
    event = read_event(service, answer, "session_expired")
    assert (event["reason"], event["sessions"]) == ("front-channel", 2)
    for instance in (service, other_service):
        assert person.at(instance.url).get("/api/me").status_code == 401
        assert again.at(instance.url).get("/api/me").status_code == 401
    assert somebody.get("/api/me").status_code == 200
    assert_not_logged(service, parse_qs(urlsplit(frames[0]).query)["sid"][0])


def test_logout_leaves_no_row_behind(
    tables: TableServiceClient, service: Service, person: Person, sid: str
) -> None:
    (row,) = list_sessions(tables, person)
    index = f"{row['PartitionKey']}.{row['RowKey']}"
    assert len(list_rows(tables, "sessions", "RowKey", index)) == 1
    frame(f"{service.url}{PATH}?sid={sid}")
    assert list_sessions(tables, person) == []
    assert list_rows(tables, "sessions", "RowKey", index) == []


def test_logout_twice_or_after_a_sign_out_is_fine(service: Service, person: Person, sid: str) -> None:
    assert person.sign_out().status_code == 303
    for _ in range(2):
        frame(f"{service.url}{PATH}?sid={sid}")
    assert person.sign_in().status_code == 302
    frame(f"{service.url}{PATH}?sid={sid}")
    assert person.get("/api/me").status_code == 200


@pytest.mark.parametrize("length", [1, 256, 257, 300, 1024])
def test_sid_of_any_length_that_signs_in_also_signs_out(
    azure: LocalAzure, service: Service, person: Person, length: int
) -> None:
    value = uuid.uuid4().hex[:1] if length == 1 else (uuid.uuid4().hex * 32)[:length]
    azure.tamper("claims", claims={"sid": value})
    assert person.sign_in().status_code == 302
    frame(f"{service.url}{PATH}?sid={value}")
    assert person.get("/api/me").status_code == 401


@pytest.mark.parametrize(
    "query",
    [
        *(
            "",
            "sid",
            "sid=",
            "sid=%00",
            "sid=%ff%fe",
            "sid=%F0%9F%92%A9",
            "sid=%ED%A0%80",
            "sid=+",
            "sid=%0d%0aX:y",
        ),
        *(
            "sid=' or PartitionKey ne '",
            "sid=../../x",
            "sid=a/b\\c%23d%3Fe",
            "sid=<script>",
            "sid[]=x",
            "sid=null",
        ),
        *(
            "sid=00000000-0000-0000-0000-000000000000",
            f"sid={'a' * 1025}",
            f"sid={'a' * 6000}",
            "sid=x&sid=y",
        ),
        *(
            "sid=x&iss=//attacker.example",
            "iss=x",
            "SID={sid}",
            "sid={sid}%00",
            "sid=%20{sid}",
            "sid={half}",
            "sid={upper}",
        ),
    ],
)
def test_logout_that_means_nobody_is_200_and_harmless(
    service: Service, person: Person, sid: str, query: str
) -> None:
    known = {"{sid}": sid, "{half}": sid[:18], "{upper}": sid.upper()}
    for name, value in known.items():
        query = query.replace(name, value)
    answer = frame(f"{service.url}{PATH}?{query}")
    assert "script" not in answer.text
    assert person.get("/api/me").status_code == 200


def test_logout_takes_get_only(person: Person, sid: str) -> None:
    assert person.post(f"{PATH}?sid={sid}", headers=person.csrf_headers()).status_code == 405
    assert person.get("/api/me").status_code == 200


@pytest.mark.parametrize(
    "fault",
    [
        Fault(kind="status", method="GET", status=500),
        Fault(kind="reset", method="GET"),
        Fault(kind="half", method="GET"),
        Fault(kind="hang", method="GET"),
        Fault(kind="status", method="DELETE", status=503),
        Fault(kind="reset", method="DELETE"),
    ],
    ids=lambda fault: f"{fault.method}-{fault.kind}",
)
def test_logout_is_200_in_time_when_the_storage_is_down(
    storage_proxy: StorageProxy, service: Service, person: Person, sid: str, fault: Fault
) -> None:
    storage_proxy.plant(fault)
    answer, seconds = timed(lambda: frame(f"{service.url}{PATH}?sid={sid}"))
    assert seconds < 15
    assert read_event(service, answer, "front_channel_logout_failed")["reason"].startswith("Table Storage")
    storage_proxy.clear()
    # What could not be done then is done when it is asked for again.
    frame(f"{service.url}{PATH}?sid={sid}")
    assert person.get("/api/me").status_code == 401
