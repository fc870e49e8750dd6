"""Tokens not issued for this service are refused with a logged reason; MSAL alone checks only the nonce."""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.support.admin_client import bearer, call, get_me, post_token
from tests.support.flows import read_own_flow, split_callback
from tests.support.log import assert_not_logged, read_event
from tests.support.own_azure import World
from tests.support.pages import assert_error_page
from tests.support.person import Person
from tests.support.problems import assert_problem
from tests.support.service import Service
from tests.support.tokens import TEAMS

USES = ("id token", "bearer", "teams")
TAMPERED = {"wrong-aud": "audience", "wrong-iss": "issuer", "wrong-tid": "issuer", "expired": "expired"}
TAMPERED |= {"not-yet-valid": "not-yet-valid", "unknown-kid": "unknown-key", "jku": "unknown-key"}
TAMPERED |= {"bad-signature": "signature", "embedded-jwk": "signature", "alg-none": "algorithm"}
TAMPERED |= {"hs256-with-public-key": "algorithm", "malformed-tid": "tid"}
TAMPERED |= {"no-oid": "oid", "malformed-oid": "oid"}
"""The logged reason for each kind of tampering."""
NOT_FOR_ALL = [
    *((use, kind, "nonce") for use in ("id token", "one tenant") for kind in ("wrong-nonce", "no-nonce")),
    *((use, "v1", "version") for use in ("id token", "one tenant", "bearer")),
    *(("one tenant", "personal-tenant", "issuer"), ("bearer", "personal-tenant", "tenant")),
    *((use, "garbage", "malformed") for use in ("id token", "one tenant", "teams")),
    ("bearer", "garbage", "header"),
]
ODD_TENANTS: list[object] = [None, 5, [], "{{tenant}}"]
ODD_IDS: list[object] = [None, "", 5, {"a": 1}, "a11ce0004b1d4c7e8f00000000000001"]
ODD_IDS += ["a11ce000-4b1d-4c7e-8f00-00000000001\n", "a11ce000-4b1d-4c7e-8f00-00000000000\u0661"]
CLAIMS: dict[str, tuple[dict[str, object], str]] = {
    "audience among others": ({"aud": ["7ec97fd6-be68-4cac-9172-0c0ffee0f001", "{audience}"]}, "audience"),
    "audience in a list": ({"aud": ["{audience}"]}, "audience"),
    "audience in an empty list": ({"aud": []}, "audience"),
    "audience as an address": ({"aud": "api://{audience}"}, "audience"),
    "issuer with a tail": ({"iss": "{origin}/{tenant}/v2.0/"}, "issuer"),
    "issuer as a template": ({"iss": "{origin}/{tenantid}/v2.0"}, "issuer"),
    "foreign issuer": ({"iss": "https://login.attacker.example/{tenant}/v2.0"}, "issuer"),
    "issuer of version 1 with a tail": ({"iss": "https://sts.windows.net/{tenant}/x"}, "issuer"),
    "expiry a moment ago": ({"exp": 1_700_000_000}, "expired"),
    "issue time as a list": ({"iat": []}, ""),
    "issued in the future": ({"iat": 4_000_000_000}, "not-yet-valid"),
    **{f"no {name}": ({name: None}, "claim-missing") for name in ("aud", "iss", "exp", "iat")},
    "expiry as text": ({"exp": "never"}, "malformed"),
    "expiry as a list": ({"exp": []}, "malformed"),
    "valid from as text": ({"nbf": "soon"}, "malformed"),
    **{f"ver {odd}": ({"ver": odd}, "version") for odd in (None, 2.0)},
    **{f"tid {odd}": ({"tid": odd}, "tid") for odd in ODD_TENANTS},
    **{f"oid {odd!a}": ({"oid": odd}, "oid") for odd in ODD_IDS},
}
APP_IDS: list[object] = [None, "x", []]
SCOPES: list[object] = ["", None, "User.Read", ["Teams.ManageCalls"]]
CLAIMS_OF_ONE: list[tuple[str, dict[str, object], str]] = [
    ("id token", {"nonce": []}, "nonce"),
    ("bearer", {"nonce": "abc"}, "id-token"),
    ("bearer", {"ver": "1.0"}, "version"),
    ("teams", {"ver": "2.0"}, "issuer"),
    ("teams", {"ver": "2.0", "iss": "https://login.attacker.example/{tenant}/v2.0"}, "issuer"),
    ("teams", {"ver": "2.0", "iss": "{origin}/{tenant}/v2.0", "azp": None}, "azp"),
    *[("teams", {"appid": value}, "appid") for value in APP_IDS],
    *[("teams", {"scp": value}, "scope") for value in SCOPES],
]


@dataclass(frozen=True, kw_only=True)
class Scene:
    world: World
    service: Service
    person: Person

    def refuse(self, use: str, reason: str, **members: object) -> None:
        """Present a token made with these members (see `mint_tokens`), and check that it is refused."""
        if use == "bearer":
            headers = bearer(self.world.azure, self.person, **members)
            for response in (get_me(self.person, headers), post_token(self.person, headers)):
                problem = assert_problem(response, 401, "invalid_token")
                assert response.headers["WWW-Authenticate"] == 'Bearer error="invalid_token"'
                event = read_event(self.service, response, "authn_login_fail")
                assert event["reason"]
                assert event["reason"].startswith(reason)
                assert event["reason"] not in problem["detail"]
        elif use == "teams":
            before = self.world.azure.count_calls("acs").get("exchange", 0)
            username = self.person.account.username
            token, _ = self.world.azure.mint_tokens(username=username, scope="teams", **members)
            headers, body = bearer(self.world.azure, self.person), {"teamsUserAadToken": token}
            response = call("POST", f"{self.service.url}/api/token/teams", headers=headers, json=body)
            assert_problem(response, 400, "invalid_request")
            event = read_event(self.service, response, "authn_token_fail")
            assert event["reason"].startswith(f"teams-{reason}")
            assert self.world.azure.count_calls("acs").get("exchange", 0) == before
        else:
            kind, claims = str(members.get("tamper", "claims")), members.get("claims")
            self.world.azure.tamper(kind, claims=claims)  # type: ignore[arg-type]
            self.refuse_sign_in(f"id-token-{reason}")

    def refuse_sign_in(self, reason: str, *, status: int = 400, event: str = "authn_login_fail") -> None:
        """Sign in, and check for an error page, a logged reason and no session."""
        callback = self.person.start_sign_in()
        flow = read_own_flow(self.service, self.person)["flow"]
        response = self.person.finish_sign_in(callback)
        assert_error_page(response, status)
        assert self.person.get("/api/me").status_code == 401
        assert self.world.list_sessions(self.person) == []
        assert read_event(self.service, response, event)["reason"].startswith(reason)
        given = dict(split_callback(callback)[1])
        secrets = [given["code"], given["state"], flow["nonce"], flow["code_verifier"]]
        assert_not_logged(self.service, *secrets, self.service.env["ENTRA_CLIENT_SECRET"], "opaque.")


@pytest.fixture
def scene(world: World, person: Person) -> Scene:
    return Scene(world=world, service=world.service, person=person)


@pytest.fixture(scope="module")
def one_tenant(settings: dict[str, str]) -> Iterator[Service]:
    """An instance whose authority is its only tenant."""
    tenant = settings["ENTRA_ALLOWED_TENANTS"]
    authority = settings["ENTRA_AUTHORITY"].replace("organizations", tenant)
    with Service(settings | {"ENTRA_AUTHORITY": authority, "ENTRA_ALLOWED_TENANTS": ""}) as running:
        yield running


@pytest.fixture
def one_tenant_scene(world: World, one_tenant: Service) -> Scene:
    return Scene(world=world, service=one_tenant, person=world.new_person().at(one_tenant.url))


def test_untampered_token_signs_in(scene: Scene, one_tenant_scene: Scene) -> None:
    for one in (scene, one_tenant_scene):
        assert one.person.sign_in().status_code == 302


@pytest.mark.parametrize(
    ("use", "kind", "reason"),
    [(use, kind, TAMPERED[kind]) for use in (*USES, "one tenant") for kind in TAMPERED] + NOT_FOR_ALL,
)
def test_tampered_token_is_refused(request: pytest.FixtureRequest, use: str, kind: str, reason: str) -> None:
    scene: Scene = request.getfixturevalue("one_tenant_scene" if use == "one tenant" else "scene")
    scene.refuse(use, reason, tamper=kind)


@pytest.mark.parametrize(
    ("use", "claims", "reason"),
    [(use, *CLAIMS[case]) for use in USES for case in CLAIMS] + CLAIMS_OF_ONE,
    ids=[f"{use}, {case}" for use in USES for case in CLAIMS] + [ascii(case) for case in CLAIMS_OF_ONE],
)
def test_token_with_invalid_claims_is_refused(
    scene: Scene, use: str, claims: dict[str, object], reason: str
) -> None:
    known = {
        "{audience}": TEAMS if use == "teams" else scene.world.azure.env["ENTRA_CLIENT_ID"],
        "{origin}": scene.world.azure.get_app().tls_origin,
        "{tenant}": scene.person.account.tenant_id,
    }
    scene.refuse(use, reason, claims={name: fill(value, known) for name, value in claims.items()})


def fill(value: object, known: dict[str, str]) -> object:
    """Replace the placeholders in a claim."""
    if isinstance(value, list):
        return [fill(item, known) for item in value]
    if isinstance(value, str):
        for name, content in known.items():
            value = value.replace(name, content)
    return value


def test_personal_account_is_refused_by_tenant(scene: Scene) -> None:
    scene.world.azure.tamper("personal-tenant")
    scene.refuse_sign_in("tenant not allowed", status=403, event="authz_fail")


@pytest.mark.parametrize("token", ["a.b", "a.b.c", "!!!.e30.c2ln", "e30.!!!.c2ln", "", "e30"])
def test_malformed_id_token_is_400(scene: Scene, token: str) -> None:
    body = {"id_token": token, "access_token": "x", "token_type": "Bearer", "expires_in": 3600}
    scene.world.azure.plant_fault("entra", "token", "status", status=200, body=body)
    scene.refuse_sign_in("id-token-")
