"""Plants defects in the access rules, one at a time, and reports those that no test catches.

`make mutate ARGS="--sample 20 --seed 1"`. Each mutant is written to a copy of the tree, where the tests that
belong to its file run until the first failure. Log calls, annotations and strings are not mutated.
"""

import argparse
import ast
import json
import os
import random
import shutil
import signal
import subprocess  # nosec B404 # our own programs, never through a shell
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parents[1]
TIMEOUT = "timeout"
CAUGHT = ("caught", TIMEOUT)

RACES = "tests/users/test_overlapping_actions.py tests/faults/test_admin_races.py tests/faults/test_races.py"
TESTS = {
    "trusted_service/access/": ("tests/access", "tests/cli tests/users", RACES),
    "trusted_service/users/administration.py": ("tests/users", "tests/web/test_audit.py tests/cli", RACES),
    "trusted_service/entra/": ("tests/entra", "tests/faults/test_sign_in_faults.py"),
    "trusted_service/web/security/": ("tests/web", "tests/entra"),
}
"""Groups of tests for each part of the rules. The first group catches most mutants."""

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
    for node in ast.walk(tree):
        match node:
            case ast.Compare(ops=[operator]):
                other = COMPARISONS[type(operator)]
                yield node, f"-> {other.__name__}", partial(setattr, node, "ops", [other()])
            case ast.BoolOp():
                swapped = ast.Or() if isinstance(node.op, ast.And) else ast.And()
                yield node, f"-> {type(swapped).__name__}", partial(setattr, node, "op", swapped)
            case ast.Constant(value=bool() | int() | float() as value):
                for changed in [not value] if isinstance(value, bool) else [value + 1, value - 1]:
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


def _is_call(statement: ast.AST) -> bool:
    """Whether the statement is a call made for its effect, other than logging."""
    if not isinstance(statement, ast.Expr) or not isinstance(statement.value, ast.Call):
        return False
    return not ast.unparse(statement.value.func).startswith(("log.", "_log.", "logger."))


def list_mutants() -> list[Mutant]:
    """Return every mutant of the rules."""
    files = [
        path
        for part in TESTS
        for path in ([ROOT / part] if part.endswith(".py") else (ROOT / part).rglob("*.py"))
    ]
    if missing := [str(path) for path in files if not path.exists()]:
        raise SystemExit(f"tools/mutate.py names files that do not exist: {missing}")
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
    """Copy the files that git tracks or would add; link installed packages."""
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


def run_tests(folder: Path, file: str, processes: int, seconds: float) -> str:
    """Run the tests of a file, group by group, until one fails: "caught", "survived" or "timeout"."""
    (groups,) = (groups for part, groups in TESTS.items() if file.startswith(part))
    ends = time.monotonic() + seconds
    for tests in groups:
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider"]
        command += ["-n", str(processes), "--dist", "loadfile", *tests.split()]
        process = subprocess.Popen(  # nosec B603 # our own arguments
            command,
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            output, _ = process.communicate(timeout=max(1.0, ends - time.monotonic()))
        except subprocess.TimeoutExpired:
            return TIMEOUT
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        if process.returncode in (4, 5):
            raise SystemExit(output[-2000:])  # no tests, or wrong arguments: no mutant could cause that
        if process.returncode != os.EX_OK:
            return "caught"
    return "survived"


def run(mutants: Sequence[Mutant], processes: int, seconds: float, console: Console) -> list[Result]:
    """Test each mutant in a copy of the tree; exits if the tests fail without one."""
    results: list[Result] = []
    with tempfile.TemporaryDirectory(prefix="mutate-") as name:
        folder = Path(name)
        copy_tree(folder)
        for part in TESTS:
            if any(mutant.file.startswith(part) for mutant in mutants):
                outcome = run_tests(folder, part, processes, seconds)
                if outcome != "survived":
                    raise SystemExit(f"The tests of {part} fail without a mutant: {outcome}.")
        for mutant in mutants:
            path, begin = folder / mutant.file, time.monotonic()
            source = path.read_text(encoding="utf-8")
            path.write_text(mutate(source, mutant.number), encoding="utf-8")
            outcome = run_tests(folder, mutant.file, processes, seconds)
            path.write_text(source, encoding="utf-8")
            results.append(Result(mutant=mutant, outcome=outcome, seconds=round(time.monotonic() - begin, 1)))
            console.print(
                f"{outcome:9} {results[-1].seconds:6.1f} s  {mutant.file}:{mutant.line} {mutant.change}"
            )
    return results


def main() -> None:
    """Read the arguments, run, print the survivors, and write all results as JSON."""
    parser = argparse.ArgumentParser(prog="python -m tools.mutate", description=__doc__)
    parser.add_argument("--sample", type=int, default=20, help="number of mutants (default 20; 0 for all)")
    parser.add_argument("--seed", default="1", help="chooses the sample (default 1)")
    parser.add_argument("--only", default="", help="only files whose path contains this")
    parser.add_argument("--seconds", type=float, default=400.0, help="limit for one mutant (default 400)")
    parser.add_argument("--processes", type=int, default=2, help="of pytest (default 2)")
    parser.add_argument(
        "--json", type=Path, default=Path("mutants.json"), help="results (default mutants.json)"
    )
    arguments = parser.parse_args()
    console = Console(width=140)
    mutants = [mutant for mutant in list_mutants() if arguments.only in mutant.file]
    console.print(f"{len(mutants)} possible mutants")
    if 0 < arguments.sample < len(mutants):
        mutants = random.Random(arguments.seed).sample(mutants, arguments.sample)  # noqa: S311 # nosec B311
    results = run(mutants, arguments.processes, arguments.seconds, console)
    arguments.json.write_text(json.dumps([asdict(result) for result in results], indent=1), encoding="utf-8")
    survivors = Table("survived", "line", "change", box=None)
    for mutant in (result.mutant for result in results if result.outcome not in CAUGHT):
        survivors.add_row(mutant.file, str(mutant.line), mutant.change)
    console.print(survivors)
    caught = sum(result.outcome in CAUGHT for result in results)
    console.print(f"{caught} of {len(results)} caught ({100 * caught / max(len(results), 1):.1f} %)")


if __name__ == "__main__":
    main()
