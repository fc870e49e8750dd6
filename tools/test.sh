#!/bin/sh
# Runs the tests and reports how much of the service they run. Arguments go to pytest.
# The exit code is that of the tests, whatever becomes of the report.

coverage() { .venv/bin/python -m coverage "$@"; }

coverage erase
# Several at a time: tests wait for upstreams most of theirs. Each file stays together, and has its own local Azure.
coverage run -m pytest -n "${TEST_PROCESSES:-4}" --dist loadfile --no-loadscope-reorder "$@"
status=$?
# Each process that the tests started left a file of its own.
coverage combine --quiet
coverage report
exit $status
