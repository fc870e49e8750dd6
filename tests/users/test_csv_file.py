"""CSV files as Excel, PowerShell, Entra ID, databases and people write them: the right column, or none."""

import codecs
from datetime import UTC, datetime

import pytest

from trusted_service.jobs.upload import NAMES
from trusted_service.users.csv_file import UnreadableFile, read_table
from trusted_service.users.mapping_file import read_mappings

A, B, M = (f"{letter}c9e6679-7425-40de-944b-e07fc1f90ae7" for letter in "abc")
"""Two users, and the manager who must never be taken for one."""
ACS = f"8:acs:{A}_{B}"
Rows = dict[int, str | None]


def read_column(content: bytes | str) -> Rows:
    """Return the object id or user name by line; None for a row whose cells may have shifted."""
    data = content.encode() if isinstance(content, str) else content
    rows = read_table(data, NAMES, ["objectId"], needs_header=False)
    return {line: cells["objectId"] if isinstance(cells, dict) else None for line, cells in rows}


@pytest.mark.parametrize("bom", ["", "\ufeff"])
@pytest.mark.parametrize(
    ("content", "expected"),
    [
        # Titles and comments above the header.
        (f"Leavers\nmanagerId,objectId\n{M},{A}\n", {3: A}),
        (f'#TYPE Selected.User\n"managerObjectId","objectId"\n"{M}","{A}"\n', {3: A}),
        (f"Leavers,,\n,,\n# of May,,\nmanagerId,objectId,x\n{M},{A},1\n", {5: A}),
        (f"User\nmanagerId,objectId\n{M},{A}\n", {3: A}),
        (f'"Leavers, May\nmanagerId,objectId"\nobjectId;rate\n{A};1,5\n', {4: A}),
        # Columns.
        (f"id,objectId\n{M},{A}\n", {2: A}),
        (f",objectId\n0,{A}\n", {2: A}),  # pandas
        (f"manager,Object ID\n{M},{A}\n", {2: A}),
        (f"id,userPrincipalName,mail\n{A},a@x,m@x\n", {2: A}),  # Entra ID's export
        ("mail,User principal name\nm@x,a@x\n", {2: "a@x"}),
        ("E-Mail;x\na@x;m\n", {2: "a@x"}),
        (f"objectId,name\n{A},OID\nNULL,\n", {2: A, 3: "NULL"}),
        # No header.
        ("a@x.example\nb@x.example\n", {1: "a@x.example", 2: "b@x.example"}),
        (f"{A},\r{A[:20]},\r'{B}\r1.23E+15\r", {1: A, 2: A[:20], 3: B, 4: "1.23E+15"}),
        # Delimiters and quotes.
        (f"sep=;\nobjectId;name\n{A};x\n", {3: A}),
        (f'"sep=,"\r\nobjectId,name\r\n{A},x;y\r\n', {3: A}),
        (f"SEP=\t\nobjectId\tname\n{A}\tx\n", {3: A}),
        (f"sep=^\nname^objectId\nx^{A}\n", {3: A}),
        (f"name\tobjectId\nDoe, J; x\t{A}\n", {2: A}),
        (f" name | objectid \n------+------\n x, y | {A} \n(1 row)\n", {2: "", 3: A, 4: ""}),  # psql
        (f'name;objectId\n"Doe, J";{A}\n"Doe; J";{B}\n', {2: A, 3: B}),
        (f"objectId,manager\n{A},{M}\nobjectId;m\n{B};{M}\n", {2: A, 3: None, 4: None}),
        (f'name, "objectId"\n"Doe; J, x", "{A}"\n', {2: A}),
        # Cells may have shifted, but Excel leaves out empty cells at the end.
        (f"name,managerId,objectId,phone\nDoe, John,{M},{A},\nx,{M},{B},1\n", {2: None, 3: B}),
        (f"name,manager,objectId,phone\nx,{M},{A},1\n{B},x,{M}\n", {2: A, 3: None}),
        (f"objectId,name,\n{A}\n{B},x,\n", {2: A, 3: B}),
        (f'name,objectId\n"two\nlines",{A}\n"say ""x""",{B}\n', {3: A, 4: B}),
    ],
)
def test_named_or_only_column_is_read(content: str, expected: Rows, bom: str) -> None:
    for encoding in ("utf-8", "utf-16-le", "utf-16-be") if bom else ("utf-8",):
        assert read_column((bom + content).encode(encoding)) == expected


@pytest.mark.parametrize(
    ("content", "line", "found"),
    [
        (f"{M},{A}\n", 1, f"{M} | {A}"),
        (f"managerId,oldId\n{M},{A}\n", 1, "managerId | oldId"),
        (f"Leavers\nmanagerId,oldId\n{M},{A}\n", 1, "Leavers"),
        (f"user,id\n{M},{A}\n", 1, "user | id"),
        (f"Object Id,objectId\n{M},{A}\n", 1, "Object Id | objectId"),
        (f"objectId,tenantId,tid\n{A},{B},{M}\n", 1, "objectId | tenantId | tid"),
        (f"User,May\nmanagerId,objectId\n{M},{A}\n", 2, "managerId | objectId"),
        (f"objectId,managerId\n{A},{M}\nmanagerId,oid\n{M},{A}\n", 3, "managerId | oid"),
        ("UPN,manager\na@x,m@x\nmanager,UPN\nm@x,a@x\n", 3, "manager | UPN"),
        (f"{M}\nobjectId,name\n{A},x\n", 2, "objectId | name"),
        (f"{M}\nobjectId\n{A}\n", 2, "objectId"),
        (f"User\nmanager mail,x\n{M},\n", 1, "User"),
        ("Email,,\nManager,Department,\nm@x.example,HR,\n", 1, "Email"),
        *((f"{title}\n{M}\n", 1, title) for title in ("managerId", "# Leavers 2", "*Manager/1", "Chef: Ada")),
        (f"{M},\n{A},{B}\n", 1, M),
        ("a@x.example;b@x.example\n", 1, "a@x.example | b@x.example"),
        ("x,eyJhbGciOiJSUzI1NiJ9abc.def\n", 1, "x | [removed]"),
    ],
)
def test_doubtful_columns_are_refused(content: str, line: int, found: str) -> None:
    with pytest.raises(UnreadableFile) as refused:
        read_column(content)
    assert (refused.value.problem, refused.value.line, refused.value.found) == ("column", line, found)


X, Y = "x@x.example", "y@x.example"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        # Excel's "shift cells left" keeps the width.
        (f"name,objectId,managerId\nx,{A},{M}\n{B},{M},\n", {2: None, 3: None}),
        (f"name,objectId,managerId\nx,{A},{M}\n{B},{M},\ny,{B},{M}\n", {2: A, 3: None, 4: B}),
        (f"objectId,managerId,name\n{A},{M},x\n{M},y,\n", {2: None, 3: None}),
        (f"objectId,managerId,name\n{A},{M},x\n{B},{M},x\n{M},y,\n", {2: A, 3: B, 4: None}),
        (f"Employee,Email,Manager Email\nx,{X},m@x\n{Y},m@x,\n", {2: None, 3: None}),
        (f"name,managerId,objectId,dept\nx,{M},{A},S\nDoe, John,{M},{B}\n", {2: None, 3: None}),
        (f"name,managerId,objectId\nx,{M},{A}\ny,{M},{B}\nDoe, John,{M}\n", {2: A, 3: B, 4: None}),
        (f"objectId,managerId\n{A},{M}\n{M},\n", {2: A, 3: None}),
        (f"objectId,managerUpn,x\n{A},m@x,1\nm@x,,\n{B},m@x,\n", {2: A, 3: None, 4: B}),
        # Nothing has moved.
        (f"objectId,managerId\nNULL,{M}\n{A},NULL\n{B},#N/A\n", {2: "NULL", 3: A, 4: B}),
        (f"objectId,name,managerId\n{A},x,{M}\n{B},y,\n", {2: A, 3: B}),
        (f"id,userPrincipalName,mail\n{A},{X},{X}\n{B},{Y},\n", {2: A, 3: B}),
        (f"objectId,name,mail\n{A},Ada,{X}\n{B},Zoe,\n{M},{Y},{Y}\n", {2: A, 3: B, 4: M}),  # a guest
        # Text among users that is no title of a list.
        (f"objectId,name\n{A},x\nTotal:,3\n", {2: A, 3: "Total:"}),
        (f"objectId,name\n{A},x\n#{M},kept\n-,\n{B},y\n", {2: A, 3: f"#{M}", 4: "-", 5: B}),
        (f"email\nExample: chris@contoso.com\n{X}\n", {2: "Example: chris@contoso.com", 3: X}),
        # Marks, quotation marks and braces around ids.
        (f'objectId,name\n="{A}",x\n"=""{B}""",y\n', {2: A, 3: B}),
        (f"Objekt-ID\n{{{A}}}\n\u201c{B}\u201d\n\u201e{M}\u201c\n", {2: A, 3: B, 4: M}),
        (f"ID d\u2019objet;x\n\u202a{A}\u202c;1\n{B.replace('-', chr(0x2011))}\u200b;2\n", {2: A, 3: B}),
        (f"\ufeffobjectId\n\u2066\ufeff{A}\u2069\n\u201c{X}\u201d\n{{{A}\n", {2: A, 3: X, 4: A}),
        (f"objectId,x\r\r\n{A},1\r\r\n", {2: A}),
        (f'objectId,x\r\n{A},"a\rb"\r\n{B},c\n', {3: A, 4: B}),
    ],
)
def test_rows_that_may_have_shifted_are_left_out(content: str, expected: Rows) -> None:
    assert read_column(content) == expected


@pytest.mark.parametrize(
    ("content", "problem", "line", "found"),
    [
        (
            f"Leavers\nobjectId,name\n{A},a\n\nManagers\nobjectId,name\n{M},b\n",
            "column",
            6,
            "objectId | name",
        ),
        (f"objectId\n{A}\n\nKeep:\n{M}\n", "lists", 4, "Keep:"),
        (f"objectId,name\n{A},a\nManagers,\n{M},z\n", "lists", 3, "Managers"),
        (f"objectId,name,x\n{A},a,1\nManagers of 2026,x,\n{M},z,1\n", "lists", 3, "Managers of 2026 | x"),
        (f"name,objectId\na,{A}\nManagers,\nz,{M}\n", "lists", 3, "Managers"),
        (f"objectId,name\n{A},a\n,Managers\n{M},b\n", "lists", 3, "Managers"),
        (f"{A}\n\nManagers:\n{M}\n", "lists", 3, "Managers:"),
        (f"userPrincipalName\n{X}\nnot these\n{Y}\n", "lists", 3, "not these"),
        (f"objectId\nmanagerId\n{M}\n{B}\n", "lists", 2, "managerId"),
        (f"email\njohn at contoso\nobjectId\n{A}\n", "column", 3, "objectId"),
        (f"email\njohn at contoso\n{X}\n", "lists", 2, "john at contoso"),
        (f"Name,objectId,\nx,manager,leaver\nx,{M},{A}\n", "lists", 2, "x | manager | leaver"),
        (f"Name,objectId,\nx,{M},{A}\n", "column", 1, "Name | objectId"),
        (f"objectId\n{A},{B},{M}\n", "cells", 2, f"{A} | {B} | {M}"),
        (f"objectId,note\r\n{A},kept\r{M},x\r\n", "syntax", 2, ""),
        (f"objectId,note\n{A},kept\r{M},x\n", "syntax", 2, ""),
    ],
)
def test_second_lists_and_stray_cells_are_refused(content: str, problem: str, line: int, found: str) -> None:
    with pytest.raises(UnreadableFile) as refused:
        read_column(content)
    assert (refused.value.problem, refused.value.line, refused.value.found) == (problem, line, found)


def test_encoding_is_guessed_only_where_certain() -> None:
    text = f"objectId,name\n{A},Zoë\n"
    assert read_column(text.encode("cp1252")) == {2: A}  # the name is not needed
    for data, line in (
        *((text.encode("utf-16-le"), 1), (f"name,objectId\nx,{A}ë\n".encode("cp1252"), 2)),
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
        ("acs_user_id,entra_object_id,target_tenant_id,status", f"{ACS},{A},{B},mapped"),
        ("communicationUserId,objectId,tenantId,blocked", f"'{ACS},'{A},{B},VRAI"),
    ],
)
def test_import_takes_the_named_columns(header: str, row: str) -> None:
    tenants = [B, M] if "tenant" in header else [B]
    (read,) = read_mappings(f"{header}\n{row}\n".encode(), tenants, datetime.now(UTC))
    assert read.detail == ""
    assert read.identity is not None
    assert (read.identity.user_id.object_id, read.identity.acs_user_id) == (A, ACS)
