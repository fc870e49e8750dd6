"""azure.yaml, its hooks, and what `azd deploy` sends."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.infra.bicep import INFRA, ROOT, template
from tests.support.settings import REQUIRED

PROJECT: dict[str, Any] = yaml.safe_load((ROOT / "azure.yaml").read_text())
REGISTRATION = "11111111-2222-4333-8444-555555555555"
OBJECT_ID = "22222222-3333-4444-8555-666666666666"
# Until the last one, Graph keeps the uniqueName from another registration.
DELETION = f"""ad app show --id {REGISTRATION} --query id --output tsv
ad app delete --id {REGISTRATION}
rest --method DELETE --url https://graph.microsoft.com/v1.0/directory/deletedItems/{OBJECT_ID}
"""
# Of azd's schema, which allows more than these: https://github.com/Azure/azure-dev/tree/main/schemas/v1.0
MEMBERS = {"name", "requiredVersions", "infra", "services", "hooks"}
GIT = shutil.which("git") or "git"
DEPLOYED = {"trusted_service", "templates", "wsgi.py", "gunicorn.conf.py", "requirements.txt"}


def test_project_has_the_members_of_azd() -> None:
    assert PROJECT.keys() <= MEMBERS
    assert PROJECT["requiredVersions"].keys() == {"azd"}
    for layer in PROJECT["infra"]["layers"]:
        assert {"name", "path"} <= layer.keys() <= {"name", "path", "module", "hooks"}
        assert layer.get("hooks", {}).keys() <= {"preprovision", "postprovision"}
        assert (ROOT / layer["path"] / f"{layer['module']}.bicep").is_file()
        assert (ROOT / layer["path"] / f"{layer['module']}.parameters.json").is_file()
    assert [layer["module"] for layer in PROJECT["infra"]["layers"]] == ["entra", "main"]
    assert PROJECT["services"] == {"web": {"project": ".", "host": "appservice", "language": "py"}}
    assert "'azd-service-name': 'web'" in template("web.bicep").source


def test_extension_is_the_configured_one() -> None:
    assert template("entra.bicep").extensions == ["microsoftGraphV1"]
    configured = yaml.safe_load((INFRA / "bicepconfig.json").read_text())["extensions"]
    assert configured == {
        "microsoftGraphV1": "br:mcr.microsoft.com/bicep/extensions/microsoftgraph/v1.0:1.0.0"
    }


@pytest.mark.parametrize(
    ("variables", "deleted"),
    [
        ({"ENTRA_REGISTRATION": REGISTRATION}, DELETION),
        ({"ENTRA_REGISTRATION": REGISTRATION, "ENTRA_CLIENT_ID": REGISTRATION}, ""),  # `azd down main`
        ({}, ""),  # somebody else made the registration
    ],
)
def test_last_hook_deletes_own_registration(tmp_path: Path, variables: dict[str, str], deleted: str) -> None:
    program, calls = tmp_path / "az", tmp_path / "calls"
    program.write_text(f'#!/bin/sh\necho "$@" >>{calls}\ncase "$*" in *show*) echo {OBJECT_ID} ;; esac\n')
    program.chmod(0o700)
    hook = PROJECT["hooks"]["postdown"]["posix"]
    subprocess.run(
        [hook["shell"], "-c", hook["run"]],
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}"} | variables,
        check=True,
    )
    assert (calls.read_text() if calls.exists() else "") == deleted


def list_files(*options: str) -> set[str]:
    return set(subprocess.check_output([GIT, "ls-files", *options], cwd=ROOT, text=True).splitlines())


def test_deployed_files_start_the_service(tmp_path: Path) -> None:
    deployed = list_files() - list_files("--cached", "--ignored", "--exclude-from=.webappignore")
    assert list_files("trusted_service", "templates") < deployed
    assert {name.partition("/")[0] for name in deployed} == DEPLOYED
    for name in deployed:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    check = [sys.executable, "-m", "gunicorn", "-c", "gunicorn.conf.py", "--check-config", "wsgi:app"]
    subprocess.run(check, cwd=tmp_path, env={"PATH": os.environ["PATH"]} | REQUIRED, check=True, timeout=60)


def test_documented_archive_is_what_azd_deploys() -> None:
    operate = (ROOT / "docs" / "operate.md").read_text(encoding="utf-8")
    command = re.search(r"^git archive --output app\.zip HEAD (.*)$", operate, re.MULTILINE)
    assert command
    assert set(command[1].split()) == DEPLOYED
