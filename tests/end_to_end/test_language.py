"""Pages in the language that the browser prefers."""

import pytest
import requests
from bs4 import BeautifulSoup
from playwright.sync_api import Page, expect

from tests.end_to_end.conftest import OpenWindow
from tests.end_to_end.steps import get_token
from tests.support.local_azure import LocalAzure
from tests.support.person import Person
from tests.support.service import Service


@pytest.mark.parametrize(
    ("preferred", "language"),
    [
        (None, "en"),
        ("*", "en"),
        ("de", "en"),
        ("fr", "fr"),
        ("fr-CA", "fr"),
        ("fr-CA, en;q=0.9", "fr"),
        ("en-GB, fr;q=0.9", "en"),
        ("de, fr;q=0.5, en;q=0.4", "fr"),
        ("fr;q=0, en", "en"),
        ("FR", "fr"),
    ],
)
def test_language_is_what_the_browser_prefers(preferred: str | None, language: str, service: Service) -> None:
    headers = {} if preferred is None else {"Accept-Language": preferred}
    page = BeautifulSoup(requests.get(service.url, headers=headers, timeout=30).text, "html.parser")
    assert page.html is not None
    assert page.html["lang"] == language


@pytest.fixture
def accueil(open_window: OpenWindow, signed_in: Person) -> Page:
    """The home page in French."""
    window = open_window(locale="fr-FR")
    window.expect_trouble("status 503: POST .*/api/token")
    window.take_cookies(signed_in)
    page = window.new_page()
    page.goto(signed_in.url)
    return page


def test_scripts_and_errors_speak_french_too(accueil: Page, azure: LocalAzure) -> None:
    expect(accueil.get_by_role("heading", level=1)).to_have_text("Bonjour, Test Person")
    azure.plant_fault("acs", "create", "status", status=429, retryAfter="7")
    accueil.get_by_role("button", name="Obtenir un jeton").click()
    expect(accueil.get_by_role("status")).to_contain_text("dans 7 secondes")
    expect(accueil.get_by_role("status")).to_contain_text("indisponible")
    azure.clear_faults()
    get_token(accueil)
    expect(accueil.get_by_role("status")).to_contain_text("Voici votre jeton")
