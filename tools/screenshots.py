"""Takes a screenshot of every page in every state.

python -m tools.screenshots FOLDER
"""

import sys
from itertools import product
from pathlib import Path

from tests.browser.states import STATES, fill_lists
from tests.support.chromium import Chromium
from tests.support.local_azure import LocalAzure
from tests.support.person import Person
from tests.support.service import Service

WIDTHS = {"desktop": 1280, "phone": 390}
SCHEMES = ("light", "dark")
LANGUAGES = ("en", "fr")
SETTINGS = {"MISSING_IDENTITY_GRACE_SECONDS": "0"}


def take_screenshots(folder: Path) -> None:
    """Write `<state>-<language>-<width>-<scheme>.png` for each."""
    folder.mkdir(parents=True, exist_ok=True)
    with LocalAzure() as azure, Service(azure.env | SETTINGS) as service, Chromium() as chromium:
        user = sign_in(azure, service, "zoe", "Zoë Krüger-Lindström")
        admin = sign_in(azure, service, "ines", "Inès Dupont", "TrustedService.Admin")
        names = fill_lists(user, admin, sign_in(azure, service, "renee", "Renée Placée"))
        for number in range(1, 8):
            sign_in(azure, service, f"user.{number}", f"User Number {number}").token()
        for (name, state), language, (kind, width) in product(STATES.items(), LANGUAGES, WIDTHS.items()):
            window = chromium.open_window(width=width, locale=language)
            page = state.show(window, user, admin, names)
            for scheme in SCHEMES:
                page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
                page.screenshot(path=folder / f"{name}-{language}-{kind}-{scheme}.png", full_page=True)
            window.close()


def sign_in(azure: LocalAzure, service: Service, name: str, full_name: str, *roles: str) -> Person:
    """Create an account and sign it in."""
    members = {"name": full_name, "tenantId": azure.env["ENTRA_ALLOWED_TENANTS"], "roles": roles}
    person = Person(azure, service.url, azure.put_account(f"{name}@contoso.example", **members))
    person.sign_in().raise_for_status()
    return person


if __name__ == "__main__":
    take_screenshots(Path(sys.argv[1]))
