"""A local Azure in which only the tests of usage count anything."""

from collections.abc import Iterator

import pytest

from tests.support.usage import World, open_world


@pytest.fixture(scope="package")
def running_world() -> Iterator[World]:
    with open_world() as world:
        yield world


@pytest.fixture
def world(running_world: World) -> Iterator[World]:
    """Where nothing has been counted yet."""
    running_world.tables.delete_table("usage")
    yield running_world
    running_world.storage.clear()
