"""The main tests of the service, repeated without a key, secret or connection string in its settings."""

from tests.access.test_first_token import test_first_tokens_create_one_identity
from tests.browser.test_signing_in_and_out import test_sign_out_leaves_nothing_behind
from tests.entra.test_sign_in import (
    test_account_is_refused_by_tenant_not_name,
    test_sign_in_yields_the_selected_account,
)
from tests.observability.test_readiness import test_readyz_creates_nothing_and_shares_checks
from tests.support.commands import run_users
from tests.support.own_azure import World
from tests.support.person import Person
from tests.support.secretless import find_secrets, list_environments
from tests.support.service import Service
from tests.users.test_admin_actions import (
    test_actions_return_the_updated_user,
    test_block_ends_all_access_at_every_instance,
    test_delete_removes_all_user_data,
    test_revoke_ends_tokens_and_sign_out_sessions,
)
from tests.web.test_sign_out import test_sign_out_ends_session_everywhere
from trusted_service.settings import Settings

__all__ = [
    "test_account_is_refused_by_tenant_not_name",
    "test_actions_return_the_updated_user",
    "test_block_ends_all_access_at_every_instance",
    "test_delete_removes_all_user_data",
    "test_first_tokens_create_one_identity",
    "test_readyz_creates_nothing_and_shares_checks",
    "test_revoke_ends_tokens_and_sign_out_sessions",
    "test_sign_in_yields_the_selected_account",
    "test_sign_out_ends_session_everywhere",
    "test_sign_out_leaves_nothing_behind",
]


def test_service_has_no_secret_but_its_own(service: Service) -> None:
    """Its signing key is in a file."""
    assert service.process is not None
    environments = list_environments(service.process.pid)
    assert len(environments) > 1, "master and worker"
    for environment in environments:
        assert environment["IDENTITY_ENDPOINT"]
        assert set(find_secrets(environment)) == set()
    settings = Settings.from_env(service.env)
    hidden = {name for name, field in Settings.model_fields.items() if not field.repr}
    held = {name: value for name in hidden if (value := getattr(settings, name))}
    assert held == {"secret_key": settings.secret_key, "rate_limit_storage_uri": "memory://"}
    kept = settings.model_dump_json(exclude={"secret_key"})
    assert set(find_secrets({"SETTINGS": kept})) == set()


def test_commands_run_without_a_secret(world: World, mapped_user: Person) -> None:
    assert mapped_user.account.object_id in run_users(world.service.env, "list", "--json")


def test_other_resource_is_refused(world: World, mapped_user: Person) -> None:
    other = {"COMMUNICATION_SERVICES_ENDPOINT": world.azure.list_endpoints()[1]["endpoint"]}
    with world.new_instance(other) as instance:
        assert mapped_user.at(instance.url).token().status_code == 503
    assert mapped_user.token().status_code == 200
