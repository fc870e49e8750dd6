"""The Bicep files: they parse, their parts fit together, and they open no more than the service needs."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.infra.bicep import INFRA, NAMES, ROOT, SyntaxProblem, Template, template
from tests.support.settings import REQUIRED
from trusted_service.services import Services
from trusted_service.settings import FIELDS, Settings

ROLES = {  # https://learn.microsoft.com/azure/role-based-access-control/built-in-roles
    "storage.bicep": "0a9a7e1f-b9d0-4cc4-a60d-0319b160aaa3",  # Storage Table Data Contributor
    "communication-access.bicep": "09976791-48a7-449e-bb21-39d1a415f350",  # …and Email Service Owner
    "key-vault.bicep": "4633458b-17de-408a-b874-0445c86b69e6",  # Key Vault Secrets User
}
SCOPES = {"storage.bicep": "account", "communication-access.bicep": "service", "key-vault.bicep": "vault"}
GUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
HARDENED: dict[str, dict[str, dict[str, Any]]] = {
    "storage.bicep": {
        "account": {
            "allowSharedKeyAccess": False,
            "defaultToOAuthAuthentication": True,
            "allowBlobPublicAccess": False,
            "minimumTlsVersion": "TLS1_2",
            "supportsHttpsTrafficOnly": True,
        }
    },
    "communication.bicep": {"service": {"disableLocalAuth": True}},
    "key-vault.bicep": {"vault": {"enableRbacAuthorization": True, "enableSoftDelete": True}},
    "redis.bicep": {
        "cluster": {"minimumTlsVersion": "1.2"},
        "database": {
            "clientProtocol": "Encrypted",
            "port": 10000,
            "clusteringPolicy": "EnterpriseCluster",
            "accessKeysAuthentication": "Disabled",
        },
    },
    "web.bicep": {
        "app": {"httpsOnly": True, "keyVaultReferenceIdentity": "identityId"},
        "ftp": {"allow": False},
        "scm": {"allow": False},
    },
}


@pytest.mark.parametrize("name", NAMES)
def test_template_reads_only_declared_names(name: str) -> None:
    assert template(name).used <= template(name).names


def test_reader_reports_a_syntax_error(tmp_path: Path) -> None:
    broken = tmp_path / "broken.bicep"
    broken.write_text("param name string\noutput address string = {\n")
    with pytest.raises(SyntaxProblem, match=r"broken\.bicep:2"):
        Template(broken)


@pytest.mark.parametrize("name", NAMES)
def test_modules_get_what_they_declare(name: str) -> None:
    for module, (path, body) in template(name).modules.items():
        called, given = template(path), body["params"]
        required = {parameter for parameter, has_default in called.parameters.items() if not has_default}
        assert required <= given.keys() <= called.parameters.keys(), module
        read = re.findall(rf"\b{module}!?\.outputs\.(\w+)", template(name).source)
        assert set(read) <= called.outputs.keys(), module


def test_main_compiles_without_network() -> None:
    """A registry module and an extension have to be downloaded; only entra.bicep needs one."""
    pending, reached = ["main.bicep"], set()
    while pending:
        reached.add(name := pending.pop())
        assert template(name).extensions == []
        pending += [path for path, _ in template(name).modules.values()]
    assert reached >= {"web.bicep", "storage.bicep"}
    assert reached.isdisjoint({"entra.bicep"})


@pytest.mark.parametrize("name", ["entra", "main"])
def test_parameter_file_gives_declared_parameters(name: str) -> None:
    given = json.loads((INFRA / f"{name}.parameters.json").read_text())["parameters"]
    declared = template(f"{name}.bicep").parameters
    assert {parameter for parameter, has_default in declared.items() if not has_default} <= given.keys()
    assert given.keys() <= declared.keys()
    assert "secretKey" not in given


def test_layers_pass_on_what_main_needs() -> None:
    variables = set(re.findall(r"\$\{(\w+)\}", (INFRA / "main.parameters.json").read_text()))
    entra, main = template("entra.bicep").outputs.keys(), template("main.bicep").outputs.keys()
    assert {"ENTRA_CLIENT_ID", "IDENTITY_RESOURCE_ID"} <= entra & variables
    # azd refuses an output of two layers, and a layer that waits for itself.
    assert not entra & main
    assert not main & variables
    operate = (ROOT / "docs" / "operate.md").read_text(encoding="utf-8")
    assert {name for name in variables if f"`{name}`" not in operate} == {"AZURE_ENV_NAME", "AZURE_LOCATION"}


def test_templates_agree_on_names() -> None:
    for name in ("token", "origin"):
        assert template("entra.bicep").variables[name] == template("main.bicep").variables[name]
    _, app = template("web.bicep").resources["app"]
    assert f"'https://{app['name']}.azurewebsites.net'" in template("main.bicep").variables["origin"]


@pytest.mark.parametrize("name", ROLES)
def test_identity_has_one_role_on_each_resource(name: str) -> None:
    assert GUID.findall(template(name).source) == [ROLES[name]]
    [(_, access)] = [body for body in template(name).resources.values() if "roleAssignments" in body[0]]
    assert access["scope"] == SCOPES[name]


def test_no_other_template_assigns_roles() -> None:
    assert {name for name in NAMES if "roleAssignments" in template(name).source} == ROLES.keys()


@pytest.mark.parametrize("name", HARDENED)
def test_resources_refuse_keys_and_old_tls(name: str) -> None:
    for resource, expected in HARDENED[name].items():
        properties = template(name).resources[resource][1]["properties"]
        assert expected.items() <= properties.items(), resource


def test_bicep_makes_the_services_tables() -> None:
    services = Services(Settings.from_env(REQUIRED))
    assert template("storage.bicep").variables["tables"] == sorted(services.storage.tables)


def test_secret_key_is_made_once_and_secret() -> None:
    parameter = "@secure()\nparam secretKey string = '${newGuid()}${newGuid()}'\n"
    assert parameter in template("main.bicep").source
    assert "@secure()\nparam secretKey string\n" in template("key-vault.bicep").source
    assert "@onlyIfNotExists()\nresource secret " in template("key-vault.bicep").source
    for name in NAMES:
        assert not re.findall("secretKey|list[A-Z]", " ".join(template(name).outputs.values()))


def test_registration_fits_the_service() -> None:
    _, registration = template("entra.bicep").resources["registration"]
    assert registration["web"] == {
        "redirectUris": ["${origin}/auth/callback", "${origin}/"],
        "logoutUrl": "${origin}/auth/front-channel-logout",
    }
    assert registration["api"]["requestedAccessTokenVersion"] == 2
    assert registration["optionalClaims"] == {"idToken": [{"name": "sid"}, {"name": "login_hint"}]}
    [scope], [role] = registration["api"]["oauth2PermissionScopes"], registration["appRoles"]
    expected = [FIELDS[name].default for name in ("ENTRA_API_SCOPE", "ENTRA_ADMIN_ROLE")]
    assert [scope["value"], role["value"]] == expected


def test_documented_registration_is_the_same() -> None:
    operate = (ROOT / "docs" / "operate.md").read_text(encoding="utf-8")
    (text,) = re.findall(r"```json\n(\{\n  \"identifierUris.*?)```", operate, re.DOTALL)
    documented = json.loads(text.replace("https://<host>", "${origin}"))
    _, registration = template("entra.bicep").resources["registration"]
    assert documented.pop("identifierUris") == ["api://<client id>"]
    [scope], [role] = documented["api"]["oauth2PermissionScopes"], documented["appRoles"]
    [scopes], [roles] = registration["api"]["oauth2PermissionScopes"], registration["appRoles"]
    scope["id"], role["id"] = scopes["id"], roles["id"]
    assert {name: registration[name] for name in documented} == documented


def test_registration_trusts_the_identity() -> None:
    _, credential = template("entra.bicep").resources["credential"]
    assert credential["audiences"] == ["api://AzureADTokenExchange"]
    assert credential["subject"] == "identity.outputs.principalId"
    assert credential["issuer"] == "${environment().authentication.loginEndpoint}${tenant().tenantId}/v2.0"
