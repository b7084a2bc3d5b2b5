"""The report: every figure against a slow count of its own, every name as text, and the page in a browser's parser."""

import base64
import csv
import hashlib
import json
import re
import shutil
import sys
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from conftest import write_aliproducts
from PIL import Image
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from sklearn.metrics import balanced_accuracy_score, confusion_matrix

import report
from catalogues import Catalogue, open_catalogue
from predictions.reading import PredictionInfo, open_member
from predictions.writer import write_predictions
from report_page.cells import percent, points
from report_page.class_groups import by_frequency
from report_page.results import read_results
from report_page.statistics import confused_pairs, ensemble_statistics, reliability, worst_mistakes
from report_page.tables import minutes

LABELS = [0, 1, 2, 2]
K, N = 7, 60
ODD_NAME = '<script>alert("1")<script> & $x_1$ | <img src=x onerror=alert(2)>'  # as a file may be called
ODD = '<script>alert("1")</script> & $x_1$ | <img src=x onerror=alert(2)>'


def write(path: Path, rows: np.ndarray, labels, ids=None, classes=None, **facts) -> None:
    n, k = rows.shape
    ids, classes = ids or [f"{place}.jpg" for place in range(n)], classes or [f"product {place}" for place in range(k)]
    arch = facts.pop("arch", "resnet18")
    labels = None if labels is None else list(map(int, labels))
    info = PredictionInfo("val", arch, labels, ids, classes, **facts)
    with write_predictions(path, info, "float32") as file:
        file.append(rows)


@pytest.fixture
def results(tmp_path):
    """Predictions of which the first `wrong` of four photographs are wrong, as reproduce_paper.sh lays them out."""

    def make(name: str, wrong: int, labels=LABELS, **facts) -> None:
        rows = np.eye(3)[LABELS]
        rows[:wrong] = np.roll(rows[:wrong], 1, axis=1)
        write(tmp_path / name, rows.astype(np.float32), labels, list("abcd"), ["x", "y", "z"], **facts)

    make("preds/base/resnet18.npy", 3)
    make("preds/resnet18-balanced.npy", 2)
    make("preds/resnet18-dcl.npy", 1)
    make("preds/resnet50-dcl.npy", 4, arch="resnet50")
    return make


def lines(output: str) -> list[list[str]]:
    """The table that the script prints, cells split at two blanks or more."""
    table = output.split("\n\n")[0]
    return [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in table.splitlines()[1:]]


def test_every_step_has_its_line_and_every_member_its_errors(script, results):
    assert lines(script("report.py").stdout) == [
        ["1 whole set", "20 to 25 %", "resnet18", "75.00", "83.33"],
        ["1b balanced", "9 to 12 %, best 9.78 %", "resnet18", "50.00", "66.67", "-16.67"],
        ["2 DCL", "1 to 2 points better", "resnet18", "25.00", "33.33", "-33.33"],
        ["2 DCL", "resnet50", "100.00", "100.00"],
        ["3 LIO", "(not stated)", "-"],
        ["4 accuracy loss", "0.2 to 0.5 points better", "-"],
        ["4.1 sum", "6.27 %", "sum of 3", "50.00", "66.67", "+33.33"],
    ]


def test_seeds_give_means_and_sample_deviations_and_controls_what_the_step_itself_gave(script, results, tmp_path):
    (tmp_path / "preds/resnet50-dcl.npy").unlink()
    for seed, (before, control, own) in enumerate([(3, 2, 0), (2, 2, 1), (4, 1, 1)]):
        results(f"preds/x/seed-{seed}/resnet18-balanced.npy", before)
        results(f"preds/x/seed-{seed}/resnet18-dcl.npy", own)
        results(f"preds/x/seed-{seed}/control/resnet18-dcl-control.npy", control)
    (tmp_path / "R.md").write_text("<!-- report x: written by report.py -->\n<!-- end of report x -->\n")
    output = script("report.py", "--name", "x", "--markdown", "R.md").stdout
    by_hand = {wrong: balanced_error(wrong) for wrong in range(5)}
    own = np.array([by_hand[0], by_hand[1], by_hand[1]])
    before, control = (np.array([by_hand[w] for w in wrong]) for wrong in ((3, 2, 4), (2, 2, 1)))
    shown = {line[0]: line for line in lines(output)}
    assert shown["2 DCL"][4] == f"{own.mean():.2f} ± {own.std(ddof=1):.2f}"
    change = own - before
    assert shown["2 DCL"][5] == f"{change.mean():.2f} ± {change.std(ddof=1):.2f}"
    row = next(line for line in (tmp_path / "R.md").read_text().splitlines() if line.startswith("| DCL | resnet18 |"))
    rows = [line[2:] for line in lines(output) if line[0] == "4.1 sum"]
    assert [row[0] for row in rows] == ["sum of 2"] and len(rows[0]) == 4
    results("preds/x/seed-0/resnet18-lio.npy", 0)  # a member that the other seeds lack
    rows = {line[2]: line[3:] for line in lines(script("report.py", "--name", "x").stdout) if line[0] == "4.1 sum"}
    assert rows.keys() == {"sum of 2", "sum of 3"} and "±" in rows["sum of 2"][0] and "±" not in rows["sum of 3"][0]
    plain, itself = control - before, own - control
    assert [cell.strip() for cell in row.split("|")[6:9]] == [
        f"{plain.mean():+.2f} ± {plain.std(ddof=1):.2f}",
        f"{itself.mean():+.2f} ± {itself.std(ddof=1):.2f}",
        f"{(itself < 0).sum()} of 3",
    ]


def balanced_error(wrong: int) -> float:
    predicted = [(label - 1) % 3 if place < wrong else label for place, label in enumerate(LABELS)]
    return 100 * (1 - balanced_accuracy_score(LABELS, np.array(predicted) * 1))


def test_a_split_without_labels_has_no_errors_but_a_page(script, results, tmp_path):
    for path in tmp_path.rglob("preds/**/*.npy"):
        results(str(path.relative_to(tmp_path)), 0, labels=None)
    output = script("report.py").stdout
    assert all(line[-1] == "-" for line in lines(output)) and "%" not in output.split("\n\n")[1]
    assert "so no errors are known" in (tmp_path / "report/index.html").read_text()


def test_a_folder_without_results_is_named(script, tmp_path):
    told = script("report.py", "--preds", "elsewhere", code=2).stderr
    assert told.startswith("error: elsewhere: holds no predictions") and told.count("\n") == 1
    assert "expected a name" in script("report.py", "--name", "../x", code=2).stderr
    assert not (tmp_path / "report").exists()


def test_members_about_other_photographs_are_refused(script, results, tmp_path):
    write(tmp_path / "preds/other-lio.npy", np.eye(3, dtype=np.float32)[LABELS], LABELS, list("abcx"), ["x", "y", "z"])
    assert "preds/resnet18-balanced.npy: image_ids" in script("report.py", code=2).stderr
    assert not (tmp_path / "report").exists()


# ---- figures


@pytest.fixture(params=["npy", "npz"])
def seed(tmp_path, request):
    """Four members of random probabilities that lean towards the truth; with five classes kept in the second case."""
    generator = np.random.default_rng(3)
    labels = generator.integers(0, K, N)
    for number in range(4):
        for folder in ("", "centre"):
            rows = generator.dirichlet(np.ones(K), N) + 0.3 * np.eye(K)[labels] * generator.random((N, 1))
            rows = (rows / rows.sum(1, keepdims=True)).astype(np.float32)
            top_k = {"top_k": 5} if request.param == "npz" else {}
            write(tmp_path / "preds" / folder / f"resnet18-m{number}.{request.param}", rows, labels, **top_k)
    return read_results(tmp_path / "runs", tmp_path / "preds")[0]


def all_rows(seed, centre=False) -> dict[str, np.ndarray]:
    found = {}
    for name, network in seed.members.items():
        member = network.one_crop if centre else network.ten_crops
        found[name] = np.concatenate([member.rows(i, i + 1) for i in range(N)]).astype(np.float64)
    return found


def test_what_each_member_adds_is_that_of_a_count_one_photograph_and_one_member_at_a_time(seed, monkeypatch):
    monkeypatch.setattr("report_page.statistics.BLOCK_CELLS", 4 * K * 7)  # several pieces, the last one smaller
    own, rows = ensemble_statistics(seed), all_rows(seed)
    names = list(rows)

    def error(chosen) -> float:
        predicted = [int(np.argmax(sum(rows[name][i] for name in chosen))) for i in range(N)]
        return 1 - balanced_accuracy_score(own.labels, predicted)

    assert own.error(own.predicted) == pytest.approx(error(names))
    assert own.error(own.one_crop) == pytest.approx(
        1 - balanced_accuracy_score(own.labels, sum(all_rows(seed, centre=True).values()).argmax(1))
    )
    for name in names:
        assert own.error(own.by_member[name]) == pytest.approx(error([name]))
        assert own.error(own.without[name]) == pytest.approx(error([other for other in names if other != name]))
    joined = []
    for name, value in own.greedy:
        left = [other for other in names if other not in joined]
        assert value == pytest.approx(min(error([*joined, other]) for other in left))
        joined.append(name)
        assert value == pytest.approx(error(joined))
    assert sorted(joined) == names and own.greedy_photographs == N
    disagreement = own.disagreement()
    for a, one in enumerate(names):
        for b, other in enumerate(names):
            assert disagreement[a, b] == np.mean(own.by_member[one] != own.by_member[other])
    total = sum(rows.values()) / len(rows)
    for i in range(N):
        assert own.top[i].tolist() == sorted(range(K), key=lambda k: -total[i, k])[:5]
        assert own.top_probability[i] == pytest.approx(sorted(total[i])[::-1][:5], abs=1e-6)


def test_the_greedy_order_of_large_files_is_found_on_photographs_from_all_over(seed, monkeypatch):
    monkeypatch.setattr("report_page.statistics.SAMPLE_CELLS", 4 * K * 20)
    assert ensemble_statistics(seed).greedy_photographs == 20


def test_confused_pairs_are_those_of_the_confusion_matrix(seed):
    own = ensemble_statistics(seed)
    matrix = confusion_matrix(own.labels, own.predicted, labels=range(K))
    both = {(a, b): matrix[a, b] + matrix[b, a] for a in range(K) for b in range(a) if matrix[a, b] + matrix[b, a]}
    pairs = confused_pairs(own, 100)
    assert len(pairs) == len(both)
    sizes = [len(pair.there) + len(pair.back) for pair in pairs]
    assert sizes == sorted(both.values(), reverse=True)
    for pair in pairs:
        assert len(pair.there) == matrix[pair.one, pair.other] >= len(pair.back) == matrix[pair.other, pair.one]
        assert (own.labels[pair.there] == pair.one).all() and (own.predicted[pair.there] == pair.other).all()
    worst = worst_mistakes(own, 100)
    assert len(worst) == np.count_nonzero(matrix) - np.count_nonzero(matrix.diagonal())
    assert (np.diff(own.confidence[worst]) <= 0).all()
    for place in worst:
        same = (own.labels == own.labels[place]) & (own.predicted == own.predicted[place])
        assert own.confidence[place] == own.confidence[same].max()


def test_head_middle_and_tail_are_thirds_of_the_classes_by_their_training_photographs():
    counts = np.array([5, 300, 7, 40, 41, 5, 39])
    groups = by_frequency(counts)
    assert [sorted(counts[group.classes]) for group in groups] == [[40, 41, 300], [7, 39], [5, 5]]
    assert [(group.least, group.most) for group in groups] == [(40, 300), (7, 39), (5, 5)]
    assert (sum(group.classes.astype(int) for group in groups) == 1).all()
    labels, predicted = np.array([1, 1, 3, 0]), np.array([1, 2, 3, 1])
    assert groups[0].error(predicted, labels) == pytest.approx(0.25)
    assert groups[1].error(predicted, labels) is None and groups[2].error(predicted, labels) == 1


def test_the_calibration_error_is_that_of_a_loop_over_bins():
    generator = np.random.default_rng(0)
    confidence = np.concatenate([generator.random(500), np.linspace(0, 1, 11)])
    right = generator.random(len(confidence)) < confidence**2
    expected, shares = 0.0, []
    for low in np.linspace(0, 1, 11)[:-1]:
        high = low + 0.1
        mine = (confidence > low + 1e-12) & (confidence <= high + 1e-12) | ((low == 0) & (confidence == 0))
        expected += mine.mean() * abs(right[mine].mean() - confidence[mine].mean())
        shares.append(right[mine].mean())
    found = reliability(confidence, right)
    assert found.error == pytest.approx(expected) and found.right == pytest.approx(shares)


def test_times_are_wholeminutes_and_seconds_below_sixty():
    assert [minutes(seconds) for seconds in (0.2, 59.7, 239.6, 3601)] == [
        "0 min 00 s", "1 min 00 s", "4 min 00 s", "60 min 01 s"
    ]  # fmt: skip


def test_cells_show_means_and_deviations_and_sort_by_the_mean():
    assert percent([0.5, 0.7]) == ("60.00 ± 14.14", pytest.approx(60)) and percent([0.25]).text == "25.00"
    assert [points([x]).text for x in (0.01, -0.01, -1e-9)] == ["+1.00", "-1.00", "+0.00"] and percent([]).text == ""


# ---- the page


class Reader(HTMLParser):
    """What a browser makes of a page: its elements with their attributes, and its text."""

    def __init__(self, page: str):
        super().__init__()
        self.elements: list[tuple[str, dict]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.text += data


def write_run(folder: Path, **settings) -> None:
    folder.mkdir(parents=True)
    facts = {"script": "train.py", "device": "cpu (2 cores), bf16, channels_last", "versions": {"torch": "2.13.0"}}
    (folder / "run.json").write_text(json.dumps(facts | {"settings": {"arch": "resnet18", "seed": 0} | settings}))
    rows = [
        {"epoch": e, "lr": 0.1, "train_loss": 3 / e, "val_top1_error": 0.5, "val_mean_class_error": 0.9 / e,
         "images_per_second": 50.0, "seconds": 30.0}
        for e in (1, 2, 3)
    ]  # fmt: skip
    with open(folder / "log.csv", "w", newline="") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows(rows)


def make_shop(folder: Path) -> Catalogue:
    """A catalogue with odd names, predictions of all steps for it, and runs."""
    root = write_aliproducts(folder / "catalogue", counts=(9, 6, 3), val=4)
    for split in ("train", "val"):  # as class folders, whose names are the classes'
        for number, name in (("00004", "plain"), ("00017", ODD.replace("/", "\\")), ("00103", "ünïcode 商品")):
            (root / split / number).rename(root / split / name)
        (root / f"{split}.json").unlink()
    (root / "test.json").unlink()
    catalogue, generator = open_catalogue(str(root)), np.random.default_rng(5)
    val = catalogue.split("val")
    ids = list(map(val.image_id, range(len(val))))
    for name in ("base/resnet18", "resnet18-balanced", "resnet18-dcl", f"{ODD_NAME}-lio", "resnet18-accuracy"):
        for crops in ("", "centre"):
            rows = generator.dirichlet(np.ones(3), len(val)).astype(np.float32)
            above, _, own = f"preds/{name}.npy".rpartition("/")
            write(folder / above / crops / own, rows, val.labels, ids, catalogue.classes)
    for name in ("resnet18", "resnet18-balanced", "resnet18-dcl", ODD_NAME):
        write_run(folder / "runs" / name, data=str(root), init=None if name == "resnet18" else "x")
    return catalogue


@pytest.fixture
def shop(tmp_path) -> Catalogue:
    return make_shop(tmp_path)


class Page(NamedTuple):
    path: Path
    source: str
    read: Reader
    catalogue: Catalogue


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Page:
    """The page of `make_shop`, made once."""
    folder = tmp_path_factory.mktemp("shop")
    catalogue = make_shop(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "argv", ["report.py"])
        report.main()
    path = folder / "report/index.html"
    return Page(path, path.read_text(), Reader(path.read_text()), catalogue)


def test_names_are_text_whatever_they_hold(page):
    scripts = [attributes for tag, attributes in page.read.elements if tag == "script"]
    assert len(scripts) == 1 and not any("onerror" in attributes for _, attributes in page.read.elements)
    assert ODD.replace("/", "\\") in page.read.text and "商品" in page.read.text and ODD_NAME in page.read.text
    assert {tag for tag, _ in page.read.elements}.isdisjoint({"iframe", "object", "embed", "form", "base"})


def test_the_page_needs_nothing_but_itself_and_only_its_own_script_may_run(page):
    elements = page.read.elements
    links = [attributes[key] for _, attributes in elements for key in ("src", "href") if attributes.get(key)]
    assert links and all(link.startswith(("data:", "#")) for link in links)
    policy = next(a["content"] for _, a in elements if a.get("http-equiv") == "Content-Security-Policy")
    script_text = re.search(r"<script>(.*?)</script>", page.source, re.DOTALL).group(1)
    digest = base64.b64encode(hashlib.sha256(script_text.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy and "default-src 'none'" in policy
    ids = {attributes["id"] for _, attributes in elements if "id" in attributes}
    assert {link[1:] for link in links if link.startswith("#")} <= ids


def test_pictures_are_those_of_the_photographs_that_were_mistaken(page):
    val = page.catalogue.split("val")
    ids = list(map(val.image_id, range(len(val))))
    shown = {a["alt"]: a["src"] for tag, a in page.read.elements if tag == "img" and a["alt"] in ids}
    assert shown
    for name, uri in shown.items():
        image = Image.open(BytesIO(base64.b64decode(uri.partition("base64,")[2])))
        original = Image.open(val.path(ids.index(name))).resize(image.size)
        assert np.abs(np.asarray(image, float) - np.asarray(original, float)).mean() < 12


def test_every_section_that_can_be_filled_is_there(page):
    ids = [attributes["id"] for tag, attributes in page.read.elements if tag == "h2"]
    assert ids == [
        "steps", "curves", "frequency", "ensemble", "crops", "reliability", "confused", "mistakes", "runs"
    ]  # fmt: skip
    # curves of base, balanced, DCL and others; steps, thirds, greedy order, crops, reliability
    assert sum(tag == "svg" for tag, _ in page.read.elements) == 4 + 5


def test_mean_class_error_is_explained_once_below_the_summary(page):
    assert page.read.text.count("the share of wrong photographs of each product, averaged over the products") == 1
    assert page.source.index("<b>Mean class error</b>") < page.source.index('<h2 id="steps">')


@pytest.fixture(scope="module")
def browser():
    """Headless Chromium; `apt install chromium chromium-driver` brings it and its driver."""
    chromium, driver = (shutil.which(name) for name in ("chromium", "chromedriver"))
    if not (chromium and driver):
        pytest.skip("no chromium and chromedriver on the PATH: the page is not opened in a browser")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    opened = webdriver.Chrome(options=options, service=Service(driver))
    yield opened
    opened.quit()


def test_the_page_in_a_browser(page, browser):
    size = {"width": 360, "height": 740, "deviceScaleFactor": 2, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.get(page.path.as_uri())
    assert browser.get_log("browser") == []
    run = browser.execute_script
    pictures = run("return [...document.images].map(image => [image.complete, image.naturalWidth])")
    assert pictures and all(complete and width for complete, width in pictures)
    assert run("return document.documentElement.scrollWidth") <= 360
    wide = "return [...document.querySelectorAll('body *')].filter(e => e.getBoundingClientRect().right > 361 && "
    assert run(wide + "!e.closest('.scroll')).map(e => e.outerHTML.slice(0, 80))") == []
    colours = set()
    for scheme in ("light", "dark"):
        feature = {"name": "prefers-color-scheme", "value": scheme}
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
        colours.add(run("const s = getComputedStyle(document.body); return s.backgroundColor + s.color"))
        ink = run("return getComputedStyle(document.querySelector('svg text')).fill")
        assert ink == run("return getComputedStyle(document.body).color")
    assert len(colours) == 2


def test_a_click_on_a_column_sorts_by_it_and_a_second_click_the_other_way(page, browser):
    browser.get(page.path.as_uri())
    table = "const table = [...document.querySelectorAll('table.sortable')].at(-3);"  # members
    column = "return [...table.tBodies[0].rows].map(row => row.cells[%d].dataset.value)"
    for place, order in ((1, float), (0, str.casefold)):
        before = browser.execute_script(table + column % place)
        for reverse in (False, True):
            browser.execute_script(table + f"table.tHead.rows[0].cells[{place}].querySelector('button').click()")
            after = browser.execute_script(table + column % place)
            assert after == sorted(before, key=order, reverse=reverse)
    assert len(set(before)) == 4
    marked = browser.execute_script(table + "return [...table.tHead.rows[0].cells].map(c => c.ariaSort)")
    assert marked == ["descending", *[None] * 6]


def test_the_sheets_are_those_of_the_networks_with_heads(script, tmp_path):
    root = write_aliproducts(tmp_path / "catalogue")
    small = ("--data", root, "--resize", 64, "--crop", 64, "--epochs", 1, "--batch-size", 4, "--workers", 0)
    script("train.py", "--arch", "resnet18", "--weights", "none", *small)
    script("finetune_dcl.py", "--init", "runs/resnet18/best.pt", "--grid", 2, *small)
    script("train_lio.py", "--arch", "resnet18", "--weights", "none", "--grid", 2, "--positives", 1, *small)
    assert [path.name for path in sorted((tmp_path / "runs").glob("*/run.json"))] == ["run.json"] * 3
    script("report.py")
    read = Reader((tmp_path / "report/index.html").read_text())
    assert [a["id"] for tag, a in read.elements if tag == "h2"] == ["steps", "curves", "dcl", "lio", "runs"]
    assert sum(a.get("class") == "sheet" for _, a in read.elements) == 2
    assert "--lr 0.02" in read.text and "torch: 2." in read.text and "No labelled predictions" in read.text


def test_without_its_catalogue_the_page_says_what_is_missing(script, shop, tmp_path):
    (tmp_path / "catalogue").rename(tmp_path / "away")
    script("report.py")
    page = Reader((tmp_path / "report/index.html").read_text())
    assert "The catalogue was not found" in page.text and not any(tag == "img" for tag, _ in page.elements)
    script("report.py", "--data", "away", "--out", "other")
    assert "img" in {tag for tag, _ in Reader((tmp_path / "other/index.html").read_text()).elements}


def test_photographs_that_are_not_those_of_the_predictions_are_not_shown(script, shop, tmp_path):
    next((tmp_path / "catalogue/val").rglob("*.jpg")).unlink()
    script("report.py")
    read = Reader((tmp_path / "report/index.html").read_text())
    assert "val split has other photographs now" in read.text and not any(tag == "img" for tag, _ in read.elements)


def test_a_photograph_that_cannot_be_read_leaves_a_gap(script, shop, tmp_path):
    for path in (tmp_path / "catalogue").rglob("*.jpg"):
        path.write_bytes(b"no photograph")
    script("report.py")
    assert "no picture" in (tmp_path / "report/index.html").read_text()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("run.json", "{"),
        ("run.json", "[]"),
        ("run.json", '{"settings": 3}'),
        ("log.csv", "seconds\nnan\n"),
        ("log.csv", "seconds\nx\n"),
    ],
)
def test_a_damaged_record_of_a_run_is_named(script, shop, tmp_path, name, content):
    (tmp_path / "runs/resnet18" / name).write_text(content)
    told = script("report.py", code=2).stderr
    assert told.startswith("error: runs/resnet18: its log.csv or run.json") and told.count("\n") == 1
    assert not (tmp_path / "report").exists()


def infos_of(folder: Path, *names: str) -> list[PredictionInfo]:
    return [open_member(folder / "preds" / f"{name}.npy").info for name in names]


def test_the_tables_take_their_place_in_a_document_and_a_document_without_place_stays(script, shop, tmp_path):
    document = tmp_path / "results/steps.md"
    document.parent.mkdir()
    document.write_text("before\n<!-- report runs: written by report.py -->\nold\n<!-- end of report runs -->\nafter\n")
    script("report.py", "--markdown")
    text = document.read_text()
    assert text.startswith("before\n") and text.endswith("\nafter\n") and "\nold\n" not in text
    assert "| 1 whole set | 20 to 25 % | resnet18 |" in text
    tables = [line for line in text.splitlines() if line.startswith("|")]
    assert all(len(re.findall(r"(?<!\\)\|", line)) > 3 for line in tables)
    assert "| other |" in text and "&lt;img src=x" in text and "<img" not in text
    short = tmp_path / "README.md"
    short.write_text("<!-- steps runs: written by report.py -->\n<!-- end of steps runs -->\n")
    script("report.py", "--markdown", "results/steps.md", "README.md")
    steps = short.read_text().splitlines()[1:-1]
    errors = [f"{100 * info.mean_class_error:.2f}" for info in infos_of(tmp_path, "base/resnet18", "resnet18-balanced")]
    assert len(steps) == 2 + 6 and document.read_text() == text
    assert steps[2].split("|")[3].strip() == errors[0] and steps[3].split("|")[3].strip() == errors[1]
    assert f"{float(errors[1]) - float(errors[0]):+.2f}" == steps[3].split("|")[5].strip()
    assert steps[-1].startswith("| 4.1 sum | 6.27 % | sum of 4: ")
    document.write_text("no marks")
    assert "once each" in script("report.py", "--markdown", code=2).stderr and document.read_text() == "no marks"
