"""Client credentials for Entra ID: a secret, a certificate, or a managed identity."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from azure.core.credentials import AccessToken

from tests.support.concurrency import wait_until
from tests.support.local_azure import EntraApp, LocalAzure
from tests.support.log import assert_not_logged, read_event
from tests.support.own_azure import World
from tests.support.pages import assert_error_page
from tests.support.person import Person
from tests.support.service import Service
from tests.support.settings import CLIENT, TENANT, environment
from trusted_service.entra.sign_in import client_credential
from trusted_service.settings import Settings

BEGIN = "-----BEGIN CERTIFICATE-----"


@pytest.fixture(scope="module")
def registration(azure: LocalAzure) -> EntraApp:
    return azure.get_app()


@pytest.fixture(scope="module")
def secretless(settings: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in settings.items() if name != "ENTRA_CLIENT_SECRET"}


@pytest.fixture
def with_managed_identity(secretless: dict[str, str], registration: EntraApp) -> Iterator[Service]:
    identity = {
        "ENTRA_MANAGED_IDENTITY_CLIENT_ID": registration.identity_client_id,
        "IDENTITY_ENDPOINT": registration.identity_endpoint,
        "IDENTITY_HEADER": registration.identity_header,
    }
    with Service(secretless | identity) as running:
        yield running


def assert_two_sign_in(world: World, service: Service) -> None:
    """Check that two people can sign in, as each client assertion may be used only once."""
    for _ in range(2):
        person = world.new_person().at(service.url).signed_in()
        assert person.me()["user"]["objectId"] == person.account.object_id


def test_certificate_signs_in(
    world: World, secretless: dict[str, str], registration: EntraApp, tmp_path: Path
) -> None:
    key, mark, public = registration.certificate_path.read_text(encoding="ascii").partition(BEGIN)
    as_exported = f"Bag Attributes\n  friendlyName: Schlüssel\n{mark}{public}{key}".replace("\n", "\r\n")
    (tmp_path / "client.pem").write_text(as_exported, encoding="latin-1")
    certificate = {"ENTRA_CLIENT_CERTIFICATE_PATH": f"{tmp_path}/client.pem"}
    with Service(secretless | certificate) as with_certificate:
        assert_two_sign_in(world, with_certificate)
    assert_not_logged(with_certificate, key.splitlines()[1])


def test_managed_identity_signs_in_without_any_secret(
    world: World, with_managed_identity: Service, registration: EntraApp
) -> None:
    world.azure.reset_calls()
    assert_two_sign_in(world, with_managed_identity)
    assert world.azure.count_calls("entra")["msi"] == 1
    assert_not_logged(with_managed_identity, registration.identity_header)


@pytest.mark.parametrize(
    ("host", "cloud"),
    [
        *(("login.microsoftonline.com", ""), ("contoso.ciamlogin.com", ""), ("login.contoso.us", "")),
        *(("Login.MicrosoftOnline.US", "USGov"), ("login.microsoftonline.us:443", "USGov")),
        *(("login.partner.microsoftonline.cn", "China"), ("login.chinacloudapi.cn", "China")),
    ],
)
def test_assertion_is_for_the_authority_s_cloud(host: str, cloud: str) -> None:
    class Identity:
        def get_token(self, *scopes: str, **_: Any) -> AccessToken:
            return AccessToken(" ".join(scopes), 0)

    variables = environment("ENTRA_MANAGED_IDENTITY_CLIENT_ID", CLIENT)
    settings = Settings.from_env(variables | {"ENTRA_AUTHORITY": f"https://{host}/{TENANT}"})
    credential = client_credential(settings, Identity())
    assert isinstance(credential, dict)
    assert credential["client_assertion"]() == f"api://AzureADTokenExchange{cloud}/.default"


def test_failing_managed_identity_is_503_until_it_works(world: World, with_managed_identity: Service) -> None:
    azure, person = world.azure, world.new_person().at(with_managed_identity.url)
    kinds = [("reset", 0), ("half", 0), ("status", 400), ("status", 404), ("status", 429), ("status", 500)]
    for kind, status in kinds:
        azure.plant_fault("entra", "msi", kind, status=status, times=None)
        response = person.sign_in()
        assert_error_page(response, 503)
        event = read_event(with_managed_identity, response, "upstream_error")
        assert event["upstream"] == "Entra ID"
        assert event["reason"].startswith("managed identity: ")
        # After the 429, MSAL repeats it.
        assert f"HTTP {status}" in event["reason"] or status in (0, 500)
        azure.clear_faults()
    # MSAL caches the last refusal for five seconds, the Retry-After of our response.
    wait_until(lambda: person.sign_in().status_code == 302, float(response.headers["Retry-After"]) + 3)


def test_wrong_client_secret_is_503(azure: LocalAzure, service: Service, person: Person) -> None:
    secret = azure.get_app().client_secret
    # pragma: allowlist nextline secret (opens nothing)
    azure.change_app(clientSecret="another-secret-than-the-service-has")
    try:
        response = person.sign_in()
    finally:
        azure.change_app(clientSecret=secret)
    assert_error_page(response, 503)
    event = read_event(service, response, "upstream_error")
    assert event["upstream"] == "Entra ID"
    assert "invalid_client" in event["reason"]
    assert_not_logged(service, secret)
    assert person.sign_in().status_code == 302
