"""CSV files of users, as spreadsheets, directories and databases write them, or as this service exports them.

A wrong column would block or delete the managers instead of the leavers. So one is taken only where a single
header names it, or where there is no other. Otherwise the file, or the row, is refused.
"""

import codecs
import csv
import io
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from trusted_service.representation import CELL_START, FORMULA
from trusted_service.texts import join_lines, without_acs_user_ids

ESCAPE = re.compile(f"{CELL_START}'{FORMULA}")
"""The export puts an apostrophe before a formula."""
GUID = "[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
USER_NAME = re.compile(r"[^\s@<>,;|/]+@[^\s@<>,;|/]+")
USER = re.compile(rf"(?:{GUID}/)?{GUID}|{USER_NAME.pattern}|8:\S*acs:\S+", re.IGNORECASE)
"""A cell that leads to a user: an id, a user name or address, an ACS user id."""
WRAPPING = re.compile("^(?:=?\"|['{\u201c-\u201f])|[\"'}\u201c-\u201f]$")
"""Braces and quotation marks, also of a formula, and the apostrophe by which spreadsheets mark a text."""
INVISIBLE = dict.fromkeys([0x200B, 0xFEFF, *range(0x202A, 0x202F), *range(0x2066, 0x206A)])
NOTHING = re.compile(r"\W*|\W?(?:null|none|nan|n/?[av])\W?|#[A-Z/0]+[!?]", re.IGNORECASE)
"""What databases and spreadsheets write where there is no value."""
WORDS = re.compile(r"(?!.*(?:[@/]|[0-9a-f]{8})).*[^\W\d_]{3}.*", re.IGNORECASE | re.DOTALL)
"""A text without parts of an id or address."""
SEPARATOR = re.compile(r'"?sep=(\t|[^\w\s"])"?(?=[\r\n])', re.IGNORECASE)
"""The line by which Excel learns the delimiter."""
DELIMITERS = ",;\t|"
UNDECODED = re.compile("[\udc80-\udcff]")

TENANT_ID = "tenantid tid targettenantid"
OBJECT_ID = "objectid oid userobjectid aadobjectid azureadobjectid entraobjectid objektid iddobjet"

Row = tuple[int, list[str]]
Cells = dict[str, str]
Names = Mapping[str, Sequence[str]]


@dataclass(eq=False)
class UnreadableFile(Exception):
    """The file cannot be used; `line` is where, counted from 1, or 0 for the whole file.

    `found` are the first cells of a row that should have named the columns, or that does not fit them.
    """

    problem: Literal[
        "encoding", "syntax", "column", "cells", "lists", "empty", "backup", "too-many", "too-many-names"
    ]
    line: int = 0
    found: str = ""


def read_table(
    data: bytes, names: Names, required: Sequence[str], *, needs_header: bool = True, others: str = ""
) -> list[tuple[int, Cells | str]]:
    """Return the line and the cells of each row, by the keys of `names`; "" where there is no such cell.

    `names` are the accepted names of each column, in lower case without punctuation: those that say the same
    in one string, the best first. "others" are the cells, with blanks between, of columns with one of these
    names that were not chosen. A row is a text where its cells may have shifted: there are more than in the
    header or, if other columns lead to users, too, fewer, or some that fit others. Raises UnreadableFile.
    """
    rows, found = _find_table(_decode(data), names, required)
    if found is None and rows and (needs_header or not _leads_to_user(rows[0])):
        raise _refusal(rows[0])  # it may be a title that says whose managers these are
    header = found or (0, [required[0]])
    columns, width = _find_columns(header, names), len(header[1])
    if _is_single(header):
        if wide := next((row for row in rows if not _is_single(row)), None):
            raise _refusal(wide, "cells") if found and _leads_to_user(wide) else _refusal(found or rows[0])
        rows, width = [(line, cells[:1]) for line, cells in rows], 1
    user_at = columns[required[0]]
    _check_lists(rows, user_at)
    leading = {at for _, cells in rows for at, cell in enumerate(cells[:width]) if USER.fullmatch(cell)}
    if not all(header[1][at] for at in leading):
        raise _refusal(header)
    is_certain = leading <= set(columns.values())
    same = [at for at, cell in enumerate(header[1]) if at != user_at and _name(cell) in others.split()]
    shifted = set(_find_shifted([row for row in rows if len(row[1]) == width and not is_certain], user_at))
    table = list[tuple[int, Cells | str]]()
    for line, cells in rows:
        texts = {key: cells[at] if 0 <= (at := columns.get(key, -1)) < len(cells) else "" for key in names}
        if UNDECODED.search("".join(texts.values())):
            raise UnreadableFile("encoding", line)
        texts["others"] = " ".join(cells[at] for at in same if at < len(cells))
        moved = len(cells) > width or (len(cells) < width and not is_certain) or line in shifted
        table.append((line, _refusal((line, cells)).found if moved else texts))
    return table


def _check_lists(rows: Sequence[Row], key: int) -> None:
    """Raises UnreadableFile if words stand above users, in their column or alone: they may be a title."""
    title = None
    for row in rows:
        text = "".join(row[1][key : key + 1]) or ("".join(row[1]) if sum(map(bool, row[1])) == 1 else "")
        if title and USER.fullmatch(text):
            raise _refusal(title, "lists")
        if not title and WORDS.fullmatch(text) and not NOTHING.fullmatch(text) and not _leads_to_user(row):
            title = row


def _find_shifted(rows: Sequence[Row], key: int) -> Iterator[int]:
    """The lines with text where most have a user, or an id where most have text, or moved left maybe."""
    kinds = [list(map(_kind, cells)) for _, cells in rows]
    columns = [Counter(filter(None, column)) for column in zip(*kinds, strict=True)]
    texts = [column["text"] * 2 - column.total() for column in columns]
    for (line, cells), row in zip(rows, kinds, strict=True):
        odd = any(
            (kind == "text" and texts[at] <= 0) or (kind == "id" and texts[at] >= 0)
            for at, kind in enumerate(row)
        )
        left = all(kind in ("", *column) for kind, column in zip(row[key:], columns[key + 1 :], strict=False))
        if odd or (row[key] and not cells[-1] and left):
            yield line


def _kind(cell: str) -> str:
    if USER.fullmatch(cell):
        return "name" if USER_NAME.fullmatch(cell) else "id"
    return "" if NOTHING.fullmatch(cell) else "text"


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


def _refusal(row: Row, problem: Literal["column", "cells", "lists"] = "column") -> UnreadableFile:
    found = " | ".join(without_acs_user_ids(join_lines(cell, 100))[:40] for cell in row[1][:8] if cell)
    return UnreadableFile(problem, row[0], found)


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
    """The rows that are not empty. Raises UnreadableFile if this is not CSV, or mixes line ends."""
    lines = list(io.StringIO(re.sub(r"\r+\n", "\r\n", text), newline=""))
    reader = csv.reader(lines, delimiter=delimiter, strict=True, skipinitialspace=True)
    try:
        rows = [(reader.line_num, list(map(_clean, cells))) for cells in reader]
        if stray := [line for line, _ in rows if "\n" in text and lines[line - 1].endswith("\r")]:
            raise UnreadableFile("syntax", stray[0])
    except csv.Error as error:
        raise UnreadableFile("syntax", reader.line_num) from error
    return [row for row in rows if any(row[1])]


def _clean(cell: str) -> str:
    """The value, without what spreadsheets, chats and our export put around or into an id."""
    text = ESCAPE.sub(r"\1", cell.strip()) if "'" in cell else cell.strip()
    plain = WRAPPING.sub("", text.translate(INVISIBLE).replace("\u2011", "-").strip())
    return plain if USER.fullmatch(plain) else text
