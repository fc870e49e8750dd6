"""What the index of users says of one user, and the keys of its lists that lead to them."""

import re
import unicodedata
from dataclasses import dataclass
from typing import Literal, Self

from trusted_service.models import Identity, UserId

Status = Literal["active", "blocked"]
STATUSES: tuple[Status, ...] = ("active", "blocked")
Key = tuple[str, str]
"""The name of a list, and a key in it."""

LONGEST_TEXT = 100
LAST_MILLISECOND = 10**14  # in the year 5138: what is taken from it makes newer rows come first
ACS_USER_ID = re.compile(r"8:[a-z-]*acs:[A-Za-z0-9_-]{1,200}")
UNDECOMPOSED = str.maketrans(
    {"ø": "o", "ł": "l", "đ": "d", "ð": "d", "ħ": "h", "ı": "i", "æ": "ae", "œ": "oe", "þ": "th"}  # noqa: RUF001
)
"""Letters that Unicode does not take for others with a mark, though people who search do."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What the index says of a user; `acs_user_id` is empty where there is none."""

    user_id: UserId
    status: Status
    newest: str
    name: str
    username: str
    acs_user_id: str

    @classmethod
    def of(cls, identity: Identity) -> Self:
        acs_user_id = identity.acs_user_id or ""
        return cls(
            user_id=identity.user_id,
            status=status_of(identity),
            newest=newest_text(identity),
            name=index_text(identity.name),
            username=index_text(identity.username),
            acs_user_id=acs_user_id if ACS_USER_ID.fullmatch(acs_user_id) else "",
        )

    @classmethod
    def load(cls, person: str, value: str) -> Self:
        status, newest, name, username, acs_user_id = value.split(">")
        return cls(
            user_of_person(person),
            "blocked" if status == "blocked" else "active",
            newest,
            name,
            username,
            acs_user_id,
        )

    def dump(self) -> str:
        return ">".join((self.status, self.newest, self.name, self.username, self.acs_user_id))

    @property
    def person(self) -> str:
        return person_of(self.user_id)

    def places(self) -> set[Key]:
        """All keys that should lead to this user."""
        keys = {
            (f"newest-{self.status}", f"{self.newest} {self.person}"),
            (f"text-{self.status}", _text_key(self.name, self.user_id, "name")),
            (f"text-{self.status}", _text_key(self.username, self.user_id, "username")),
        }
        if self.acs_user_id:
            keys.add(("acs", f"{self.acs_user_id} {self.person}"))
        return keys


def newest_key(identity: Identity) -> str:
    """The key of the user in the lists of the newest."""
    return f"{newest_text(identity)} {person_of(identity.user_id)}"


def name_key(identity: Identity) -> str:
    """The key of the user in the lists of texts, by their name."""
    return _text_key(index_text(identity.name), identity.user_id, "name")


def username_key(identity: Identity) -> str:
    """The same by their user name."""
    return _text_key(index_text(identity.username), identity.user_id, "username")


def newest_text(identity: Identity) -> str:
    """A number that is the smaller, the later the user came."""
    return f"{LAST_MILLISECOND - int(identity.created_at.timestamp() * 1000):015d}"


def text_start(text: str) -> str:
    """How the keys of `text` lists begin. With a letter: some stores drop the space of an empty text."""
    return f"t{text}"


def user_of(key: str) -> UserId:
    """The user to whom a key of any list but `users` leads."""
    person = key.rpartition(" ")[2]
    return user_of_person(person.removesuffix("|name").removesuffix("|username"))


def status_of(identity: Identity) -> Status:
    return "blocked" if identity.blocked else "active"


def plain_text(text: str) -> str:
    """The text in small letters without accents, as people expect searches to compare it."""
    # Twice: decomposing brings capitals back (of stage letters, say), and folding can compose.
    folded = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold())
    plain = "".join(character for character in folded if not unicodedata.combining(character))
    return plain.translate(UNDECOMPOSED).strip()


def index_text(text: str) -> str:
    """The beginning of `plain_text` as it may stand in a key, where not all characters may.

    Spaces become `!`, so that a space can end the text and shorter names come before longer ones. No
    characters beyond U+FFFF: there the order of the storage (by UTF-16) is not that of Python.
    """
    return "".join(
        "!"
        if character == " "
        else character
        if (character.isalnum() and character <= "\uffff") or character in ".@-'"
        else "_"
        for character in plain_text(text)[:LONGEST_TEXT]
    )


def _text_key(text: str, user_id: UserId, kind: Literal["name", "username"]) -> str:
    return f"{text_start(text)} {person_of(user_id)}|{kind}"


def person_of(user_id: UserId) -> str:
    return f"{user_id.object_id}|{user_id.tenant_id}"


def user_of_person(person: str) -> UserId:
    object_id, _, tenant_id = person.partition("|")
    return UserId(tenant_id, object_id)
