"""No line of this project runs, unpacks or fetches what a stranger wrote: every source file is looked through."""

import ast
import re

import pytest
from conftest import ROOT

OTHERS = {".venv", "demo", "runs", "preds"}  # none of this project's source lies there
FILES = [path for path in sorted(ROOT.rglob("*")) if not OTHERS & set(path.relative_to(ROOT).parts)]
PYTHON = [path for path in FILES if path.suffix == ".py" and "tests" not in path.relative_to(ROOT).parts]
SHELL = [path for path in FILES if path.suffix == ".sh" or path == ROOT / ".ci/run"]

LOADERS = {"pickle", "cPickle", "_pickle", "marshal", "shelve", "dill", "joblib", "cloudpickle"}
NEVER = {"eval", "exec", "compile", "__import__", "os.system", "os.popen", "subprocess.getoutput", "tempfile.mktemp"}
NEVER |= {"shutil.unpack_archive", "yaml.load", "yaml.unsafe_load", "pandas.read_pickle", "torch.hub.load"}
NEVER |= {"torch.hub.download_url_to_file", "torch.hub.load_state_dict_from_url"}  # which follow to http://
NEVER |= {"urllib.request.urlopen", "request.urlopen", "urllib.request.urlretrieve", "request.urlretrieve"}
UNPACKING = {"extract", "extractall", "unpack_archive"}
NEEDED = {"torch.load": ("weights_only", True)}  # a call by this name needs this argument, written out
NEEDED |= dict.fromkeys(["np.load", "numpy.load", "np.lib.format.read_array"], ("allow_pickle", False))
FORBIDDEN = [("verify", False), ("allow_pickle", True), ("weights_only", False), ("trust_repo", True)]
MARKUP = re.compile(r"<(html|body|table|td|h1|img|script)\b")
ESCAPES = re.compile(r"\bhtml\.escape\(|\bautoescape=True\b|^from html import escape$", re.MULTILINE)


def called(node: ast.Call) -> str:
    """The dotted name of what is called, "" where it is none."""
    return ast.unparse(node.func) if isinstance(node.func, ast.Name | ast.Attribute) else ""


def bad_import(node: ast.Import | ast.ImportFrom) -> str:
    module = getattr(node, "module", None)
    for alias in node.names:
        if {(module or alias.name).partition(".")[0]} & LOADERS:
            return f"imports {module or alias.name}"
        if f"{module}.{alias.name}" in NEVER | NEEDED.keys():
            return f"imports {module}.{alias.name}, which its bare name hides"
    return ""


def bad_call(node: ast.Call) -> str:
    function, given = called(node), {word.arg: ast.unparse(word.value) for word in node.keywords}
    if function in NEVER or function.rpartition(".")[2] in UNPACKING:
        return f"calls {function}"
    if function in NEEDED and given.get(NEEDED[function][0]) != str(NEEDED[function][1]):
        return f"calls {function} without {'='.join(map(str, NEEDED[function]))}"
    if given.get("shell", "False") != "False":
        return f"passes shell={given['shell']}"
    return next((f"passes {key}={value}" for key, value in FORBIDDEN if given.get(key) == str(value)), "")


def violations(source: str, name: str) -> list[str]:
    """`name:line: what` of every line that must not be."""
    found = []
    for node in ast.walk(ast.parse(source)):
        what = ""
        if isinstance(node, ast.Import | ast.ImportFrom):
            what = bad_import(node)
        elif isinstance(node, ast.Call):
            what = bad_call(node)
        if what:
            found.append(f"{name}:{node.lineno}: {what}")
    for number, line in enumerate(source.splitlines(), 1):
        licence = line.lstrip().startswith("#") and "licen" in line.lower()
        if "http://" in line and not licence:
            found.append(f"{name}:{number}: an address that is not encrypted")
        if MARKUP.search(line) and not ESCAPES.search(source):
            found.append(f"{name}:{number}: a page, whose names nobody escapes")
    return found


def shell_violations(source: str, name: str) -> list[str]:
    bad = re.compile(
        r"\beval\b|http://|\bcurl\b|\bwget\b|\bunzip\b|\btar\s+-?x|--trusted-host|--no-check|--insecure|/tmp/"
    )
    lines = enumerate(source.splitlines(), 1)
    return [f"{name}:{number}: {found[0]}" for number, line in lines if (found := bad.search(line.partition("# ")[0]))]


@pytest.mark.parametrize("path", PYTHON, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_source_file_runs_unpacks_or_fetches_what_a_stranger_wrote(path):
    assert not violations(path.read_text(encoding="utf-8"), str(path.relative_to(ROOT)))


@pytest.mark.parametrize("path", SHELL, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_shell_script_does_either(path):
    assert not shell_violations(path.read_text(encoding="utf-8"), str(path.relative_to(ROOT)))


def test_all_files_are_looked_at():
    names = {str(path.relative_to(ROOT)) for path in PYTHON}
    assert {
        "train.py",
        "models/checkpoint.py",
        "models/weights.py",
        "catalogues/formats/grocery.py",
        "benchmarks/run.py",
    } <= names
    assert {path.name for path in SHELL} >= {"setup.sh", "reproduce_paper.sh", "run.sh"}


@pytest.mark.parametrize(
    "snippet",
    [
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "torch.load(path, weights_only=safe)",
        "from torch import load",
        "np.load(path)",
        "np.load(path, allow_pickle=True)",
        "numpy.load(path, mmap_mode='r')",
        "np.lib.format.read_array(file)",
        "np.lib.format.read_array(file, allow_pickle=True)",
        "np.save(path, rows, allow_pickle=True)",
        "import pickle",
        "import pickle as p",
        "from pickle import loads",
        "import marshal, os",
        "def f():\n    import dill",
        "import joblib.memory",
        "yaml.load(text)",
        "eval(text)",
        "exec(open(path).read())",
        "compile(text, 'x', 'exec')",
        "__import__(name)",
        "os.system('ls')",
        "from os import system",
        "os.popen(command)",
        "subprocess.run(command, shell=True)",
        "subprocess.Popen(command, shell=wanted)",
        "subprocess.getoutput(command)",
        "tarfile.open(path).extractall()",
        "archive.extract(member, folder)",
        "shutil.unpack_archive(path)",
        "tempfile.mktemp()",
        "requests.get(url, verify=False)",
        "urllib.request.urlopen(url)",
        "from urllib.request import urlopen\n\nurlopen(url)",
        "torch.hub.load(repository, name)",
        "torch.hub.download_url_to_file(url, file)",
        'url = "http://example.org/net.pth"',
        "# see http://example.org",
        "page.write(f'<td>{name}</td>')",
        "import html\n\npage = f'<html><body>{name}'",
    ],
)
def test_what_must_not_be_is_found(snippet):
    assert violations(f"\n{snippet}\n", "x.py")[0].startswith("x.py:"), snippet


@pytest.mark.parametrize(
    "snippet",
    [
        "torch.load(path, map_location='cpu', weights_only=True)",
        "np.load(path, mmap_mode='r', allow_pickle=False)",
        "np.fromfile(file)",
        "net.eval()",
        "torch.compile(net)",
        "re.compile(pattern)",
        "subprocess.run(['ls', folder])",
        "subprocess.run(command, shell=False)",
        "json.loads(text)",
        "# Licence: http://www.apache.org/licenses/LICENSE-2.0",
        'url = "https://example.org"',
        "import html\n\npage.write(f'<td>{html.escape(name)}</td>')",
        "jinja2.Environment(autoescape=True).from_string('<td>{{ name }}</td>')",
    ],
)
def test_what_may_be_is_not(snippet):
    assert not violations(f"\n{snippet}\n", "x.py")


@pytest.mark.parametrize(
    "line",
    ['eval "$command"', "curl -sSL https://a.b | sh", "tar xf a.tar", "pip install --trusted-host a", "x=http://a"],
)
def test_what_must_not_be_in_a_shell_script_is_found(line):
    assert shell_violations(f"set -e\n{line}\n", "x.sh") == [f"x.sh:2: {shell_violations(line, 'x')[0][5:]}"]


def test_no_template_lets_a_value_pass_as_markup():
    templates = list((ROOT / "report_page").rglob("*.html"))
    assert ROOT / "report_page/page.html" in templates
    for path in templates:
        assert not re.search(r"\|\s*safe\b|\bautoescape\b", path.read_text()), path
