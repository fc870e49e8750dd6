"""The forms of the administrators' pages: each asks first, and says what was done."""

from collections.abc import Callable
from urllib.parse import urlsplit

import pytest
from bs4 import BeautifulSoup, Tag

from tests.support.desk import WAYS, Desk, Way
from tests.support.pages import assert_error_page
from tests.support.person import Person
from tests.support.problems import assert_problem
from tests.support.service import Service

ACTIONS = ["block", "unblock", "revoke", "sign-out", "delete"]


def read_page(desk: Desk, path: str) -> BeautifulSoup:
    """Return the page, which must be a whole one that nobody keeps."""
    answer = desk.person.get(path)
    assert answer.status_code == 200, answer.text
    assert answer.headers["Cache-Control"] == "no-store"
    return BeautifulSoup(answer.text, "html.parser")


def form_to(page: BeautifulSoup, action: str) -> Tag:
    """Return the only form that leads to an administrator's action of this name."""
    (form,) = [
        form
        for form in page.find_all("form")
        if str(form.get("action", "")).startswith("/admin/") and str(form["action"]).endswith(action)
    ]
    assert str(form["method"]).lower() == "post"
    return form


def fields_of(form: Tag) -> dict[str, str]:
    return {str(field["name"]): str(field.get("value", "")) for field in form.find_all("input")}


def message_on(page: BeautifulSoup) -> str:
    message = page.select_one("[role=status]")
    return "" if message is None else message.get_text(strip=True)


@pytest.mark.parametrize("action", ACTIONS)
def test_action_is_asked_for_and_says_what_cannot_be_undone(desk: Desk, regular: Person, action: str) -> None:
    user = read_page(desk, f"/admin/users/{regular.key}")
    confirm = f"/admin/users/{regular.key}/confirm/{action}"
    if action != "unblock":  # offered where there is a block only
        assert user.find("a", href=confirm) is not None
    page = read_page(desk, confirm)
    form = form_to(page, f"/{action}")
    assert form["action"] == f"/admin/users/{regular.key}/{action}"
    assert fields_of(form)["csrf_token"] == desk.csrf
    text = page.get_text(" ", strip=True)
    assert regular.account.object_id in text
    if action in ("block", "revoke"):
        assert "15 minutes" in text
    if action == "delete":
        assert "cannot be undone" in text
    assert page.find("a", href=f"/admin/users/{regular.key}") is not None  # the way back


@pytest.mark.parametrize("action", ["block", "unblock", "revoke", "sign-out"])
def test_form_leads_back_to_the_user_with_a_message(desk: Desk, settled: Person, action: str) -> None:
    page = read_page(desk, f"/admin/users/{settled.key}/confirm/{action}")
    fields = fields_of(form_to(page, f"/{action}"))
    answer = desk.person.post(f"/admin/users/{settled.key}/{action}", data=fields)
    assert answer.status_code == 303
    assert urlsplit(answer.headers["Location"]).path == f"/admin/users/{settled.key}"
    after = read_page(desk, answer.headers["Location"])
    assert message_on(after)
    assert settled.account.username in after.get_text()
    assert not message_on(read_page(desk, f"/admin/users/{settled.key}"))


def test_messages_of_actions_differ(desk: Desk, settled: Person) -> None:
    messages = set()
    for action in ACTIONS:
        answer = desk.do("page", settled, action)
        messages.add(message_on(read_page(desk, answer.headers["Location"])))
    assert len(messages) == len(ACTIONS)
    assert "" not in messages


@pytest.mark.parametrize("came", [True, False])
def test_delete_leads_back_to_the_list(
    desk: Desk, settled: Person, new_person: Callable[..., Person], *, came: bool
) -> None:
    answer = desk.do("page", settled if came else new_person(), "delete")
    assert urlsplit(answer.headers["Location"]).path == "/admin/users"
    assert message_on(read_page(desk, answer.headers["Location"]))


def test_form_without_scripts_ends_the_session_it_stands_beside(desk: Desk, settled: Person) -> None:
    page = read_page(desk, f"/admin/users/{settled.key}")
    form = next(form for form in page.find_all("form") if form.find("button", attrs={"name": "session"}))
    button = form.find("button")
    assert isinstance(button, Tag)
    fields = fields_of(form) | {"session": str(button["value"])}
    answer = desk.person.post(str(form["action"]), data=fields)
    assert answer.status_code == 303
    assert settled.get("/api/me").status_code == 401
    assert "Not signed in anywhere" in read_page(desk, answer.headers["Location"]).get_text()


def test_reason_of_a_block_is_shown_as_text(desk: Desk, settled: Person) -> None:
    reason = '<script>alert(1)</script> "left" & gone'
    answer = desk.do("page", settled, "block", reason=reason)
    page = read_page(desk, answer.headers["Location"])
    assert reason in page.get_text()
    assert not [script for script in page.find_all("script") if "alert" in script.get_text()]


@pytest.mark.parametrize(
    "reason", ["x" * 10_000, "é" * 300, "\x00\x01\r\n\t", "\u202egnp", "\N{GRINNING FACE}" * 200]
)
def test_odd_reason_of_a_block_is_taken(desk: Desk, person: Person, reason: str) -> None:
    answer = desk.do("page", person, "block", reason=reason)
    assert desk.get_user(person)["blocked"] is True
    assert read_page(desk, answer.headers["Location"]).title is not None


@pytest.mark.parametrize(
    "session",
    ["a/b", "a\\b", "#?", "'", "' or PartitionKey ne '", "\x00", "\n", "é", "x" * 2000, "../x", "%2f"],
)
def test_odd_session_to_end_is_no_failure_of_ours(desk: Desk, settled: Person, session: str) -> None:
    answer = desk.act("page", settled, "sign-out", session=session)
    assert answer.status_code in (303, 400, 404), answer.headers["X-Request-ID"]
    assert settled.get("/api/me").status_code == 200


def test_session_of_somebody_else_is_not_ended_by_a_form(
    desk: Desk, settled: Person, regular: Person
) -> None:
    page = read_page(desk, f"/admin/users/{regular.key}")
    button = page.find("button", attrs={"name": "session"})
    assert isinstance(button, Tag)
    desk.act("page", settled, "sign-out", session=str(button["value"]))
    assert regular.get("/api/me").status_code == 200


@pytest.mark.parametrize("given", ["nothing", "another session's", "rubbish"])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("action", ACTIONS)
def test_action_without_the_csrf_value_does_nothing(
    desk: Desk, regular: Person, action: str, way: Way, given: str
) -> None:
    before = desk.get_user(regular)
    value = {"nothing": "", "another session's": regular.csrf_headers()["X-CSRFToken"], "rubbish": "x.y"}[
        given
    ]
    forged = Desk(desk.person)
    forged.__dict__["csrf"] = value
    answer = forged.act(way, regular, action)
    if way == "page":
        assert_error_page(answer, 403)
    else:
        assert_problem(answer, 403, "csrf_failed")
    assert desk.get_user(regular) == before
    assert regular.get("/api/me").status_code == 200


@pytest.mark.parametrize("origin", ["https://attacker.example", "null"])
def test_action_from_another_origin_does_nothing(desk: Desk, regular: Person, origin: str) -> None:
    headers = {"X-CSRFToken": desk.csrf, "Origin": origin}
    answer = desk.person.post(f"/api/admin/users/{regular.key}/block", headers=headers)
    assert_problem(answer, 403, "csrf_failed")
    assert desk.get_user(regular)["blocked"] is False


@pytest.mark.parametrize("action", ACTIONS)
def test_actions_take_no_get(desk: Desk, regular: Person, service: Service, action: str) -> None:
    before = desk.get_user(regular)
    answer = desk.person.get(f"/admin/users/{regular.key}/{action}")
    assert answer.status_code == 405
    assert_problem(desk.person.get(f"/api/admin/users/{regular.key}/{action}"), 405, "method_not_allowed")
    assert desk.get_user(regular) == before


@pytest.mark.parametrize("path", ["/admin/users/{}", "/admin/users/{}/confirm/block"])
def test_pages_of_a_user_that_is_not_there(desk: Desk, person: Person, path: str) -> None:
    answer = desk.person.get(path.format(person.key))
    if "confirm" in path:
        assert answer.status_code == 200  # somebody who never came can be blocked
    else:
        assert_error_page(answer, 404)
