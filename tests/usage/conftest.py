"""A local Azure for the usage tests alone."""

from collections.abc import Iterator

import pytest

from tests.support.usage import World, open_world


@pytest.fixture(scope="package")
def running_world() -> Iterator[World]:
    with open_world() as world:
        yield world


@pytest.fixture
def world(running_world: World) -> Iterator[World]:
    """The running world with an empty usage table."""
    running_world.tables.delete_table("usage")
    yield running_world
    running_world.storage.clear()
