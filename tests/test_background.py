"""Background tasks: none that matters is lost to others, or at the end of the process."""

import subprocess
import sys
import threading
from functools import partial

import pytest

from tests.support.concurrency import wait_until
from tests.support.service import ROOT
from trusted_service import background
from trusted_service.background import BackgroundTasks
from trusted_service.errors import UpstreamThrottled, UpstreamUnavailable

SCRIPT = """
import atexit
from trusted_service.background import BackgroundTasks
tasks = BackgroundTasks()
tasks.run(lambda: print("ran"))
atexit.register(lambda: tasks.run(lambda: print("too late")))
"""


def test_task_after_exit_is_dropped_silently() -> None:
    command = [sys.executable, "-c", SCRIPT]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
    assert (done.stdout, done.stderr) == ("ran\n", "")


def test_full_queue_drops_no_timed_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "MAX_PENDING", background.THREADS)
    tasks, finished, runs = BackgroundTasks(), threading.Event(), list[str]()
    for _ in range(background.THREADS):
        tasks.run(finished.wait)
    try:
        tasks.run_every(0.01, partial(runs.append, "periodic"))
        tasks.run_after(0.01, partial(runs.append, "delayed"), retries=(), failed=print)
        wait_until(lambda: runs.count("periodic") > 2 and "delayed" in runs, seconds=5)
    finally:
        finished.set()
        tasks.close()


def test_idle_means_nothing_due_or_running() -> None:
    tasks, started, finished = BackgroundTasks(), threading.Event(), threading.Event()
    assert tasks.is_idle()

    def run() -> None:
        started.set()
        finished.wait(10)

    tasks.run_every(60, run)
    assert started.wait(10)
    assert not tasks.is_idle()
    finished.set()
    wait_until(tasks.is_idle, seconds=5)
    tasks.close()


def test_throttling_uses_up_no_retry() -> None:
    tasks, runs, done = BackgroundTasks(), list[int](), threading.Event()

    def run() -> None:
        runs.append(1)
        if len(runs) < 3:
            raise UpstreamThrottled("Communication Services", "HTTP 429", "0")
        done.set()

    tasks.run_after(0, run, retries=(), failed=lambda reason, retries_left: None)
    assert done.wait(10)
    tasks.close()


def test_close_runs_delayed_tasks() -> None:
    tasks, events = BackgroundTasks(), list[str]()

    def fail() -> None:
        raise UpstreamUnavailable("Table Storage", "busy")

    def failed(reason: str, retries_left: int) -> None:
        events.append(f"{reason}, {retries_left}")

    tasks.run_after(600, partial(events.append, "done"), retries=(), failed=failed)
    tasks.run_after(600, fail, retries=(1, 2), failed=failed)
    tasks.run_after(600, fail, retries=(), failed=failed, early=False)
    tasks.close()
    assert sorted(events) == ["busy, 0", "done", "the process has ended, 0"]
