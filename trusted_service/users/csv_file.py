"""CSV files, as spreadsheets, directories and databases write them, or as this service exports them.

A wrong column would block or delete the managers instead of the leavers: one is taken only where its name or
its contents leave no doubt. Otherwise the file, or the row, is refused.
"""

import codecs
import csv
import io
import itertools
import re
import sys
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from trusted_service.models import join_lines, without_acs_user_ids
from trusted_service.representation import CELL_START, FORMULA

ESCAPE = re.compile(f"{CELL_START}'{FORMULA}")
"""The export puts an apostrophe before a formula."""
GUID_LENGTH, GUID = 36, "[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
EXCEL_TEXT = re.compile('^="(.*)"$')
WRAPPED = re.compile(rf"'?(?:urn:uuid:)?\{{?({GUID})\}}?", re.IGNORECASE)
USER_NAME = re.compile(r"[^\s@<>,;|/]+@[^\s@<>,;|/]+")
VALUE = re.compile(rf"(?:{GUID}/)?{GUID}|{USER_NAME.pattern}|8:\S*acs:\S+", re.IGNORECASE)
"""A cell that leads to a user, and so is no header: an id, a user name or address, an ACS user id."""
TITLE = re.compile(r"(?=.*[^\W\d_])(?![\d.,]+E)[^@\d]*(?:\d[^@\d]*){0,9}", re.DOTALL)
"""Rather the name of a column than a damaged id, or the number that Excel makes of one."""
SEPARATOR = re.compile(r'"?sep=(\\t|\t|[^\w\s"])"?[,;\t]*(?:\r\n?|\n|$)', re.IGNORECASE)
"""The line by which Excel learns the delimiter."""
INVISIBLE = "\ufeff\u200b\u2060\x1a"
UNDECODED = re.compile("[\udc80-\udcff]")
LONG_WORD = re.compile(r"\S{32,}")
MAX_NAME, MAX_TITLES, MAX_COLUMNS = 200, 100, 1000
NULLS = ("NULL", "\\N")
"""How databases write that there is no value."""

OBJECT_ID = (
    "objectid oid userobjectid aadobjectid azureadobjectid azureobjectid entraobjectid entraidobjectid "
    "microsoftentraobjectid objektid benutzerobjektid iddobjet identifiantdobjet objectidobjectidrequired"
)
USER_NAMES = (
    "userprincipalname upn username preferredusername benutzerprinzipalname benutzername nomdutilisateur "
    "nomdutilisateurprincipal nomprincipaldelutilisateur usernameuserprincipalnamerequired",
    "mail email emailaddress mailaddress workemail primarysmtpaddress emailadresse adresseemail courriel",
)
"""Columns with these names hold user names and addresses."""

Problem = Literal["encoding", "syntax", "column", "ambiguous", "title", "empty", "too-many", "too-many-names"]
Row = tuple[int, list[str]]
Cells = dict[str, str]
Names = Mapping[str, Sequence[str]]


@dataclass(eq=False)
class UnreadableFile(Exception):
    """The file cannot be used; `line` is where, counted from 1, or 0 for the whole file.

    `found` are the cells that should have named the columns, fit to be shown.
    """

    problem: Problem
    line: int = 0
    found: str = ""


def read_table(
    data: bytes,
    names: Names,
    required: Sequence[str],
    *,
    needs_header: bool = True,
    limit: int = sys.maxsize,
) -> list[tuple[int, Cells | None]]:
    """Return the line and the cells of each row, by the keys of `names`; "" where there is no such cell.

    `names` are the accepted names of each column, in lower case without accents and punctuation: those that
    say the same in one string, the best first. Names after the first string count for a required column only
    if its contents fit. Cells are None where a row does not match the header, so that they may have shifted.
    Without a header, one column is the required one unless it has a title. Raises UnreadableFile.
    """
    rows, header = _find_table(data, names, required, limit + MAX_TITLES)
    if len(rows) > limit:
        raise UnreadableFile("too-many")
    if header is not None:
        width = len(header[1])
        columns, others = _choose_columns(header, rows, names, required) if rows else ({}, False)
    else:
        width, others, columns = 0, False, {required[0]: _only_column(rows, needs_header=needs_header)}
    table = list[tuple[int, Cells | None]]()
    for line, cells in rows:
        texts = {key: cells[at] if 0 <= (at := columns.get(key, -1)) < len(cells) else "" for key in names}
        if UNDECODED.search("".join(texts.values())):
            raise UnreadableFile("encoding", line)
        shifted = width and (any(cells[width:]) or (others and len(cells) != width))
        table.append(
            (line, None if shifted else {key: "" if text in NULLS else text for key, text in texts.items()})
        )
    return table


def _find_table(
    data: bytes, names: Names, required: Sequence[str], limit: int
) -> tuple[list[Row], Row | None]:
    """The rows below the header, and the header; or all rows, where no row is one."""
    lines, delimiters = _split(_decode(data))
    tables = [_parse(lines, delimiter, limit) for delimiter in delimiters]
    headers = [
        (rows[place + 1 :], rows[place], error)
        for rows, error in tables
        if (place := _find_header(rows, names, required)) is not None
    ]
    wide = [table for table in headers if len(table[1][1]) > 1]
    if len(wide) > 1:
        raise _refusal("ambiguous", wide[0][1])
    for rows, header, error in wide or headers[:1]:
        if error:
            raise error
        return rows, header
    if all(error for _, error in tables):
        raise tables[0][1] or UnreadableFile("syntax")
    # The one that splits most: a file of one column is one with each delimiter.
    rows, _ = max((table for table in tables if not table[1]), key=lambda table: len(_used_columns(table[0])))
    return rows, None


def _find_header(rows: Sequence[Row], names: Names, required: Sequence[str]) -> int | None:
    """The place of the header, above the first row that leads to a user; titles and comments may precede it.

    Refuses the file if another row names the columns in another way.
    """
    tiers = [[frozenset(tier.split()) for tier in names[key]] for key in required]
    candidates, below = list[tuple[int, bool, int, list[str]]](), False
    for place, (_, cells) in enumerate(rows):
        if any(map(VALUE.fullmatch, cells)):
            below = True
            continue
        header = [_name(cell) for cell in cells]
        ranks = [next((n for n, tier in enumerate(own) if not tier.isdisjoint(header)), -1) for own in tiers]
        if min(ranks) >= 0 and not (below and any(ranks)):
            candidates.append((max(ranks), below, place, header))
    best = min((rank for rank, *_ in candidates), default=0)
    found = [candidate for candidate in candidates if candidate[0] == best]
    for _, _, place, header in found:
        if found[0][1] or header != found[0][3]:
            raise _refusal("ambiguous", rows[place])
    return found[0][2] if found else None


def _choose_columns(
    header: Row, rows: Sequence[Row], names: Names, required: Sequence[str]
) -> tuple[dict[str, int], bool]:
    """The place of each column, and whether others lead to users, too."""
    own, columns = [_name(cell) for cell in header[1]], dict[str, int]()
    if own[0] and not any(own[1:]) and len(_used_columns(rows)) > 1:
        raise _refusal("column", header)  # it may be a title
    values = {(at, "@" in cell) for _, row in rows for at, cell in enumerate(row) if VALUE.fullmatch(cell)}
    for key, tiers in names.items():
        for rank, tier in enumerate(tiers):
            places = [at for at, name in enumerate(own) if name in tier.split()]
            if rank and key in required:
                fitting = {at for at, is_name in values if is_name or tier not in USER_NAMES}
                places = [at for at in places if at in fitting]
            if len(places) > 1:
                raise _refusal("ambiguous", header)
            if places:
                columns[key] = places[0]
                break
    if not columns.keys() >= set(required):
        raise _refusal("column", header)
    return columns, not {at for at, _ in values} <= set(columns.values())


def _only_column(rows: Sequence[Row], *, needs_header: bool) -> int:
    """The place of the only column, where that may have no header and no title."""
    used = _used_columns(rows)
    titles = list(itertools.takewhile(lambda row: not any(map(VALUE.fullmatch, row[1])), rows))
    # The one that is most like a header.
    first = max(titles or rows[:1], key=lambda row: len(list(filter(None, row[1]))), default=(0, [""]))
    if rows and (needs_header or len(used) > 1):
        raise _refusal("column", first)
    if any(map(TITLE.fullmatch, itertools.chain.from_iterable(cells for _, cells in titles))):
        raise _refusal("title", first)
    return min(used, default=0)


def _used_columns(rows: Sequence[Row]) -> set[int]:
    return {at for _, cells in rows for at, cell in enumerate(cells) if cell}


def _name(cell: str) -> str:
    """The name in a header's cell, as `read_table` compares it."""
    return "".join(filter(str.isalnum, unicodedata.normalize("NFKD", cell[:MAX_NAME]))).casefold()


def _refusal(problem: Problem, row: Row) -> UnreadableFile:
    """Show the row's first cells, short, without ids and what may be a secret."""
    texts = (LONG_WORD.sub("…", without_acs_user_ids(join_lines(cell, MAX_NAME))) for cell in row[1][:8])
    return UnreadableFile(problem, row[0], " | ".join(text[:40] for text in texts if text))


def _decode(data: bytes) -> str:
    """The text; bytes that are not UTF-8 stay marked, as they may be in columns that nobody needs."""
    boms = {codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}
    encoding = boms.get(data[:2])
    try:
        text = data[2:].decode(encoding) if encoding else data.decode("utf-8-sig", "surrogateescape")
    except UnicodeDecodeError as error:
        raise UnreadableFile("encoding", data.count(b"\n", 0, error.start) + 1) from error
    if "\0" in text:
        raise UnreadableFile("encoding", len(text[: text.index("\0") + 1].splitlines()))
    return text


def _split(text: str) -> tuple[list[str], list[str]]:
    """The lines, and the delimiters that the file may have."""
    if match := SEPARATOR.match(text):
        delimiters = [match[1].replace("\\t", "\t")]
        text = "\n" + text[match.end() :]  # the numbers of lines stay
    else:
        delimiters = [delimiter for delimiter in ",;\t|" if delimiter in text] or [","]
    return list(io.StringIO(text, newline="")), delimiters


def _parse(lines: Sequence[str], delimiter: str, limit: int) -> tuple[list[Row], UnreadableFile | None]:
    """The rows that are not empty, up to the one that is not CSV with this delimiter."""
    rows = list[Row]()
    reader = csv.reader(lines, delimiter=delimiter, strict=True, skipinitialspace=True)
    try:
        for cells in reader:
            if len(cells) > MAX_COLUMNS:
                raise csv.Error
            if any(texts := [_clean(cell) for cell in cells]):
                rows.append((reader.line_num, texts))
            if len(rows) > limit:
                return rows, UnreadableFile("too-many")
    except csv.Error:
        return rows, UnreadableFile("syntax", reader.line_num)
    return rows, None


def _clean(cell: str) -> str:
    """The cell's value, without what a spreadsheet or a program puts around a text or an id."""
    text = cell.strip().strip(INVISIBLE).strip()
    if "'" in text or text[:1] == "=":
        text = EXCEL_TEXT.sub(r"\1", ESCAPE.sub(r"\1", text))
    match = WRAPPED.fullmatch(text) if len(text) > GUID_LENGTH else None
    return match[1] if match else text
