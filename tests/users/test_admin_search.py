"""Users are found by name prefix, regardless of case and accents, and by complete ids."""

import unicodedata
import uuid

import pytest

from tests.support.commands import run_users
from tests.support.concurrency import wait_until
from tests.support.own_azure import World
from tests.support.person import Person
from tests.support.rows import identity_key
from tests.support.storage_proxy import Fault
from tests.support.user_lists import find, key_of, list_rows_of_pages

PREFIX = f"Quix{uuid.uuid4().hex[:6]}"
"""Prefix of every name in this module, so that searches do not find users of other tests."""


@pytest.fixture(scope="module")
def eloise(world: World) -> Person:
    return world.new_user(name=f"{PREFIX} Éloïse O'Brien-Straße")


@pytest.fixture(scope="module")
def user(world: World) -> Person:
    return world.new_user(name=f"{PREFIX} Plain Person")


BEGINNINGS = ["Éloïse", "éloïse", "ÉLOÏSE", "eloise", "ELOISE O'BRIEN", "éLoIsE o'brien-strasse", "É", "e"]
BEGINNINGS += ["ÉLOÏSE O'BRIEN-STRASSE", "éloïse o'brien-straße"]


@pytest.mark.parametrize("beginning", BEGINNINGS)
def test_name_search_ignores_case_and_accents(
    world: World, eloise: Person, user: Person, beginning: str
) -> None:
    for form in ("NFC", "NFD"):
        q = unicodedata.normalize(form, f"{PREFIX.swapcase()} {beginning}")
        assert find(world.admin, q=q) == [eloise.account.object_id]
    pages = list_rows_of_pages(world.admin, q=f"{PREFIX} {beginning}")
    assert [key_of(row) for rows in pages for row in rows] == [eloise.key]


def test_other_text_finds_no_user(world: World, eloise: Person) -> None:
    for text in ("Éloïse", " loïse", " Éloïse O'Brien-Straßex", " %", " _", " *", " ?", "%", "."):
        assert find(world.admin, q=PREFIX + text) == [], text


def test_user_name_is_found_by_prefix(world: World, user: Person) -> None:
    username = user.account.username
    for length in (len(username), len(username) - 5, 12):
        for q in (username[:length], username[:length].upper(), username[:length].title()):
            assert find(world.admin, q=q) == [user.account.object_id], q
    assert find(world.admin, q=username + "x") == find(world.admin, q=username[1:]) == []


def test_user_is_found_only_by_complete_ids(world: World, user: Person) -> None:
    object_id, identity = user.account.object_id, world.identity_of(user)
    ids = [object_id, object_id.upper(), f" {object_id} ", user.key, user.key.upper()]
    for q in (*ids, identity, f" {identity} "):
        assert find(world.admin, q=q) == [object_id], q
    texts = [object_id[:-1], object_id[:8], object_id + "0", object_id.replace("-", ""), f"{{{object_id}}}"]
    texts += [f"urn:uuid:{object_id}", f"{uuid.uuid4()}/{object_id}", f"/{object_id}", f"{user.key}/"]
    texts += [identity[:-1], identity[:40], identity + "0", identity.removeprefix("8:acs:"), "8:acs:", "8:"]
    texts += [identity.replace("8:acs:", "8:ACS:"), identity.replace("_", ""), identity.replace("-", "")]
    texts += [f"8:acs:{{{identity[6:42]}}}_{identity[43:]}", identity.replace("_", "_urn:uuid:")]
    for q in texts:
        assert find(world.admin, q=q) == [], q


def test_object_id_finds_users_of_both_tenants(world: World, user: Person) -> None:
    foreign, object_id = str(uuid.uuid4()), user.account.object_id
    rows = world.tables.get_table_client("identities")
    rows.create_entity(rows.get_entity(*identity_key(user)) | {"RowKey": foreign, "AcsUserId": ""})
    try:
        assert find(world.admin, q=object_id) == [object_id] * 2
        assert find(world.admin, q=user.key) == [object_id]
    finally:
        rows.delete_entity(object_id, foreign)


ODD_NAMES = ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', '=HYPERLINK("x")', "{{7*7}}"]
ODD_NAMES += ["&amp;", "Robert'); DROP TABLE users;--", "' or Name ne '", "a/b\\c#d?e", "100% _real_"]
ODD_NAMES += ["\N{GRINNING FACE} emoji", "一二三", "İstanbul", "\N{LATIN SMALL LIGATURE FI}ligree", "Ǆ"]
ODD_NAMES += ["  spaced  out  "]


@pytest.mark.parametrize("name", ODD_NAMES)
def test_odd_name_is_shown_as_text_and_found(world: World, name: str) -> None:
    person = world.new_user(name=f"{PREFIX}{name}")
    shown = world.admin.get_user(person)["name"]
    assert shown == f"{PREFIX}{name}".rstrip()
    assert find(world.admin, q=shown) == [person.account.object_id]
    (row,) = [row for rows in list_rows_of_pages(world.admin, q=shown) for row in rows]
    (link,) = row.select("a")
    assert " ".join(link.get_text().split()) == " ".join(shown.split())
    assert not row.find_all(["script", "img"])


def test_name_is_found_and_shown_in_plain_letters(world: World) -> None:
    stylized = world.new_user(name=f"{PREFIX}\N{MATHEMATICAL BOLD CAPITAL A}\N{MATHEMATICAL BOLD SMALL D}a")
    assert find(world.admin, q=f"{PREFIX}ada") == [stylized.account.object_id]
    invisible = world.new_user(name=f"{PREFIX}a\u202egnp\u200b.exe\u0000\u0007\r\nb")
    assert world.admin.get_user(invisible)["name"] == f"{PREFIX}agnp.exe b"


@pytest.mark.parametrize("blank", ["\u3000", "\u00a0", "\u2003", "\u202f", "\t", "\r\n", "\u2028", "\x85"])
def test_blank_in_a_name_is_a_space(world: World, blank: str) -> None:
    last = uuid.uuid4().hex
    person = world.new_user(name=f"{PREFIX}山田{blank}{last}")
    assert world.admin.get_user(person)["name"] == person.me()["user"]["name"] == f"{PREFIX}山田 {last}"
    for query in (f"{PREFIX}山田 {last}", f"{PREFIX}山田\u3000{last}", f"{PREFIX}山田\u00a0{last[:9]}", last):
        assert find(world.admin, q=query) == [person.account.object_id]


@pytest.mark.parametrize("blank", ["\u3000", "\u00a0", " ", "\t", "\u200b \u200b"])
def test_blank_around_a_name_is_dropped(world: World, blank: str) -> None:
    person = world.new_user(name=f"{blank}{PREFIX}{blank}Kim{blank}")
    assert world.admin.get_user(person)["name"] == person.me()["user"]["name"] == f"{PREFIX} Kim"


@pytest.mark.parametrize(
    "form", ["{}\u200b", "\ufeff{}", "\u202a{}\u202c", " {}\u00a0\u200b", "\u2066 {}\u2069 "]
)
def test_invisible_marks_in_a_search_do_not_count(world: World, user: Person, form: str) -> None:
    object_id = user.account.object_id
    texts = (f"{PREFIX} Plain", user.account.username, object_id, user.key, world.identity_of(user))
    for q in map(form.format, texts):
        assert find(world.admin, q=q) == [object_id], q
        assert [key_of(row) for rows in list_rows_of_pages(world.admin, q=q) for row in rows] == [user.key]
    assert user.key in run_users(world.service.env, "list", "--q", form.format(user.account.username))


def test_megabyte_name_is_truncated(world: World) -> None:
    world.azure.tamper("oversized-name")
    person = world.new_user(name="long")
    assert world.admin.get_user(person)["name"] == person.me()["user"]["name"] == "x" * 256
    for length in (200, 256):
        assert person.account.object_id in find(world.admin, q="x" * length)
    assert find(world.admin, q="x" * 257) == []


def test_renamed_user_is_found_after_signing_in(world: World) -> None:
    before, after = f"{PREFIX} Before {uuid.uuid4().hex}", f"{PREFIX} After {uuid.uuid4().hex}"
    person = world.new_user(name=before)
    object_id = person.account.object_id
    world.rename(person, after)
    assert find(world.admin, q=before) == [object_id]
    assert find(world.admin, q=after) == []
    world.storage.plant(Fault(kind="status", method="P", table="identities", status=500))
    assert person.sign_in().status_code == 302, "a failed name update must not fail the sign-in"
    world.storage.clear()
    assert person.signed_in().me()["user"]["name"] == after
    wait_until(lambda: find(world.admin, q=after) == [object_id], seconds=5)
    assert find(world.admin, q=before) == []
    assert world.admin.get_user(person)["name"] == after


def test_name_equal_to_user_name_is_found_once(world: World) -> None:
    prefix = f"twin{uuid.uuid4().hex[:8]}"
    person = world.new_user(f"{prefix}@contoso.example", name=f"{prefix}@contoso.example")
    assert find(world.admin, q=prefix) == [person.account.object_id]
    world.admin.do("api", person, "block")
    for query in ({}, {"status": "blocked"}):
        assert find(world.admin, q=prefix, **query) == [person.account.object_id]
