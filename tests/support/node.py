"""Runs JavaScript in Node.js as if on a page of the service, signed in as somebody."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from tests.support.person import Person
from tools.node import NODE

FOLDER = Path(__file__).parents[1] / "node"
RUN_SECONDS = 30
# The client's own timer asks for a first token at once, by a time in the past, and leaves its rejection to
# the browser, which only reports it.
AS_BROWSERS_DO = ("--disable-warning=TimeoutNegativeWarning", "--unhandled-rejections=none")


def run_script(person: Person, name: str, argument: object) -> dict[str, Any]:
    """Run a script of tests/node, which prints one JSON object; return that."""
    return _run(person, [name, json.dumps(argument)], "")


def run_code(person: Person, code: str) -> dict[str, Any]:
    """Run a module's code, which may import what tests/node has; return the JSON object it prints."""
    return _run(person, ["--input-type=module", "-"], code)


def join_cookies(person: Person) -> str:
    """The person's cookies as a `Cookie` header holds them."""
    return "; ".join(f"{cookie.name}={cookie.value}" for cookie in person.http.cookies)


def _run(person: Person, arguments: list[str], code: str) -> dict[str, Any]:
    browser = json.dumps({"origin": person.url, "cookie": join_cookies(person)})
    ended = subprocess.run(
        [NODE, *AS_BROWSERS_DO, *arguments],
        cwd=FOLDER,
        env=os.environ | {"BROWSER": browser},
        input=code,
        capture_output=True,
        text=True,
        timeout=RUN_SECONDS,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert not ended.stderr
    document: dict[str, Any] = json.loads(ended.stdout)
    return document
