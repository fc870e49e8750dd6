"""CSV files as Excel, PowerShell, Entra ID, databases and people write them: the right column, or none."""

import codecs
from datetime import UTC, datetime

import pytest

from trusted_service.jobs.upload import NAMES
from trusted_service.users.csv_file import UnreadableFile, read_table
from trusted_service.users.importing import read_mappings

A, B, M = (f"{letter}c9e6679-7425-40de-944b-e07fc1f90ae7" for letter in "abc")
"""Two users, and the manager who must never be taken for one."""
ACS = f"8:acs:{A}_{B}"
Content = bytes | str
Rows = dict[int, str | None]


def read_column(content: Content) -> Rows:
    """Return the object id or user name by line; None for a row whose cells may have shifted."""
    data = content.encode() if isinstance(content, str) else content
    rows = read_table(data, NAMES, ["objectId"], needs_header=False)
    return {line: cells["objectId"] if cells else None for line, cells in rows}


def windows_1252(text: str) -> bytes:
    return text.encode("cp1252")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (f"Leavers\nmanagerId,objectId\n{M},{A}\n", {3: A}),
        (f'#TYPE Selected.User\n"managerObjectId","objectId"\n"{M}","{A}"\n', {3: A}),
        (f"Leavers,,\n,,\n# of May,,\nmanagerId,objectId,x\n{M},{A},1\n", {5: A}),
        (f"User\nmanagerId,objectId\n{M},{A}\n", {3: A}),
        (f"objectId,managerId\n{A},{M}\nobjectId,managerId\n{B},{M}\n", {2: A, 3: "objectId", 4: B}),
        (f"user,id\nBob,{A}\n", {2: A}),
        (f"id,objectId\n{M},{A}\n", {2: A}),
        (f",objectId\n0,{A}\n", {2: A}),  # pandas
    ],
)
def test_titles_above_the_header_are_skipped(content: str, expected: Rows) -> None:
    assert read_column(content) == expected


@pytest.mark.parametrize(
    "header",
    [
        *("Object ID", "object_id", "ObjectId", "OID", "User Object Id", "AAD Object ID", "Objekt-ID"),
        *(
            "ID d'objet",
            "ID d\N{RIGHT SINGLE QUOTATION MARK}objet",
            "[objectId]",
            "Object ID [objectId] Required",
        ),
    ],
)
def test_object_id_has_many_spellings(header: str) -> None:
    for content in (f"managerId,{header}\n{M},{A}\n", f"{header}\n{A}\n"):
        assert set(read_column(content).values()) == {A}
    assert read_column(windows_1252(f"managerId;{header}\n{M};{A}\n")) == {2: A}


@pytest.mark.parametrize(
    ("content", "problem", "found"),
    [
        (f"{M},{A}\n", "column", "… | …"),
        (f"Manager [objectId],id 2\n{M},{A}\n", "column", "Manager [objectId] | id 2"),
        (f"{A},Ada\n", "column", "… | Ada"),
        (f"managerId,oldId\n{M},{A}\n", "column", "managerId | oldId"),
        (f"Leavers\nmanagerId,oldId\n{M},{A}\n", "column", "managerId | oldId"),
        (f"user,id\n{M},{A}\n", "ambiguous", "user | id"),
        (f"Object Id,objectId\n{M},{A}\n", "ambiguous", "Object Id | objectId"),
        (f"objectId,tenantId,tid\n{A},{B},{M}\n", "ambiguous", "objectId | tenantId | tid"),
        (f"objectId,managerId\n{A},{M}\nmanagerId,objectId\n{M},{A}\n", "ambiguous", "managerId | objectId"),
        (f"{M}\nobjectId,name\n{A},x\n", "ambiguous", "objectId | name"),
        (f"managerId\n{M}\n", "title", "managerId"),
        (f"# Leavers\nManager ID 2\n{M}\n", "title", "# Leavers"),
        (f"User\nmanager mail,x\n{M},\n", "column", "User"),
        ("Email,,\nManager,Department,\nm@x.example,HR,\n", "column", "Email"),
        *(
            (f"{title}\n{M}\n", "title", title)
            for title in ("*Manager/1", "(manager id)", "Chef: Ada", "Manager 2026-05")
        ),
        (f"name,mail\nx,{A}\n", "column", "name | mail"),
        ("id\n1\n2\n", "column", "id"),
        (f"objectGUID,department\n{A},x\n", "column", "objectGUID | department"),
        (
            f"name,eyJhbGciOiJSUzI1NiJ9abc.def,{'k' * 40},{ACS}\nx,{A},,\n",
            "column",
            "name | [removed] | … | [identity]",
        ),
        ("a@x.example;b@x.example\n", "column", "a@x.example | b@x.example"),
    ],
)
def test_doubtful_columns_are_refused(content: str, problem: str, found: str) -> None:
    with pytest.raises(UnreadableFile) as refused:
        read_column(content)
    assert (refused.value.problem, refused.value.found) == (problem, found)


@pytest.mark.parametrize("bom", ["", "\ufeff"])
@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (f"sep=;\nobjectId;name\n{A};x\n", {3: A}),
        (f'"sep=;"\r\nobjectId;name\r\n{A};x, y\r\n', {3: A}),
        (f"sep=,\nobjectId,name\n{A},x;y\n", {3: A}),
        (f"sep=\\t\nobjectId\tname\n{A}\tx\n", {3: A}),
        (f"SEP=\t\nobjectId\tname\n{A}\tx\n", {3: A}),
        (f"sep=^\nname^objectId\nx^{A}\n", {3: A}),
        (f"name\tobjectId\nDoe, J; x\t{A}\n", {2: A}),
        (f" name | objectid \n------+------\n x, y | {A} \n(1 row)\n", {2: "", 3: A, 4: ""}),
        (f'name;objectId\n"Doe, J";{A}\n"Doe; J";{B}\n', {2: A, 3: B}),
        (f'name,objectId\n"Doe; J, x",{A}\n', {2: A}),
        (f'"Leavers, May"\nobjectId;rate\n{A};1,5\n', {3: A}),
        (f'name, "objectId"\n"x", "{A}"\n', {2: A}),
        (f"objectId,name,\n{A},x,\n{B},y,\n", {2: A, 3: B}),
        (f"name,objectId\nx,{A},\n", {2: A}),
        (f"{A},\r{B},\r", {1: A, 2: B}),
        (f"1.23E+15\n{A[:20]}\n{B}\n", {1: "1.23E+15", 2: A[:20], 3: B}),
        (f"objectId,name\n------,----\n{A},NULL\nNULL,x\n", {2: "------", 3: A, 4: ""}),
    ],
)
def test_delimiters_are_recognised(content: str, expected: Rows, bom: str) -> None:
    for encoding in ("utf-8", "utf-16-le", "utf-16-be") if bom else ("utf-8",):
        assert read_column((bom + content).encode(encoding)) == expected


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (f"name,objectId\nDoe, John,{A}\nx,{B}\n", {2: None, 3: B}),
        (f"name,managerId,objectId,phone\nDoe, John,{M},{A},\nx,{M},{B},1\n", {2: None, 3: B}),
        (f"name,objectId,managerId\nx,{A}\n,{M}\ny,{B},{M}\n", {2: None, 3: None, 4: B}),
        (f"objectId,name,department\n{A}\n{B},x\n", {2: A, 3: B}),  # Excel leaves out empty cells at the end
        (f'name,objectId\n"two\nlines",{A}\n"say ""x""",{B}\n', {3: A, 4: B}),
    ],
)
def test_shifted_rows_are_refused(content: str, expected: Rows) -> None:
    assert read_column(content) == expected


def test_ids_are_read_as_programs_write_them() -> None:
    forms = [A.upper(), f"{{{A}}}", f"urn:uuid:{A}", f'="{A}"', f'"=""{A}"""', f"'{A}", f"\u00a0{A}\u200b"]
    found = read_column("\n".join(["objectId", *forms, A.replace("-", ""), "1.23E+15"]))
    assert [text and text.lower() for text in found.values()] == [A] * 7 + [A.replace("-", ""), "1.23e+15"]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("a@x.example\nb@x.example\n", {1: "a@x.example", 2: "b@x.example"}),
        (f"a@x.example\n{A}\n{ACS}\n", {1: "a@x.example", 2: A, 3: ACS}),
        *(
            (f"name,{header}\nx,a@x\ny,{A}\n", {2: "a@x", 3: A})
            for header in ("userPrincipalName", "mail", "UPN")
        ),
        *(
            (f"{header};x\na@x;m\n", {2: "a@x"})
            for header in ("E-Mail", "User name", "Email address", "user")
        ),
        (f"id,userPrincipalName,mail\n{A},a@x,m@x\n", {2: A}),  # the portal's export
        ("id,email\n1,a@x\n2,b@x\n", {2: "a@x", 3: "b@x"}),
        ("mail,User principal name\nm@x,a@x\n", {2: "a@x"}),
        (f'DistinguishedName,ObjectGUID,UserPrincipalName\n"CN=x,DC=y",{M},a@x\n', {2: "a@x"}),
        ("version:v1.0\nUser name [userPrincipalName] Required\na@x\n", {3: "a@x"}),
        ("Benutzerprinzipalname;E-Mail\na@x;m@x\n", {2: "a@x"}),
    ],
)
def test_columns_of_addresses_are_read(content: str, expected: Rows) -> None:
    assert read_column(content) == expected


def test_encoding_is_guessed_only_where_certain() -> None:
    text = f"objectId,name\n{A},Zoë\n"
    for data in (windows_1252(text), codecs.BOM_UTF8 + text.encode(), text.encode("utf-16")):
        assert read_column(data) == {2: A}
    for data, line in (
        *((text.encode("utf-16-le"), 1), (windows_1252(f"name,objectId\nx,{A}ë\n"), 2)),
        *((f"{text}\0".encode(), 3), (codecs.BOM_UTF16_LE + b"x", 1), (text.encode("utf-32"), 1)),
    ):
        with pytest.raises(UnreadableFile) as refused:
            read_column(data)
        assert (refused.value.problem, refused.value.line) == ("encoding", line)


@pytest.mark.parametrize(
    ("header", "row"),
    [
        ("managerObjectId,objectId,acsUserId", f"{M},{A},{ACS}"),
        ("Mappings\nobjectId;ACS User ID", f"{A};{ACS}"),
        ("sep=,\nid,objectId,communicationUserId", f"{M},{A},{ACS}"),
        ("communicationUserId,objectId,tenantId", f"'{ACS},{{{A}}},NULL"),
        ("objectId,communicationUserId,blocked", f"{A},{ACS},WAHR"),
    ],
)
def test_import_takes_the_named_columns(header: str, row: str) -> None:
    (read,) = read_mappings(f"{header}\n{row}\n".encode(), [B], datetime.now(UTC))
    assert read.detail == ""
    assert read.identity is not None
    assert (read.identity.user_id.object_id, read.identity.acs_user_id) == (A, ACS)
