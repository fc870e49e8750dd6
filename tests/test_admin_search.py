"""Searching users: by what they are called, whatever the case and accents; by their ids, exactly."""

import unicodedata
import uuid
from collections.abc import Callable, Iterator

import pytest
from azure.data.tables import TableServiceClient

from tests.support.desk import Desk
from tests.support.identity_rows import get_identity
from tests.support.index_rows import wait_until_indexed
from tests.support.local_azure import LocalAzure
from tests.support.person import Person
from tests.support.together import wait_until
from tests.support.user_lists import find, key_of, list_rows_of_pages

MARK = f"Quix{uuid.uuid4().hex[:6]}"
"""What every name here begins with: the people of other tests are not found by it."""


@pytest.fixture(scope="module")
def make_user(
    azure: LocalAzure, tables: TableServiceClient, new_person: Callable[..., Person]
) -> Callable[..., Person]:
    """Make somebody with this name, who has a token and whom searches find."""

    def make(name: str, *, tamper: str = "") -> Person:
        person = new_person(name=name)
        if tamper:
            azure.tamper(tamper)
        assert person.sign_in().status_code == 302
        assert person.token().status_code == 200
        wait_until_indexed(tables, person.account.object_id)
        return person

    return make


@pytest.fixture(scope="module")
def eloise(make_user: Callable[..., Person]) -> Person:
    return make_user(f"{MARK} Éloïse O'Brien-Straße")


@pytest.fixture(scope="module")
def user(make_user: Callable[..., Person]) -> Person:
    return make_user(f"{MARK} Plain Person")


@pytest.mark.parametrize(
    "rest",
    [
        *(" Éloïse", " éloïse", " ÉLOÏSE", " eloise", " ELOISE O'BRIEN", " éLoIsE o'brien-strasse", " É"),
        *(" ÉLOÏSE O'BRIEN-STRASSE", " éloïse o'brien-straße", " e"),
    ],
)
def test_name_is_found_by_its_beginning_whatever_case_and_accents(
    desk: Desk, eloise: Person, user: Person, rest: str
) -> None:
    for form in ("NFC", "NFD"):
        q = unicodedata.normalize(form, MARK.swapcase() + rest)
        assert find(desk, q=q) == [eloise.account.object_id]
    pages = list_rows_of_pages(desk, q=MARK + rest)
    assert [key_of(row) for rows in pages for row in rows] == [eloise.key]


@pytest.mark.parametrize(
    "rest", ["Éloïse", " loïse", " Éloïse O'Brien-Straßex", " %", " _", " *", " ?", "%", "."]
)
def test_what_no_name_begins_with_finds_nobody(desk: Desk, eloise: Person, rest: str) -> None:
    assert find(desk, q=MARK + rest) == []


@pytest.mark.parametrize("change", [str, str.upper, str.title])
def test_user_name_is_found_by_its_beginning(desk: Desk, user: Person, change: Callable[[str], str]) -> None:
    username = user.account.username
    for length in (len(username), len(username) - 5, 12):
        assert find(desk, q=change(username[:length])) == [user.account.object_id]
    assert find(desk, q=username + "x") == []
    assert find(desk, q=username[1:]) == []


def test_user_is_found_by_the_object_id_alone(desk: Desk, user: Person) -> None:
    object_id = user.account.object_id
    for q in (object_id, object_id.upper(), f" {object_id} ", user.key, user.key.upper()):
        assert find(desk, q=q) == [object_id]


def test_user_is_found_by_the_identity_exactly(desk: Desk, tables: TableServiceClient, user: Person) -> None:
    identity = get_identity(tables, user)
    assert find(desk, q=identity) == [user.account.object_id]
    assert find(desk, q=f" {identity} ") == [user.account.object_id]


def parts_of_ids(tables: TableServiceClient, user: Person) -> Iterator[str]:
    object_id, identity = user.account.object_id, get_identity(tables, user)
    yield from (
        object_id[:-1],
        object_id[:8],
        object_id + "0",
        object_id.replace("-", ""),
        f"{{{object_id}}}",
    )
    yield from (f"urn:uuid:{object_id}", f"{uuid.uuid4()}/{object_id}", f"/{object_id}", f"{user.key}/")
    yield from (identity[:-1], identity[:40], identity + "0", identity.removeprefix("8:acs:"), "8:acs:", "8:")
    yield from (identity.replace("8:acs:", "8:ACS:"), identity.replace("_", ""), identity.replace("-", ""))
    yield from (f"8:acs:{{{identity[6:42]}}}_{identity[43:]}", identity.replace("_", "_urn:uuid:"))


def test_part_of_an_id_finds_nobody(desk: Desk, tables: TableServiceClient, user: Person) -> None:
    for q in parts_of_ids(tables, user):
        assert find(desk, q=q) == [], q


def test_same_object_id_in_two_tenants_is_two_users(
    desk: Desk, tables: TableServiceClient, user: Person
) -> None:
    foreign = str(uuid.uuid4())
    rows = tables.get_table_client("identities")
    row = rows.get_entity(user.account.object_id, user.account.tenant_id) | {
        "RowKey": foreign,
        "AcsUserId": "",
    }
    rows.create_entity(row)
    try:
        assert find(desk, q=user.account.object_id) == [user.account.object_id] * 2
        assert find(desk, q=user.key) == [user.account.object_id]
    finally:
        rows.delete_entity(user.account.object_id, foreign)


@pytest.mark.parametrize(
    "name",
    [
        *(
            "<script>alert(1)</script>",
            '"><img src=x onerror=alert(1)>',
            '=HYPERLINK("x")',
            "{{7*7}}",
            "&amp;",
        ),
        *(
            "Robert'); DROP TABLE users;--",
            "' or Name ne '",
            "a/b\\c#d?e",
            "100% _real_",
            "\N{GRINNING FACE} emoji",
            "一二三",
        ),
        *("İstanbul", "\N{LATIN SMALL LIGATURE FI}ligree", "Ǆ", "  spaced  out  "),
    ],
)
def test_odd_name_is_shown_as_text_and_found(desk: Desk, make_user: Callable[..., Person], name: str) -> None:
    person = make_user(f"{MARK}{name}")
    shown = desk.get_user(person)["name"]
    assert shown == f"{MARK}{name}"
    assert find(desk, q=shown) == [person.account.object_id]
    (row,) = [row for rows in list_rows_of_pages(desk, q=shown) for row in rows]
    link = row.find("a")
    assert link is not None
    assert " ".join(link.get_text().split()) == " ".join(shown.split())
    assert not row.find_all(["script", "img"])


def test_name_of_stage_letters_is_found_by_plain_ones(desk: Desk, make_user: Callable[..., Person]) -> None:
    person = make_user(f"{MARK}\N{MATHEMATICAL BOLD CAPITAL A}\N{MATHEMATICAL BOLD SMALL D}a")
    assert find(desk, q=f"{MARK}ada") == [person.account.object_id]


def test_invisible_and_direction_marks_are_left_out_of_names(
    desk: Desk, make_user: Callable[..., Person]
) -> None:
    person = make_user(f"{MARK}a\u202egnp\u200b.exe\u0000\u0007\r\nb")
    assert desk.get_user(person)["name"] == f"{MARK}agnp.exeb"


def test_name_of_a_megabyte_is_cut(desk: Desk, make_user: Callable[..., Person]) -> None:
    person = make_user("long", tamper="oversized-name")
    name = desk.get_user(person)["name"]
    assert name == "x" * 256
    assert person.account.object_id in find(desk, q="x" * 200)
    assert person.account.object_id in find(desk, q="x" * 256)
    assert find(desk, q="x" * 257) == []


def test_renamed_user_is_found_by_the_new_name_after_the_next_sign_in(
    azure: LocalAzure, desk: Desk, tables: TableServiceClient, make_user: Callable[..., Person]
) -> None:
    old, new = f"{MARK} Before {uuid.uuid4().hex}", f"{MARK} After {uuid.uuid4().hex}"
    person = make_user(old)
    account = person.account
    azure.put_account(account.username, name=new, tenantId=account.tenant_id, objectId=account.object_id)
    assert find(desk, q=old) == [account.object_id]
    assert find(desk, q=new) == []
    assert person.sign_in().status_code == 302
    wait_until(lambda: find(desk, q=new) == [account.object_id])
    assert find(desk, q=old) == []
    assert desk.get_user(person)["name"] == new
    wait_until_indexed(tables, person.account.object_id)


def test_deleted_user_is_not_found_any_more(
    desk: Desk, tables: TableServiceClient, make_user: Callable[..., Person]
) -> None:
    name = f"{MARK} Gone {uuid.uuid4().hex}"
    person = make_user(name)
    identity = get_identity(tables, person)
    desk.do("api", person, "delete")
    for q in (name, person.account.username, person.account.object_id, person.key, identity):
        assert find(desk, q=q) == []


def test_user_found_by_name_and_user_name_is_shown_once(
    azure: LocalAzure, desk: Desk, new_person: Callable[..., Person], tables: TableServiceClient
) -> None:
    mark = f"twin{uuid.uuid4().hex[:8]}"
    account = azure.put_account(
        f"{mark}@contoso.example", name=f"{mark}@contoso.example", tenantId=azure.env["ENTRA_ALLOWED_TENANTS"]
    )
    person = Person(azure, new_person().url, account)
    person.sign_in()
    person.token()
    wait_until_indexed(tables, person.account.object_id)
    assert find(desk, q=mark) == [account.object_id]
    desk.do("api", person, "block")
    assert find(desk, q=mark) == find(desk, q=mark, status="blocked") == [account.object_id]
