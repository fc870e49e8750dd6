"""Writes the licences of a CycloneDX document as CSV, and fails where one is not on the list."""

import csv
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FITTING = {
    *("MIT", "MIT-0", "0BSD", "BSD-2-Clause", "BSD-3-Clause", "ISC", "Apache-2.0", "PSF-2.0", "Python-2.0"),
    # Copyleft for its own files, which are deployed unchanged.
    "MPL-2.0",
}
"""SPDX ids of licences under which a package may be deployed with a service that is not published."""
CLASSIFIERS = {
    "License :: OSI Approved :: Apache Software License": "Apache-2.0",
    "License :: OSI Approved :: BSD License": "BSD-3-Clause",
    "License :: OSI Approved :: Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
}
"""What older packages declare in place of an id. https://pypi.org/classifiers/"""


def list_licences(component: dict[str, Any]) -> Iterator[str]:
    """Yield the expressions that a package declares. https://cyclonedx.org/docs/1.6/json/#components_items_licenses"""
    for entry in component.get("licenses", ()):
        licence = entry.get("license", {})
        name = entry.get("expression") or licence.get("id") or licence.get("name", "")
        yield CLASSIFIERS.get(name, name)


def fits(expression: str) -> bool:
    """Whether one alternative of the expression has fitting licences alone."""
    alternatives = expression.strip("()").split(" OR ")
    return any(all(part in FITTING for part in each.split(" AND ")) for each in alternatives)


def main(source: Path, target: Path) -> None:
    components = json.loads(source.read_text(encoding="utf-8"))["components"]
    rows = [(each["name"], each["version"], sorted({*list_licences(each)})) for each in components]
    with target.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(
            [("package", "version", "licences"), *((*row[:2], "; ".join(row[2])) for row in rows)]
        )
    misfits = [
        f"{name} {version}: {'; '.join(found) or 'none'}"
        for name, version, found in rows
        if not found or not all(map(fits, found))
    ]
    if misfits:
        sys.exit("\n".join(["Licences that are not in FITTING (tools/licences.py):", *misfits]))
    sys.stderr.write(f"{len(rows)} packages: {source}, {target}\n")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
