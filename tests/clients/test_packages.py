"""The packages for npm and Python: their contents, and their use in an empty environment."""

import json
import os
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

from tests.clients.javascript import CLIENT
from tests.support.local_azure import LocalAzure
from tests.support.person import Person
from tests.support.service import ROOT
from tools.node import NODE, NPM

PYTHON_CLIENT = ROOT / "clients" / "python"
TYPESCRIPT = ROOT / "tests" / "typescript"
JAVASCRIPT_PROGRAM = """
import * as client from "@trusted-service/client";
const [serviceUrl, accessToken] = process.argv.slice(2);
const token = await client.createTokenRefresher({ serviceUrl, getAccessToken: () => accessToken })();
console.log(JSON.stringify({ token, exports: Object.keys(client) }));
"""
PYTHON_PROGRAM = """
import sys
from trusted_service_client import create_token_refresher
import trusted_service_client.aio
print(create_token_refresher(sys.argv[1], lambda force_refresh: sys.argv[2])().token, end="")
"""


def run(*command: object, folder: Path | None = None) -> str:
    """Run a program in a folder; return its output."""
    env = os.environ | {"PATH": f"{NODE.parent}{os.pathsep}{os.environ['PATH']}"}
    arguments = [str(argument) for argument in command]
    ended = subprocess.run(
        arguments, cwd=folder, env=env, capture_output=True, text=True, timeout=100, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


@pytest.fixture(scope="module")
def tarball(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package that `npm publish` would send."""
    target = tmp_path_factory.mktemp("pack")
    run(NODE, NPM, "pack", "--silent", "--pack-destination", target, folder=CLIENT)
    (path,) = target.iterdir()
    return path


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheels of the Python package and its dependencies."""
    target = tmp_path_factory.mktemp("wheels")
    source = target.with_name("source")  # the build leaves its own files beside the sources
    shutil.copytree(PYTHON_CLIENT, source, ignore=shutil.ignore_patterns("__pycache__"))
    run_pip("wheel", "--wheel-dir", target, source)
    return target


def run_pip(*arguments: object) -> None:
    run(sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments)


def test_npm_package_holds_module_and_types(tarball: Path) -> None:
    with tarfile.open(tarball) as archive:
        names = set(archive.getnames())
    sources = {f"package/src/{path.name}" for path in (CLIENT / "src").iterdir()}
    assert names == {"package/package.json", "package/README.md", *sources}
    description = json.loads((CLIENT / "package.json").read_text(encoding="utf-8"))
    assert "package/src/index.d.ts" in names
    assert not {"dependencies", "peerDependencies", "scripts"} & set(description)


def test_npm_package_runs_in_an_empty_folder(
    azure: LocalAzure, tarball: Path, tmp_path: Path, person: Person, access_token: str
) -> None:
    options = ("--offline", "--ignore-scripts", "--no-audit", "--no-fund")
    run(NODE, NPM, "install", *options, tarball, folder=tmp_path)
    (tmp_path / "program.mjs").write_text(JAVASCRIPT_PROGRAM, encoding="utf-8")
    result = json.loads(run(NODE, "program.mjs", person.url, access_token, folder=tmp_path))
    assert azure.check_token(result["token"])["valid"]
    assert result["exports"] == ["TokenRequestError", "createTeamsTokenRefresher", "createTokenRefresher"]


@pytest.mark.parametrize("project", ["declarations.json", "tsconfig.json"])
def test_types_accept_documented_use(project: str) -> None:
    compiler = TYPESCRIPT / "node_modules" / "typescript" / "bin" / "tsc"
    assert run(NODE, compiler, "-p", project, folder=TYPESCRIPT) == ""


def test_wheel_holds_typed_modules(wheels: Path) -> None:
    (wheel,) = wheels.glob("trusted_service_client-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    paths = (PYTHON_CLIENT / "src").rglob("*.py")
    sources = {path.relative_to(PYTHON_CLIENT / "src").as_posix() for path in paths}
    assert names == sources | {"trusted_service_client/py.typed"}


def test_wheel_runs_in_an_empty_environment(
    azure: LocalAzure, wheels: Path, tmp_path: Path, person: Person, access_token: str
) -> None:
    venv.create(tmp_path / "env", with_pip=False)
    python, program = tmp_path / "env" / "bin" / "python", tmp_path / "program.py"
    index = ("--no-index", "--find-links", wheels)
    run_pip("--python", python, "install", *index, "trusted-service-client")
    program.write_text(PYTHON_PROGRAM, encoding="utf-8")
    token = run(python, "-I", "-W", "error", program, person.url, access_token)
    assert azure.check_token(token)["valid"]
