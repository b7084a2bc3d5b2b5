"""The documents: their links lead somewhere, their commands exist, their sentences are short."""

import re
from pathlib import Path

import pytest
from conftest import ROOT

FOLDERS = ("", "docs", "results", "benchmarks")
DOCUMENTS = sorted(path for folder in FOLDERS for path in (ROOT / folder).glob("*.md"))
LONGEST = 32  # words of a sentence
GONE = ("engine/", "train_bbn.py", "benchmarks/control.py", "benchmarks/common.py", "flags.number")


def prose(text: str) -> str:
    """The text without code, tables, headings and what commands have written."""
    text = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    text = re.sub(r"<!-- (.*?): written by.*?<!-- end of \1 -->", "", text, flags=re.DOTALL)
    lines = (line for line in text.splitlines() if not line.lstrip().startswith(("|", "#", "<!--", "    ", "![")))
    return "\n".join(line if line.strip() else "." for line in lines)


def anchors(text: str) -> set[str]:
    titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


def test_the_readme_is_read_in_a_few_minutes():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 180


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_to_files_and_headings(path):
    for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text()):
        if "://" in target:
            continue
        file, _, anchor = target.partition("#")
        place = path.parent / file if file else path
        assert place.exists(), target
        assert not anchor or anchor in anchors(place.read_text()), target


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_commands_and_modules_exist(path):
    text = path.read_text()
    for name in re.findall(r"python3? ([\w/]+\.py)", text):
        assert (ROOT / name).exists(), name
    for name in re.findall(r"python -m ((?:data|tricks)\.\w+)", text):
        assert (ROOT / f"{name.replace('.', '/')}.py").exists(), name
    if path.name != "peers.md":  # it names other repositories' files, too
        for name in re.findall(
            r"`((?:tests|benchmarks|data|models|losses|training|inference|predictions)/[\w/]+\.py)`", text
        ):
            assert (ROOT / name).exists(), name
        assert not [name for name in GONE if name in text]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_sentences_are_short(path):
    sentences = re.split(r"(?<=[.!?:;])\s+", prose(path.read_text()).replace("\n", " "))
    assert [sentence for sentence in sentences if len(sentence.split()) > LONGEST] == []


def test_every_page_is_found_from_the_readme_or_the_results():
    start = "".join((ROOT / name).read_text() for name in ("README.md", "RESULTS.md"))
    for folder in ("docs", "results"):
        for path in (ROOT / folder).glob("*.md"):
            assert f"({folder}/{path.name}" in start, path
    assert Path(ROOT / "docs/report.jpg").exists()
