"""Lists of users that administrators select or upload: ids, or a CSV file of them."""

from collections.abc import Sequence

from trusted_service.jobs.models import Item
from trusted_service.models import UserId, join_lines, without_acs_user_ids
from trusted_service.users.csv_file import UnreadableFile, read_table

MAX_ITEMS = 10_000
MAX_TEXT = 100
NAMES = {"objectId": ("objectid", "oid", "id", "user"), "tenantId": ("tenantid", "tid")}


def read_items(data: bytes | None, selected: Sequence[str], tenants: Sequence[str]) -> list[Item]:
    """Read a CSV file in UTF-8, else a selection of user ids (`UserId.parse_key`). Raises UnreadableFile.

    The file has one column of ids, with or without a header, or columns named as in the export `users.csv`.
    """
    rows = [(line, {"objectId": text, "tenantId": ""}) for line, text in enumerate(selected, 1)]
    if data is not None:
        rows = read_table(data, NAMES, ["objectId"], needs_header=False)
    items, first = list[Item](), dict[UserId, Item]()
    for line, cells in rows:
        # Spreadsheets mark a text by an apostrophe, which is not part of the value.
        text, tenant_id = cells["objectId"].removeprefix("'"), cells["tenantId"].removeprefix("'")
        try:
            key = f"{tenant_id}/{text}" if tenant_id and "/" not in text else text
            item = Item(line, UserId.parse_key(key, tenants))
        except ValueError:
            text = without_acs_user_ids(join_lines(text, MAX_TEXT))
            item = Item(line, None, text).checked("invalid")
        if item.user_id and first.setdefault(item.user_id, item) is not item:
            item = item.checked("twice")
        items.append(item)
    if not 0 < len(items) <= MAX_ITEMS:
        raise UnreadableFile("too-many" if items else "empty")
    return items
