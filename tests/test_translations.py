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


@pytest.fixture(scope="module")
def source() -> Catalog:
    """Every text in the source that is to be translated, as `pybabel extract` finds them."""
    with (ROOT / "babel.cfg").open(encoding="utf-8") as file:
        methods, options = parse_mapping_cfg(file)  # type: ignore[no-untyped-call]

    def has_texts(folder: str) -> bool:
        return Path(folder).relative_to(ROOT).parts[0] in FOLDERS_WITH_TEXTS

    texts = Catalog()
    for _, _, text, _, _ in extract_from_dir(ROOT, methods, options, directory_filter=has_texts):
        texts.add(text)
    return texts


def list_forms(text: object) -> list[str]:
    """Return singular and plural of a text, or the text alone where it has only one form."""
    return [str(form) for form in text] if isinstance(text, list | tuple) else [str(text or "")]


def find_blanks(text: str) -> list[str]:
    """Return the places in a text where something is filled in."""
    return sorted(re.findall(r"%\(\w+\)s|\{\w+\}", text))


def test_catalog_has_every_text_of_the_source_and_no_other(catalog: Catalog, source: Catalog) -> None:
    assert {message.id for message in catalog} == {message.id for message in source}
    assert "Get a token" in source
    assert list(catalog.obsolete) == []


def test_catalog_is_translated_throughout(catalog: Catalog) -> None:
    messages = [message for message in catalog if message.id]
    assert [message.id for message in messages if message.fuzzy or not all(list_forms(message.string))] == []


def test_translations_fill_in_what_their_originals_fill_in(catalog: Catalog) -> None:
    for message in catalog:
        if message.id:
            blanks = [find_blanks(form) for form in list_forms(message.id)]
            assert all(find_blanks(form) in blanks for form in list_forms(message.string)), message.id


def test_french_marks_stand_behind_a_space_that_does_not_break(catalog: Catalog) -> None:
    forms = [form for message in catalog if message.id for form in list_forms(message.string)]
    assert [form for form in forms if LOOSE_MARK.search(form)] == []
