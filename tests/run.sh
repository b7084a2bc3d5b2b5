#!/usr/bin/env bash
# Sets up what is missing, then checks style and runs every test. Arguments go to pytest: tests/run.sh -k ensemble
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source ./setup.sh
"$PYTHON" -m ruff check --quiet .
"$PYTHON" -m ruff format --quiet --check .
"$PYTHON" -m pytest "$@"
