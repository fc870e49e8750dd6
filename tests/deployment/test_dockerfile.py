"""The Dockerfile: its command and its health check, run with the files that it copies. No image is built."""

import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import requests

from tests.support.azure_control import CALL_SECONDS
from tests.support.service import ROOT, Service

VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
TEXT = (ROOT / "Dockerfile").read_text(encoding="utf-8")
COPIED = {
    name
    for line in re.findall(r"^COPY (?!--from)(.+) \S+$", TEXT.partition("WORKDIR")[2], re.MULTILINE)
    for name in line.split()
}


def read_command(instruction: str) -> list[str]:
    """Return the command of an instruction, with this Python for the image's."""
    ((text),) = re.findall(rf"^{instruction}.*?(\[.+\])$", TEXT, re.MULTILINE)
    program, *arguments = json.loads(text)
    return [sys.executable, *(() if program == "python" else ("-m", program)), *arguments]


class Container(Service):
    """What the image would run, in a folder with its files."""

    def command(self) -> list[str]:
        return [*read_command("CMD"), "--bind", f"127.0.0.1:{self.port}"]


def test_copied_files_serve_and_pass_check(settings: dict[str, str], tmp_path: Path) -> None:
    for name in COPIED:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tmp_path / name)
    container = Container(settings)
    container.folder = tmp_path
    env = {"PORT": str(container.port)}
    check = read_command("HEALTHCHECK")
    assert subprocess.run(check, env=env, capture_output=True, check=False).returncode == 1
    with container:
        assert subprocess.run(check, env=env, check=False).returncode == 0
        assert requests.get(container.url, timeout=CALL_SECONDS).status_code == 200
        doctor = [sys.executable, "-m", "flask", "--app", "wsgi", "doctor"]
        done = subprocess.run(doctor, cwd=tmp_path, env=container.env, capture_output=True, check=True)
        assert json.loads(done.stdout)["versions"]["service"] == VERSION


def test_command_is_documented_one() -> None:
    assert read_command("CMD")[1:] == ["-m", "gunicorn", "-c", "gunicorn.conf.py", "wsgi:app"]


@pytest.mark.parametrize("name", [".dockerignore", ".github/workflows/deploy.yml"])
def test_others_take_same_files(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    taken = re.findall(r"^!(\S+)", text, re.MULTILINE) or re.findall(r"app\.zip HEAD (.+)", text)[0].split()
    assert {*taken} == COPIED | {"requirements.txt"}


def test_image_is_pinned_and_without_root() -> None:
    images = re.findall(r"^FROM (\S+)", TEXT, re.MULTILINE)
    assert all(re.fullmatch(r"python:3\.\d+\.\d+-slim-\w+@sha256:[0-9a-f]{64}", image) for image in images)
    assert len({*images}) == 1
    assert re.findall(r"^USER (\d+)", TEXT, re.MULTILINE) == ["10001"]
