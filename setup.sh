# Sourced by reproduce_paper.sh and tests/run.sh: leaves an interpreter that has requirements.txt in $PYTHON. With
# EXTRA=yes it has requirements-extra.txt too.
#
# $PYTHON if you set it, else an active virtual environment or conda, else .venv beside this file, made if missing.
# What is done is remembered in the environment itself, by the hash of requirements.txt, and not done again.

house=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

fail() {
    echo "error: $*" >&2
    exit 2
}

if [ -n "${PYTHON:-}" ]; then
    :
elif [ -n "${VIRTUAL_ENV:-}" ]; then
    PYTHON=$VIRTUAL_ENV/bin/python
elif [ -n "${CONDA_PREFIX:-}" ]; then
    PYTHON=$CONDA_PREFIX/bin/python
else
    PYTHON=$house/.venv/bin/python
    if [ ! -x "$PYTHON" ]; then
        base=$(command -v python3.11 || command -v python3 || true)
        [ -n "$base" ] || fail "no python3 found; install Python 3.11 or set PYTHON=/path/to/python"
        echo "setting up: virtual environment in $house/.venv"
        "$base" -m venv "$house/.venv" || fail "$base cannot make a virtual environment (on Debian: apt install python3-venv)"
    fi
fi
"$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null ||
    fail "$PYTHON is not Python 3.11 or newer; set PYTHON=/path/to/python3.11"

for list in requirements ${EXTRA:+requirements-extra}; do
    stamp=$("$PYTHON" -c 'import sys; print(sys.prefix)')/.product-recognition-$list
    wanted=$(cksum <"$house/$list.txt")
    if [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ]; then
        echo "setting up: packages of $list.txt (a few minutes the first time)"
        "$PYTHON" -m pip install -qq --disable-pip-version-check -r "$house/$list.txt" ||
            fail "packages could not be installed; mend what pip says above and run this again"
        echo "$wanted" >"$stamp" 2>/dev/null || true # a read-only environment is asked again next time
    fi
done
