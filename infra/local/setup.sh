#!/bin/sh
# Find Python 3.11 ($PYTHON, else python3.11, else python3) and hand over to setup.py.
set -eu
cd "$(dirname "$0")/../.."
for python in ${PYTHON:+"$PYTHON"} ${PYTHON:-python3.11 python3}; do
    if "$python" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null; then
        exec "$python" -m infra.local.setup
    fi
done
echo "${PYTHON:-python3.11} is not a Python 3.11: install Python 3.11, or name one, as in PYTHON=/path/to/python3.11 make setup." >&2
exit 2
