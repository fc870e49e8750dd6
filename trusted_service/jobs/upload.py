"""Lists of users that administrators select or upload: ids, or a CSV file of ids or user names."""

from collections.abc import Mapping, Sequence

from trusted_service.jobs.models import Item
from trusted_service.models import Identity, UserId, find_resource
from trusted_service.texts import join_lines, without_acs_user_ids
from trusted_service.users.csv_file import OBJECT_ID, TENANT_ID, USER_NAME, Cells, UnreadableFile, read_table
from trusted_service.users.directory import Directory

MAX_ITEMS = 10_000
MAX_LOOKUPS = 500
"""User names and ACS ids in a file: the request looks them up, and not all upstreams are fast."""
MAX_TEXT = 100
USER_NAMES = "userprincipalname upn username preferredusername"
ADDRESSES = "mail email emailaddress"
OTHERS = f"{USER_NAMES} {ADDRESSES} communicationuserid acsuserid communicationservicesuserid"
NAMES = {
    "objectId": (OBJECT_ID, "id user userid", USER_NAMES, ADDRESSES),
    "tenantId": (TENANT_ID,),
}


def read_items(data: bytes | None, selected: Sequence[str], directory: Directory) -> list[Item]:
    """Read a CSV file, else a selection of user ids (`UserId.parse_key`).

    The file has one column of ids or user names, or a header that names the columns (`csv_file`). Raises
    UnreadableFile, or UpstreamError if user names cannot be looked up.
    """
    rows: Sequence[tuple[int, Cells | str]]
    rows = [(line, {"objectId": text, "tenantId": "", "others": ""}) for line, text in enumerate(selected, 1)]
    if data is not None:
        rows = read_table(data, NAMES, ["objectId"], needs_header=False, others=OTHERS)
    if not 0 < len(rows) <= MAX_ITEMS:
        raise UnreadableFile("too-many" if rows else "empty")
    names, others = _find_names(rows, "objectId"), _find_names(rows, "others")
    if len(names) > MAX_LOOKUPS:
        raise UnreadableFile("too-many-names")
    owners = directory.find_owners([*names, *(others - names)][:MAX_LOOKUPS])
    items, first = list[Item](), dict[UserId, Item]()
    for line, cells in rows:
        item = _read_item(line, cells, owners, directory.tenants)
        if item.user_id and item.check == "unchecked" and first.setdefault(item.user_id, item) is not item:
            item = item.checked("twice")
        items.append(item)
    return items


def _find_names(rows: Sequence[tuple[int, Cells | str]], key: str) -> set[str]:
    texts = {text for _, cells in rows if isinstance(cells, dict) for text in cells[key].split()}
    return {text for text in texts if USER_NAME.fullmatch(text) or find_resource(text)}


def _read_item(
    line: int, cells: Cells | str, owners: Mapping[str, Sequence[Identity]], tenants: Sequence[str]
) -> Item:
    """The user of a row. Of a text that leads to none, ACS ids and user names are not kept."""
    text = cells if isinstance(cells, str) else cells["objectId"]
    shown = USER_NAME.sub("[user name]", without_acs_user_ids(join_lines(text, MAX_TEXT)))
    if isinstance(cells, str):
        return Item(line, None, shown).checked("shifted")
    users, tenant_id = owners.get(text, ()), cells["tenantId"]
    ids = [user.user_id for user in users if tenant_id.lower() in ("", user.user_id.tenant_id)]
    if text in owners and len(ids) != 1:
        return Item(line, None, shown).checked("ambiguous" if ids else "unknown")
    try:
        key = f"{tenant_id}/{text}" if tenant_id and "/" not in text else text
        item = Item(line, user_id := ids[0] if ids else UserId.parse_key(key, tenants))
    except ValueError:
        return Item(line, None, shown).checked("invalid")
    others = [{user.user_id for user in owners.get(name, ())} for name in cells["others"].split()]
    return item.checked("contradictory") if any(ids and user_id not in ids for ids in others) else item
