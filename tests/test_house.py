"""How the code is laid out: which room imports which, sizes of rooms, files and functions, what a help text loads."""

import ast
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from conftest import ROOT

LEVELS = [  # a room imports from lower levels, and from its own only what SAME_LEVEL names
    {"scripts", "tricks"},
    {"training", "inference", "predictions", "report_page"},
    {"models", "losses", "data", "recipes"},
    {"catalogues"},
    {"common", "drawings"},
]
SAME_LEVEL = {
    ("scripts", "scripts"),  # control.py calls the training scripts
    ("training", "predictions"),  # error rates
    ("inference", "predictions"),  # prediction files
    ("report_page", "predictions"),
    ("report_page", "inference"),  # the sheets of DCL and LIO
    ("drawings", "common"),
}
LIMITS = {"room": 0.25, "file": 300, "function": 40}  # share of all lines; lines; lines


def listed() -> list[Path]:
    done = subprocess.run(["git", "ls-files", "*.py"], cwd=ROOT, capture_output=True, text=True, check=True)
    paths = [Path(line) for line in done.stdout.splitlines()]
    return [path for path in paths if path.parts[0] not in ("tests", "benchmarks") and (ROOT / path).exists()]


FILES = listed()
TREES = {path: ast.parse((ROOT / path).read_text(encoding="utf-8")) for path in FILES}
ROOMS = {path.parts[0] for path in FILES if len(path.parts) > 1}
SCRIPTS = [path for path in FILES if '__name__ == "__main__"' in (ROOT / path).read_text(encoding="utf-8")]


def room(path: Path) -> str:
    if len(path.parts) > 1:
        return path.parts[0]
    return "recipes" if path.name == "recipes.py" else "scripts"


def imported(tree: ast.AST) -> set[str]:
    """First names of all imports, wherever they stand; those for type checkers alone are left out."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING":
            node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names.add(node.module.partition(".")[0])
    return names


def arrows() -> set[tuple[str, str]]:
    own = ROOMS | {path.stem for path in FILES if len(path.parts) == 1}
    targets = {name: name if name in ROOMS or name == "recipes" else "scripts" for name in own}
    found = {(room(path), targets[name]) for path, tree in TREES.items() for name in imported(tree) & own}
    return {(here, there) for here, there in found if here != there or here == "scripts"}


def test_imports_run_one_way():
    """models, losses and data never import each other, nor training and inference, nor anything what stands above."""
    level = {name: place for place, names in enumerate(LEVELS) for name in names}
    assert set(level) >= ROOMS
    wrong = {arrow for arrow in arrows() if level[arrow[0]] >= level[arrow[1]]} - SAME_LEVEL
    assert not wrong


def test_no_rooms_import_each_other_in_a_circle():
    left = {arrow for arrow in arrows() if arrow[0] != arrow[1]}
    while True:
        ends = {there for _, there in left} - {here for here, _ in left}
        if not ends:
            break
        left = {arrow for arrow in left if arrow[1] not in ends}
    assert not left


def test_no_room_holds_more_than_a_quarter_of_the_code():
    lines = Counter()
    for path in FILES:
        lines[room(path)] += len((ROOT / path).read_text(encoding="utf-8").splitlines())
    total = sum(lines.values())
    assert {name: count / total for name, count in lines.items() if count > LIMITS["room"] * total} == {}


@pytest.mark.parametrize("path", FILES, ids=str)
def test_files_and_functions_fit_on_a_few_screens(path):
    assert len((ROOT / path).read_text(encoding="utf-8").splitlines()) <= LIMITS["file"]
    functions = [node for node in ast.walk(TREES[path]) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    lengths = {node.name: node.end_lineno - node.lineno + 1 for node in functions}
    assert {name: length for name, length in lengths.items() if length > LIMITS["function"]} == {}


@pytest.mark.parametrize("path", [path for path in SCRIPTS if len(path.parts) == 1], ids=str)
def test_a_script_is_a_short_story(path):
    assert len((ROOT / path).read_text(encoding="utf-8").splitlines()) <= 150
    names = [node.name for node in TREES[path].body if isinstance(node, ast.FunctionDef)]
    assert names[-1] == "main"


@pytest.mark.parametrize("path", SCRIPTS, ids=str)
def test_a_help_text_needs_neither_torch_nor_the_packages_of_networks(path):
    name = ".".join(path.with_suffix("").parts)
    code = f"""
import runpy, sys
sys.argv = [{name!r}, "--help"]
try:
    runpy.run_module({name!r}, run_name="__main__")
except SystemExit:
    pass
heavy = {{"torch", "torchvision", "pretrainedmodels", "efficientnet_pytorch", "onnx", "sklearn", "scipy", "numba"}}
print(sorted(heavy & set(sys.modules)), file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.startswith("usage: ") or path.name == "control.py", done.stderr
    assert done.stderr.splitlines()[-1] == "[]", done.stderr
