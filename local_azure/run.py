"""Runs the local Azure, the service under gunicorn and the examples, until Ctrl-C: `make run`.

`python -m local_azure.run [--data DIR] [--managed-identity]` exits with 0 after a signal (SIGINT, SIGTERM,
SIGHUP), and with 1 after one line of explanation if a part cannot start or stops. No process is left behind.
"""

import argparse
import fcntl
import math
import os
import secrets
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from local_azure.examples import find_examples
from local_azure.loopback import get_json, reserve_port, responds
from local_azure.published import publish
from local_azure.supervision import RunError, StopRequestedError, StopSignals, start_program

START_SECONDS = 60
# Long enough for running requests, but not for connections that a browser opened in advance: gunicorn would
# wait for them in vain.
STOP_SERVICE_SECONDS = 3
MAX_ACCOUNTS = 4
"""Printed at the start: the initial ones, which come first. `make demo-data` adds hundreds."""
# Azurite writes its tables to disk.
STOP_AZURE_SECONDS = 15


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m local_azure.run", description="Run the service locally.")
    parser.add_argument(
        "--data", type=Path, default=Path(".local"), help="folder for the data, which survives restarts"
    )
    parser.add_argument(
        "--managed-identity", action="store_true", help="no key, secret or connection string for the service"
    )
    arguments = parser.parse_args()
    data = arguments.data.absolute()
    try:
        run(StopSignals(), read_port(), data, managed_identity=arguments.managed_identity)
    except StopRequestedError:
        say(f"Stopped. The data is kept in {data}.")
    except (RunError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def run(signals: StopSignals, port: int, data: Path, *, managed_identity: bool = False) -> None:
    """Run until a signal (StopRequestedError) or until a part stops unexpectedly (RunError)."""
    public_url = os.environ.get("PUBLIC_URL") or f"http://localhost:{port}"
    with ExitStack() as reserved:
        hosts = reserve_port(port, reserved)
        examples = find_examples(port, reserved)
        with lock_folder(data), ExitStack() as running:
            env_file = data / "azure.env"
            env_file.unlink(missing_ok=True)
            azure = running.enter_context(
                start_program(
                    local_azure_command(data, env_file, public_url, managed_identity=managed_identity),
                    os.environ,
                    stop_seconds=STOP_AZURE_SECONDS,
                )
            )
            signals.wait(env_file.exists, {"local Azure": azure}, START_SECONDS)
            settings = dict(line.split("=", 1) for line in env_file.read_text(encoding="utf-8").splitlines())
            accounts = describe_accounts(settings)
            if examples is not None:
                settings["CORS_ORIGINS"] = examples.origin
            # A file keeps the key out of the environment, which is easier to read than our memory.
            key_file = make_secret_key(data / "secret-key")
            if managed_identity:
                settings["SECRET_KEY_FILE"] = str(key_file)
            else:
                settings["SECRET_KEY"] = key_file.read_text(encoding="ascii")
            environment = make_environment(settings, public_url)

            reserved.close()
            service = running.enter_context(
                start_program(service_command(hosts, port), environment, stop_seconds=STOP_SERVICE_SECONDS)
            )
            parts = {"service": service, "local Azure": azure}
            if examples is not None:
                parts["examples"] = running.enter_context(
                    examples.start(data / "examples.json", settings, environment)
                )
            signals.wait(lambda: responds(port, "/healthz"), parts, START_SECONDS)
            running.enter_context(publish(data, environment, settings["LOCAL_AZURE_CONTROL_URL"]))
            say(f"\nReady: {public_url}")
            if examples is not None:
                signals.wait(lambda: responds(examples.port, "/"), parts, START_SECONDS)
                say(examples.describe(environment))
            say(f"\nAccounts to sign in with (no passwords):\n{accounts}\n")
            say("Ctrl-C stops everything.\n")
            signals.wait(lambda: False, parts, math.inf)


def local_azure_command(
    data: Path, env_file: Path, public_url: str, *, managed_identity: bool = False
) -> list[str]:
    command = [
        sys.executable,
        "-m",
        "local_azure",
        "--env-file",
        str(env_file),
        "--data",
        str(data / "azure"),
    ]
    command += ["--managed-identity"] * managed_identity
    return [*command, "--front-channel-logout-url", f"{public_url}/auth/front-channel-logout"]


def service_command(hosts: list[str], port: int) -> list[str]:
    binds = [f"--bind=[{host}]:{port}" if ":" in host else f"--bind={host}:{port}" for host in hosts]
    return [sys.executable, "-m", "gunicorn", "wsgi:app", *binds]


def read_port() -> int:
    """Return the port of the service, from PORT. Raises RunError if PORT is not a port number."""
    text = os.environ.get("PORT") or "8000"
    if text.isascii() and text.isdecimal() and 0 < int(text) < 65536:
        return int(text)
    raise RunError(f"PORT is {text!r}, not a port number from 1 to 65535.")


@contextmanager
def lock_folder(data: Path) -> Iterator[None]:
    """Create the folder, and lock it: two Azurites would corrupt each other's tables."""
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (data / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            other = "LOCAL_DATA=.local-2 make run"
            raise RunError(f"Another run uses {data}; stop it, or choose another folder: {other}") from error
        yield


def make_environment(settings: Mapping[str, str], public_url: str) -> dict[str, str]:
    """Return the service's environment; the caller's variables (with or without `_FILE`) override ours."""
    made = {**settings, "PUBLIC_URL": public_url, "LOG_FORMAT": "text"}
    del made["LOCAL_AZURE_CONTROL_URL"]
    caller = {name.removesuffix("_FILE") for name, value in os.environ.items() if value}
    wanted = {name: value for name, value in made.items() if name.removesuffix("_FILE") not in caller}
    # The caller's CA and proxy settings would only break the connection to the local Azure.
    trust = {name: settings[name] for name in ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE")}
    direct = dict.fromkeys(("NO_PROXY", "no_proxy"), "localhost,127.0.0.1,::1")
    return {**os.environ, **wanted, **trust, **direct}


def make_secret_key(path: Path) -> Path:
    """Create the signing key of this data folder, once, readable by its owner only; return its path."""
    if not path.exists():
        new = path.with_suffix(".new")
        new.touch(mode=0o600)
        new.write_text(secrets.token_urlsafe(48), encoding="ascii")
        new.replace(path)
    return path


def describe_accounts(settings: Mapping[str, str]) -> str:
    """Return one line for each account of the local Entra ID, with its purpose."""
    accounts = get_json(f"{settings['LOCAL_AZURE_CONTROL_URL']}/accounts")
    allowed = settings["ENTRA_ALLOWED_TENANTS"].split(",")
    lines = []
    for account in accounts[:MAX_ACCOUNTS]:
        if account["tenantId"] not in allowed:
            purpose = "from a tenant that is not allowed: sign-in is refused"
        elif account["roles"]:
            purpose = f"administrator ({', '.join(account['roles'])}): can open /admin"
        else:
            purpose = "user"
        lines.append(f"  {account['username']:<24}  {purpose}")
    if more := len(accounts) - len(lines):
        lines.append(f"  … and {more} more")
    return "\n".join(lines)


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
