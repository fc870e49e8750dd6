"""Lists of keys in order, in one table: read from any place on, changed here and there, however long.

Table Storage has one order, that of the keys, and pays for each row. So a list is cut into blocks:
a partition for each list, a row for each block, whose row key is the greatest key that it may hold.
A block that grows too long is split in the same transaction, so readers never miss a key and never
see one twice. A hundred keys cost one row to write and to read, instead of a hundred.
"""

import itertools
import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from trusted_service.errors import UpstreamUnavailable
from trusted_service.storage.tables import SERVICE, Row, RowChanged, Table

LAST = "~"
"""The row key of each list's last block: greater than every key, as keys begin with a letter or digit."""
MOST_LINES, MOST_CHARACTERS = 150, 30_000
"""What a block may hold; a column takes 32,767 characters.

https://learn.microsoft.com/rest/api/storageservices/understanding-the-table-service-data-model
"""
FILL = 2 / 3
"""How full blocks are after a split: room for more, so that the next split is not the next change."""
READ_TOGETHER = 40
WRITTEN_BLOCKS, WRITTEN_BYTES = 30, 1_500_000
"""After so much a transaction is sent. It takes 100 rows and 4 MiB, and the last block comes on top."""
PUT_LINES, PUT_CHARACTERS = 2000, 300_000
"""What is put into one block at once, from which it is cut into many. A character is up to six bytes."""
ATTEMPTS = 8

Lines = dict[str, str]


@dataclass(frozen=True, slots=True)
class _Block:
    """`version` is None for one that is not in the table yet."""

    last: str
    lines: Lines
    version: str | None


class OrderedLists:
    """Each key of a list has a value, which may be empty. No key or value has a tab or a line break.

    Methods raise UpstreamError where the storage fails.
    """

    def __init__(self, table: Table) -> None:
        self._table = table

    def read(self, name: str, *, after: str = "", blocks: int = 2) -> Iterator[tuple[str, str]]:
        """The keys greater than `after`, with their values, in order.

        They are read as they are taken, so many `blocks` at once.
        """
        last = after
        # Not by continuation: a block that is split meanwhile would have its first half before the token.
        while last != LAST and (rows := self._table.range(name, after=last, limit=blocks)):
            for row in rows:
                for key, value in sorted(_lines(row).items()):
                    if key > after:
                        yield key, value
            last = str(rows[-1]["RowKey"])

    def find(self, name: str, keys: Collection[str]) -> Lines:
        """The values of those of these keys that are in the list."""
        wanted = sorted(set(keys))
        found: Lines = {}
        while wanted:
            blocks = self._blocks(name, wanted[0], min(len(wanted), READ_TOGETHER))
            for block in blocks:
                here, wanted = _split(wanted, block.last, {})
                found |= {key: block.lines[key] for key in here if key in block.lines}
                if wanted and wanted[0] <= block.last:
                    break
            if not blocks:
                break
        return found

    def change(self, name: str, put: Mapping[str, str], remove: Collection[str] = ()) -> None:
        """Put keys into the list, with their values, and remove others. Doing it again changes nothing.

        Many keys are not changed at one moment: a failure leaves some of them done.
        """
        pending = sorted({*put, *remove})
        failures = 0
        while pending:
            operations, left = self._plan(name, pending, put, frozenset(remove))
            try:
                if operations.anything:
                    self._table.change_together(operations.inserted, operations.replaced, operations.deleted)
            except RowChanged as error:
                failures += 1
                if failures == ATTEMPTS:
                    raise UpstreamUnavailable(SERVICE, "the list changed too often") from error
                continue
            failures = 0
            pending = left

    def all(self) -> Iterator[tuple[str, str, str]]:
        """Every key of every list: list, key, value."""
        for row in self._table.all():
            if "Lines" in row:
                for key, value in _lines(row).items():
                    yield str(row["PartitionKey"]), key, value

    def _plan(
        self, name: str, pending: list[str], put: Mapping[str, str], remove: frozenset[str]
    ) -> tuple["_Operations", list[str]]:
        """What to write for the first of these keys, and the keys that are left for the next time."""
        wanted = min(len(pending), READ_TOGETHER)
        blocks = self._blocks(name, pending[0], wanted)
        if len(blocks) < wanted and (not blocks or blocks[-1].last != LAST):
            blocks.append(_Block(LAST, {}, None))
        operations = _Operations(name)
        for block in blocks:
            here, left = _split(pending, block.last, put)
            lines = block.lines | {key: put[key] for key in here if key in put}
            for key in remove.intersection(here) - put.keys():
                lines.pop(key, None)
            operations.write(block, lines)
            pending = left
            if operations.full or not pending or pending[0] <= block.last:
                break
        return operations, pending

    def _blocks(self, name: str, first: str, limit: int) -> list[_Block]:
        """The block in which this key would be, and those behind it."""
        rows = self._table.range(name, start=first, limit=limit)
        return [_Block(str(row["RowKey"]), _lines(row), str(row.metadata["etag"])) for row in rows]


class _Operations:
    """Rows to write in one transaction."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._bytes = 0
        self.inserted: list[dict[str, str]] = []
        self.replaced: list[tuple[dict[str, str], str]] = []
        self.deleted: list[tuple[str, str, str]] = []

    @property
    def anything(self) -> bool:
        return bool(self.inserted or self.replaced or self.deleted)

    @property
    def full(self) -> bool:
        count = len(self.inserted) + len(self.replaced) + len(self.deleted)
        return count >= WRITTEN_BLOCKS or self._bytes >= WRITTEN_BYTES

    def write(self, block: _Block, lines: Lines) -> None:
        """Note what makes the block hold these lines, if that is not what it holds."""
        if lines == block.lines:
            return
        if not lines and block.last != LAST and block.version is not None:
            self.deleted.append((self._name, block.last, block.version))
            return
        *lower, upper = _pieces(lines)
        self.inserted += [self._row(max(piece), piece) for piece in lower]
        row = self._row(block.last, upper)
        if block.version is None:
            self.inserted.append(row)
        else:
            self.replaced.append((row, block.version))

    def _row(self, last: str, lines: Lines) -> dict[str, str]:
        text = "\n".join(f"{key}\t{value}" if value else key for key, value in sorted(lines.items()))
        self._bytes += len(json.dumps(text))
        return {"PartitionKey": self._name, "RowKey": last, "Lines": text}


def _pieces(lines: Lines) -> list[Lines]:
    """The lines as they are, or cut into pieces where they are too many for a block."""
    length = sum(len(key) + len(value) + 2 for key, value in lines.items())
    if len(lines) <= MOST_LINES and length <= MOST_CHARACTERS:
        return [lines]
    most, longest = int(MOST_LINES * FILL), int(MOST_CHARACTERS * FILL)
    pieces: list[Lines] = [{}]
    room = longest
    for key, value in sorted(lines.items()):
        room -= len(key) + len(value) + 2
        if len(pieces[-1]) == most or room < 0:
            pieces.append({})
            room = longest - len(key) - len(value) - 2
        pieces[-1][key] = value
    return pieces


def _split(keys: list[str], last: str, values: Mapping[str, str]) -> tuple[list[str], list[str]]:
    """Sorted keys up to this one, as many as are put at once, and those beyond."""
    count, room = 0, PUT_CHARACTERS
    for key in itertools.islice(keys, PUT_LINES):
        room -= len(key) + len(values.get(key, ""))
        if key > last or room < 0:
            break
        count += 1
    return keys[:count], keys[count:]


def _lines(row: Row) -> Lines:
    text = str(row["Lines"])
    return {key: value for key, _, value in (line.partition("\t") for line in text.split("\n") if line)}
