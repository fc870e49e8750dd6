"""Background sweeps after a block revoke tokens of requests in progress; no test waits for a delay."""

import time
import uuid
from dataclasses import dataclass, replace

import pytest

from tests.support.new_table import new_table
from tests.support.own_azure import World
from tests.support.person import Person
from tests.support.storage_proxy import Fault, StorageProxy
from trusted_service.audit import AuditQuery
from trusted_service.azure.deadlines import REQUEST_SECONDS
from trusted_service.background import BackgroundTasks, Task
from trusted_service.errors import UpstreamUnavailable
from trusted_service.models import SYSTEM, UserId
from trusted_service.services import Services
from trusted_service.storage.open_blocks import OpenBlocks
from trusted_service.users.administration import Administration


class DelayedTasks(BackgroundTasks):
    """Keeps delayed tasks until the test runs them."""

    def __init__(self) -> None:
        super().__init__()
        self.delayed: list[tuple[float, Task]] = []

    def _schedule(self, seconds: float, task: Task) -> None:
        self.delayed.append((seconds, task))

    def run_next(self) -> float:
        """Run the oldest task; return its delay in seconds."""
        seconds, task = self.delayed.pop(0)
        task()
        return seconds


@dataclass(frozen=True)
class Block:
    """A user who was just blocked, and the delayed tasks of that block."""

    world: World
    services: Services
    administration: Administration
    tasks: DelayedTasks
    user_id: UserId
    identity: str

    def issue(self) -> str:
        """Issue a token, like a request that read the session before the block."""
        token = self.services.communication.issue_token(self.identity, ("chat",), 60).token
        assert self.is_valid(token)
        return token

    def is_valid(self, token: str) -> bool:
        return self.world.azure.check_token(token)["valid"] is True


@pytest.fixture
def block(world: World, services: Services, mapped_user: Person) -> Block:
    tasks = DelayedTasks()
    administration = replace(services.administration, background=tasks)
    user_id = UserId(mapped_user.account.tenant_id, mapped_user.account.object_id)
    administration.block(SYSTEM, user_id)
    return Block(world, services, administration, tasks, user_id, world.identity_of(mapped_user))


def test_both_sweeps_revoke_tokens_issued_before_them(block: Block) -> None:
    """The second sweep runs when no request from before the block can still be in progress."""
    delays = []
    for _ in range(2):
        token = block.issue()
        delays.append(block.tasks.run_next())
        assert not block.is_valid(token)
    assert block.tasks.delayed == []
    assert delays[0] <= 3
    assert delays[1] > REQUEST_SECONDS


def test_sweeps_revoke_nothing_after_an_unblock(block: Block) -> None:
    block.administration.unblock(SYSTEM, block.user_id)
    token = block.issue()
    for _ in range(2):
        block.tasks.run_next()
    assert block.is_valid(token)


@pytest.mark.parametrize("failures", [1, 4, 5])
def test_failed_sweep_is_retried_four_times(block: Block, failures: int) -> None:
    block.tasks.delayed.pop()
    token = block.issue()
    block.world.azure.plant_fault("acs", "revoke", "status", times=None, about=block.identity)
    for _ in range(failures):
        block.tasks.run_next()
        assert block.is_valid(token)
    block.world.azure.clear_faults()
    if failures < 5:
        assert block.tasks.run_next() >= 2
        assert not block.is_valid(token)
    assert block.tasks.delayed == []


def test_other_instances_finish_interrupted_blocks(
    world: World, services: Services, mapped_user: Person
) -> None:
    token, user_id = mapped_user.get_token(), UserId.parse_key(mapped_user.key, ())
    services.repair.finish_blocks()
    services.identities.block(user_id, "")  # and here the process dies
    services.repair.finish_blocks()
    assert mapped_user.is_signed_in(), "it may be in progress"
    services.repair.finish_blocks(in_progress=0.0)
    assert not mapped_user.is_signed_in()
    assert world.azure.check_token(token)["valid"] is False
    assert world.list_rows(mapped_user)[0]["Blocking"] is False
    (event,) = services.audit.all(AuditQuery(action="block", target=user_id))
    assert (event.actor, event.outcome) == (SYSTEM, "done")


def test_one_process_takes_over_each_block(settings: dict[str, str], storage_proxy: StorageProxy) -> None:
    """A process that starts takes over all, even if the storage fails at first."""
    table, user_id = new_table(settings), UserId(str(uuid.uuid4()), str(uuid.uuid4()))
    started, first, second = OpenBlocks(table), OpenBlocks(table), OpenBlocks(table)
    assert list(first.claim()) == list(second.claim()) == []
    started.add(user_id)
    storage_proxy.plant(Fault(kind="status", method="GET"))
    with pytest.raises(UpstreamUnavailable):
        next(started.claim())
    storage_proxy.clear()
    assert [claimed for claimed, _ in started.claim()] == [user_id]
    assert list(first.claim(0.1)) == list(second.claim(0.1)) == []
    time.sleep(0.1)
    assert [len(list(other.claim(0.1))) for other in (first, second)] == [1, 0]
    started.add(user_id)
    ((_, version),) = OpenBlocks(table).claim()
    started.add(user_id)
    started.remove(user_id, version=version)
    assert list(table.query()), "the row of a later block stays"
