"""Runs the local Azure: `python -m local_azure --env-file FILE`."""

import argparse
import contextlib
import os
import signal
import sqlite3
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from local_azure.azurite import AzuriteError
from local_azure.running import run_local_azure

WATCH_SECONDS = 0.2


def main() -> int:
    """Run until SIGTERM or SIGINT; return the exit code."""
    arguments = _parse_arguments()
    if not arguments.env_file.parent.is_dir():
        return _fail(f"there is no folder {arguments.env_file.parent} for the settings")
    received: list[int] = []  # not an Event: setting it in a handler that interrupts its wait can deadlock
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _frame: received.append(number))
    try:
        with (
            run_local_azure(
                arguments.data,
                redirect_uris=arguments.redirect_uri,
                front_channel_logout_url=arguments.front_channel_logout_url,
                managed_identity=arguments.managed_identity,
            ) as azure,
            _settings_in(arguments.env_file, azure.settings),
        ):
            while not received:
                time.sleep(WATCH_SECONDS)
                azure.azurite.check()
    except (AzuriteError, OSError, sqlite3.Error) as error:
        return _fail(str(error))
    return 0


def _fail(message: str) -> int:
    sys.stderr.write(f"local_azure: {message}\n")
    return 1


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m local_azure", description="Runs the local Azure.")
    parser.add_argument(
        "--env-file",
        type=Path,
        required=True,
        metavar="FILE",
        help="receives the settings once every part responds",
    )
    parser.add_argument(
        "--managed-identity",
        action="store_true",
        help="gives settings without any key, secret or connection string",
    )
    parser.add_argument("--data", type=Path, metavar="DIR", help="keeps everything in DIR across restarts")
    parser.add_argument(
        "--redirect-uri", action="append", default=[], metavar="URI", help="registers one more redirect URI"
    )
    parser.add_argument("--front-channel-logout-url", metavar="URL", help="called when Entra ID signs out")
    return parser.parse_args()


@contextlib.contextmanager
def _settings_in(path: Path, settings: Mapping[str, str]) -> Iterator[None]:
    """Write `KEY=VALUE` lines to `path`, and remove it at the end.

    The file appears at once and is readable by its owner only, because it holds secrets.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.touch(mode=0o600)
    draft.write_text("".join(f"{key}={value}\n" for key, value in settings.items()), encoding="utf-8")
    draft.replace(path)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


if __name__ == "__main__":
    sys.exit(main())
