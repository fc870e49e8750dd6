"""Signing in through Entra ID's pages and out again, in one tab, in two, without JavaScript."""

from playwright.sync_api import expect

from tests.end_to_end.conftest import OpenWindow
from tests.end_to_end.steps import (
    PICKER,
    expect_signed_in,
    expect_signed_out,
    get_token,
    go_to_picker,
    pick,
    sign_in,
    sign_out,
)
from tests.support.chromium import Window
from tests.support.local_azure import LocalAzure
from tests.support.person import Person
from tests.support.service import Service


def test_alice_signs_in_gets_a_token_and_leaves_nothing_behind(
    window: Window, service: Service, azure: LocalAzure
) -> None:
    alice = azure.get_account("alice@contoso.example")
    page = window.new_page()
    page.goto(service.url)
    expect_signed_out(page)
    sign_in(page, service.url, alice)
    expect(page.get_by_role("heading", level=1)).to_have_text(f"Hello, {alice.name}")
    token = get_token(page)
    sign_out(page, service.url)
    page.go_back()  # where the token was
    expect_signed_out(page)
    assert page.evaluate("location.pathname") == "/"
    for private in (token, alice.name, alice.username, alice.object_id):
        assert private not in page.content()


def test_cookie_from_before_sign_out_opens_nothing(
    window: Window, open_window: OpenWindow, signed_in: Person
) -> None:
    window.take_cookies(signed_in)
    page = window.new_page()
    page.goto(signed_in.url)
    sign_out(page, signed_in.url)
    assert "session" not in [cookie["name"] for cookie in window.context.cookies(signed_in.url)]
    later = open_window()
    later.take_cookies(signed_in)
    page = later.new_page()
    page.goto(signed_in.url)
    expect_signed_out(page)
    assert signed_in.account.username not in page.content()


def test_two_tabs_that_sign_in_side_by_side_both_end_signed_in(window: Window, person: Person) -> None:
    first, second = window.new_page(), window.new_page()
    for tab in (first, second):
        go_to_picker(tab, person.url)
    for tab in (second, first):
        pick(tab, person.account)
    for tab in (first, second):
        tab.reload()
        expect_signed_in(tab, person.account)
        get_token(tab)


def test_sign_in_without_javascript_works_and_says_what_needs_it(
    open_window: OpenWindow, person: Person
) -> None:
    page = open_window(scripts=False).new_page()
    sign_in(page, person.url, person.account)
    expect(page.locator("noscript p")).to_be_visible()
    expect(page.locator("noscript p")).to_contain_text("needs JavaScript")
    expect(page.locator("#token-result")).to_be_hidden()
    # A button that does nothing would be a riddle.
    expect(page.locator("#get-token")).to_be_hidden()
    sign_out(page, person.url)


def test_sign_in_that_is_cancelled_can_be_started_again(window: Window, service: Service) -> None:
    window.expect_trouble("status 400: GET .*/auth/callback")
    page = window.new_page()
    go_to_picker(page, service.url)
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_role("main")).to_contain_text("could not be completed")
    page.get_by_role("main").get_by_role("link").first.click()
    expect(page).to_have_title(PICKER)


def test_sign_in_from_a_tenant_that_is_not_allowed_is_told_so(
    window: Window, service: Service, azure: LocalAzure
) -> None:
    window.expect_trouble("status 403: GET .*/auth/callback")
    guest = azure.get_account("guest@fabrikam.example")
    page = window.new_page()
    go_to_picker(page, service.url)
    page.locator(f"button[value='{guest.username}']").click()
    expect(page.get_by_role("main")).to_contain_text("does not have access")
    page.goto(service.url)
    expect_signed_out(page)
