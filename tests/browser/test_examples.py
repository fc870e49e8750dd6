"""The single-page apps that `make run` serves beside the service, on an origin of their own."""

import re
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import OpenWindow
from tests.browser.steps import PICKER
from tests.support.admin_client import Admin
from tests.support.chromium import Window, find_violations
from tests.support.local_azure import Account, LocalAzure, read_env_file
from tests.support.person import Person
from tests.support.run import Run
from tests.support.service import free_port

PHONE = 320
TOKENS_PER_HOUR = 6
SETTINGS = {"RATE_LIMIT_TOKEN": f"{TOKENS_PER_HOUR} per hour", "GUNICORN_CMD_ARGS": "--workers 1"}
CLOUD = r"https://[\w.-]+\.(skype|microsoft)\.com"
CHAT_AND_CALLING_PROBLEMS = (
    "failed: GET https://localhost:.*/chat/threads.* net::ERR_CERT_AUTHORITY_INVALID",
    # Requests of the calling client to Microsoft's cloud, which the page's policy blocks.
    f"a request to another host: {CLOUD}",
    f"failed: .* {CLOUD}.* csp$",
    f"console: .*{CLOUD}.*Content Security Policy",
    "console: ECS - Service request failed",
    "console: No previously cached ECS",
)


@dataclass(frozen=True, kw_only=True)
class World:
    """The programs that `make run` started: the local Azure, the service, the examples."""

    azure: LocalAzure
    service_url: str
    url: str

    def new_account(self, **members: object) -> Account:
        tenant = self.azure.env["ENTRA_ALLOWED_TENANTS"]
        members = {"name": "Test Person", "tenantId": tenant} | members
        return self.azure.put_account(f"{uuid.uuid4().hex[:12]}@contoso.example", **members)

    def person(self, account: Account) -> Person:
        """Return the account signed in to the service's own pages, in another browser."""
        return Person(self.azure, self.service_url, account).signed_in()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("run")
    run = Run.start(free_port(), folder / "data", output_file=folder / "output", settings=SETTINGS)
    try:
        run.wait_until_ready()
        azure = LocalAzure()
        azure.env = read_env_file(folder / "data" / "azure.env")
        yield World(azure=azure, service_url=f"http://localhost:{run.port}", url=run.examples_url)
        azure.stop()
    finally:
        run.stop()


@pytest.fixture
def account(world: World) -> Account:
    return world.new_account()


@pytest.fixture
def page(window: Window) -> Page:
    return window.new_page()


def sign_in(page: Page, world: World, account: Account, path: str = "/") -> None:
    """Sign in through MSAL.js, and return to the page."""
    page.goto(world.url + path)
    page.get_by_role("button", name="Sign in").click()
    expect(page).to_have_title(PICKER)
    page.locator(f"button[value='{account.username}']").click()
    expect(page.locator("#username")).to_have_text(account.username)
    expect(page).to_have_url(world.url + path)


def test_token_on_another_origin_is_refreshed(world: World, account: Account, page: Page) -> None:
    page.clock.install()
    sign_in(page, world, account)
    expect(page.locator("#identity")).to_contain_text("8:acs:")
    expect(page.locator("#identity")).to_have_text(world.person(account).me()["communicationUserId"])
    expect(page.locator("#scopes")).to_have_text("chat, voip")
    expect(page.locator("#expires-in")).to_have_text(re.compile("^(60:00|59:5.)$"))
    expect(page.locator("#refreshes")).to_have_text("0 times")
    world.azure.reset_calls()
    page.clock.fast_forward("51:00")
    expect(page.locator("#refreshes")).to_have_text("once")
    # MSAL had an access token; five minutes before that expires, it uses its refresh token.
    assert "token" not in world.azure.count_calls("entra")
    page.clock.fast_forward("05:00")
    expect(page.locator("#refreshes")).to_have_text("2 times")
    assert world.azure.count_calls("entra")["token"] == 1


def test_sign_in_is_renewed_until_it_ends(world: World, account: Account, window: Window, page: Page) -> None:
    window.expect_problem("console: An iframe which has both allow-scripts and allow-same-origin")  # MSAL's
    page.clock.install()
    sign_in(page, world, account)
    expect(page.locator("#refreshes")).to_have_text("0 times")
    forget_refresh_token(page)
    world.azure.reset_calls()
    page.clock.fast_forward("57:00")
    expect(page.locator("#refreshes")).to_have_text("once")
    assert world.azure.count_calls("entra")["authorize"] == 1
    forget_refresh_token(page)
    window.context.clear_cookies()  # ends the session at Entra ID
    page.clock.fast_forward("57:00")
    expect(page.get_by_role("alert")).to_have_text("Your sign-in has ended. Sign in again.")
    expect(page.get_by_role("button", name="Sign in")).to_be_visible()
    expect(page.get_by_role("button", name="Try again")).to_be_hidden()


def forget_refresh_token(page: Page) -> None:
    page.evaluate(
        "Object.keys(sessionStorage).filter((key) => key.includes('refreshtoken'))"
        ".forEach((key) => sessionStorage.removeItem(key))"
    )


def test_sign_out_ends_the_entra_id_session(world: World, account: Account, page: Page) -> None:
    sign_in(page, world, account)
    world.azure.reset_calls()
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("button", name="Sign in")).to_be_visible()
    expect(page.locator("#username")).to_be_hidden()
    page.goto(world.url)
    expect(page.get_by_role("button", name="Sign in")).to_be_visible()
    assert world.azure.count_calls("entra")["logout"] == 1
    assert "token" not in page.evaluate("Object.keys(sessionStorage) + Object.keys(localStorage)")


def test_cancelled_sign_in_shows_the_reason(world: World, page: Page) -> None:
    page.goto(world.url)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("button", name="Cancel").click()
    expect(page).to_have_url(f"{world.url}/")
    expect(page.get_by_role("alert")).to_have_text("The sign-in failed: access_denied.")
    expect(page.get_by_role("button", name="Sign in")).to_be_visible()


def test_blocked_user_sees_the_reason(world: World, account: Account, window: Window, page: Page) -> None:
    window.expect_problem("status 403: POST .*/api/token")
    admin = Admin(world.person(world.azure.get_account("admin@contoso.example")))
    key = f"{account.tenant_id}/{account.object_id}"
    admin.do("api", key, "block")
    sign_in(page, world, account)
    expect(page.get_by_role("alert")).to_contain_text("Your account is blocked here.")
    expect(page.locator("#token")).to_be_hidden()
    admin.do("api", key, "unblock")
    page.get_by_role("button", name="Try again").click()
    expect(page.locator("#identity")).to_contain_text("8:acs:")
    expect(page.get_by_role("alert")).to_be_empty()


def test_account_of_another_tenant_sees_the_reason(world: World, window: Window, page: Page) -> None:
    window.expect_problem("status 401: POST .*/api/token")
    sign_in(page, world, world.azure.get_account("guest@fabrikam.example"))
    expect(page.get_by_role("alert")).to_contain_text("The service does not accept this account.")
    expect(page.get_by_role("button", name="Sign in")).to_be_visible()


def test_exceeded_limit_shows_the_wait(world: World, account: Account, window: Window, page: Page) -> None:
    window.expect_problem("status 429: POST .*/api/token")
    person = world.person(account)
    csrf = person.csrf_headers()
    for _ in range(TOKENS_PER_HOUR):
        assert person.token(csrf=csrf).status_code == 200
    sign_in(page, world, account)
    expect(page.get_by_role("alert")).to_have_text(re.compile(r"^Too many requests\. Try again in \d+ min\."))


def test_throttled_request_is_retried(world: World, account: Account, window: Window, page: Page) -> None:
    window.expect_problem("status 503: POST .*/api/token")
    world.azure.plant_fault("acs", "create", "status", status=429, retryAfter="2")
    sign_in(page, world, account)
    expect(page.get_by_role("status")).to_have_text("The service is busy: trying again in 2 seconds.")
    expect(page.locator("#identity")).to_contain_text("8:acs:")


def test_chat_and_calling_accept_tokens(world: World, account: Account, window: Window, page: Page) -> None:
    for pattern in CHAT_AND_CALLING_PROBLEMS:
        window.expect_problem(pattern)
    page.clock.install()
    sign_in(page, world, account, "/chat-and-calling.html")
    page.get_by_role("button", name="Start").click()
    expect_step(page, "credential", "done", "has a token for 8:acs:")
    expect_step(page, "chat-client", "done", "Created a ChatClient for https://localhost:")
    expect_step(page, "chat-threads", "failed", "Failed: Error sending request: Failed to fetch")
    expect_step(page, "call-client", "done", "Created a CallClient.")
    while not page.get_by_role("status").inner_text():
        page.clock.run_for(1000)  # it retries to load its settings from the cloud
    expect_step(page, "call-agent", "done", "Created a CallAgent. Its connection is Disconnected.")


def expect_step(page: Page, name: str, outcome: Literal["done", "failed"], text: str) -> None:
    step = page.locator(f"#{name}")
    expect(step).to_have_attribute("data-outcome", outcome)
    expect(step.locator("p")).to_contain_text(text)


@pytest.mark.parametrize(("path", "scheme"), [("/", "dark"), ("/chat-and-calling.html", "light")])
def test_page_has_no_violations_and_fits_a_phone(
    world: World, open_window: OpenWindow, path: str, scheme: Literal["dark", "light"]
) -> None:
    page = open_window(width=PHONE, color_scheme=scheme).new_page()
    sign_in(page, world, world.new_account(), path)
    if path == "/":
        expect(page.locator("#identity")).to_contain_text("8:acs:")
    assert find_violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE
