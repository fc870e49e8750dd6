"""Steps in a browser: signing in and out, getting a token."""

import re
from urllib.parse import urljoin

from playwright.sync_api import Page, expect

from tests.support.chromium import Window
from tests.support.local_azure import Account
from tests.support.person import Person

PICKER = re.compile("^Pick an account")
SIGN_IN = "a[href='/auth/sign-in']"
SIGN_OUT = "form[action='/auth/sign-out'] button"


def show_home(window: Window, person: Person) -> Page:
    """Open the start page in a window that has the session of this person."""
    window.take_cookies(person)
    page = window.new_page()
    page.goto(person.url)
    return page


def go_to_picker(page: Page, url: str) -> None:
    """Open the start page and press "Sign in", up to Entra ID's account picker."""
    page.goto(url)
    page.locator(SIGN_IN).click()
    expect(page).to_have_title(PICKER)


def pick(page: Page, account: Account) -> None:
    """Pick the account on the picker, and come back signed in."""
    page.locator(f"button[value='{account.username}']").click()
    expect_signed_in(page, account)


def sign_in(page: Page, url: str, account: Account) -> None:
    """Sign in from the start page, and return to it."""
    go_to_picker(page, url)
    pick(page, account)
    expect(page).to_have_url(urljoin(url, "/"))


def get_token(page: Page) -> str:
    """Press the button; return the token that is shown."""
    page.locator("#get-token").click()
    expect(page.locator("#token-result")).to_be_visible()
    return page.locator("#token-text").input_value()


def sign_out(page: Page, url: str) -> None:
    """Press "Sign out", and wait until the start page is back."""
    page.locator(SIGN_OUT).click()
    expect(page).to_have_url(urljoin(url, "/"))
    expect_signed_out(page)


def expect_signed_in(page: Page, account: Account) -> None:
    """Check that this account is signed in."""
    expect(page.locator(SIGN_OUT)).to_be_visible()
    expect(page.get_by_role("navigation")).to_contain_text(account.username)


def expect_signed_out(page: Page) -> None:
    """Check that the page offers to sign in, and not to sign out."""
    expect(page.locator(SIGN_IN)).to_be_visible()
    expect(page.locator(SIGN_OUT)).to_have_count(0)
