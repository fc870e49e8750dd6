"""docs/security.md: the table is complete, and the files and tests it cites exist."""

import re
from collections import Counter

import pytest

from tests.support.service import ROOT

TEXT = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| (\d+\.\d+\.\d+) \| (\d) \| [^|]+ \| ([^|]+) \| ([^|]+) \|$", TEXT, re.MULTILINE)
FILES = re.compile(r"(?:tests|trusted_service|templates|docs)/[\w/.-]*\w")
TESTS = re.compile(r"(tests/[\w/]+\.py)::(\w+)")

# ASVS 5.0.0, levels 1 and 2, in the document's chapters, without the requirements that Entra ID meets.
EXPECTED = {
    1: "3.2.1 3.2.2 3.3.1 3.4.1 3.4.2 3.5.1 3.5.2 3.5.3 4.1.1 4.4.1 7.2.1 7.2.2 7.2.3 7.2.4 7.4.1 7.4.2 "
    "8.1.1 8.2.1 8.2.2 8.3.1 9.1.1 9.1.2 9.1.3 9.2.1 14.2.1 14.3.1",
    2: "3.3.2 3.3.3 3.3.4 3.4.3 3.4.4 3.4.5 3.4.6 3.5.4 3.5.5 3.7.1 3.7.2 4.1.2 4.1.3 4.2.1 4.3.1 4.3.2 "
    "4.4.2 4.4.3 4.4.4 6.8.1 6.8.2 6.8.3 6.8.4 7.1.1 7.1.2 7.1.3 7.3.1 7.3.2 7.4.3 7.4.4 7.4.5 7.5.1 7.5.2 "
    "7.6.1 7.6.2 8.1.2 8.2.3 8.4.1 9.2.2 9.2.3 9.2.4 10.1.1 10.1.2 10.2.1 10.2.2 10.3.1 10.3.2 10.3.3 10.3.4 "
    "10.5.1 10.5.2 10.5.3 10.5.4 10.5.5 14.1.1 14.1.2 14.2.2 14.2.3 14.2.4 14.3.2 14.3.3 16.1.1 16.2.1 "
    "16.2.2 16.2.3 16.2.4 16.2.5 16.3.1 16.3.2 16.3.3 16.3.4 16.4.1 16.4.2 16.4.3 16.5.1 16.5.2 16.5.3",
}


def test_table_has_every_requirement_once() -> None:
    expected = [(number, str(level)) for level, numbers in EXPECTED.items() for number in numbers.split()]
    assert Counter((number, level) for number, level, _, _ in ROWS) == Counter(expected)
    assert {verdict for _, _, verdict, _ in ROWS} == {"met", "not met", "not applicable"}


@pytest.mark.parametrize(("number", "verdict", "proof"), [(n, v, p) for n, _, v, p in ROWS])
def test_met_requirement_has_proof(number: str, verdict: str, proof: str) -> None:
    assert number
    if verdict == "met":
        assert FILES.search(proof)
    assert len(proof) > 10


@pytest.mark.parametrize("name", sorted(set(FILES.findall(TEXT))))
def test_cited_file_exists(name: str) -> None:
    assert (ROOT / name).exists()


@pytest.mark.parametrize(("file", "name"), sorted(set(TESTS.findall(TEXT))))
def test_cited_test_exists(file: str, name: str) -> None:
    assert re.search(rf"^def {name}\(", (ROOT / file).read_text(encoding="utf-8"), re.MULTILINE)


def test_inventory_has_every_audit_event() -> None:
    source = (ROOT / "trusted_service" / "audit.py").read_text(encoding="utf-8")
    names = set(re.findall(r'"[a-z-]+": "([a-z_]+)"', source)) | {"authz_admin"}
    assert len(names) > 5
    for name in names:
        assert f"`{name}`" in TEXT
