"""What the home page says when no token is to be had: plainly, and what to do about it."""

import re
from collections.abc import Callable

import pytest
from azure.data.tables import TableServiceClient
from playwright.sync_api import Page, expect

from tests.end_to_end.conftest import OpenWindow
from tests.end_to_end.steps import expect_signed_in, expect_signed_out, get_token, pick, sign_out
from tests.support.chromium import Window
from tests.support.local_azure import LocalAzure
from tests.support.person import Person
from tests.support.rows import get_session
from tests.support.storage_proxy import Fault, StorageProxy

SIGNED_OUT = re.compile("not signed in any more.*[Rr]eload")

EndSession = Callable[[], None]


@pytest.fixture(params=["in another window", "in the storage"])
def end_session(
    request: pytest.FixtureRequest, open_window: OpenWindow, signed_in: Person, tables: TableServiceClient
) -> EndSession:
    """Ends the session of `signed_in` past the page that is open."""

    def in_another_window() -> None:
        other = open_window()
        other.take_cookies(signed_in)
        page = other.new_page()
        page.goto(signed_in.url)
        sign_out(page, signed_in.url)

    def in_the_storage() -> None:
        row = get_session(tables, signed_in)
        tables.get_table_client("sessions").delete_entity(row["PartitionKey"], row["RowKey"])

    return in_another_window if request.param == "in another window" else in_the_storage


def test_session_that_ended_elsewhere_is_named_and_a_reload_helps(
    window: Window, home: Page, end_session: EndSession
) -> None:
    window.expect_trouble("status 401: POST .*/api/token")
    get_token(home)
    end_session()
    home.locator("#get-token").click()
    expect(home.get_by_role("status")).to_have_text(SIGNED_OUT)
    expect(home.locator("#token-result")).to_be_hidden()
    expect(home.locator("#token-text")).to_have_value("")
    home.reload()
    expect_signed_out(home)


def test_throttled_communication_services_say_in_how_many_seconds(
    window: Window, home: Page, azure: LocalAzure
) -> None:
    window.expect_trouble("status 503: POST .*/api/token")
    azure.plant_fault("acs", "create", "status", status=429, retryAfter="7")
    home.locator("#get-token").click()
    expect(home.get_by_role("status")).to_contain_text("try again in 7 seconds")
    expect(home.locator("#token-result")).to_be_hidden()
    azure.clear_faults()
    assert azure.check_token(get_token(home))["valid"]


def test_storage_that_fails_is_told_and_keeps_signed_in(
    window: Window, home: Page, storage_proxy: StorageProxy, signed_in: Person
) -> None:
    window.expect_trouble("status 503: POST .*/api/token")
    storage_proxy.plant(Fault(kind="status", status=503, retry_after="3", table="sessions"))
    home.locator("#get-token").click()
    expect(home.get_by_role("status")).to_contain_text("try again in 3 seconds")
    storage_proxy.clear()
    home.reload()
    expect_signed_in(home, signed_in.account)


def test_lost_connection_is_told_and_the_button_works_afterwards(window: Window, home: Page) -> None:
    window.expect_trouble("failed: POST .*/api/token net::ERR_INTERNET_DISCONNECTED")
    home.route("**/api/token", lambda route: route.abort("internetdisconnected"))
    home.locator("#get-token").click()
    expect(home.get_by_role("status")).to_contain_text("could not be reached")
    home.unroute("**/api/token")
    get_token(home)


def test_button_pressed_twice_gets_one_token(home: Page, azure: LocalAzure) -> None:
    calls: list[str] = []
    home.on("request", lambda request: calls.append(request.method))
    azure.plant_fault("acs", "create", "delay", seconds=0.5)
    home.locator("#get-token").dblclick()
    expect(home.get_by_role("status")).to_contain_text("Getting a token")
    expect(home.locator("#token-result")).to_be_visible()
    assert calls.count("POST") == 1
    get_token(home)
    assert calls.count("POST") == 2


def test_tab_from_before_another_sign_in_still_gets_tokens(
    window: Window, home: Page, signed_in: Person, azure: LocalAzure
) -> None:
    window.expect_trouble("status 403: POST .*/api/token")  # with the value of the session before
    sign_in_beside(home, signed_in)
    assert azure.check_token(get_token(home))["valid"]


def test_tab_of_one_person_shows_no_token_of_another(
    window: Window, home: Page, signed_in: Person, new_person: Callable[..., Person]
) -> None:
    window.expect_trouble("status 403: POST .*/api/token")
    somebody_else = new_person(name="Somebody Else")
    sign_in_beside(home, somebody_else)
    home.locator("#get-token").click()
    home.wait_for_load_state("networkidle")
    expect(home.get_by_role("status")).not_to_contain_text("Getting a token")
    if signed_in.account.name in home.get_by_role("heading", level=1).inner_text():
        expect(home.locator("#token-result")).to_be_hidden()
        expect(home.locator("#token-text")).to_have_value("")


def sign_in_beside(home: Page, person: Person) -> None:
    """Sign in in another tab of the same window."""
    tab = home.context.new_page()
    tab.goto(f"{person.url}/auth/sign-in")
    pick(tab, person.account)
