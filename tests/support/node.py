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
# The client's own timer asks for a first token at once, by a time in the past, and leaves its rejection to
# the browser, which only reports it.
AS_BROWSERS_DO = ("--disable-warning=TimeoutNegativeWarning", "--unhandled-rejections=none")
# By the standard that browsers follow, https://url.spec.whatwg.org/.
READ_URLS = """
const [base, ...texts] = JSON.parse(require("fs").readFileSync(0));
const urls = texts.filter((text) => URL.canParse(text, base)).map((text) => new URL(text, base));
console.log(JSON.stringify(urls.map(({ origin }) => origin)));
"""


def join_cookies(person: Person) -> str:
    """The person's cookies as a `Cookie` header holds them."""
    return "; ".join(f"{cookie.name}={cookie.value}" for cookie in person.http.cookies)


def run_code(person: Person, code: str, *arguments: str) -> dict[str, Any]:
    """Run a module's code, which may import what tests/node has; return the JSON object it prints."""
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
    """Where a browser on the page `base` goes for each of these that lead anywhere."""
    command, data = [str(NODE), "-e", READ_URLS], json.dumps([base, *texts])
    ended = subprocess.run(command, input=data, capture_output=True, text=True, timeout=30, check=True)
    return list(json.loads(ended.stdout))
