"""User files uploaded by administrators: accepted formats, invalid files and size limits."""

import csv
import io
import uuid
from dataclasses import replace

import pytest

from tests.support.jobs import JobAdmin
from tests.support.pages import assert_error_page
from tests.support.rows import list_rows
from tests.support.seed import ledger_row, put_rows, seed_users
from trusted_service.storage.index_rows import index_rows

ONE, TWO = str(uuid.UUID(int=1)), str(uuid.UUID(int=2))
TENANT = str(uuid.UUID(int=3))

Content = bytes | str
Rows = list[tuple[str, str]]


def read_upload(job_admin: JobAdmin, content: Content) -> Rows:
    """Upload a file; return the line and the object id, else the text, of each row of its job."""
    path = job_admin.draft(job_admin.upload("block", content))
    return [(row["line"], row["objectId"] or row["given"]) for row in job_admin.rows(path)]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (f"{ONE}\n{TWO}\n", [("1", ONE), ("2", TWO)]),
        (f"object id\r\n{ONE}\r\n{TWO}", [("2", ONE), ("3", TWO)]),
        (b"\xef\xbb\xbf" + f"objectId\n{ONE}\n".encode(), [("2", ONE)]),
        (f"\n\n{ONE}\n\n  {TWO}  \n", [("3", ONE), ("5", TWO)]),
        (f" {TENANT.upper()}/{ONE} \n{TENANT}/{TWO}", [("1", ONE), ("2", TWO)]),
        (f"{ONE}\n/{ONE}\n{TENANT}/\n", [("1", ONE), ("2", f"/{ONE}"), ("3", f"{TENANT}/")]),
        (f"tenantId,objectId,name\n{TENANT},{ONE},'=cmd\n", [("2", ONE)]),
        (f'name;objectId\n"Doe; John";{ONE}\n', [("2", ONE)]),
        (f'name,objectId\n"two\nlines",{ONE}\nx,{TWO}\n', [("3", ONE), ("4", TWO)]),
        (f"{ONE.upper()}\n", [("1", ONE)]),
        (f"{ONE}\neyJhbGciOiJSUzI1NiJ9\n", [("1", ONE), ("2", "[removed]")]),
        (f"Leavers\nmanagerId,objectId\n{TWO},{ONE}\n", [("3", ONE)]),
        (f"sep=;\nobjectId;name\n{ONE};x\n", [("3", ONE)]),
        (f"objectId,name\n{ONE},Zoë\n".encode("utf-16"), [("2", ONE)]),
        (f"name,objectId\nDoe, J,{ONE}\n", [("2", f"Doe | J | {ONE}")]),
        (f"{ONE}\na/b/{TWO}\n", [("1", ONE), ("2", f"a/b/{TWO}")]),
        (f"{ONE}\n8:acs:{ONE}_{TWO} left\n", [("1", ONE), ("2", "[identity] left")]),
    ],
)
def test_file_formats_are_read(job_admin: JobAdmin, content: Content, expected: Rows) -> None:
    assert read_upload(job_admin, content) == expected


def test_user_names_and_identities_are_looked_up(job_admin: JobAdmin) -> None:
    """Each row says what it leads to; a text that leads to nobody is not stored."""
    env = job_admin.azure.env
    ada, other, zoe = seed_users(env, 3)
    put_rows(env, "userindex", index_rows(replace(zoe, username=f"zoë.{zoe.username}")))
    put_rows(env, "userindex", index_rows(replace(other, username=f"same.{ada.username}")))
    put_rows(env, "userindex", index_rows(replace(zoe, username=f"Same.{ada.username}")))
    former = f"{ada.acs_user_id}f"
    put_rows(env, "ledger", [ledger_row(replace(ada, acs_user_id=former))])
    tenant, identity = ada.user_id.tenant_id, str(other.acs_user_id).upper().replace("ACS", "acs")
    rows = {
        f"{ada.username.upper()},": ("found", ada.user_id.object_id, ""),
        f"{identity},{tenant}": ("found", other.user_id.object_id, ""),
        f"{zoe.user_id.object_id},{tenant}": ("found", zoe.user_id.object_id, ""),
        f"{ada.username},{tenant.upper()}": ("twice", ada.user_id.object_id, ""),
        f"{ada.username},{TENANT}": ("unknown", "", "[user name]"),
        f"zoe.{zoe.username},": ("unknown", "", "[user name]"),
        f"{ada.username[:-1]},": ("unknown", "", "[user name]"),
        f"same.{ada.username},": ("ambiguous", "", "[user name]"),
        f"{former},": ("unknown", "", "[identity]"),
        f"8:acs:{ONE}_{TWO},": ("unknown", "", "[identity]"),
        f"Ada <{ada.username}>,": ("invalid", "", "Ada <[user name]>"),
        f"{ada.username},,{TWO}": ("shifted", "", f"[user name] | {TWO}"),
        f"{ada.acs_user_id},,x,eyJhbGciOiJSUzI1NiJ9": ("shifted", "", "[identity] | x | [removed]"),
    }
    path = job_admin.draft(job_admin.upload("block", "\n".join(["UPN,tenantId", *rows])))
    found = job_admin.rows(path)
    assert [(row["found"], row["objectId"], row["given"]) for row in found] == [*rows.values()]
    page = job_admin.person.get(path).text
    for text in (
        "not known here, or a former identity",
        "several users have this user name",
        "as many cells",
    ):
        assert text in page
    assert "8 rows do not identify exactly one user" in page
    stored = str(list_rows(job_admin.tables, "jobs", "PartitionKey", path.rpartition("/")[2]))
    assert ada.user_id.object_id in stored
    assert "@" not in stored
    assert "acs:" not in stored


def test_rows_that_name_two_users_are_left_out(job_admin: JobAdmin) -> None:
    ada, other = seed_users(job_admin.azure.env, 2)
    ids = [ada.user_id.object_id, other.user_id.object_id]
    unknown = str(uuid.uuid4())  # the number of a row in another program, for one
    rows = {
        f"{ids[1]},{ada.username},,": ("contradictory", ids[1]),
        f"{ids[1]},,{ada.username},": ("contradictory", ids[1]),
        f"{ids[0]},,,{other.acs_user_id}": ("contradictory", ids[0]),
        f"{unknown},{ada.username},,": ("contradictory", unknown),
        f"{ids[0]},{ada.username.upper()},,{ada.acs_user_id}": ("found", ids[0]),
        f"{ids[1]},,unknown.{ada.username},": ("found", ids[1]),
    }
    for name in ("objectId", "userId", "id"):
        header = f"{name},userPrincipalName,mail,communicationUserId"
        path = job_admin.draft(job_admin.upload("block", "\n".join([header, *rows])))
        found = [(row["found"], row["objectId"]) for row in job_admin.rows(path)]
        assert found == [*rows.values()]
    assert "belong to different users" in job_admin.person.get(path).text
    assert "4 rows do not identify exactly one user" in job_admin.person.get(path).text


def test_own_export_is_read(job_admin: JobAdmin) -> None:
    seed_users(job_admin.azure.env, 3)
    exported = job_admin.person.get("/admin/users.csv")
    users = csv.DictReader(io.StringIO(exported.text, newline=""))
    # A list, as the same object id in two tenants is two users.
    keys = [key for _, key in read_upload(job_admin, exported.content)]
    assert keys == [user["objectId"] for user in users]


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (f"{ONE}\n".encode() + b"\xff\n", "Line 2: The file is not text in UTF-8."),
        (f"{ONE}\na\0b\n".encode(), "Line 2: The file is not text in UTF-8."),
        (f'{ONE}\n"{TWO}"x\n', "Line 2: The file is not CSV"),
        (f"{ONE}\n{'x' * 140_000}\n", "Line 2: The file is not CSV"),
        (
            f"name,old\nx,{ONE}\n",
            "Line 1: It is not clear which column holds the users: name | old. Name one",
        ),
        (f"user,id\n{TWO},{ONE}\n", "which column holds the users: user | id."),
        (f"<b>Chef</b>\n{TWO}\n", "which column holds the users: &lt;b&gt;Chef&lt;/b&gt;."),
        (f"objectId\n{ONE},{TWO}\n", f"Line 2: The row has more cells than the header: {ONE} | {TWO}."),
        (
            f"objectId\n{ONE}\nKeep:\n{TWO}\n",
            "Line 3: This stands among the users like the title of another list: Keep:.",
        ),
        ("manager,boss\nm@x.example,b@x.example\n", "userPrincipalName if it holds user names"),
        (f"objectId,x\n{ONE},a\r{TWO},b\n", "a quotation mark or line break is out of place"),
        ("\n".join(f"{number}@x.example" for number in range(501)), "There are more than 500 user names"),
        ("", "There are no users in it"),
        ("objectId\n", "There are no users in it"),
        (None, "There are no users in it"),
        ("\n".join([ONE] * 10_001), "There are more than 10,000 rows"),
    ],
)
def test_bad_file_reports_problem_and_line(job_admin: JobAdmin, content: Content | None, error: str) -> None:
    """Without content, the request selects no user."""
    response = job_admin.select("delete", []) if content is None else job_admin.upload("delete", content)
    assert response.status_code == 400
    assert error in response.text
    assert "Nothing is changed" in response.text  # the form is shown again


def test_file_content_is_escaped(job_admin: JobAdmin) -> None:
    path = job_admin.draft(job_admin.upload("block", f"{ONE}\n<script>alert(1)</script>\n=1+1\n"))
    assert "<script>alert" not in job_admin.person.get(path).text
    assert "&lt;script&gt;alert" in job_admin.person.get(path).text
    assert "'=1+1" in job_admin.person.get(f"{path}.csv").text


def test_file_is_limited_to_one_megabyte(job_admin: JobAdmin) -> None:
    line = f"{TENANT}/{ONE}\n".encode()
    fitting = line * 9_999
    assert job_admin.upload("block", fitting + b"\n" * (1024 * 1024 - len(fitting))).status_code == 303
    assert_error_page(job_admin.upload("block", b"\n" * (1024 * 1024 + 1)), 413)
    assert_error_page(job_admin.upload("block", b"\n" * (2 * 1024 * 1024)), 413)
    headers, parts = {"X-CSRFToken": job_admin.csrf}, iter([b"x" * 60_000] * 20)
    assert_error_page(job_admin.person.post("/admin/jobs", data=parts, headers=headers), 413)
    job_admin.person.http.close()  # the server has closed it without reading the whole body


def test_other_routes_are_limited_to_16_kilobytes(job_admin: JobAdmin) -> None:
    for path in ("/admin/jobs/x/start", "/admin/jobs/x/cancel", "/account/revoke"):
        for body in (b"x" * (16 * 1024 + 1), iter([b"x" * 9000] * 3)):
            response = job_admin.person.post(path, data=body, headers={"X-CSRFToken": job_admin.csrf})
            assert response.status_code == 413, path
