"""Signing in through Entra ID's pages and out again, with JavaScript and without."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import OpenWindow
from tests.browser.steps import expect_signed_in, expect_signed_out, get_token, show_home, sign_in, sign_out
from tests.support.chromium import Window
from tests.support.cookies import SESSION
from tests.support.local_azure import LocalAzure
from tests.support.person import Person
from tests.support.service import Service


@pytest.fixture
def registered(azure: LocalAzure, service: Service) -> Iterator[None]:
    """Entra ID knows the service's front-channel logout address."""
    azure.change_app(frontChannelLogoutUrl=f"{service.url}/auth/front-channel-logout")
    yield
    azure.change_app(frontChannelLogoutUrl=None)


def test_sign_out_leaves_nothing_behind(window: Window, service: Service, azure: LocalAzure) -> None:
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


def test_cookie_from_before_sign_out_is_refused(
    window: Window, open_window: OpenWindow, signed_in: Person
) -> None:
    sign_out(show_home(window, signed_in), signed_in.url)
    assert SESSION not in [cookie["name"] for cookie in window.context.cookies(signed_in.url)]
    page = show_home(open_window(), signed_in)
    expect_signed_out(page)
    assert signed_in.account.username not in page.content()


def test_sign_in_without_javascript_works(open_window: OpenWindow, person: Person) -> None:
    page = open_window(scripts=False).new_page()
    sign_in(page, person.url, person.account)
    expect(page.locator("noscript p")).to_be_visible()
    expect(page.locator("noscript p")).to_contain_text("need JavaScript")
    expect(page.locator("#token-result")).to_be_hidden()
    # A button without effect would be confusing.
    expect(page.locator("#get-token")).to_be_hidden()
    sign_out(page, person.url)


@pytest.mark.usefixtures("registered")
def test_sign_out_at_entra_ends_this_session(window: Window, open_window: OpenWindow, person: Person) -> None:
    here, there = window.new_page(), open_window().new_page()
    for page in (here, there):
        sign_in(page, person.url, person.account)
    entra = window.new_page()  # where another app sends the user
    with entra.expect_response("**/auth/front-channel-logout*") as response:
        entra.goto(f"{person.azure.get_app().page_origin}/{person.account.tenant_id}/oauth2/v2.0/logout")
    assert response.value.status == 200
    expect(entra.get_by_role("heading", level=1)).to_have_text("You signed out of your account")
    for page in (here, there):
        page.reload()
    expect_signed_out(here)
    expect_signed_in(there, person.account)
