"""The Python package: that it builds, holds its types, and runs where nothing else is."""

import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from tests.support.local_azure import LocalAzure
from tests.support.person import Person

CLIENT = Path(__file__).parents[2] / "clients" / "python"
QUIET = ("--quiet", "--disable-pip-version-check")
PROGRAM = """
import sys
from trusted_service_client import create_token_refresher
import trusted_service_client.aio
print(create_token_refresher(sys.argv[1], lambda force_refresh: sys.argv[2])().token, end="")
"""


def run(*command: object) -> str:
    arguments = [str(argument) for argument in command]
    ended = subprocess.run(arguments, capture_output=True, text=True, timeout=100, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package's wheel and those that it needs."""
    folder = tmp_path_factory.mktemp("wheels")
    source = folder.with_name("source")  # the build leaves its own files beside the sources
    shutil.copytree(CLIENT, source, ignore=shutil.ignore_patterns("__pycache__"))
    run(sys.executable, "-m", "pip", *QUIET, "wheel", "--wheel-dir", folder, source)
    return folder


def test_wheel_holds_the_modules_and_says_that_they_are_typed(wheels: Path) -> None:
    (wheel,) = wheels.glob("trusted_service_client-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    sources = (CLIENT / "src").rglob("*.py*")
    expected = {
        path.relative_to(CLIENT / "src").as_posix() for path in sources if "__pycache__" not in path.parts
    }
    assert names == expected | {"trusted_service_client/py.typed"}


def test_wheel_runs_in_an_empty_environment(
    azure: LocalAzure, wheels: Path, tmp_path: Path, person: Person, access_token: str
) -> None:
    venv.create(tmp_path / "env", with_pip=False)
    python = tmp_path / "env" / "bin" / "python"
    index = ("--no-index", "--find-links", wheels)
    install = ("-m", "pip", "--python", python, *QUIET, "install", *index, "trusted-service-client")
    run(sys.executable, *install)
    (tmp_path / "program.py").write_text(PROGRAM, encoding="utf-8")
    token = run(python, "-I", "-W", "error", tmp_path / "program.py", person.url, access_token)
    assert azure.check_token(token)["valid"]
