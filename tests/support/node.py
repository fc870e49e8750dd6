"""Runs JavaScript in Node.js: as if on a page of the service, or to read addresses as browsers do."""

import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.support.person import Person
from tools.node import NODE

FOLDER = Path(__file__).parents[1] / "node"
# The client's timer requests the first token at once, by a time in the past, and does not handle a rejection,
# which browsers only report.
AS_BROWSERS_DO = ("--disable-warning=TimeoutNegativeWarning", "--unhandled-rejections=none")
# By the standard that browsers follow, https://url.spec.whatwg.org/.
READ_URLS = """
const [base, ...texts] = JSON.parse(require("fs").readFileSync(0));
const urls = texts.filter((text) => URL.canParse(text, base)).map((text) => new URL(text, base));
console.log(JSON.stringify(urls.map(({ origin }) => origin)));
"""


def join_cookies(person: Person) -> str:
    """Return the person's cookies as a `Cookie` header."""
    return "; ".join(f"{cookie.name}={cookie.value}" for cookie in person.http.cookies)


def run_code(person: Person, code: str, *arguments: str) -> dict[str, Any]:
    """Run a module's code, which may import the packages of tests/node; return the printed JSON object."""
    browser = json.dumps({"origin": person.url, "cookie": join_cookies(person)})
    ended = subprocess.run(
        [NODE, *AS_BROWSERS_DO, "--input-type=module", "-", *arguments],
        cwd=FOLDER,
        env=os.environ | {"BROWSER": browser},
        input=code,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert not ended.stderr
    return dict(json.loads(ended.stdout))


def list_origins(texts: Sequence[str], base: str) -> list[str]:
    """Return the origins of those texts that a browser on the page `base` reads as URLs."""
    command, data = [str(NODE), "-e", READ_URLS], json.dumps([base, *texts])
    ended = subprocess.run(command, input=data, capture_output=True, text=True, timeout=30, check=True)
    return list(json.loads(ended.stdout))
