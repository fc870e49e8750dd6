"""What browsers make of an address: Node.js reads URLs by the same standard, https://url.spec.whatwg.org/."""

import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

from tools.node import NODE

RUN_SECONDS = 30

CODE = """
const [base, ...texts] = JSON.parse(require("fs").readFileSync(0));
console.log(JSON.stringify(texts.map((text) => {
  try {
    const { origin, protocol, pathname } = new URL(text, base);
    return [protocol, origin, pathname];
  } catch {
    return null;
  }
})));
"""


@dataclass(frozen=True)
class Destination:
    """Where a browser goes."""

    scheme: str
    origin: str
    path: str


def resolve(texts: Sequence[str], base: str) -> list[Destination | None]:
    """Where a browser on the page `base` goes for each of these; None where it goes nowhere."""
    ended = subprocess.run(
        [NODE, "-e", CODE],
        input=json.dumps([base, *texts]),
        capture_output=True,
        text=True,
        timeout=RUN_SECONDS,
        check=True,
    )
    return [None if found is None else Destination(*found) for found in json.loads(ended.stdout)]
