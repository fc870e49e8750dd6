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
from trusted_service.texts import without_acs_user_ids
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
        """Raises ValueError for what no export has: other ids or times, or a second current identity."""
        row, names = self.identity, [entry.acs_user_id for entry in self.entries]
        owners = {entry.owner for entry in self.entries} | ({row.user_id} if row else set())
        resources = (self.pin.resource, *self.pin.former) if self.pin else ()
        times = [getattr(one, field.name) for one in (row, *self.entries) if one for field in fields(one)]
        if (
            len(owners) != 1
            or any(owner and owner != UserId.parse(*owner) for owner in owners)
            or None in map(find_resource, [*names, *(f"{resource}_0" for resource in resources)])
            or (row and not (row.acs_user_id in names if row.acs_user_id else row.blocked))
            or (row and any(one.until is None and one.acs_user_id != row.acs_user_id for one in self.entries))
            or any(isinstance(at, datetime) and (at.tzinfo is None or at.year < 1970) for at in times)
        ):
            raise ValueError("not a record of an export")
        return self

    def ended(self) -> Self:
        """What a deletion in progress, if any, will leave: ids and, of a blocked user, the block."""
        if (row := self.identity) is None or not row.deleting:
            return self
        reason = without_acs_user_ids(row.block_reason)
        block = Identity(user_id=row.user_id, created_at=row.created_at, blocked=True, block_reason=reason)
        erased = [replace(one, owner=None, since=None, until=None, reason="deleted") for one in self.entries]
        return self.model_copy(update={"identity": block if row.blocked else None, "entries": tuple(erased)})


def backup_json(pin: Pin | None, identity: Identity | None, entries: Sequence[LedgerEntry]) -> dict[str, Any]:
    """What makes a user's export a backup."""
    if row := identity and _portable(identity):
        # It is the truth: the others have ended, whatever a ledger says that is older or newer.
        names = row.acs_user_id
        entries = [one if one.acs_user_id == names else replace(one, until=one.ended_at) for one in entries]
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
            row, entries = record.identity, record.entries
            ids = (row.user_id, row.acs_user_id) if row else (entries[0].owner, entries[0].acs_user_id)
            user, acs_user_id = (str(one or "") for one in ids)
            yield MappingRow(line, user, acs_user_id, row and _portable(row), entries=entries)

    def _records(self) -> Iterator[tuple[int, Record]]:
        line = 1
        try:
            for line, text in _documents(self._file):
                yield line, Record.model_validate(json.loads(text)["backup"]).checked().ended()
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
    for line, text in enumerate(map(bytes.strip, file), 2):
        if text == b"]":
            if file.read().strip():
                raise ValueError("more than one array")
            return
        if text:
            yield line, text.removesuffix(b",")
    raise ValueError("cut short")
