"""Reads settings out of environment variables, and collects all complaints, not only the first."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


class SettingsError(Exception):
    """The environment does not make a usable configuration.

    `problems` holds one sentence for each bad setting; the message holds all of them.
    No sentence repeats a value: settings can be secrets.
    """

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__("The settings are not usable:\n" + "\n".join(f"  - {p}" for p in problems))


class Environment:
    """Settings by name, each from the variable itself or from the file that `<NAME>_FILE` names.

    A variable that is empty counts as not set, since App Service cannot tell the two apart.
    """

    def __init__(self, variables: Mapping[str, str]) -> None:
        self._variables = variables
        self.problems: list[str] = []

    def complain(self, name: str, problem: str) -> None:
        self.problems.append(f"{name} {problem}")

    def text(self, name: str, default: str = "") -> str:
        """The value without surrounding white space, or `default` where it is not set."""
        value = self._variables.get(name, "").strip()
        if not _is_utf_8(value):
            self.complain(name, "must be UTF-8 text")
            return default
        path = self._variables.get(f"{name}_FILE", "").strip()
        if not path:
            return value or default
        if value:
            self.complain(name, f"is given twice: {name} and {name}_FILE")
            return default
        try:
            value = Path(path).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError):
            self.complain(f"{name}_FILE", "names a file that cannot be read")
            return default
        if not value:
            self.complain(f"{name}_FILE", "names an empty file")
        return value or default

    def required(self, name: str) -> str:
        return self.exactly_one(name)[1]

    def exactly_one(self, *names: str) -> tuple[str, str]:
        """The name and value of the one that is set; ("", "") and a complaint unless exactly one is."""
        before = len(self.problems)
        given = [(name, value) for name in names if (value := self.text(name))]
        if len(given) == 1:
            return given[0]
        if given:
            self.complain(" and ".join(name for name, _ in given), "are both set; set exactly one")
        elif len(self.problems) == before:
            self.complain(" or ".join(names), "is missing")
        return "", ""

    def words(self, name: str, default: str = "") -> tuple[str, ...]:
        """A comma-separated list, without empty entries and repeats."""
        parts = (part.strip() for part in self.text(name, default).split(","))
        return tuple(dict.fromkeys(part for part in parts if part))

    def number(self, name: str, default: int, *, lowest: int, highest: int) -> int:
        value = self.text(name, str(default))
        if re.fullmatch(r"[0-9]{1,9}", value) and lowest <= int(value) <= highest:
            return int(value)
        self.complain(name, f"must be a whole number from {lowest} to {highest}")
        return default

    def flag(self, name: str, *, default: bool) -> bool:
        value = self.text(name, str(default)).lower()
        if value not in ("true", "false"):
            self.complain(name, "must be true or false")
        return value == "true"

    def check(self, name: str, value: str, parse: Callable[[str], T], expected: str) -> T | None:
        """Return `parse(value)`, or None and a complaint where it raises ValueError."""
        try:
            return parse(value)
        except ValueError:
            self.complain(name, f"must be {expected}")
            return None


def _is_utf_8(value: str) -> bool:
    # Python hides bytes of the environment that are not UTF-8 as lone surrogates.
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
