"""What comes from elsewhere is named by what it holds: packages by hashes, actions by commits."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.service import ROOT
from tools.licences import fits

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
LOCKS = [path for path in ROOT.glob("**/package-lock.json") if "node_modules" not in path.parts]


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-dev.txt", "requirements-sbom.txt"])
def test_every_package_has_version_and_hash(name: str) -> None:
    text = re.sub(r"\s*\\\n\s+", " ", (ROOT / name).read_text(encoding="utf-8"))
    lines = [line for line in text.splitlines() if line and not line.lstrip().startswith("#")]
    assert len(lines) > 20
    for line in lines:
        assert re.match(r"[a-z0-9-]+==\S+( ; .+?)?( --hash=sha256:[0-9a-f]{64})+$", line), line


def test_scripts_install_by_hash_or_version() -> None:
    for path in (ROOT / "tools").glob("*.sh"):
        for line in re.findall(r"\$pip .*install.*|-m pip .*install.*", path.read_text(encoding="utf-8")):
            assert "--require-hashes" in line or re.search(r" uv==[\d.]+$", line), (path, line)


def test_every_node_package_has_integrity() -> None:
    assert len(LOCKS) == 5
    for path in LOCKS:
        packages = json.loads(path.read_text(encoding="utf-8"))["packages"].items()
        assert not [name for name, package in packages if name and not package.get("integrity")], path


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_workflow_pins_actions_and_holds_no_secret(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    actions = re.findall(r"uses: (?!\./)(.+)", text)
    assert actions
    assert all(re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", action) for action in actions)
    assert "secrets." not in text
    assert re.search(r"^permissions: \{\}$", text, re.MULTILINE)
    assert text.count("runs-on:") == text.count("timeout-minutes:")
    assert text.count("persist-credentials: false") == text.count("actions/checkout@")


def test_one_python_is_tested_and_deployed() -> None:
    places = {
        ".github/workflows/ci.yml": r'python-version: "([\d.]+)"',
        "Dockerfile": r"^FROM python:(\d+\.\d+)",
        "infra/main.bicep": r"^param pythonVersion string = '([\d.]+)'",
    }
    found = {
        name: {*re.findall(pattern, (ROOT / name).read_text(encoding="utf-8"), re.MULTILINE)}
        for name, pattern in places.items()
    }
    assert len(versions := set.union(*found.values())) == 1, found
    assert all(versions == one for one in found.values()), found


def test_dependabot_knows_every_lock_file() -> None:
    text = (ROOT / ".github" / "dependabot.yml").read_text(encoding="utf-8")
    (folders,) = re.findall(r"directories: \[(.+)\]", text)
    assert {*folders.split(", ")} == {f"/{path.parent.relative_to(ROOT)}" for path in LOCKS}


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        *((name, True) for name in ("MIT", "Apache-2.0 OR GPL-3.0-only", "(MIT AND ISC)")),
        *((name, False) for name in ("GPL-3.0-only", "MIT AND GPL-3.0-only", "", "Proprietary")),
    ],
)
def test_licences_fit_by_their_alternatives(expression: str, expected: bool) -> None:
    assert fits(expression) is expected


def test_licence_list_names_misfits(tmp_path: Path) -> None:
    licences: dict[str, list[dict[str, object]]] = {
        "good": [{"license": {"name": "License :: OSI Approved :: BSD License"}}, {"expression": "MIT OR X"}],
        "bad": [{"license": {"id": "AGPL-3.0-only"}}],
        "silent": [],
    }
    document = {
        "components": [{"name": name, "version": "1", "licenses": of} for name, of in licences.items()]
    }
    (tmp_path / "sbom.json").write_text(json.dumps(document), encoding="utf-8")
    command = [
        sys.executable,
        "-m",
        "tools.licences",
        str(tmp_path / "sbom.json"),
        str(tmp_path / "list.csv"),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[1:] == ["bad 1: AGPL-3.0-only", "silent 1: none"]
    assert len((tmp_path / "list.csv").read_text(encoding="utf-8").splitlines()) == 4
