"""Reads members of JSON objects, checks their types, and reports wrong ones in plain words."""

from collections.abc import Mapping
from typing import TypeVar

Name = TypeVar("Name", bound=str)
_REQUIRED = "\0"


class Members:
    """The members of one JSON object; every reader raises ValueError naming the member."""

    def __init__(self, document: Mapping[str, object]) -> None:
        """Read from `document`."""
        self._document = document

    def __contains__(self, name: str) -> bool:
        """Tell whether the member is present, even if null."""
        return name in self._document

    def text(self, name: str, default: str = _REQUIRED) -> str:
        """Return a string; required when there is no default."""
        value = self._document.get(name, default)
        if not isinstance(value, str) or value == _REQUIRED:
            raise ValueError(f"{name} must be a string")
        return value

    def optional_text(self, name: str) -> str | None:
        """Return a string, or None if it is null or missing."""
        return None if self._document.get(name) is None else self.text(name)

    def one_of(self, name: str, choices: tuple[Name, ...], default: str = _REQUIRED) -> Name:
        """Return the member's value, which must be one of `choices`."""
        value = self.text(name, default)
        for choice in choices:
            if choice == value:
                return choice
        raise ValueError(f"{name} must be one of {', '.join(choices)}")

    def texts(self, name: str, default: tuple[str, ...] = ()) -> tuple[str, ...]:
        """Return an array of strings."""
        value = self._document.get(name, list(default))
        if not isinstance(value, list):
            raise ValueError(f"{name} must be an array")
        found = tuple(item for item in value if isinstance(item, str))
        if len(found) != len(value):
            raise ValueError(f"{name} must hold strings only")
        return found

    def integer(self, name: str, default: int) -> int:
        """Return a whole number."""
        value = self._document.get(name, default)
        if not isinstance(value, int) or isinstance(value, bool):
            raise ValueError(f"{name} must be a whole number")
        return value

    def optional_integer(self, name: str, default: int) -> int | None:
        """Return a whole number, or None if it is null."""
        if name in self._document and self._document[name] is None:
            return None
        return self.integer(name, default)

    def number(self, name: str, default: float) -> float:
        """Return a number."""
        value = self._document.get(name, default)
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise ValueError(f"{name} must be a number")
        return float(value)

    def flag(self, name: str, default: bool) -> bool:
        """Return true or false."""
        value = self._document.get(name, default)
        if not isinstance(value, bool):
            raise ValueError(f"{name} must be true or false")
        return value

    def mapping(self, name: str) -> dict[str, object]:
        """Return an object, empty if it is null or missing."""
        value = self._document.get(name)
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise ValueError(f"{name} must be an object")
        return value
