"""Lists of keys in blocks: what is put in is read back in order, however it is cut, whoever writes too."""

import random

import pytest

from tests.support.new_table import new_table
from tests.support.storage_proxy import Fault, StorageProxy
from tests.support.together import run_together
from trusted_service.errors import UpstreamUnavailable
from trusted_service.storage.ordered_lists import MOST_LINES, OrderedLists
from trusted_service.storage.user_index import UserIndex

KEYS = 4 * MOST_LINES


@pytest.fixture
def lists(settings: dict[str, str]) -> OrderedLists:
    """Lists in a table of their own."""
    return OrderedLists(new_table(settings))


def keys_of(lists: OrderedLists, after: str = "") -> list[str]:
    return [key for key, _ in lists.read("here", after=after)]


def test_list_that_nobody_wrote_is_empty(lists: OrderedLists) -> None:
    assert keys_of(lists) == []
    assert lists.find("here", ["a"]) == {}
    lists.change("here", {}, ["a"])
    assert keys_of(lists) == []


def test_list_holds_what_was_put_and_not_removed(lists: OrderedLists) -> None:
    chance = random.Random(3)  # noqa: S311 (the order in which a test does things)
    here: dict[str, str] = {}
    for _ in range(12):
        put = {
            f"{chance.randrange(10**5):05d}": str(chance.random()) for _ in range(chance.choice((1, 5, 200)))
        }
        remove = set(chance.sample(sorted(here), len(here) // 3)) | {"nobody"}
        lists.change("here", put, remove)
        here = {key: value for key, value in here.items() if key not in remove} | put
        assert list(lists.read("here")) == sorted(here.items())
    middle = sorted(here)[len(here) // 2]
    assert keys_of(lists, middle) == [key for key in sorted(here) if key > middle]
    wanted = chance.sample(sorted(here), 20)
    assert lists.find("here", [*wanted, "nobody"]) == {key: here[key] for key in wanted}
    assert sorted(lists.all()) == sorted(("here", key, value) for key, value in here.items())


def test_list_is_cut_into_blocks_that_the_storage_takes(
    lists: OrderedLists, storage_proxy: StorageProxy
) -> None:
    put = {f"{number:05d}{'é' * 300}": "一" * 200 for number in range(3000)}
    lists.change("here", put)
    assert keys_of(lists) == sorted(put)
    storage_proxy.clear()
    lists.change("here", put)
    assert {call.method for call in storage_proxy.calls()} == {"GET"}, "what is there is not written again"
    lists.change("here", {}, put)
    assert keys_of(lists) == []


def test_writers_at_once_lose_nothing(lists: OrderedLists) -> None:
    groups = [{f"{number:05d}": "" for number in range(start, KEYS, 3)} for start in range(3)]
    run_together([lambda group=group: lists.change("here", group) for group in groups])  # type: ignore[misc]
    assert keys_of(lists) == [f"{number:05d}" for number in range(KEYS)]


def test_reader_sees_each_key_once_while_blocks_are_split(lists: OrderedLists) -> None:
    lists.change("here", {f"{number:05d}": "" for number in range(0, KEYS, 2)})
    seen = []
    for number, (key, _) in enumerate(lists.read("here", blocks=1)):
        seen.append(key)
        if number == 10:
            lists.change("here", {f"{number:05d}": "" for number in range(1, KEYS, 2)})
    assert set(seen) >= {f"{number:05d}" for number in range(0, KEYS, 2)}
    assert seen == sorted(set(seen))


def test_failure_in_between_is_made_good_by_the_next_time(
    lists: OrderedLists, storage_proxy: StorageProxy
) -> None:
    put = {f"{number:05d}": "" for number in range(5000)}
    storage_proxy.plant(Fault(kind="status", method="POST", table="$batch", skip=1, times=1))
    with pytest.raises(UpstreamUnavailable):
        lists.change("here", put)
    lists.change("here", put)
    assert keys_of(lists) == sorted(put)


def test_lease_is_given_back_by_its_owner_alone(settings: dict[str, str]) -> None:
    index = UserIndex(new_table(settings))
    assert index.take_lease("late", -5)
    assert index.take_lease("next", 60)
    index.give_lease_back("late")  # it had run out, and somebody else has it
    assert not index.take_lease("third", 60)
    index.give_lease_back("next")
    assert index.take_lease("third", 60)
