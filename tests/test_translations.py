"""The French texts: all of them, and whole."""

import re
from pathlib import Path

import pytest
from babel.messages.catalog import Catalog
from babel.messages.extract import extract_from_dir
from babel.messages.frontend import parse_mapping_cfg
from babel.messages.pofile import read_po

ROOT = Path(__file__).parents[1]
CATALOG = ROOT / "trusted_service" / "translations" / "fr.po"
FOLDERS_WITH_TEXTS = ("trusted_service", "templates")
LOOSE_MARK = re.compile(" [:;?!\N{RIGHT-POINTING DOUBLE ANGLE QUOTATION MARK}\N{HORIZONTAL ELLIPSIS}]")


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    with CATALOG.open("rb") as file:
        return read_po(file, locale="fr", abort_invalid=True)


def extract_texts() -> set[str]:
    """Return every text in the source that is to be translated, as `pybabel extract` finds them."""
    with (ROOT / "babel.cfg").open(encoding="utf-8") as file:
        methods, options = parse_mapping_cfg(file)  # type: ignore[no-untyped-call]

    def has_texts(folder: str) -> bool:
        return Path(folder).relative_to(ROOT).parts[0] in FOLDERS_WITH_TEXTS

    found = extract_from_dir(ROOT, methods, options, directory_filter=has_texts)
    return {text for _, _, text, _, _ in found if isinstance(text, str)}


def find_blanks(text: object) -> list[str]:
    """Return the places in a text where something is filled in."""
    return sorted(re.findall(r"%\(\w+\)s|\{\w+\}", str(text)))


def test_catalog_has_every_text_of_the_source_and_no_other(catalog: Catalog) -> None:
    in_source = extract_texts()
    assert "Get a token" in in_source
    assert {message.id for message in catalog if message.id} == in_source
    assert list(catalog.obsolete) == []


def test_catalog_is_translated_throughout(catalog: Catalog) -> None:
    assert [message.id for message in catalog if not message.string or (message.id and message.fuzzy)] == []


def test_translations_fill_in_what_their_originals_fill_in(catalog: Catalog) -> None:
    for message in catalog:
        if message.id:
            assert find_blanks(message.string) == find_blanks(message.id)


def test_french_marks_stand_behind_a_space_that_does_not_break(catalog: Catalog) -> None:
    loose = [message.string for message in catalog if message.id and LOOSE_MARK.search(str(message.string))]
    assert loose == []
