"""ID tokens that are not what Entra ID issues for this app: no session, and a reason for the operator.

MSAL checks nothing in an ID token but its nonce, so each of these would sign in but for our own checks.
"""

from collections.abc import Callable, Iterator

import pytest
from azure.data.tables import TableServiceClient

from tests.support.flows import flow_cookies, read_flow, split_callback
from tests.support.local_azure import LocalAzure
from tests.support.log import assert_not_logged, read_event
from tests.support.pages import assert_error_page
from tests.support.person import Person
from tests.support.rows import list_sessions
from tests.support.service import Service

REASONS = {
    "wrong-aud": "id-token-audience",
    "wrong-iss": "id-token-issuer",
    "wrong-tid": "id-token-issuer",
    "expired": "id-token-expired",
    "not-yet-valid": "id-token-not-yet-valid",
    "wrong-nonce": "id-token-nonce",
    "no-nonce": "id-token-nonce",
    "unknown-kid": "id-token-unknown-key",
    "bad-signature": "id-token-signature",
    "alg-none": "id-token-algorithm",
    "hs256-with-public-key": "id-token-algorithm",
    "embedded-jwk": "id-token-signature",
    "jku": "id-token-unknown-key",
    "no-oid": "id-token-oid",
    "malformed-oid": "id-token-oid",
    "malformed-tid": "id-token-tid",
    "v1": "id-token-version",
    "garbage": "id-token-malformed",
}
"""By kind of tampering; what is logged about each."""

OTHER_APP = "7ec97fd6-be68-4cac-9172-0c0ffee0f001"
CLAIMS: dict[str, tuple[dict[str, object], str]] = {
    "audience among others": ({"aud": [OTHER_APP, "{client}"]}, "id-token-audience"),
    "audience in a list": ({"aud": ["{client}"]}, "id-token-audience"),
    "no audience": ({"aud": None}, "id-token-claim-missing"),
    "no issuer": ({"iss": None}, "id-token-claim-missing"),
    "issuer with a tail": ({"iss": "{issuer}/"}, "id-token-issuer"),
    "issuer as a template": ({"iss": "{origin}/{tenantid}/v2.0"}, "id-token-issuer"),
    "no expiry": ({"exp": None}, "id-token-claim-missing"),
    "expiry a moment ago": ({"exp": 1_700_000_000}, "id-token-expired"),
    "expiry as text": ({"exp": "never"}, "id-token-malformed"),
    "expiry as a list": ({"exp": []}, "id-token-malformed"),
    "no issue time": ({"iat": None}, "id-token-claim-missing"),
    "issue time as a list": ({"iat": []}, "id-token-"),
    "issued in the future": ({"iat": 4_000_000_000}, "id-token-not-yet-valid"),
    "valid from as text": ({"nbf": "soon"}, "id-token-malformed"),
    "no version": ({"ver": None}, "id-token-version"),
    "version as a number": ({"ver": 2.0}, "id-token-version"),
    "no tenant": ({"tid": None}, "id-token-tid"),
    "tenant as a number": ({"tid": 5}, "id-token-tid"),
    "tenant in braces": ({"tid": "{{tenant}}"}, "id-token-tid"),
    "object id as a number": ({"oid": 5}, "id-token-oid"),
    "object id without hyphens": ({"oid": "a11ce0004b1d4c7e8f00000000000001"}, "id-token-oid"),
    "object id with a line break": ({"oid": "a11ce000-4b1d-4c7e-8f00-00000000001\n"}, "id-token-oid"),
    "object id of other digits": ({"oid": "a11ce000-4b1d-4c7e-8f00-00000000000\u0661"}, "id-token-oid"),
    "nonce as a list": ({"nonce": []}, "id-token-nonce"),
}
HARMLESS: dict[str, dict[str, object]] = {
    "no valid-from": {"nbf": None},
    "no names": {"name": None, "preferred_username": None},
    "names of another type": {"name": {"a": 1}, "preferred_username": 5},
    "names of control characters": {
        "name": "\ud800\x00a\u202eb\r\nc\x1b[31m",
        "preferred_username": "\u0000",
    },
    "roles of another type": {"roles": "TrustedService.Admin"},
    "roles of mixed types": {"roles": [5, None, ["TrustedService.Admin"], {"TrustedService.Admin": 1}]},
    "sid of another type": {"sid": 5},
    "sid of a lone surrogate": {"sid": "\ud800"},
    "sid of 1 MB": {"sid": "s" * (1 << 20)},
    "no sid": {"sid": None},
    "hint of another type": {"login_hint": ["a"]},
    "hint of control characters": {"login_hint": "a\x00\r\n\ud800"},
    "subject of another type": {"sub": 5},
}


@pytest.fixture(scope="module")
def one_tenant(settings: dict[str, str], service: Service) -> Iterator[Service]:
    """An instance whose authority is the one tenant itself."""
    tenant = settings["ENTRA_ALLOWED_TENANTS"]
    authority = settings["ENTRA_AUTHORITY"].replace("organizations", tenant)
    rest = {name: value for name, value in settings.items() if name != "ENTRA_ALLOWED_TENANTS"}
    with Service(rest | {"ENTRA_AUTHORITY": authority}) as running:
        yield running


def assert_refused(
    service: Service, tables: TableServiceClient, person: Person, *, status: int, event: str, reason: str
) -> None:
    """Sign in with what is tampered with next; check that nothing but a page and a log line comes of it."""
    callback = person.start_sign_in()
    (cookie,) = flow_cookies(person).values()
    flow = read_flow(service, cookie)["flow"]
    answer = person.finish_sign_in(callback)
    assert_error_page(answer, status)
    assert person.get("/api/me").status_code == 401
    assert list_sessions(tables, person) == []
    assert read_event(service, answer, event)["reason"].startswith(reason)
    parameters = dict(split_callback(callback)[1])
    secrets = [parameters["code"], parameters["state"], flow["nonce"], flow["code_verifier"]]
    assert_not_logged(service, *secrets, service.env["ENTRA_CLIENT_SECRET"], "opaque.")


def test_untampered_token_signs_in(
    one_tenant: Service, new_person: Callable[..., Person], person: Person
) -> None:
    assert person.sign_in().status_code == 302
    assert new_person(at=one_tenant).sign_in().status_code == 302


@pytest.mark.parametrize("kind", REASONS)
@pytest.mark.parametrize("instance", ["service", "one_tenant"])
def test_tampered_token_is_refused(
    request: pytest.FixtureRequest,
    azure: LocalAzure,
    tables: TableServiceClient,
    new_person: Callable[..., Person],
    instance: str,
    kind: str,
) -> None:
    service = request.getfixturevalue(instance)
    azure.tamper(kind)
    assert_refused(
        service, tables, new_person(at=service), status=400, event="authn_login_fail", reason=REASONS[kind]
    )


@pytest.mark.parametrize("case", CLAIMS)
def test_token_of_odd_claims_is_refused(
    azure: LocalAzure, service: Service, tables: TableServiceClient, person: Person, case: str
) -> None:
    claims, reason = CLAIMS[case]
    origin, tenant = azure.get_app().tls_origin, person.account.tenant_id
    known = {"{client}": azure.env["ENTRA_CLIENT_ID"], "{origin}": origin, "{tenant}": tenant}
    known["{issuer}"] = f"{origin}/{tenant}/v2.0"
    azure.tamper("claims", claims={name: fill(value, known) for name, value in claims.items()})
    assert_refused(service, tables, person, status=400, event="authn_login_fail", reason=reason)


def fill(value: object, known: dict[str, str]) -> object:
    """Put what is known only now into a claim."""
    if isinstance(value, list):
        return [fill(item, known) for item in value]
    if isinstance(value, str):
        for name, content in known.items():
            value = value.replace(name, content)
    return value


def test_genuine_token_of_a_personal_account_is_refused_by_tenant(
    azure: LocalAzure, service: Service, tables: TableServiceClient, person: Person
) -> None:
    azure.tamper("personal-tenant")
    assert_refused(service, tables, person, status=403, event="authz_fail", reason="tenant not allowed")


def test_token_of_another_tenant_is_foreign_to_the_authority_of_one(
    azure: LocalAzure, one_tenant: Service, tables: TableServiceClient, new_person: Callable[..., Person]
) -> None:
    azure.tamper("personal-tenant")
    person = new_person(at=one_tenant)
    assert_refused(one_tenant, tables, person, status=400, event="authn_login_fail", reason="id-token-issuer")


def test_refused_token_leaves_the_session_alone(azure: LocalAzure, signed_in: Person) -> None:
    azure.tamper("bad-signature")
    assert_error_page(signed_in.sign_in(), 400)
    assert signed_in.me()["user"]["objectId"] == signed_in.account.object_id


@pytest.mark.parametrize("case", HARMLESS)
def test_token_of_odd_extras_signs_in_without_them(azure: LocalAzure, person: Person, case: str) -> None:
    azure.tamper("claims", claims=HARMLESS[case])
    assert person.sign_in().status_code == 302
    user = person.me()["user"]
    assert (user["tenantId"], user["objectId"]) == (person.account.tenant_id, person.account.object_id)
    assert user["roles"] == []
    assert user["name"].isprintable()
    assert user["username"].isprintable()
    assert person.get("/").status_code == 200
    assert person.sign_out().status_code == 303


def test_name_of_a_megabyte_is_cut(azure: LocalAzure, person: Person) -> None:
    azure.tamper("oversized-name")
    assert person.sign_in().status_code == 302
    name = person.me()["user"]["name"]
    assert 0 < len(name) <= 256
    assert set(name) == {"x"}


@pytest.mark.parametrize(
    "roles",
    [
        ["TrustedService.Admin"],
        ["Reader", "Writer"],
        ["Reader TrustedService.Admin"],
        [" ", ""],
        ['"', "["],
        [],
    ],
)
def test_roles_are_those_of_the_token(azure: LocalAzure, person: Person, roles: list[str]) -> None:
    azure.tamper("claims", claims={"roles": roles})
    assert person.sign_in().status_code == 302
    assert person.me()["user"]["roles"] == roles


def test_markup_in_a_name_stays_text(azure: LocalAzure, person: Person) -> None:
    azure.tamper(
        "claims", claims={"name": "<script>alert(1)</script>", "preferred_username": '"><img src=x>'}
    )
    assert person.sign_in().status_code == 302
    page = person.get("/").text
    assert "<script>alert" not in page
    assert "<img src=x>" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
