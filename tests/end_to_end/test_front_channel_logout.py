"""Sign-out at Entra ID itself: its page calls us in a frame, and the session here is over."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from tests.end_to_end.conftest import OpenWindow
from tests.end_to_end.steps import expect_signed_in, expect_signed_out, sign_in, sign_out
from tests.support.chromium import Window
from tests.support.local_azure import LocalAzure
from tests.support.person import Person
from tests.support.service import Service


@pytest.fixture(autouse=True)
def _registered(azure: LocalAzure, service: Service) -> Iterator[None]:
    """Let Entra ID know the service's front-channel logout address."""
    azure.change_app(frontChannelLogoutUrl=f"{service.url}/auth/front-channel-logout")
    yield
    azure.change_app(frontChannelLogoutUrl=None)


def sign_out_at_entra(page: Page, azure: LocalAzure, tenant: str) -> None:
    """Open Entra ID's sign-out page, as another app would."""
    with page.expect_response("**/auth/front-channel-logout*") as answer:
        page.goto(f"{azure.get_app().page_origin}/{tenant}/oauth2/v2.0/logout")
    assert answer.value.status == 200
    expect(page.get_by_role("heading", level=1)).to_have_text("You signed out of your account")


def test_sign_out_at_entra_ends_the_session_here(window: Window, azure: LocalAzure, person: Person) -> None:
    page = window.new_page()
    sign_in(page, person.url, person.account)
    sign_out_at_entra(window.new_page(), azure, person.account.tenant_id)
    page.reload()
    expect_signed_out(page)


def test_sign_out_at_entra_leaves_the_persons_other_browser_alone(
    window: Window, open_window: OpenWindow, azure: LocalAzure, person: Person
) -> None:
    other = open_window().new_page()
    for page in (window.new_page(), other):
        sign_in(page, person.url, person.account)
    sign_out_at_entra(window.new_page(), azure, person.account.tenant_id)
    other.reload()
    expect_signed_in(other, person.account)


def test_sign_out_here_comes_back_from_entra(window: Window, person: Person) -> None:
    page = window.new_page()
    sign_in(page, person.url, person.account)
    sign_out(page, person.url)
