"""How the app proves itself to Entra ID: a secret, a certificate, or a managed identity."""

from collections.abc import Callable, Iterator

import pytest

from tests.support.local_azure import EntraApp, LocalAzure
from tests.support.log import assert_not_logged, read_event
from tests.support.pages import assert_error_page
from tests.support.person import Person
from tests.support.service import Service
from tests.support.together import wait_until


@pytest.fixture(scope="module")
def registration(azure: LocalAzure) -> EntraApp:
    return azure.get_app()


@pytest.fixture(scope="module")
def secretless(settings: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in settings.items() if name != "ENTRA_CLIENT_SECRET"}


@pytest.fixture(scope="module")
def with_certificate(secretless: dict[str, str], registration: EntraApp) -> Iterator[Service]:
    certificate = {"ENTRA_CLIENT_CERTIFICATE_PATH": str(registration.certificate_path)}
    with Service(secretless | certificate) as running:
        yield running


@pytest.fixture
def with_managed_identity(secretless: dict[str, str], registration: EntraApp) -> Iterator[Service]:
    identity = {
        "ENTRA_MANAGED_IDENTITY_CLIENT_ID": registration.identity_client_id,
        "IDENTITY_ENDPOINT": registration.identity_endpoint,
        "IDENTITY_HEADER": registration.identity_header,
    }
    with Service(secretless | identity) as running:
        yield running


def test_certificate_signs_in(
    azure: LocalAzure, with_certificate: Service, new_person: Callable[..., Person], registration: EntraApp
) -> None:
    # Twice, since an assertion may be used once.
    for _ in range(2):
        person = new_person(at=with_certificate)
        assert person.sign_in().status_code == 302
        assert person.me()["user"]["objectId"] == person.account.object_id
    key = registration.certificate_path.read_text(encoding="ascii").splitlines()[1]
    assert_not_logged(with_certificate, key)


def test_managed_identity_signs_in_without_any_secret(
    azure: LocalAzure,
    with_managed_identity: Service,
    new_person: Callable[..., Person],
    registration: EntraApp,
) -> None:
    azure.reset_calls()
    for _ in range(2):
        person = new_person(at=with_managed_identity)
        assert person.sign_in().status_code == 302
        assert person.me()["user"]["objectId"] == person.account.object_id
    assert azure.count_calls("entra")["msi"] == 1
    assert_not_logged(with_managed_identity, registration.identity_header)


def test_managed_identity_that_fails_is_503_and_then_works(
    azure: LocalAzure, with_managed_identity: Service, new_person: Callable[..., Person]
) -> None:
    person = new_person(at=with_managed_identity)
    kinds = [("reset", 0), ("half", 0), ("status", 400), ("status", 404), ("status", 429), ("status", 500)]
    for kind, status in kinds:
        azure.plant_fault("entra", "msi", kind, status=status, times=None)
        answer = person.sign_in()
        assert_error_page(answer, 503)
        assert read_event(with_managed_identity, answer, "upstream_error")["upstream"] == "Entra ID"
        azure.clear_faults()
    # MSAL keeps the last refusal for five seconds, as long as our answer said to wait.
    wait_until(lambda: person.sign_in().status_code == 302, float(answer.headers["Retry-After"]) + 3)


def test_wrong_secret_is_no_fault_of_the_person(azure: LocalAzure, service: Service, person: Person) -> None:
    secret = azure.get_app().client_secret
    # pragma: allowlist nextline secret (opens nothing)
    azure.change_app(clientSecret="another-secret-than-the-service-has")
    try:
        answer = person.sign_in()
    finally:
        azure.change_app(clientSecret=secret)
    assert_error_page(answer, 503)
    event = read_event(service, answer, "upstream_error")
    assert event["upstream"] == "Entra ID"
    assert "invalid_client" in event["reason"]
    assert_not_logged(service, secret)
    assert person.sign_in().status_code == 302
