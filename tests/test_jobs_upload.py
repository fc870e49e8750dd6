"""Files of users that administrators upload: what is read, what is refused, and how large they may be."""

import csv
import io
import uuid
from collections.abc import Callable

import pytest

from tests.seed import seed_users
from tests.support.jobs import Administrator
from tests.support.local_azure import LocalAzure
from tests.support.pages import assert_error_page
from tests.support.person import Person

ONE, TWO = str(uuid.UUID(int=1)), str(uuid.UUID(int=2))
TENANT = str(uuid.UUID(int=3))


@pytest.fixture(scope="module")
def admin(new_person: Callable[..., Person]) -> Administrator:
    person = new_person(roles=["TrustedService.Admin"], name="Root")
    assert person.sign_in().status_code == 302
    return Administrator(person)


def users_of(admin: Administrator, content: bytes | str) -> list[tuple[str, str]]:
    """The line and the object id of each row of the job that the file becomes."""
    path = admin.draft(admin.upload("block", content))
    return [(row["line"], row["objectId"] or row["given"]) for row in admin.rows(path)]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (f"{ONE}\n{TWO}\n", [("1", ONE), ("2", TWO)]),
        (f"object id\r\n{ONE}\r\n{TWO}", [("2", ONE), ("3", TWO)]),
        (b"\xef\xbb\xbf" + f"objectId\n{ONE}\n".encode(), [("2", ONE)]),
        (f"\n\n{ONE}\n\n  {TWO}  \n", [("3", ONE), ("5", TWO)]),
        (f"{TENANT}/{ONE}\n", [("1", ONE)]),
        (f"tenantId,objectId,name\n{TENANT},{ONE},'=cmd\n", [("2", ONE)]),
        (f'name;objectId\n"Doe; John";{ONE}\n', [("2", ONE)]),
        (f'name,objectId\n"two\nlines",{ONE}\nx,{TWO}\n', [("3", ONE), ("4", TWO)]),
        (f"{ONE.upper()}\n", [("1", ONE)]),
        (f"{ONE}\nnobody-1\n", [("1", ONE), ("2", "nobody-1")]),
        (f"{ONE}\na/b/{TWO}\n", [("1", ONE), ("2", f"a/b/{TWO}")]),
    ],
)
def test_file_is_read_as_people_write_it(
    admin: Administrator, content: bytes | str, expected: list[tuple[str, str]]
) -> None:
    assert users_of(admin, content) == expected


def test_own_export_is_read(admin: Administrator, azure: LocalAzure) -> None:
    seed_users(azure.env, 3)
    exported = admin.person.get("/admin/users.csv")
    exported_users = list(csv.DictReader(io.StringIO(exported.text, newline="")))
    # By object id: the same one in two tenants is two users.
    ids = [object_id for _, object_id in users_of(admin, exported.content)]
    assert ids == [user["objectId"] for user in exported_users]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (f"{ONE}\n".encode() + b"\xff\n", "Line 2: The file is not text in UTF-8."),
        (f"{ONE}\n".encode("utf-16"), "Line 1: The file is not text in UTF-8."),
        (f"{ONE}\na\0b\n".encode(), "Line 2: The file is not text in UTF-8."),
        (f'{ONE}\n"{TWO}"x\n', "Line 2: The file is not CSV"),
        (f"{ONE}\n{'x' * 140_000}\n", "Line 2: The file is not CSV"),
        (f"name,mail\nx,{ONE}\n", "Line 1: There is more than one column"),
        ("", "There is nobody in it"),
        ("objectId\n", "There is nobody in it"),
        ("\n".join([ONE] * 10_001), "There are more than 10,000 rows"),
    ],
)
def test_file_that_cannot_be_read_says_why_and_where(
    admin: Administrator, content: bytes | str, said: str
) -> None:
    answer = admin.upload("delete", content)
    assert answer.status_code == 400
    assert said in answer.text
    assert "Nothing is changed" in answer.text  # the form again


def test_selection_of_nobody_says_so(admin: Administrator) -> None:
    answer = admin.select("delete", [])
    assert answer.status_code == 400
    assert "There is nobody in it" in answer.text


def test_what_a_file_holds_is_escaped(admin: Administrator) -> None:
    path = admin.draft(admin.upload("block", f"{ONE}\n<script>alert(1)</script>\n=1+1\n"))
    assert "<script>alert" not in admin.person.get(path).text
    assert "&lt;script&gt;alert" in admin.person.get(path).text
    assert "'=1+1" in admin.person.get(f"{path}.csv").text


def test_files_may_have_a_megabyte_and_no_more(admin: Administrator) -> None:
    line = f"{TENANT}/{ONE}\n".encode()
    fitting = line * 9_999
    assert admin.upload("block", fitting + b"\n" * (1024 * 1024 - len(fitting))).status_code == 303
    assert_error_page(admin.upload("block", b"\n" * (1024 * 1024 + 1)), 413)
    assert_error_page(admin.upload("block", b"\n" * (2 * 1024 * 1024)), 413)
    admin.person.http.close()  # what was not read of that closes the connection


@pytest.mark.parametrize(
    "path", ["/admin/jobs/x/start", "/admin/jobs/x/cancel", "/account/revoke", "/api/token"]
)
def test_every_other_route_takes_16_kilobytes(admin: Administrator, path: str) -> None:
    for body in (b"x" * (16 * 1024 + 1), iter([b"x" * 9000] * 3)):
        answer = admin.person.post(path, data=body, headers={"X-CSRFToken": admin.csrf})
        assert answer.status_code == 413, path


def test_file_that_comes_in_chunks_is_limited_too(admin: Administrator) -> None:
    answer = admin.person.post(
        "/admin/jobs", data=iter([b"x" * 60_000] * 20), headers={"X-CSRFToken": admin.csrf}
    )
    assert_error_page(answer, 413)
