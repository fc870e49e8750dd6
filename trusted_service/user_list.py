"""Lists of users, as people bring them: ids, or a CSV file of them."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from trusted_service.csv_file import UnreadableList, cell, find_column, read_rows
from trusted_service.models import UserId, display_text

MOST_ENTRIES = 10_000
LONGEST_TEXT = 100
OBJECT_ID_NAMES = ("objectid", "oid", "id", "user")
TENANT_ID_NAMES = ("tenantid", "tid")


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One user of a list. Without `user_id` what was given is no id, and `text` is that, fit to be shown.

    `line` is the line of the file, or the place in the selection, counted from 1.
    """

    line: int
    user_id: UserId | None
    text: str = ""


def read_ids(texts: Sequence[str], tenants: Sequence[str]) -> list[Entry]:
    """Read `<tenant id>/<object id>`, or `<object id>` where one tenant is allowed.

    Raises UnreadableList for none, or for more than MOST_ENTRIES.
    """
    return _limited(_entry(line, text, "", tenants) for line, text in enumerate(texts, 1))


def read_csv(data: bytes, tenants: Sequence[str]) -> list[Entry]:
    """Read a CSV file in UTF-8: a column of ids, or columns named as in the export `users.csv`.

    A header may be missing where there is one column. Empty lines do not count. Raises UnreadableList.
    """
    rows = read_rows(data)
    first = next(rows, None)
    if first is None:
        raise UnreadableList("empty")
    line, cells = first
    object_column, tenant_column = find_column(cells, OBJECT_ID_NAMES), find_column(cells, TENANT_ID_NAMES)
    is_header = object_column is not None or not _looks_like_id(cells[0])
    if object_column is None:
        if len(cells) > 1:
            raise UnreadableList("column", line)
        object_column = 0
    body = rows if is_header else _with_first(first, rows)
    return _limited(
        _entry(line, _cell(cells, object_column), _cell(cells, tenant_column), tenants)
        for line, cells in body
    )


def _looks_like_id(text: str) -> bool:
    """Whether a first line is data rather than a header: ids have digits and dashes."""
    return any(character.isdigit() for character in text)


def _with_first(
    first: tuple[int, list[str]], rest: Iterable[tuple[int, list[str]]]
) -> Iterator[tuple[int, list[str]]]:
    yield first
    yield from rest


def _cell(cells: Sequence[str], column: int | None) -> str:
    # What our own export put before a formula is not part of the value.
    return cell(cells, column).removeprefix("'")


def _entry(line: int, text: str, tenant_id: str, tenants: Sequence[str]) -> Entry:
    given, _, object_id = text.strip().rpartition("/")
    alone = tenants[0] if len(tenants) == 1 else ""
    try:
        return Entry(line=line, user_id=UserId.parse(given or tenant_id or alone, object_id))
    except ValueError:
        return Entry(line=line, user_id=None, text=display_text(text)[:LONGEST_TEXT])


def _limited(entries: Iterable[Entry]) -> list[Entry]:
    kept: list[Entry] = []
    for entry in entries:
        if len(kept) == MOST_ENTRIES:
            raise UnreadableList("too-many")
        kept.append(entry)
    if not kept:
        raise UnreadableList("empty")
    return kept
