#!/bin/sh
# Runs the tests and reports how much of the service they run. Arguments go to pytest.
# The exit code is that of the tests; where all of them passed, they also have to run the rules whole.

# Who gets in, who gets a token, and one identity for each: every line, and every way on from it.
rules='trusted_service/access.py,trusted_service/mapping.py'
rules="$rules,trusted_service/web/audience.py,trusted_service/web/bearer.py,trusted_service/web/csrf.py"

coverage() { .venv/bin/python -m coverage "$@"; }

# The tests start hundreds of processes: what one has compiled the others need not compile again.
unset PYTHONDONTWRITEBYTECODE

coverage erase
# Several at a time: tests wait for upstreams most of theirs. Each file stays together, and has its own local Azure.
coverage run -m pytest -n "${TEST_PROCESSES:-4}" --dist loadfile --no-loadscope-reorder "$@"
status=$?
# Each process that the tests started left a file of its own.
coverage combine --quiet
coverage report
if [ $status -eq 0 ] && [ $# -eq 0 ] && ! coverage report --include="$rules" --fail-under=100 >/dev/null; then
    echo "The tests do not run every branch of the rules: $rules" >&2
    status=2
fi
# 1: tests have failed. Nothing else is mended by asking those again, as .ci/run does, so it shall find none.
[ $status -le 1 ] || rm -f .pytest_cache/v/cache/lastfailed
exit $status
