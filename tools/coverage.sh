#!/bin/sh
# Runs the tests and reports how much of the service they run. It takes a third longer than `make test`.
# The exit status is pytest's; where all tests passed, it is 2 unless they run every branch of the access rules.

rules='
trusted_service/access/service.py
trusted_service/access/provisioning.py
trusted_service/web/security/audiences.py
trusted_service/web/security/authentication.py
'

for file in $rules; do
    [ -f "$file" ] || { echo "tools/coverage.sh names $file, which does not exist" >&2; exit 2; }
done

coverage() { .venv/bin/python -m coverage "$@"; }

coverage erase
coverage run -m "$@"
status=$?
# Each process that the tests started left a file of its own.
coverage combine --quiet
coverage report
if [ $status -eq 0 ]; then
    # shellcheck disable=SC2086 # one word a file
    include=$(printf '%s,' $rules)
    if ! coverage report --include="$include" --fail-under=100 >/dev/null; then
        echo "The tests do not run every branch of the rules: $include" >&2
        status=2
    fi
fi
exit $status
