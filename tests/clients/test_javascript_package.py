"""The npm package: what is in it, that it runs where nothing else is, and its types."""

import json
import os
import subprocess
import tarfile
from pathlib import Path

import pytest

from tests.clients.javascript import CLIENT
from tests.support.local_azure import LocalAzure
from tests.support.person import Person
from tools.node import NODE, NPM

TYPESCRIPT = Path(__file__).parents[1] / "typescript"
PROGRAM = """
import * as client from "@trusted-service/client";
const [serviceUrl, accessToken] = process.argv.slice(2);
const token = await client.createTokenRefresher({ serviceUrl, getAccessToken: () => accessToken })();
console.log(JSON.stringify({ token, exports: Object.keys(client) }));
"""


def run(command: list[object], folder: Path) -> str:
    """Run Node.js in a folder; return what it prints, which is all it may do."""
    env = os.environ | {"PATH": f"{NODE.parent}{os.pathsep}{os.environ['PATH']}"}
    arguments = [str(argument) for argument in (NODE, *command)]
    ended = subprocess.run(
        arguments, cwd=folder, env=env, capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


@pytest.fixture(scope="module")
def tarball(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `npm publish` would send."""
    folder = tmp_path_factory.mktemp("pack")
    run([NPM, "pack", "--silent", "--pack-destination", folder], CLIENT)
    (path,) = folder.iterdir()
    return path


def test_package_holds_the_module_its_types_and_nothing_else(tarball: Path) -> None:
    with tarfile.open(tarball) as archive:
        names = set(archive.getnames())
    sources = {f"package/src/{path.name}" for path in (CLIENT / "src").iterdir()}
    assert names == {"package/package.json", "package/README.md", *sources}
    description = json.loads((CLIENT / "package.json").read_text(encoding="utf-8"))
    assert "package/src/index.d.ts" in names
    assert not {"dependencies", "peerDependencies", "scripts"} & set(description)


def test_package_runs_in_an_empty_folder(
    azure: LocalAzure, tarball: Path, tmp_path: Path, person: Person, access_token: str
) -> None:
    run([NPM, "install", "--offline", "--ignore-scripts", "--no-audit", "--no-fund", tarball], tmp_path)
    (tmp_path / "program.mjs").write_text(PROGRAM, encoding="utf-8")
    result = json.loads(run(["program.mjs", person.url, access_token], tmp_path))
    assert azure.check_token(result["token"])["valid"]
    assert result["exports"] == ["TokenRequestError", "createTeamsTokenRefresher", "createTokenRefresher"]


@pytest.mark.parametrize("project", ["declarations.json", "tsconfig.json"])
def test_types_are_what_users_write(project: str) -> None:
    assert run([TYPESCRIPT / "node_modules" / "typescript" / "bin" / "tsc", "-p", project], TYPESCRIPT) == ""
