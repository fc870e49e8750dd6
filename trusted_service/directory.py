"""Finds users for administrators: page by page, by name, by any of their ids.

A page costs the same however many users there are: the index leads to them, and the rows that decide
are read one by one. What the index says is checked against them. While it does not know everybody,
the rows are read through instead.
"""

import functools
import itertools
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context

import structlog

from trusted_service.errors import ListNotReady, UpstreamError
from trusted_service.indexer import Indexer
from trusted_service.later import Later
from trusted_service.models import Identity, UserId, parse_guid
from trusted_service.storage.identities import IdentityTable
from trusted_service.storage.user_entry import ACS_USER_ID, STATUSES, Entry, Key, user_of
from trusted_service.storage.user_index import UserIndex
from trusted_service.user_query import Place, UserPage, UserQuery, admits, find_key
from trusted_service.user_scan import scan_page

log = structlog.get_logger(__name__)

PAGE = 50
MOST_EXAMINED, MOST_PASSED_OVER = 500, 5000
"""Rows read for one page, and keys of other tenants, before it is cut short with a link to the next."""
READERS = 8
TOO_MANY_SECONDS = 60.0
"""For how long the rows are not read through again, where they were too many for a request."""
WAIT_SECONDS, LONGER_SECONDS = 1.0, 2.0
"""How long a list waits for the index to take in what was written just now, and then, if that is little."""


class Directory:
    """Methods raise UpstreamError where the storage fails."""

    def __init__(self, identities: IdentityTable, index: UserIndex, indexer: Indexer, later: Later) -> None:
        self._identities = identities
        self._index = index
        self._indexer = indexer
        self._later = later
        self._scan_at = float("-inf")

    def page(self, query: UserQuery, place: Place | None = None, *, size: int = PAGE) -> UserPage:
        """Return the users that come after the place, which an earlier page gave as `next`.

        Raises ListNotReady where there is no index yet, or most are not in it, and they are too many to do
        without.
        """
        by_id = self._find_by_id(query.text)
        if by_id is not None:
            return UserPage(users=[user for user in by_id if admits(query, user)], next=None)
        place = place or Place(key="", began=time.time())
        state = self._indexer.bring_up_to_date(WAIT_SECONDS, place.began)
        if state == "behind":  # by what is not known yet, or by little
            state = self._indexer.bring_up_to_date(LONGER_SECONDS, place.began)
        if state != "current" and time.monotonic() > self._scan_at:
            try:
                return scan_page(self._identities, query, place, size)
            except ListNotReady:
                self._scan_at = time.monotonic() + TOO_MANY_SECONDS
        if state == "missing":
            raise ListNotReady
        if state == "behind":
            # So many that what others wrote just now may come later: the next look finds it.
            log.warning("list_may_be_behind")
        return self._indexed_page(query, place, size)

    def find(self, user_id: UserId) -> Identity | None:
        return self._identities.find(user_id)

    def find_by_acs_user_id(self, acs_user_id: str) -> list[Identity]:
        """The users of this identity: one, unless other programs wrote something else."""
        if not ACS_USER_ID.fullmatch(acs_user_id):
            return []
        if self._indexer.bring_up_to_date(WAIT_SECONDS) == "current":
            candidates = self.read(self._index.find_by_acs_user_id(acs_user_id))
        else:
            candidates = list(self._identities.of_acs_user_id(acs_user_id))
        return [user for user in candidates if user is not None and user.acs_user_id == acs_user_id]

    def read(self, user_ids: list[UserId]) -> list[Identity | None]:
        """Read the rows side by side: one after the other, fifty would take fifty times as long."""
        if len(user_ids) < 2:
            return [self._identities.find(user_id) for user_id in user_ids]
        with ThreadPoolExecutor(READERS) as pool:
            return [
                future.result()
                for future in [
                    pool.submit(copy_context().run, self._identities.find, user_id) for user_id in user_ids
                ]
            ]

    def all(self) -> Iterator[Identity]:
        """Every user, in no order that means anything, a page in memory at a time."""
        return self._identities.all()

    def note_changed(self, user_id: UserId) -> None:
        """Note that lists must show the user as they are now: comes after each change of their row."""
        self._indexer.note_changed(user_id)

    def forget(self, user_id: UserId) -> None:
        """The same after a deletion, which it cannot fail: what leads to the user goes right away."""
        try:
            self._indexer.note_changed(user_id)
        except UpstreamError as error:
            log.error("not_forgotten", user=str(user_id), reason=error.reason)
        else:
            self._indexer.start()

    def catch_up(self) -> bool:
        """Bring the index up to date, however long it takes; False where another process is at it."""
        return self._indexer.run()

    def _indexed_page(self, query: UserQuery, place: Place, size: int) -> UserPage:
        users: list[Identity] = []
        examined = passed_over = 0
        after = place.key
        keys = self._keys(query, after)
        while examined < MOST_EXAMINED and passed_over < MOST_PASSED_OVER:
            wanted = size - len(users) + 1
            found = list(itertools.islice(keys, wanted))
            taken = found[: wanted - 1]
            mine = [key for key in taken if query.tenant_id in (None, user_of(key[1]).tenant_id)]
            for key, identity in zip(mine, self.read([user_of(key) for _, key in mine]), strict=True):
                if identity is not None and find_key(query, identity) == key[1]:
                    users.append(identity)
                if identity is None or key not in Entry.of(identity).places():
                    self._later.do(functools.partial(self._indexer.note_changed, user_of(key[1]), [key]))
            examined += len(mine)
            passed_over += len(taken) - len(mine)
            after = taken[-1][1] if taken else after
            if len(found) < wanted:
                return UserPage(users=users, next=None)
            if len(users) == size:
                break
            keys = itertools.chain(found[wanted - 1 :], keys)
        return UserPage(users=users, next=Place(key=after, began=place.began))

    def _keys(self, query: UserQuery, after: str) -> Iterator[Key]:
        statuses = STATUSES if query.status is None else (query.status,)
        if query.text:
            return self._index.by_text(statuses, query.text, after=after)
        if query.sort == "newest":
            return self._index.newest(statuses, after=after)
        names = self._index.by_text(statuses, "", after=after)
        return (key for key in names if key[1].endswith("|name"))

    def _find_by_id(self, text: str) -> list[Identity] | None:
        """The users of this id, or None where the text is not an id."""
        text = text.strip()
        if re.match(r"8:[a-z-]*acs:", text):
            return self.find_by_acs_user_id(text)
        tenant_id, slash, object_id = text.rpartition("/")
        try:
            if slash:
                identity = self._identities.find(UserId.parse(tenant_id, object_id))
                return [] if identity is None else [identity]
            return self._identities.find_in_all_tenants(parse_guid(text))
        except ValueError:
            return None
