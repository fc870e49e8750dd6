#!/bin/sh
# Runs the tests and reports how much of the service they run. Arguments go to pytest.
# The exit code is that of the tests, whatever becomes of the report.

coverage() { .venv/bin/python -m coverage "$@"; }

coverage erase
coverage run -m pytest "$@"
status=$?
# Each process that the tests started left a file of its own.
coverage combine --quiet
coverage report
exit $status
