"""The rows that lead to a user in the table `userindex`, each with a copy of what lists show.

PartitionKey is the tenant id. Row keys, which Table Storage compares as text:

- `n|<inverted creation time> <object id>`: all users, the newest first
- `t|<text> <object id>`: the folded user name, and the folded name from each of its words on
- `bn|…` and `bt|…`: the same, for blocked users only

A space sorts before any character of a text, so shorter names come first.
https://learn.microsoft.com/azure/storage/tables/table-storage-design-patterns
"""

import unicodedata
from typing import Any

from trusted_service.models import Identity, UserId
from trusted_service.storage.tables import Row, find_utc, utc
from trusted_service.storage.transactions import Columns

MAX_TEXT, MAX_WORDS = 100, 20
LAST_MILLISECOND = 10**14  # in the year 5138; the difference to it is smaller for newer rows
NOT_DECOMPOSED = str.maketrans(
    {"ø": "o", "ł": "l", "đ": "d", "ð": "d", "ħ": "h", "ı": "i", "æ": "ae", "œ": "oe", "þ": "th"}  # noqa: RUF001
)
"""Letters that Unicode does not decompose into a base letter, although people search for that."""


def index_rows(identity: Identity, build: str = "") -> list[Columns]:
    """All rows of the user; `build` names the reindexing that writes them."""
    tenant_id, object_id = identity.user_id
    copy: dict[str, Any] = {
        "ObjectId": object_id,
        "AcsUserId": identity.acs_user_id or "",
        "Name": identity.name,
        "Username": identity.username,
        "CreatedAt": identity.created_at,
        "Blocked": identity.blocked,
        "Build": build,
    }
    if identity.last_token_at is not None:
        copy["LastTokenAt"] = identity.last_token_at
    age = LAST_MILLISECOND - int(identity.created_at.timestamp() * 1000)
    starts = [f"n|{age:015d}", *dict.fromkeys(f"t|{_key_text(text)}" for text in _texts(identity))]
    return [
        {
            "PartitionKey": tenant_id,
            "RowKey": f"{prefix}{start} {object_id}",
            "WholeName": position == 1,
            **copy,
        }
        for prefix in (("", "b") if identity.blocked else ("",))
        for position, start in enumerate(starts)
    ]


def indexed_user(row: Row) -> Identity:
    """The user as the row's copy shows them."""
    return Identity(
        user_id=UserId(str(row["PartitionKey"]), row["ObjectId"]),
        name=row["Name"],
        username=row["Username"],
        acs_user_id=row["AcsUserId"] or None,
        created_at=utc(row["CreatedAt"]),
        last_token_at=find_utc(row.get("LastTokenAt")),
        blocked=row["Blocked"],
    )


def search_start(text: str) -> str:
    """The prefix of the keys that match a search for this text."""
    return f"t|{_key_text(_fold(text))}"


def first_key(identity: Identity, text: str) -> str | None:
    """The first of the user's keys that matches a search for this text, or None."""
    folded = _fold(text)
    matching = [_key_text(own) for own in _texts(identity) if own.startswith(folded)]
    return f"t|{min(matching)} {identity.user_id.object_id}" if matching else None


def _texts(identity: Identity) -> list[str]:
    """The whole name first, then the name from each of its words on, and the user name."""
    name = _fold(identity.name)
    starts = [index for index in range(1, len(name)) if name[index].isalnum() > name[index - 1].isalnum()]
    # Words after a space first, then parts of words such as Pierre of Jean-Pierre.
    starts = sorted(starts, key=lambda index: name[index - 1] != " ")[: MAX_WORDS - 1]
    return [name, *(name[index:] for index in starts), *filter(None, [_fold(identity.username)])]


def _fold(text: str) -> str:
    """The text as searches compare it: lower case, no accents, single spaces."""
    # Twice: decomposing restores capitals (of stage letters, for one), and folding can compose.
    folded = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold())
    plain = "".join(character for character in folded if not unicodedata.combining(character))
    return " ".join(plain.translate(NOT_DECOMPOSED).split())


def _key_text(folded: str) -> str:
    """The beginning of a folded text as it may be part of a key, where a space becomes `!`.

    Characters beyond U+FFFF become `_`: there the order of the storage (UTF-16) is not Python's.
    """
    return "".join(
        "!" if one == " " else one if (one.isalnum() and one <= "\uffff") or one in ".@-'" else "_"
        for one in folded[:MAX_TEXT]
    )
