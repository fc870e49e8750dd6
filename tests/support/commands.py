"""Runs the operators' commands: inside this process, or in a process of their own."""

import contextlib
import json
import multiprocessing
import os
import sys
import tempfile
from collections.abc import Mapping
from multiprocessing import forkserver
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any
from unittest import mock

import click.testing
from flask import Flask

from tests.support.service import ROOT
from tests.support.settings import UNMEASURED


class CommandFailed(Exception):
    """A command failed; the message is its standard error."""


def run_command(application: Flask, *arguments: str, typed: str = "") -> click.testing.Result:
    """Run a command in this process; `typed` is the operator's input."""
    with application.app_context():  # as in the `flask` program
        result = application.test_cli_runner().invoke(args=list(arguments), input=typed)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def read_json(result: click.testing.Result) -> Any:
    """Return the standard output, which must be JSON and nothing else."""
    return json.loads(result.stdout)


def run_users(env: Mapping[str, str], *arguments: str, seconds: float = 120) -> str:
    """Run `flask --app wsgi users …`; return its output. Raises CommandFailed."""
    with tempfile.TemporaryDirectory(prefix="command-") as folder:
        process = start_users_command(env, *arguments, output=Path(folder))
        process.join(seconds)
        if process.exitcode is None:
            process.kill()
            raise CommandFailed(f"users {arguments} did not end within {seconds} s")
        printed, errors = (Path(folder, name).read_text(encoding="utf-8") for name in ("stdout", "stderr"))
    if process.exitcode:
        raise CommandFailed(errors)
    return printed


def start_users_command(env: Mapping[str, str], *arguments: str, output: Path) -> ForkServerProcess:
    """Start `flask --app wsgi users …`, which writes to the files `stdout` and `stderr` in `output`."""
    # Imports take most of a command's time, so it is forked from a process that has them.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["flask.cli", "trusted_service.app", "trusted_service.cli.users"])
    with mock.patch.dict(os.environ, UNMEASURED):
        forkserver.ensure_running()
    command = ["flask", "--app", "wsgi", "users", *arguments]
    process = context.Process(target=_run_flask, args=(dict(env), command, output), daemon=True)
    process.start()
    return process


def _run_flask(env: dict[str, str], command: list[str], output: Path) -> None:
    os.chdir(ROOT)
    os.environ.clear()
    os.environ.update(env)
    for stream in (sys.stdout, sys.stderr):
        name = stream.name.strip("<>")
        os.dup2(os.open(output / name, os.O_WRONLY | os.O_CREAT, 0o600), stream.fileno())
    sys.argv = command
    from flask.cli import main

    with contextlib.suppress(KeyboardInterrupt):
        main()


def repair(env: Mapping[str, str], *, dry_run: bool = False) -> list[dict[str, Any]]:
    """Run `users repair`; return its findings: `kind`, `user` and `detail`."""
    options = ("--dry-run",) if dry_run else ()
    return list(json.loads(run_users(env, "repair", "--json", *options)))
