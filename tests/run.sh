#!/usr/bin/env bash
# Sets up what is missing, then checks style and runs every test. Arguments go to pytest: tests/run.sh -k ensemble
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
EXTRA=yes source ./setup.sh
"$PYTHON" -m ruff check --quiet .
"$PYTHON" -m ruff format --quiet --check .
# Two processes of one thread each: most of the time goes into starting scripts, which threads do not shorten.
OMP_NUM_THREADS=1 "$PYTHON" -m pytest -n 2 --dist loadfile --no-loadscope-reorder "$@"
