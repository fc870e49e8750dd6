"""French translations: complete, and sent to browsers that prefer French."""

import re
from pathlib import Path

import pytest
import requests
from babel.messages.catalog import Catalog
from babel.messages.extract import DEFAULT_KEYWORDS, extract_from_dir
from babel.messages.frontend import parse_mapping_cfg
from babel.messages.pofile import read_po
from bs4 import BeautifulSoup

from tests.support.service import ROOT, Service

FOLDERS_WITH_TEXTS = ("trusted_service", "templates")
BREAKING_SPACE = re.compile(" [:;?!\N{RIGHT-POINTING DOUBLE ANGLE QUOTATION MARK}\N{HORIZONTAL ELLIPSIS}]")


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    with (ROOT / "trusted_service" / "translations" / "fr.po").open("rb") as file:
        return read_po(file, locale="fr", abort_invalid=True)


def list_forms(text: object) -> list[str]:
    """Return the singular and plural of a text, or its only form."""
    return [str(form) for form in text] if isinstance(text, list | tuple) else [str(text or "")]


def find_fields(text: str) -> list[str]:
    """Return the replacement fields of a text."""
    return sorted(re.findall(r"%\(\w+\)s|\{\w+\}", text))


def test_catalog_has_every_source_text(catalog: Catalog) -> None:
    def has_texts(folder: str) -> bool:
        return Path(folder).relative_to(ROOT).parts[0] in FOLDERS_WITH_TEXTS

    with (ROOT / "babel.cfg").open(encoding="utf-8") as file:
        methods, options = parse_mapping_cfg(file)  # type: ignore[no-untyped-call]
    source, keywords = Catalog(), DEFAULT_KEYWORDS | {"InvalidRequest": None}
    for _, _, text, _, _ in extract_from_dir(ROOT, methods, options, keywords, directory_filter=has_texts):
        source.add(text)
    assert {message.id for message in catalog} == {message.id for message in source}
    assert "Get a token" in source
    assert list(catalog.obsolete) == []


def test_translations_are_complete(catalog: Catalog) -> None:
    for message in (message for message in catalog if message.id):
        forms, fields = list_forms(message.string), [find_fields(form) for form in list_forms(message.id)]
        assert not message.fuzzy, message.id
        for form in forms:
            assert form, message.id
            assert find_fields(form) in fields, message.id
            assert not BREAKING_SPACE.search(form), "French punctuation needs a no-break space"


@pytest.mark.parametrize(
    ("preferred", "language"),
    [
        *((preferred, "en") for preferred in (None, "*", "de", "en-GB, fr;q=0.9", "fr;q=0, en")),
        *((preferred, "fr") for preferred in ("fr", "FR", "fr-CA", "fr-CA, en;q=0.9")),
        ("de, fr;q=0.5, en;q=0.4", "fr"),
    ],
)
def test_language_follows_browser_preference(preferred: str | None, language: str, service: Service) -> None:
    headers = {} if preferred is None else {"Accept-Language": preferred}
    page = BeautifulSoup(requests.get(service.url, headers=headers, timeout=30).text, "html.parser")
    assert page.html is not None
    assert page.html["lang"] == language
