"""Plants defects in the access rules, one at a time, and reports those that no test catches.

`make mutate ARGS="--sample 20 --seed 1"`. Each mutant is written to a copy of the tree, where the tests of
its file run until the first failure. Log calls, annotations, decorators and strings are
not mutated.
"""

import argparse
import ast
import json
import os
import queue
import random
import shutil
import signal
import subprocess  # nosec B404 # our own programs, never through a shell
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parents[1]
TIMEOUT = "timeout"
CAUGHT = ("caught", TIMEOUT)

NARROW = {
    "trusted_service/access/erasure.py": "web/test_account access/test_gone_users",
    "trusted_service/access/identity_switch.py": "access/test_missing_identity access/test_resource_pin",
    "trusted_service/access/new_identities.py": "access/test_provisioning access/test_token_clean_up",
    "trusted_service/access/provisioning.py": "access/test_provisioning access/test_missing_identity",
    "trusted_service/access/replacement_brake.py": "access/test_missing_identity",
    "trusted_service/access/resource_pin.py": "access/test_resource_pin",
    "trusted_service/access/service.py": "access/test_first_token access/test_gone_users web/test_token",
    "trusted_service/access/user_index.py": "users/test_user_index",
    "trusted_service/users/administration.py": "users/test_admin_actions web/test_account",
    "trusted_service/entra/authority.py": "entra/test_bearer_keys entra/test_sign_in",
    "trusted_service/entra/cache.py": "entra/test_cache entra/test_bearer_keys",
    "trusted_service/entra/sign_in.py": "entra/test_sign_in entra/test_callback entra/test_id_token",
    "trusted_service/entra/tokens.py": "entra/test_token_checks entra/test_bearer entra/test_teams",
    "trusted_service/web/security/audiences.py": "web/test_routes",
    "trusted_service/web/security/authentication.py": "web/test_token_refusals web/test_routes",
    "trusted_service/web/security/headers.py": "web/test_security_headers web/test_cors",
    "trusted_service/web/security/rate_limits.py": "web/test_rate_limits",
    "trusted_service/web/security/sign_in_state.py": "entra/test_sign_in_tabs web/test_redirects",
    "trusted_service/web/security/signing.py": "entra/test_sign_in_tabs web/test_session_cookie",
}
"""Test modules that are about a file: they run first, and catch most of its mutants."""

RACES = "tests/users/test_overlapping_actions.py tests/faults/test_admin_races.py tests/faults/test_races.py"
WIDE = {
    "trusted_service/access/": f"tests/access tests/users tests/cli {RACES}",
    "trusted_service/users/administration.py": f"tests/users tests/web/test_audit.py tests/cli {RACES}",
    "trusted_service/entra/": "tests/entra tests/faults/test_sign_in_faults.py",
    "trusted_service/web/security/": "tests/web tests/entra",
}
"""Tests of each part of the rules: they run where the first ones catch nothing."""

MAX_EXACT = 9
"""Larger numbers are sizes and times."""

COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Mutant:
    """A defect: the `number`-th possible change of a file, in the order of `list_changes`."""

    file: str
    number: int
    line: int
    change: str


@dataclass(frozen=True, kw_only=True)
class Result:
    mutant: Mutant
    outcome: str
    seconds: float


Change = tuple[ast.stmt | ast.expr, str, Callable[[], None]]


def list_changes(tree: ast.Module) -> Iterator[Change]:
    """Yield each possible change: its node, what it does, and a function that makes it in the tree."""
    decorators = [each for node in ast.walk(tree) for each in getattr(node, "decorator_list", ())]
    unchanged = {id(part) for decorator in decorators for part in ast.walk(decorator)}
    settings = {id(part) for node in tree.body if isinstance(node, ast.Assign) for part in ast.walk(node)}
    for node in ast.walk(tree):
        if id(node) in unchanged:
            continue
        match node:
            case ast.Compare(ops=[operator]):
                other = COMPARISONS[type(operator)]
                yield node, f"-> {other.__name__}", partial(setattr, node, "ops", [other()])
            case ast.BoolOp():
                swapped = ast.Or() if isinstance(node.op, ast.And) else ast.And()
                yield node, f"-> {type(swapped).__name__}", partial(setattr, node, "op", swapped)
            case ast.Constant(value=bool() | int() | float() as value):
                for changed in _other_values(value, is_setting=id(node) in settings):
                    yield node, f"{value} -> {changed}", partial(setattr, node, "value", changed)
            case ast.If(test=ast.Name(id="TYPE_CHECKING")):
                pass
            case ast.If() | ast.IfExp() | ast.While() if not isinstance(node.test, ast.Compare):
                negated = ast.UnaryOp(ast.Not(), node.test)
                yield node.test, "condition negated", partial(setattr, node, "test", negated)
            case ast.Return(value=ast.expr() as value) if not isinstance(value, ast.Constant):
                yield node, "returns None", partial(setattr, node, "value", ast.Constant(None))
        for name in ("body", "orelse", "finalbody"):
            body: Any = getattr(node, name, None)
            for place, statement in enumerate(body if isinstance(body, list) else ()):
                if isinstance(statement, ast.Raise) or _is_call(statement):
                    text = ast.unparse(statement).partition("(")[0]
                    yield statement, f"{text} removed", partial(body.__setitem__, place, ast.Pass())


def _other_values(value: float, *, is_setting: bool) -> list[float]:
    """Limits and times become 0, because being off by one is no defect in them."""
    if isinstance(value, bool):
        return [not value]
    return [int(not value)] if is_setting or value > MAX_EXACT else [value + 1, value - 1]


def _is_call(statement: ast.AST) -> bool:
    """Whether it is a call that is made for its effect, other than one that logs."""
    if not isinstance(statement, ast.Expr) or not isinstance(statement.value, ast.Call):
        return False
    return not ast.unparse(statement.value.func).startswith(("log.", "_log.", "logger."))


def narrow_tests(file: str) -> list[str]:
    return [f"tests/{name}.py" for name in NARROW.get(file, "").split()]


def list_mutants() -> list[Mutant]:
    """Return every mutant of the rules."""
    files = [
        path
        for part in WIDE
        for path in ([ROOT / part] if part.endswith(".py") else (ROOT / part).rglob("*.py"))
        if path.stat().st_size
    ]
    named = [ROOT / test for file in files for test in narrow_tests(file.relative_to(ROOT).as_posix())]
    if missing := [str(path) for path in named if not path.exists()]:
        raise SystemExit(f"tools/mutate.py names tests that do not exist: {missing}")
    mutants = []
    for path in sorted(files):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for number, (node, change, _) in enumerate(list_changes(tree)):
            name = path.relative_to(ROOT).as_posix()
            mutants.append(Mutant(file=name, number=number, line=node.lineno, change=change))
    return mutants


def mutate(source: str, number: int) -> str:
    """Return the source with its `number`-th change, without comments."""
    tree = ast.parse(source)
    _, _, change = list(list_changes(tree))[number]
    change()
    return ast.unparse(ast.fix_missing_locations(tree))


def copy_tree(folder: Path) -> None:
    """Copy what git knows or would add; installed packages are linked."""
    listed = subprocess.run(  # nosec B603 B607 # our own arguments
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],  # noqa: S607 (the user's git)
        cwd=ROOT, check=True, capture_output=True, text=True,
    )  # fmt: skip
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    packages = [lock.with_name("node_modules") for lock in folder.rglob("package-lock.json")]
    for link in (folder / ".venv", folder / "examples" / "dist", *packages):
        if not link.exists():
            link.symlink_to((ROOT / link.relative_to(folder)).resolve())


def run_tests(folder: Path, file: str, seconds: float) -> str:
    """Run the tests of a file until one fails: "caught", "survived" or "timeout"."""
    (wide,) = (tests for part, tests in WIDE.items() if file.startswith(part))
    ends = time.monotonic() + seconds
    for tests in filter(None, (narrow_tests(file), wide.split())):
        process = subprocess.Popen(  # nosec B603 # our own arguments
            [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests],
            cwd=folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            process.wait(timeout=max(1.0, ends - time.monotonic()))
        except subprocess.TimeoutExpired:
            return TIMEOUT
        finally:
            stop(process)
        if process.returncode != os.EX_OK:
            return "caught"
    return "survived"


def stop(process: subprocess.Popen[bytes]) -> None:
    """Stop pytest, which then stops the processes that its tests started."""
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def run_mutant(copies: "queue.SimpleQueue[Path]", mutant: Mutant, seconds: float) -> Result:
    """Plant a mutant in a copy of the tree that no other mutant uses, and run its tests there."""
    folder = copies.get()
    path, begin = folder / mutant.file, time.monotonic()
    source = path.read_text(encoding="utf-8")
    try:
        path.write_text(mutate(source, mutant.number), encoding="utf-8")
        outcome = run_tests(folder, mutant.file, seconds)
    finally:
        path.write_text(source, encoding="utf-8")
        copies.put(folder)
    return Result(mutant=mutant, outcome=outcome, seconds=round(time.monotonic() - begin, 1))


def run(mutants: Sequence[Mutant], processes: int, console: Console) -> list[Result]:
    """Test each mutant; exits where the tests fail without one. A mutant may take thrice as long as none."""
    with tempfile.TemporaryDirectory(prefix="mutate-") as name, ThreadPoolExecutor(processes) as pool:
        copies: queue.SimpleQueue[Path] = queue.SimpleQueue()
        for number in range(processes):
            copy_tree(folder := Path(name, str(number)))
            copies.put(folder)
        parts = [part for part in WIDE if any(mutant.file.startswith(part) for mutant in mutants)]
        begin = time.monotonic()
        for part, outcome in zip(
            parts, pool.map(lambda part: run_tests(folder, part, 3600), parts), strict=True
        ):
            if outcome != "survived":
                raise SystemExit(f"The tests of {part} fail without a mutant.")
        seconds = 3 * (time.monotonic() - begin)
        results = []
        for result in pool.map(partial(run_mutant, copies, seconds=seconds), mutants):
            results.append(result)
            mutant = result.mutant
            console.print(
                f"{result.outcome:9} {result.seconds:6.1f} s  {mutant.file}:{mutant.line} {mutant.change}"
            )
    return results


def main() -> None:
    """Read the arguments, run, print the survivors, and write all results as JSON."""
    parser = argparse.ArgumentParser(prog="python -m tools.mutate", description=__doc__)
    parser.add_argument("--sample", type=int, default=20, help="number of mutants (default 20; 0 for all)")
    parser.add_argument("--seed", default="1", help="chooses the sample (default 1)")
    parser.add_argument("--only", default="", help="only files whose path contains this")
    parser.add_argument("--processes", type=int, default=2, help="mutants side by side (default 2)")
    parser.add_argument(
        "--json", type=Path, default=Path("mutants.json"), help="results (default mutants.json)"
    )
    arguments = parser.parse_args()
    console = Console(width=140)
    mutants = [mutant for mutant in list_mutants() if arguments.only in mutant.file]
    console.print(f"{len(mutants)} possible mutants")
    if 0 < arguments.sample < len(mutants):
        mutants = random.Random(arguments.seed).sample(mutants, arguments.sample)  # noqa: S311 # nosec B311
    results = run(mutants, arguments.processes, console)
    arguments.json.write_text(json.dumps([asdict(result) for result in results], indent=1), encoding="utf-8")
    survivors = Table("survived", "line", "change", box=None)
    for mutant in (result.mutant for result in results if result.outcome not in CAUGHT):
        survivors.add_row(mutant.file, str(mutant.line), mutant.change)
    console.print(survivors)
    caught = sum(result.outcome in CAUGHT for result in results)
    console.print(f"{caught} of {len(results)} caught ({100 * caught / max(len(results), 1):.1f} %)")


if __name__ == "__main__":
    main()
