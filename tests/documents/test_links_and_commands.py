"""Links and commands in the documents lead somewhere, and README.fr.md has the same as README.md."""

import re
from collections import Counter
from pathlib import Path

import click
import pytest
from flask import Flask

from tests.infra.test_azd import list_files
from tests.support.service import ROOT
from tests.web.test_translations import BREAKING_SPACE
from trusted_service import cli

FILES = list_files()
DOCUMENTS = sorted(name for name in FILES if name.endswith(".md"))
FENCED, SPAN = re.compile(r"^ *```.*?^ *```", re.MULTILINE | re.DOTALL), re.compile(r"`[^`\n]+`")
FILE = re.compile(r"`([\w.][\w./-]*\.(?:py|bicep|json|ya?ml|html|js|po|svg|toml|sh))`")
LINK = re.compile(r"\]\((?!\w+:)([^)#\s]*)(?:#([\w-]+))?\)")
# The introduction, what to know, try and operate; what lies between is in English only.
SECTIONS = {
    "# Trusted service": "# Service",
    "## Before you start": "## À savoir",
    "## Try": "## Essayer",
    "## Operate": "## Exploiter",
}
ONLY_ENGLISH = {"](#try)", "](#integrate)", "](#operate)", "](README.fr.md)"}
ONLY_FRENCH = {"](#essayer)", "](#exploiter)", "](README.md)", "](README.md#integrate)"}


def read(name: str | Path) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def list_anchors(text: str) -> set[str]:
    """As GitHub makes them from headings: https://docs.github.com/get-started/writing-on-github"""
    headings = re.findall(r"^#+ (.*)$", FENCED.sub("", text), re.MULTILINE)
    made = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
    return made | set(re.findall(r'<a id="([\w-]+)"', text))


def find_section(text: str, title: str) -> str:
    match = re.search(rf"^{re.escape(title)}.*?(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert match, title
    return match[0]


def list_code_and_links(text: str) -> Counter[str]:
    """What a translation leaves alone. How often code is named may differ."""
    blocks, prose = FENCED.findall(text), FENCED.sub("", text)
    return Counter(blocks + sorted({*SPAN.findall(prose), *re.findall(r"\]\([^)]*\)|<http[^>]*>", prose)}))


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links_lead_to_files_and_sections(name: str) -> None:
    broken = []
    for path, anchor in LINK.findall(FENCED.sub("", read(name))):
        target = (ROOT / name).parent / path if path else ROOT / name
        if not target.exists() or (anchor and anchor not in list_anchors(read(target))):
            broken.append(f"{path}#{anchor}")
    assert broken == []


@pytest.mark.parametrize("name", DOCUMENTS)
def test_named_files_exist(name: str) -> None:
    """A path may begin in any folder, as the document says which."""
    named = set(FILE.findall(FENCED.sub("", read(name))))
    assert {path for path in named if not any(f"/{file}".endswith(f"/{path}") for file in FILES)} == set()


@pytest.mark.parametrize("name", DOCUMENTS)
def test_commands_exist(name: str) -> None:
    targets = set(re.findall(r"^([a-z-]+):", read("Makefile"), re.MULTILINE))
    code = "\n".join(FENCED.findall(read(name)) + SPAN.findall(read(name)))
    assert set(re.findall(r"^`?(?:\w+=\S+ )*make ([a-z-]+)", code, re.MULTILINE)) <= targets
    app = Flask(__name__)
    cli.init_app(app)
    for command, actions in re.findall(r"flask --app wsgi ([a-z-]+) ?([a-z|-]*)", code):
        found = app.cli.commands[command]
        if isinstance(found, click.Group) and actions:
            assert set(actions.split("|")) <= found.commands.keys()


@pytest.mark.parametrize("title", SECTIONS)
def test_french_readme_has_the_same_commands(title: str) -> None:
    english, french = (
        list_code_and_links(find_section(read(name), own))
        for name, own in (("README.md", title), ("README.fr.md", SECTIONS[title]))
    )
    for own in ONLY_ENGLISH:
        del english[own]
    for own in ONLY_FRENCH:
        del french[own]
    assert french == english


def test_french_readme_has_no_break_spaces() -> None:
    prose = SPAN.sub("", FENCED.sub("", read("README.fr.md")))
    assert BREAKING_SPACE.findall(prose) == []
    assert "\N{NO-BREAK SPACE}" in prose
