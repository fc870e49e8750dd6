"""Tables of outcomes that a test run prints at its end, whichever process noted their cells.

A plugin of pytest, named in pyproject.toml.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import pytest

NoteCell = Callable[[str, str, str, str], None]
"""Notes table, row, column and outcome."""

PROPERTY = "cell"
FAILED = "FAIL"


@dataclass(frozen=True)
class Cell:
    """One outcome. Tables, rows and columns stand in the order in which they first come."""

    table: str
    row: str
    column: str
    outcome: str


def cells_of(properties: Iterable[tuple[str, object]], *, failed: bool) -> Iterator[Cell]:
    """The cells that a test noted; of one that failed, none went as it should."""
    for name, value in properties:
        if name == PROPERTY and isinstance(value, (list, tuple)):
            table, row, column, outcome = map(str, value)
            yield Cell(table, row, column, FAILED if failed else outcome)


def render(cells: Iterable[Cell]) -> Iterator[str]:
    """Markdown tables, a cell for each row and column; `·` where a column does not apply."""
    tables: dict[str, dict[str, dict[str, str]]] = {}
    for cell in cells:
        tables.setdefault(cell.table, {}).setdefault(cell.row, {})[cell.column] = cell.outcome
    for table, rows in tables.items():
        columns = list(dict.fromkeys(column for outcomes in rows.values() for column in outcomes))
        lines = [[table, *columns]]
        lines += [[row, *(outcomes.get(column, "·") for column in columns)] for row, outcomes in rows.items()]
        widths = [max(len(line[place]) for line in lines) for place in range(len(lines[0]))]
        lines.insert(1, ["-" * width for width in widths])
        yield ""
        for line in lines:
            padded = (text.ljust(width) for text, width in zip(line, widths, strict=True))
            yield f"| {' | '.join(padded)} |"


@pytest.fixture
def note_cell(record_property: Callable[[str, object], None]) -> NoteCell:
    """Note an outcome for a table that is printed when all tests have run."""

    def note(table: str, row: str, column: str, outcome: str) -> None:
        record_property(PROPERTY, (table, row, column, outcome))

    return note


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the tables to which tests have noted their outcomes."""
    reports = [
        report
        for outcome in ("passed", "failed")
        for report in terminalreporter.getreports(outcome)
        if isinstance(report, pytest.TestReport)
    ]
    reports.sort(key=lambda report: report.nodeid.split("[")[0])
    for line in render(
        cell for report in reports for cell in cells_of(report.user_properties, failed=report.failed)
    ):
        terminalreporter.write_line(line)
