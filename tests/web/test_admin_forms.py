"""Administrators' forms: each asks for confirmation and reports the result."""

from urllib.parse import urlsplit

import pytest
from azure.data.tables import TableServiceClient
from bs4 import BeautifulSoup, Tag

from tests.support.admin_client import Admin, assert_signed_out
from tests.support.pages import assert_error_page, message_on, read_page
from tests.support.person import Person
from tests.support.rows import list_sessions
from tests.support.service import Service

ACTIONS = ["block", "unblock", "revoke", "sign-out", "delete"]


def form_to(page: BeautifulSoup, path: str) -> Tag:
    """Return the page's only form with this action."""
    (form,) = page.find_all("form", action=path)
    assert str(form["method"]).lower() == "post"
    return form


def fields_of(form: Tag) -> dict[str, str]:
    return {str(field["name"]): str(field.get("value", "")) for field in form.find_all("input")}


def session_buttons(admin: Admin, person: Person) -> dict[str, Tag]:
    """Return the buttons on a user's page that end one session each, by session."""
    page = read_page(admin.person, f"/admin/users/{person.key}")
    return {str(button["value"]): button for button in page.select("button[name=session]")}


@pytest.mark.parametrize("action", ACTIONS)
def test_action_asks_for_confirmation_with_warning(admin: Admin, shared_user: Person, action: str) -> None:
    path = f"/admin/users/{shared_user.key}"
    if action != "unblock":  # offered only for a blocked user
        assert read_page(admin.person, path).find("a", href=f"{path}/confirm/{action}") is not None
    page = read_page(admin.person, f"{path}/confirm/{action}")
    fields = fields_of(form_to(page, f"{path}/{action}"))
    assert fields["csrf_token"] == admin.csrf
    assert ("reason" in fields) == (action == "block")
    text = page.get_text(" ", strip=True)
    assert shared_user.account.object_id in text
    assert ("15 minutes" in text) or action not in ("block", "revoke")
    assert ("cannot be undone" in text) or action != "delete"
    assert page.find("a", href=path) is not None  # the way back


def test_forms_redirect_with_a_message(admin: Admin, mapped_user: Person) -> None:
    messages = set()
    user = f"/admin/users/{mapped_user.key}"
    for action in (*ACTIONS, "delete"):  # a repeated deletion also redirects to the list
        form = form_to(read_page(admin.person, f"{user}/confirm/{action}"), f"{user}/{action}")
        response = admin.person.post(f"{user}/{action}", data=fields_of(form))
        assert response.status_code == 303
        path = urlsplit(response.headers["Location"]).path
        assert path == ("/admin/users" if action == "delete" else user)
        page = read_page(admin.person, response.headers["Location"])
        assert action == "delete" or mapped_user.account.username in page.get_text()
        assert not message_on(read_page(admin.person, path))
        messages.add(message_on(page))
    assert len(messages) == len(ACTIONS)
    assert "" not in messages


def test_session_button_ends_only_its_session(
    tables: TableServiceClient, admin: Admin, mapped_user: Person, other_service: Service
) -> None:
    (first,) = (str(row["RowKey"]) for row in list_sessions(tables, mapped_user))
    second = mapped_user.in_new_browser()
    for browser, remains in ((second, True), (mapped_user, False)):
        buttons = session_buttons(admin, mapped_user)
        chosen = first if browser is mapped_user else next(key for key in buttons if key != first)
        form = buttons[chosen].find_parent("form")
        assert isinstance(form, Tag)
        response = admin.person.post(str(form["action"]), data=fields_of(form) | {"session": chosen})
        assert response.status_code == 303
        assert_signed_out(browser, other_service.url)
        assert mapped_user.at(other_service.url).is_signed_in() is remains
    assert "There are no sessions" in read_page(admin.person, response.headers["Location"]).get_text()


@pytest.mark.parametrize(
    "reason",
    [
        '<script>alert(1)</script> "left" & gone',
        *("x" * 10_000, "é" * 300, "\x00\x01\r\n\t", "\u202egnp", "\N{GRINNING FACE}" * 200),
    ],
)
def test_block_reason_is_shown_as_text(admin: Admin, person: Person, reason: str) -> None:
    response = admin.do("page", person, "block", reason=reason)
    assert admin.get_user(person)["blocked"] is True
    page = read_page(admin.person, response.headers["Location"])
    assert admin.person.account.username in page.get_text()  # in the audit trail
    assert "<script" not in reason or reason in page.get_text()
    assert not [script for script in page.find_all("script") if "alert" in script.get_text()]


def test_unknown_user_has_only_a_block_form(admin: Admin, person: Person) -> None:
    assert_error_page(admin.person.get(f"/admin/users/{person.key}"), 404)
    assert admin.person.get(f"/admin/users/{person.key}/confirm/block").status_code == 200
