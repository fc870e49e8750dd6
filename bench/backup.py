"""Backs up and restores users, and compares: `.venv/bin/python -m bench.backup [USERS]`."""

import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import click

from tests.support.backup import differences, fill, snapshot, wipe
from tests.support.local_azure import LocalAzure
from tests.support.service import ROOT
from tests.support.settings import OWN_SETTINGS


def run(env: Mapping[str, str], output: Path, *arguments: str) -> None:
    """Run a `users` command; print its duration, and the most memory of any command until now."""
    begin = time.monotonic()
    command = [sys.executable, "-m", "flask", "--app", "wsgi", "users", *arguments]
    with output.open("w") as out, output.with_suffix(".log").open("w") as log:
        done = subprocess.run(command, cwd=ROOT, env=env, stdout=out, stderr=log, check=False)
    megabytes = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    seconds = time.monotonic() - begin
    click.echo(f"{arguments[0]}: exit {done.returncode}, {seconds:.0f} s, at most {megabytes:.0f} MB")


def main(users: int) -> None:
    with LocalAzure() as azure, tempfile.TemporaryDirectory() as folder:
        env, file = os.environ | azure.env | OWN_SETTINGS, Path(folder, "backup.json")
        fill(env, users)
        before = snapshot(env)
        run(env, file, "export")
        click.echo(f"{file.stat().st_size / 2**20:.0f} MB")
        wipe(env)
        for _ in range(2):
            run(env, Path(folder, "results"), "import", str(file))
            click.echo(f"differences: {len(differences(before, snapshot(env)))}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000)
