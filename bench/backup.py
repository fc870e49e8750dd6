"""Backs up and restores users, and compares: `.venv/bin/python -m bench.backup [USERS]`."""

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import click
import psutil
import requests

from bench.planted_storage import plant_storage
from tests.support.backup import add_history, differences, snapshot
from tests.support.local_azure import LocalAzure
from tests.support.seed import make_users
from tests.support.service import ROOT
from tests.support.settings import OWN_SETTINGS
from trusted_service.models import Identity

SAMPLE_SECONDS = 0.2


def run(env: Mapping[str, str], output: Path, *arguments: str) -> None:
    """Run a `users` command; print its duration, and how much memory it needed."""
    begin = time.monotonic()
    command = [sys.executable, "-m", "flask", "--app", "wsgi", "users", *arguments]
    with output.open("w") as out, output.with_suffix(".log").open("w") as log:
        process, rss = psutil.Popen(command, cwd=ROOT, env=env, stdout=out, stderr=log), 0
        while process.poll() is None:
            with suppress(psutil.Error):
                rss = max(rss, process.memory_info().rss)
            time.sleep(SAMPLE_SECONDS)
    seconds = time.monotonic() - begin
    click.echo(f"{arguments[0]}: exit {process.returncode}, {seconds:.0f} s, at most {rss / 2**20:.0f} MB")


def plant(data: Path, count: int) -> list[Identity]:
    """Write a data folder with users of the resource that the local Azure then has."""
    with LocalAzure(data=data) as azure:
        document = requests.get(azure.env["LOCAL_AZURE_CONTROL_URL"] + "/acs", timeout=30).json()
        tenant = azure.env["ENTRA_ALLOWED_TENANTS"].split(",")[0]
    users = make_users(count, tenant, document["endpoints"][0]["resourceId"], blocked=0.1)
    shutil.rmtree(data / "azurite")
    plant_storage(data, users, whole=True)
    return users


@contextmanager
def serving(data: Path) -> Iterator[dict[str, str]]:
    with LocalAzure(data=data) as azure:
        yield os.environ | azure.env | OWN_SETTINGS


def main(count: int) -> None:
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        data, file = Path(folder, "data"), Path(folder, "backup.json")
        users = plant(data, count)
        env = stack.enter_context(serving(data))
        add_history(env, users)
        click.echo(f"{count} users are there")
        before = snapshot(env)
        run(env, file, "export")
        click.echo(f"{file.stat().st_size / 2**20:.0f} MB")
        stack.close()
        shutil.rmtree(data / "azurite")  # an empty storage, and the same Communication Services resource
        env = stack.enter_context(serving(data))
        for _ in range(2):
            run(env, Path(folder, "results"), "import", str(file))
            click.echo(f"differences: {len(differences(before, snapshot(env)))}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000)
