"""The code in the documentation runs: each client's README, and the migration guide."""

import json
import re
from pathlib import Path

import pytest
from azure.communication.identity import CommunicationIdentityClient
from azure.data.tables import TableServiceClient

from tests.clients.javascript import CLIENT
from tests.support.local_azure import LocalAzure
from tests.support.node import run_code
from tests.support.person import Person
from tests.support.rows import insert_identity_row
from tests.support.service import ROOT

README, PYTHON_README = CLIENT / "README.md", ROOT / "clients" / "python" / "README.md"
MIGRATION = ROOT / "docs" / "migration.md"

# Names that the snippets take from the surrounding app.
APP = """
const input = {input};
const account = {{}};
const signInAgain = () => {{}};
const getEntraToken = async () => input.accessToken;
const readAccessToken = getEntraToken;
const acquireTokenSilent = async () => input;
const msal = {{ acquireTokenSilent, loginRedirect: signInAgain }};
"""
PRINT_TOKEN = "console.log(JSON.stringify({ token: await tokenRefresher() }));"


def read_blocks(path: Path, language: str) -> list[str]:
    text = path.read_text(encoding="utf-8").replace("https://calls.contoso.com", "{service}")
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def run_block(person: Person, block: str, access_token: str, before: str = "") -> str:
    module = (CLIENT / "src" / "index.js").as_uri()
    imports = "" if "import {" in block else f'import {{ createTokenRefresher }} from "{module}";\n'
    block = block.replace("@trusted-service/client", module).replace("{service}", person.url)
    app = APP.format(input=json.dumps({"accessToken": access_token}))
    return str(run_code(person, before + imports + app + block + PRINT_TOKEN)["token"])


@pytest.mark.parametrize("number", [1, 2])
def test_readme_works_with_access_token(person: Person, access_token: str, number: int) -> None:
    token = run_block(person, read_blocks(README, "js")[number], access_token)
    assert person.azure.check_token(token)["valid"]


def test_readme_works_with_session(azure: LocalAzure, signed_in: Person) -> None:
    page = f'import "./as-browser.mjs";\nglobalThis.location = {{ origin: "{signed_in.url}" }};\n'
    token = run_block(signed_in, read_blocks(README, "js")[0] + "credential.dispose();\n", "", page)
    assert azure.check_token(token)["valid"]


def test_python_readme_creates_a_chat_client(azure: LocalAzure, person: Person, access_token: str) -> None:
    block = read_blocks(PYTHON_README, "python")[0].replace("{service}", person.url)
    names = {"get_access_token": lambda force_refresh: access_token}
    exec(block, names)  # noqa: S102 - our own README
    credential, chat = names["credential"], names["chat"]
    check = azure.check_token(credential._token.token)  # type: ignore[attr-defined]
    assert (check["valid"], check["scopes"]) == (True, ["chat"])
    chat.close()  # type: ignore[attr-defined]


def test_migrated_user_keeps_the_identity(
    azure: LocalAzure, tables: TableServiceClient, person: Person, access_token: str
) -> None:
    """The inserted row is one that `users import` would write."""
    with azure.in_environment():
        connection_string = azure.env["COMMUNICATION_SERVICES_CONNECTION_STRING"]
        client = CommunicationIdentityClient.from_connection_string(connection_string)
        identity = client.create_user().properties["id"]
    insert_identity_row(tables, person, acs_user_id=identity)
    _, after = read_blocks(MIGRATION, "js")
    assert azure.check_token(run_block(person, after, access_token))["identity"] == identity
