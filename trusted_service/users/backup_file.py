"""Backups: each document that `users export` writes has a record, and `users import` restores it exactly.

Sessions, events and jobs are in the export, but never restored: a trail that may come from a file would prove
nothing.
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from datetime import datetime
from typing import Any, BinaryIO, Literal, Self

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

from trusted_service.access.resource_pin import Pin
from trusted_service.models import Identity, LedgerEntry, UserId, find_resource
from trusted_service.users.csv_file import UnreadableFile
from trusted_service.users.mapping_file import MappingRow

START = re.compile(rb'\s*(\[\s*\]|(\[\s*)?\{\s*"user")')


class Record(BaseModel):
    """The row of a user, if there is one, and their entries of the ledger; of an erased user, one entry."""

    model_config = ConfigDict(frozen=True, alias_generator=to_camel, extra="forbid")

    version: Literal[1]
    pin: Pin | None
    identity: Identity | None
    entries: tuple[LedgerEntry, ...]

    def checked(self) -> Self:
        """Raises ValueError for ids and times that no export has."""
        parts = [part for part in (self.identity, *self.entries) if part]
        owners = {entry.owner for entry in self.entries} | (
            {self.identity.user_id} if self.identity else set()
        )
        times = [getattr(part, field.name) for part in parts for field in fields(part)]
        if (
            len(owners) != 1
            or any(owner and owner != UserId.parse(*owner) for owner in owners)
            or None in [find_resource(entry.acs_user_id) for entry in self.entries]
            or any(isinstance(at, datetime) and (at.tzinfo is None or at.year < 1970) for at in times)
        ):
            raise ValueError("not a record of an export")
        return self


def backup_json(pin: Pin | None, identity: Identity | None, entries: Sequence[LedgerEntry]) -> dict[str, Any]:
    """What makes a user's export a backup."""
    row = identity and _portable(identity)
    record = Record(version=1, pin=pin, identity=row, entries=tuple(entries))
    return {"backup": record.model_dump(mode="json", by_alias=True, exclude_defaults=True)}


class BackupFile:
    """An export as rows to import. `file` is read twice: to its end before there is any row."""

    def __init__(self, file: BinaryIO) -> None:
        """Raises UnreadableFile."""
        self._file = file
        self._count, self.pin = 0, None
        for _, record in self._records():
            self._count, self.pin = self._count + 1, record.pin or self.pin
        if not self._count:
            raise UnreadableFile("empty")

    @staticmethod
    def recognises(file: BinaryIO) -> bool:
        """Whether the file is an export, and not CSV."""
        start = START.match(file.read(100))
        file.seek(0)
        return start is not None

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[MappingRow]:
        for line, record in self._records():
            if (identity := record.identity) is None:
                first = record.entries[0]
                yield MappingRow(line, str(first.owner or ""), first.acs_user_id, entries=record.entries)
                continue
            own = {entry.acs_user_id == identity.acs_user_id: entry.since for entry in record.entries}
            others = tuple(entry for entry in record.entries if entry.acs_user_id != identity.acs_user_id)
            ids = str(identity.user_id), identity.acs_user_id or ""
            yield MappingRow(line, *ids, _portable(identity), since=own.get(True), entries=others)

    def _records(self) -> Iterator[tuple[int, Record]]:
        line = 1
        try:
            for line, text in _documents(self._file):
                yield line, Record.model_validate(json.loads(text)["backup"]).checked()
        except (ValueError, LookupError, TypeError, RecursionError):
            raise UnreadableFile("backup", line) from None


def _portable(identity: Identity) -> Identity:
    """The row without what belongs to its own storage: an incident in progress, the index and the version."""
    return replace(identity, missing_since=None, switching=False, index_keys=(), indexed=False, version="")


def _documents(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Each document with its line. Raises ValueError for an array without its end, or with more behind it."""
    file.seek(0)
    if (first := file.readline()).strip() != b"[":
        yield 1, first + file.read()  # of one user
        return
    ended = False
    for line, text in enumerate(map(bytes.strip, file), 2):
        if text and ended:
            raise ValueError("more than one array")
        ended = ended or text == b"]"
        if text and not ended:
            yield line, text.removesuffix(b",")
    if not ended:
        raise ValueError("cut short")
