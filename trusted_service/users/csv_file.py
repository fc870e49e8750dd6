"""CSV files, as spreadsheets save them or as this service exports them."""

import csv
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from trusted_service.representation import CELL_START, FORMULA

ESCAPE = re.compile(f"{CELL_START}'{FORMULA}")
"""The export puts an apostrophe before a formula."""


@dataclass(eq=False)
class UnreadableFile(Exception):
    """The file cannot be used; `line` is where, counted from 1, or 0 for the whole file."""

    problem: Literal["encoding", "syntax", "column", "empty", "too-many"]
    line: int = 0


def read_table(
    data: bytes, names: Mapping[str, Sequence[str]], required: Sequence[str], *, needs_header: bool = True
) -> list[tuple[int, dict[str, str]]]:
    """Return the line and the cells of each row, by the keys of `names`; "" where there is no such cell.

    `names` are the accepted names of each column, in lower case without punctuation, the best first. Where a
    file of one column needs no header, that is the required one. Raises UnreadableFile.
    """
    rows = _read_rows(data)
    line, first = next(rows, (0, [""]))
    header = ["".join(filter(str.isalnum, cell)).casefold() for cell in first]
    columns = {
        key: next((header.index(name) for name in accepted if name in header), -1)
        for key, accepted in names.items()
    }
    missing = [key for key in required if columns[key] < 0]
    if missing and len(first) == 1 and not needs_header:
        columns[missing.pop()] = 0
        if any(map(str.isdigit, first[0])):  # an id, not a header
            rows = itertools.chain([(line, first)], rows)
    if missing and line:
        raise UnreadableFile("column", line)
    return [
        (line, {key: cells[at] if 0 <= at < len(cells) else "" for key, at in columns.items()})
        for line, cells in rows
    ]


def _read_rows(data: bytes) -> Iterator[tuple[int, list[str]]]:
    """Yield the line and the cells of each row that is not empty, the header among them."""
    lines = []
    for number, line in enumerate(data.removeprefix(b"\xef\xbb\xbf").splitlines(keepends=True), 1):
        try:
            lines.append(line.decode())
        except UnicodeDecodeError as error:
            raise UnreadableFile("encoding", number) from error
        if b"\0" in line:
            raise UnreadableFile("encoding", number)
    # Spreadsheets write semicolons where the decimal separator is a comma.
    delimiter = ";" if lines and ";" in lines[0] and "," not in lines[0] else ","
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    try:
        for cells in reader:
            if any(texts := [ESCAPE.sub(r"\1", cell.strip()) for cell in cells]):
                yield reader.line_num, texts
    except csv.Error as error:
        raise UnreadableFile("syntax", reader.line_num) from error
