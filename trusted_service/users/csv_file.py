"""CSV files of users, as spreadsheets, directories and databases write them, or as this service exports them.

A wrong column would block or delete the managers instead of the leavers. So one is taken only where a single
header names it, or where there is no other. Otherwise the file, or the row, is refused.
"""

import codecs
import csv
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from trusted_service.models import join_lines
from trusted_service.representation import CELL_START, FORMULA

ESCAPE = re.compile(f"{CELL_START}'{FORMULA}")
"""The export puts an apostrophe before a formula."""
GUID = "[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
USER_NAME = re.compile(r"[^\s@<>,;|/]+@[^\s@<>,;|/]+")
USER = re.compile(rf"(?:{GUID}/)?{GUID}|{USER_NAME.pattern}|8:\S*acs:\S+", re.IGNORECASE)
"""A cell that leads to a user: an id, a user name or address, an ACS user id."""
SEPARATOR = re.compile(r'"?sep=(\t|[^\w\s"])"?(?=[\r\n])', re.IGNORECASE)
"""The line by which Excel learns the delimiter."""
DELIMITERS = ",;\t|"
UNDECODED = re.compile("[\udc80-\udcff]")

TENANT_ID = "tenantid tid targettenantid"
OBJECT_ID = "objectid oid userobjectid aadobjectid azureadobjectid entraobjectid"

Row = tuple[int, list[str]]
Cells = dict[str, str]
Names = Mapping[str, Sequence[str]]


@dataclass(eq=False)
class UnreadableFile(Exception):
    """The file cannot be used; `line` is where, counted from 1, or 0 for the whole file.

    `found` are the first cells of the row that should have named the columns.
    """

    problem: Literal["encoding", "syntax", "column", "empty", "too-many", "too-many-names"]
    line: int = 0
    found: str = ""


def read_table(
    data: bytes, names: Names, required: Sequence[str], *, needs_header: bool = True
) -> list[tuple[int, Cells | None]]:
    """Return the line and the cells of each row, by the keys of `names`; "" where there is no such cell.

    `names` are the accepted names of each column, in lower case without punctuation: those that say the same
    in one string, the best first. Cells are None where they may have shifted: a row has more of them than the
    header, or fewer, and other columns lead to users, too. A file of one column may need no header. Raises
    UnreadableFile.
    """
    rows, header = _find_table(_decode(data), names, required)
    one_column = header is None or _is_single(header)
    if header is not None:
        columns = _find_columns(header, names)
    elif rows and (needs_header or not _leads_to_user(rows[0])):
        raise _refusal(rows[0])  # it may be a title that says whose managers these are
    else:
        columns = {required[0]: 0}
    if one_column and not all(map(_is_single, rows)):
        raise _refusal(header or rows[0])
    leading = {at for _, cells in rows for at, cell in enumerate(cells) if USER.fullmatch(cell)}
    is_certain = leading <= set(columns.values())
    table = list[tuple[int, Cells | None]]()
    for line, cells in rows:
        texts = {key: cells[at] if 0 <= (at := columns.get(key, -1)) < len(cells) else "" for key in names}
        if UNDECODED.search("".join(texts.values())):
            raise UnreadableFile("encoding", line)
        width = len(cells) if header is None or one_column else len(header[1])
        shifted = len(cells) > width or (len(cells) < width and not is_certain)
        table.append((line, None if shifted else texts))
    return table


def _find_table(text: str, names: Names, required: Sequence[str]) -> tuple[list[Row], Row | None]:
    """The rows below the header, and the header; or all rows, where no row is one."""
    delimiters: Sequence[str] = [delimiter for delimiter in DELIMITERS if delimiter in text] or ","
    if match := SEPARATOR.match(text):
        delimiters, text = match[1], text[match.end() :]  # the line's end stays, for the numbers of lines
    tables, headers, errors = list[list[Row]](), list[tuple[list[Row], Row]](), list[UnreadableFile]()
    for delimiter in delimiters:
        try:
            tables.append(rows := _parse(text, delimiter))
            if (place := _find_header(rows, names, required)) is not None:
                headers.append((rows[place + 1 :], rows[place]))
        except UnreadableFile as error:
            errors.append(error)  # it is not a file with this delimiter, maybe
    if headers:
        return min(headers, key=lambda table: _is_single(table[1]))
    if errors:
        raise errors[0]
    return tables[0], None


def _find_header(rows: Sequence[Row], names: Names, required: Sequence[str]) -> int | None:
    """The place of the header, above the first user; titles and comments may precede it.

    Raises UnreadableFile if another row names the columns, too, as in the second of two tables.
    """
    accepted = [set(" ".join(names[key]).split()) for key in required]
    candidates, first_user = list[int](), len(rows)
    for place, row in enumerate(rows):
        if _leads_to_user(row):
            first_user = min(first_user, place)
        elif not any(column.isdisjoint(map(_name, row[1])) for column in accepted):
            candidates.append(place)
    places = [place for place in candidates if not _is_single(rows[place])] or candidates
    if len(places) > 1 or (places and places[0] > first_user):
        raise _refusal(rows[places[-1]])
    return places[0] if places else None


def _find_columns(header: Row, names: Names) -> dict[str, int]:
    """The place of each column that the header names. Raises UnreadableFile if two may be meant."""
    columns = dict[str, int]()
    for key, ranks in names.items():
        for rank in ranks:
            places = [at for at, cell in enumerate(header[1]) if _name(cell) in rank.split()]
            if len(places) > 1:
                raise _refusal(header)
            if places:
                columns[key] = places[0]
                break
    return columns


def _leads_to_user(row: Row) -> bool:
    return any(map(USER.fullmatch, row[1]))


def _is_single(row: Row) -> bool:
    """Whether only the first cell holds something: it may be a title, then."""
    return not any(row[1][1:])


def _name(cell: str) -> str:
    return "".join(filter(str.isalnum, cell)).casefold()


def _refusal(row: Row) -> UnreadableFile:
    return UnreadableFile("column", row[0], " | ".join(join_lines(cell, 40) for cell in row[1][:8] if cell))


def _decode(data: bytes) -> str:
    """The text; bytes that are not UTF-8 stay marked, as they may be in columns that nobody needs."""
    try:
        if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            text = data.decode("utf-16")
        else:
            text = data.decode("utf-8-sig", "surrogateescape")
    except UnicodeDecodeError as error:
        raise UnreadableFile("encoding", 1) from error
    if "\0" in text:
        raise UnreadableFile("encoding", len(text[: text.index("\0") + 1].splitlines()))
    return text


def _parse(text: str, delimiter: str) -> list[Row]:
    """The rows that are not empty. Raises UnreadableFile if this is not CSV."""
    lines = io.StringIO(text, newline="")
    reader = csv.reader(lines, delimiter=delimiter, strict=True, skipinitialspace=True)
    try:
        rows = [(reader.line_num, list(map(_clean, cells))) for cells in reader]
    except csv.Error as error:
        raise UnreadableFile("syntax", reader.line_num) from error
    return [row for row in rows if any(row[1])]


def _clean(cell: str) -> str:
    """The value, without the apostrophe by which spreadsheets and our export mark a text."""
    text = cell.strip()
    if "'" in text:
        text = ESCAPE.sub(r"\1", text)
    return text[1:] if text[:1] == "'" and USER.fullmatch(text[1:]) else text
