"""Deleted or blocked users: an open session gets no token and does not restore the user."""

from tests.support.concurrency import wait_until
from tests.support.own_azure import World
from tests.support.person import Person
from tests.support.problems import assert_problem
from tests.support.rows import delete_identity_row, insert_identity_row


def test_open_session_does_not_restore_deleted_user(world: World, mapped_user: Person) -> None:
    csrf = mapped_user.csrf_headers()
    world.azure.delete_identity(world.identity_of(mapped_user))
    delete_identity_row(world.tables, mapped_user)
    before = set(world.azure.list_identities())
    assert_problem(mapped_user.token(csrf=csrf), 401, "not_signed_in")
    assert world.list_rows(mapped_user) == []
    assert set(world.azure.list_identities()) == before
    assert world.list_sessions(mapped_user) == []
    assert_problem(mapped_user.get("/api/me"), 401, "not_signed_in")
    assert mapped_user.signed_in().token().status_code == 200, "a new sign-in creates the user anew"


def test_open_session_restores_no_partly_deleted_user(world: World, mapped_user: Person) -> None:
    """A deletion stops after it has marked the row and deleted the identity."""
    csrf = mapped_user.csrf_headers()
    world.change_row(mapped_user, Deleting=True)
    world.azure.delete_identity(world.identity_of(mapped_user))
    before = world.azure.list_identities()
    assert_problem(mapped_user.token(csrf=csrf), 401, "not_signed_in")
    assert world.azure.list_identities() == before
    assert [row["Deleting"] for row in world.list_rows(mapped_user)] == [True]


def test_deletion_wins_over_concurrent_replacement(world: World, signed_in: Person) -> None:
    csrf, unknown = signed_in.csrf_headers(), world.azure.new_unknown_identity()
    insert_identity_row(world.tables, signed_in, acs_user_id=unknown)
    before = set(world.azure.list_identities())

    def delete_user() -> None:
        delete_identity_row(world.tables, signed_in)
        for row in world.list_sessions(signed_in):
            world.tables.get_table_client("sessions").delete_entity(row)

    world.run_before("P", "identities", signed_in.account.object_id, delete_user)
    assert_problem(signed_in.token(csrf=csrf), 401, "not_signed_in")
    assert world.list_rows(signed_in) == []
    wait_until(lambda: set(world.azure.list_identities()) == before, seconds=5)


def test_blocked_user_gets_no_replacement_identity(world: World, mapped_user: Person) -> None:
    identity = world.identity_of(mapped_user)
    world.azure.delete_identity(identity)
    world.change_row(mapped_user, Blocked=True)
    before = world.azure.list_identities()
    assert_problem(mapped_user.token(), 403, "blocked")
    assert world.azure.list_identities() == before
    assert world.identity_of(mapped_user) == identity
