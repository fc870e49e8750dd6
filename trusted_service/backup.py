"""Backups: what `users export` writes about everybody, and how `users import` reads it.

Each document of an export has a record, from which it can be restored exactly. Sessions, events and jobs are
in the export, but never restored: a trail that may come from a file would prove nothing.
"""

import json
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime
from typing import Any, BinaryIO, Literal, Self

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

from trusted_service.access.resource_pin import Pin, ResourcePin
from trusted_service.azure.parallel import map_parallel
from trusted_service.models import Identity, LedgerEntry, UserId, find_resource
from trusted_service.personal_data import PersonalData
from trusted_service.representation import ledger_json, user_json
from trusted_service.storage.transactions import batches
from trusted_service.users.csv_file import UnreadableFile
from trusted_service.users.importing import MappingRow

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


@dataclass(frozen=True, slots=True)
class Backup:
    personal_data: PersonalData
    pin: ResourcePin

    def export(self, user_id: UserId) -> dict[str, Any]:
        """Everything about one user."""
        identity, document = self.personal_data.identities.find(user_id), self.personal_data.export(user_id)
        return (
            document | self._record(identity, self.personal_data.ledger.all_of(identity))
            if identity
            else document
        )

    def export_all(self) -> Iterator[dict[str, Any]]:
        """The same about everybody, and the ACS ids of erased users, in documents without other ids.

        The ledger is held in memory, and of the rest some users at a time.
        """
        data, entries = self.personal_data, defaultdict[UserId | None, list[LedgerEntry]](list)
        for entry in data.ledger.all():
            entries[entry.owner].append(entry)
        mentions, _ = data.jobs.mentions(None, None)

        def describe(user_id: UserId, identity: Identity | None) -> dict[str, Any]:
            own = entries.pop(user_id, [])
            return data.describe(user_id, mentions.get(user_id, ())) | self._record(identity, own)

        for some in batches(data.identities.all()):
            yield from map_parallel(lambda identity: describe(identity.user_id, identity), some)
        for entry in entries.pop(None, []):
            user = user_json(UserId("", "")) | {"communicationUserId": entry.acs_user_id}
            yield {"user": user, "identities": [ledger_json(entry)], **self._record(None, [entry])}
        for owner in filter(None, list(entries)):
            yield describe(owner, data.identities.find(owner))

    def _record(self, identity: Identity | None, entries: Sequence[LedgerEntry]) -> dict[str, Any]:
        row = identity and _portable(identity)
        record = Record(version=1, pin=self.pin.find(), identity=row, entries=tuple(entries))
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
