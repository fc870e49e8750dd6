"""Runs the operators' commands inside this process, as `flask --app wsgi …` would."""

import json
from typing import Any

import click.testing
from flask import Flask


def run_command(application: Flask, *arguments: str, typed: str = "") -> click.testing.Result:
    """Run it; `typed` is what the operator answers to questions."""
    with application.app_context():  # as the `flask` command opens it before it reads arguments
        result = application.test_cli_runner().invoke(args=list(arguments), input=typed)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def read_json(result: click.testing.Result) -> Any:
    """What a program gets: its standard output is JSON and nothing else."""
    return json.loads(result.stdout)
