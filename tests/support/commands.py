"""Runs the operators' commands: inside this process, or as operators do, as a program of its own."""

import json
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import click.testing
from flask import Flask

from tests.support.service import ROOT

SECONDS = 120


class CommandFailed(Exception):
    """A command ended with another status than 0; the message is what it said."""


def run_command(application: Flask, *arguments: str, typed: str = "") -> click.testing.Result:
    """Run it in this process; `typed` is what the operator answers to questions."""
    with application.app_context():  # as the `flask` program has it from the beginning
        result = application.test_cli_runner().invoke(args=list(arguments), input=typed)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def read_json(result: click.testing.Result) -> Any:
    """What a program gets: its standard output is JSON and nothing else."""
    return json.loads(result.stdout)


def run_users(env: Mapping[str, str], *arguments: str, seconds: float = SECONDS) -> str:
    """Run `flask --app wsgi users …`; return what it prints. Raises CommandFailed."""
    command = [sys.executable, "-m", "flask", "--app", "wsgi", "users", *arguments]
    done = subprocess.run(
        command, cwd=ROOT, env=dict(env), capture_output=True, text=True, timeout=seconds, check=False
    )
    if done.returncode:
        raise CommandFailed(done.stderr)
    return done.stdout


def repair(env: Mapping[str, str], *, dry_run: bool = False) -> list[dict[str, Any]]:
    """Run `users repair`; return its findings: `kind`, `user` and `detail`."""
    options = ("--dry-run",) if dry_run else ()
    findings: list[dict[str, Any]] = json.loads(run_users(env, "repair", "--json", *options))
    return findings
