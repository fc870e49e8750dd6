"""Operators' commands, run as operators do."""

import json
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from tests.support.service import ROOT

SECONDS = 120


class CommandFailed(Exception):
    """A command ended with another status than 0; the message is what it said."""


def run_users(env: Mapping[str, str], *arguments: str) -> str:
    """Run `flask --app wsgi users …`; return what it prints. Raises CommandFailed."""
    command = [sys.executable, "-m", "flask", "--app", "wsgi", "users", *arguments]
    done = subprocess.run(
        command, cwd=ROOT, env=dict(env), capture_output=True, text=True, timeout=SECONDS, check=False
    )
    if done.returncode:
        raise CommandFailed(done.stderr)
    return done.stdout


def repair(env: Mapping[str, str], *, dry_run: bool = False) -> list[dict[str, Any]]:
    """Run `users repair`; return its findings: `kind`, `user` and `detail`."""
    options = ("--dry-run",) if dry_run else ()
    findings: list[dict[str, Any]] = json.loads(run_users(env, "repair", "--json", *options))
    return findings
