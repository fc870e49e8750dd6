"""`make token`, `make cli` and `make demo-data` beside a running `make run`."""

import json
import os
import shlex
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest
import requests

from local_azure.published import FILE, read_published, service_environment
from tests.support.run import Run
from tests.support.service import ROOT, free_port
from tests.support.settings import UNMEASURED
from tools.demo_people import make_people
from trusted_service.audit import AuditQuery
from trusted_service.services import Services
from trusted_service.settings import Settings

COUNT = 24
Call = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("run") / "data"


@pytest.fixture(scope="module")
def run(data: Path) -> Iterator[Run]:
    settings = {"TOKEN_LIFETIME_MINUTES": "90", "OF_ANOTHER_PROGRAM": "hunter2"}
    running = Run.start(free_port(), data, output_file=data.with_name("output"), settings=settings)
    try:
        running.wait_until_ready()
        yield running
    finally:
        running.stop()


def call_module(module: str, data: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run what the Makefile's rule runs, without the caller's settings."""
    command = [sys.executable, "-m", module, str(data), *arguments]
    env = os.environ | UNMEASURED
    return subprocess.run(
        command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=110, check=False
    )


@pytest.fixture
def call(data: Path, run: Run) -> Call:
    return lambda module, *arguments: call_module(module, data, *arguments)


def test_token_and_its_curl_line_work(call: Call, run: Run) -> None:
    printed = call("local_azure.bearer", "Bob@Contoso.example")
    token, empty, curl = printed.stdout.splitlines()
    assert (printed.returncode, printed.stderr, empty) == (0, "", "")
    name, *arguments = shlex.split(curl)
    assert (name, arguments[:3]) == ("curl", ["-X", "POST", f"http://localhost:{run.port}/api/token"])
    headers = {"Authorization": f"Bearer {token}"}
    assert arguments[3:] == ["-H", f"Authorization: Bearer {token}"]
    response = requests.post(arguments[2], headers=headers, timeout=30)
    assert response.status_code == 200, response.text
    me = requests.get(f"http://localhost:{run.port}/api/me", headers=headers, timeout=30).json()
    assert me["user"]["username"] == "bob@contoso.example"
    assert token not in run.output


@pytest.mark.parametrize("account", ["", "nobody@contoso.example", "bob", "bob@contoso.example;id", "$(id)"])
def test_unknown_account_is_told_the_known_ones(call: Call, account: str) -> None:
    refused = call("local_azure.bearer", account)
    assert (refused.returncode, refused.stdout, refused.stderr.count("\n")) == (1, "", 1)
    assert "alice@contoso.example, bob@contoso.example" in refused.stderr


def test_cli_runs_commands_with_the_services_settings(call: Call, run: Run) -> None:
    cli = partial(call, "local_azure.cli")
    checked = cli("check-config", "--connect")
    assert (checked.returncode, checked.stdout.count(": ok")) == (0, 3), checked.stdout
    assert cli("users", "show", "nobody").returncode == 2
    assert json.loads(cli("users", "list", "--json", "--q", "two words \"'").stdout) == []


def test_settings_are_readable_by_their_owner_only(data: Path, run: Run) -> None:
    file = data / FILE
    assert file.stat().st_mode & 0o777 == 0o600
    published = json.loads(file.read_text(encoding="utf-8"))
    assert published["TOKEN_LIFETIME_MINUTES"] == "90"
    assert "hunter2" not in published.values()
    secrets = [published[name] for name in ("SECRET_KEY", "ENTRA_CLIENT_SECRET")]
    assert not any(secret in run.output for secret in secrets)


def test_demo_data_finishes_once_what_is_missing(call: Call, data: Path, run: Run) -> None:
    command = [sys.executable, "-m", "tools.demo_data", str(data), str(COUNT)]
    with subprocess.Popen(
        command, cwd=ROOT, env=os.environ | UNMEASURED, stdout=subprocess.PIPE
    ) as interrupted:
        assert interrupted.stdout
        assert any(b" imported from " in line for line in interrupted.stdout)
        interrupted.kill()
    filled, again = call("tools.demo_data", str(COUNT)), call("tools.demo_data", str(COUNT))
    assert (filled.returncode, filled.stderr, again.stderr) == (0, "", ""), filled.stderr
    assert f"{COUNT} accounts, 0 of them new" in filled.stdout
    assert [line.split()[0] for line in again.stdout.splitlines()[1:4]] == ["0"] * 3, again.stdout
    with closing(Services(Settings.from_env(service_environment(read_published(data))))) as services:
        assert_demo_is_there(services)


def assert_demo_is_there(services: Services) -> None:
    people = {person.username for person in make_people(COUNT)}
    rows = [row for row in services.identities.all() if row.username in people]
    assert len(rows) == len(people) == COUNT
    assert len([row for row in rows if row.blocked and row.block_reason]) == 2
    assert len([row for row in rows if row.last_token_at is None]) == 2
    assert max(len(services.sessions.list_by_user(row.user_id)) for row in rows) == 3
    actions = Counter(
        event.action for row in rows for event in services.audit.all(AuditQuery(target=row.user_id))
    )
    assert (actions["import"], actions["block"]) == (2 * COUNT, 4)
    assert len(services.usage.picture().hours) > 700


NOTHING, DEAD = None, '{"LOCAL_AZURE_CONTROL_URL": "http://127.0.0.1:1/control"}'


@pytest.mark.parametrize(
    ("module", "left"),
    [
        ("local_azure.bearer", NOTHING), ("local_azure.bearer", "{}"), ("local_azure.bearer", "nonsense"),
        ("local_azure.cli", DEAD), ("tools.demo_data", DEAD),
    ],
)  # fmt: skip
def test_command_without_a_run_says_so(tmp_path: Path, module: str, left: str | None) -> None:
    if left:
        (tmp_path / FILE).write_text(left, encoding="utf-8")
    refused = call_module(module, tmp_path, "alice@contoso.example")
    assert (refused.returncode, refused.stdout, refused.stderr.count("\n")) == (1, "", 1)
    assert f"LOCAL_DATA={tmp_path} make run" in refused.stderr


def test_settings_are_gone_after_the_run(data: Path, run: Run) -> None:
    run.stop()
    assert not (data / FILE).exists()


@pytest.mark.parametrize(
    ("target", "command"),
    [
        (["token"], "local_azure.bearer .local alice@contoso.example"),
        (["token", "ACCOUNT="], "local_azure.bearer .local alice@contoso.example"),
        (["token", "ACCOUNT=bob@contoso.example"], "local_azure.bearer .local bob@contoso.example"),
        (["cli", "ARGS=users list --q 'two words'"], "local_azure.cli .local users list --q two words"),
        (["demo-data", "LOCAL_DATA=/tmp/a b"], "tools.demo_data /tmp/a b"),
    ],
)
def test_make_passes_the_arguments_on(target: list[str], command: str) -> None:
    make = ["make", "-n", "--no-print-directory", *target]
    made = subprocess.run(make, cwd=ROOT, capture_output=True, text=True, check=True)
    assert " ".join(shlex.split(made.stdout.splitlines()[-1])).endswith(f"-m {command}")
