#!/bin/sh
# Prints the first Python that is new enough: the one named as the argument, or else python3 and its versions.
# Plain sh, since there may be no Python to say that there is none.

if [ $# -gt 0 ]; then
    candidates=$1
else
    candidates="python3 python3.14 python3.13 python3.12 python3.11"
fi

for candidate in $candidates; do
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        echo "$candidate"
        exit 0
    fi
done

wanted=${1:-python3}
found=$("$wanted" --version 2>&1) || found="not there"
echo "Python 3.11 or newer is needed, but $wanted is $found: install it, or name one: make PYTHON=/path/to/python3 ..." >&2
exit 1
