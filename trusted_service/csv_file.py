"""CSV files as people bring them: saved by spreadsheets, or written by this service."""

import csv
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

Problem = Literal["encoding", "syntax", "column", "empty", "too-many"]


class UnreadableList(Exception):
    """The file is not what it should be; `line` is where, counted from 1, or 0 for the whole of it."""

    def __init__(self, problem: Problem, line: int = 0) -> None:
        super().__init__(problem, line)
        self.problem = problem
        self.line = line


def read_rows(data: bytes) -> Iterator[tuple[int, list[str]]]:
    """Yield the line and the cells of each row that has any, the header among them.

    Raises UnreadableList for what is not UTF-8 or no CSV.
    """
    lines = _decode(data)
    # Spreadsheets write semicolons where the comma is for decimals.
    delimiter = ";" if lines and ";" in lines[0] and "," not in lines[0] else ","
    return _rows(lines, delimiter)


def find_column(header: Sequence[str], wanted: Sequence[str]) -> int | None:
    """Which column has one of these names, however they are written; the first that does."""
    names = ["".join(filter(str.isalnum, cell)).casefold() for cell in header]
    return next((names.index(name) for name in wanted if name in names), None)


def cell(cells: Sequence[str], column: int | None) -> str:
    """What stands in this column of a row, if the row has it."""
    return cells[column].strip() if column is not None and column < len(cells) else ""


def _decode(data: bytes) -> list[str]:
    lines = data.removeprefix(b"\xef\xbb\xbf").splitlines(keepends=True)
    decoded = []
    for number, line in enumerate(lines, 1):
        try:
            decoded.append(line.decode())
        except UnicodeDecodeError as error:
            raise UnreadableList("encoding", number) from error
        if "\0" in decoded[-1]:
            raise UnreadableList("encoding", number)
    return decoded


def _rows(lines: Iterable[str], delimiter: str) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    while True:
        try:
            cells = next(reader, None)
        except csv.Error as error:
            raise UnreadableList("syntax", reader.line_num) from error
        if cells is None:
            return
        if any(cell.strip() for cell in cells):
            yield reader.line_num, cells
