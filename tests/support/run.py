"""Starts the program behind `make run`, as a shell would."""

import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import psutil

from tests.support.settings import UNMEASURED

START_SECONDS = 60
STOP_SECONDS = 30


@dataclass(frozen=True, kw_only=True)
class Run:
    """One `python -m local_azure.run`, in a process group of its own as a shell would start it."""

    process: subprocess.Popen[bytes]
    port: int
    output_file: Path

    @classmethod
    def start(
        cls,
        port: int,
        data: Path,
        *arguments: str,
        output_file: Path,
        settings: Mapping[str, str] | None = None,
    ) -> Self:
        """Start one on `port`, with `settings` in its environment beside our own."""
        with output_file.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "local_azure.run", "--data", str(data), *arguments],
                env=os.environ | UNMEASURED | {"PORT": str(port)} | dict(settings or {}),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return cls(process=process, port=port, output_file=output_file)

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(STOP_SECONDS)

    @property
    def output(self) -> str:
        return self.output_file.read_text(encoding="utf-8")

    @property
    def examples_url(self) -> str:
        """The address of the examples, as printed."""
        (line,) = (line for line in self.output.splitlines() if line.startswith("Examples: "))
        return line.split()[1]

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while "Ctrl-C stops everything." not in self.output:
            assert self.process.poll() is None, self.output
            assert time.monotonic() < deadline, self.output
            time.sleep(0.05)

    def descendants(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def find(self, module: str) -> psutil.Process:
        """Return the child that was started as `python -m <module>`."""
        children = psutil.Process(self.process.pid).children()
        return next(child for child in children if child.cmdline()[1:3] == ["-m", module])
