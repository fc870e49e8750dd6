"""A pytest plugin that prints tables of outcomes from all processes at the end of a run."""

from collections.abc import Callable, Iterable, Iterator

import pytest

RecordCell = Callable[[str, str, str, str], None]
"""Takes table, row, column and outcome."""
Cell = tuple[str, str, str, str]
"""Table, row, column and outcome."""

PROPERTY = "cell"
FAILED = "FAIL"


def cells_of(report: pytest.TestReport) -> Iterator[Cell]:
    """Yield the cells of a test; those of a failed test say FAIL."""
    for name, value in report.user_properties:
        if name == PROPERTY and isinstance(value, (list, tuple)):
            table, row, column, outcome = map(str, value)
            yield table, row, column, FAILED if report.failed else outcome


def render(cells: Iterable[Cell]) -> Iterator[str]:
    """Yield Markdown tables, in the order of their cells; `·` where a row has no such column."""
    tables: dict[str, dict[str, dict[str, str]]] = {}
    for name, row, column, outcome in cells:
        tables.setdefault(name, {}).setdefault(row, {})[column] = outcome
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
def record_cell(record_property: Callable[[str, object], None]) -> RecordCell:
    """Record an outcome for a table that is printed when all tests have run."""
    return lambda *cell: record_property(PROPERTY, cell)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reports = [
        report
        for outcome in ("passed", "failed")
        for report in terminalreporter.getreports(outcome)
        if isinstance(report, pytest.TestReport)
    ]
    reports.sort(key=lambda report: report.nodeid.split("[")[0])
    for line in render(cell for report in reports for cell in cells_of(report)):
        terminalreporter.write_line(line)
