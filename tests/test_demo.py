"""The demo catalogue: long tail, wrong labels and near-duplicates are there, and nothing else is wrong."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from catalogues import open_catalogue
from catalogues.demo import demo_root
from data import read_photograph
from drawings import PRODUCTS, catalogue, draw_photograph, plan
from drawings.photographs import background, occlude
from drawings.shapes import render


@pytest.fixture(scope="module")
def drawn(tmp_path_factory) -> Path:
    """The whole demo catalogue, drawn once for this file."""
    return demo_root(tmp_path_factory.mktemp("drawn"))


@pytest.fixture(scope="module")
def truth(drawn) -> dict:
    return json.loads((drawn / "truth.json").read_text())["images"]


def labels_of(root: Path, split: str) -> dict[str, int]:
    return {
        image["image_id"]: image["class_id"] for image in json.loads((root / f"{split}.json").read_text())["images"]
    }


@pytest.fixture
def few(monkeypatch):
    """Three photographs a class, so that drawing a catalogue takes a second."""
    monkeypatch.setattr(plan, "class_counts", lambda: np.full(len(PRODUCTS), 3))
    monkeypatch.setattr(plan, "HELD_OUT", 1)


def test_there_are_eight_families_of_four_products_in_a_tree_of_three_levels(drawn):
    tree = json.loads((drawn / "product_tree.json").read_text())
    families = [(department, family) for department, members in tree.items() for family in members]
    assert len(families) == 8 and all(len(tree[department][family]) == 4 for department, family in families)
    leaves = [number for department, family in families for number in tree[department][family].values()]
    assert sorted(leaves) == list(range(32))


def test_counts_fall_from_300_to_5_by_the_law(drawn):
    counts = plan.class_counts()
    assert counts[0] == 300 and counts[-1] == 5 and (np.diff(counts) <= 0).all() and 1700 < counts.sum() < 2100
    # straight in log-log against the shifted rank: the law of the docstring
    q = 31 / ((300 / 5) ** 0.25 - 1)
    assert np.abs(np.log(counts / 300) + 4 * np.log((q + np.arange(32)) / q)).max() < np.log(5.5 / 5)
    train = open_catalogue(drawn).split("train")
    assert sorted(np.bincount(train.labels), reverse=True) == counts.tolist()


def test_val_and_test_are_balanced_and_val_is_clean(drawn, truth):
    val = labels_of(drawn, "val")
    assert np.bincount(list(val.values())).tolist() == [10] * 32
    assert all(truth[image_id]["class_id"] == label for image_id, label in val.items())
    tested = [fact["class_id"] for fact in truth.values() if fact["split"] == "test"]
    assert np.bincount(tested).tolist() == [10] * 32


def test_test_images_carry_no_class(drawn):
    content = json.loads((drawn / "test.json").read_text())
    assert {tuple(image) for image in content["images"]} == {("image_id",)}
    assert open_catalogue(drawn).split("test").labels is None


def test_twelve_percent_of_the_training_labels_are_wrong_and_half_of_these_of_the_same_family(drawn, truth):
    labels = labels_of(drawn, "train")
    wrong = [(label, truth[i]["class_id"]) for i, label in labels.items() if truth[i]["class_id"] != label]
    assert abs(len(wrong) / len(labels) - 0.12) < 0.005
    near = sum(PRODUCTS[a].family == PRODUCTS[b].family for a, b in wrong) / len(wrong)
    assert 0.35 < near < 0.65
    right = np.bincount([label for i, label in labels.items() if truth[i]["class_id"] == label], minlength=32)
    assert right.min() >= 3


def test_near_duplicates_show_their_original_saved_again(drawn, truth):
    labels = labels_of(drawn, "train")
    pairs = [(i, fact["duplicate_of"]) for i, fact in truth.items() if fact["duplicate_of"]]
    assert abs(len(pairs) / len(labels) - 0.03) < 0.005

    def thumbnail(image_id: str) -> np.ndarray:
        image = read_photograph(drawn / "train" / f"{labels[image_id]:05d}" / image_id)
        return np.asarray(image.resize((16, 16), Image.Resampling.BOX), float)

    for copy, original in pairs:
        assert truth[original]["duplicate_of"] is None and truth[original]["class_id"] == truth[copy]["class_id"]
    alike = np.array([np.abs(thumbnail(a) - thumbnail(b)).mean() for a, b in pairs])
    strangers = [np.abs(thumbnail(a[0]) - thumbnail(b[1])).mean() for a, b in itertools.pairwise(pairs)]
    assert np.median(alike) < 0.3 * np.median(strangers) and alike.max() < np.median(strangers)
    assert any(labels[a] != labels[b] for a, b in pairs), "some have conflicting labels"


def test_every_listed_photograph_exists_and_no_other(drawn, truth):
    opened = open_catalogue(drawn)
    listed = [Path(split.path(index)) for split in opened.splits.values() for index in range(len(split))]
    assert sorted(listed) == sorted(drawn.glob("*/**/*.jpg")) and len(set(listed)) == len(truth)
    assert opened.classes[0] == "bottle, round label red cap"


def test_sizes_differ_and_boxes_lie_inside(drawn, truth):
    sizes = set()
    for path in list(drawn.glob("val/*/*.jpg"))[::5]:
        width, height = Image.open(path).size
        left, top, right, bottom = truth[path.name]["box"]
        assert 0 <= left < right <= width and 0 <= top < bottom <= height
        assert min(width, height) >= 122 and max(width, height) <= 192
        sizes.add((width, height))
    assert len(sizes) > 40


def test_a_photograph_can_be_drawn_again_with_its_mask(drawn, truth):
    row = plan.plan_held_out("val", 0)[7]
    image, mask = draw_photograph(row.product, np.random.default_rng([0, 1, row.drawing]))
    stored = read_photograph(drawn / "val" / f"{row.label:05d}" / row.image_id(0))
    assert image.size == stored.size == mask.size and list(mask.getbbox()) == truth[row.image_id(0)]["box"]
    difference = np.abs(np.asarray(image, float) - np.asarray(stored, float)).mean()
    assert difference < 12, "but for JPEG's losses"


def test_products_of_a_family_differ_and_none_is_another_mirrored():
    pictures = [np.asarray(render(number), float) for number in range(len(PRODUCTS))]
    for a in range(len(PRODUCTS)):
        for b in range(a):
            for other in (pictures[b], pictures[b][:, ::-1]):
                assert (np.abs(pictures[a] - other).max(2) > 40).mean() > 0.01, (PRODUCTS[a].name, PRODUCTS[b].name)


def test_an_occluder_hides_at_most_fifteen_percent():
    for seed in range(60):
        rng = np.random.default_rng(seed)
        image, mask = background(rng, 140, 130), Image.new("L", (140, 130))
        mask.paste(255, (30, 30, 110, 100))
        occlude(rng, image, mask)
        assert mask.histogram()[255] >= 0.85 * 80 * 70


def bytes_of(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_the_drawing_depends_on_the_seed_and_not_on_the_number_of_processes(few, tmp_path):
    catalogue.draw_demo(tmp_path / "one", seed=1, processes=1)
    catalogue.draw_demo(tmp_path / "two", seed=1, processes=2)
    catalogue.draw_demo(tmp_path / "other", seed=2)
    assert bytes_of(tmp_path / "one") == bytes_of(tmp_path / "two") != bytes_of(tmp_path / "other")


def test_an_interrupted_drawing_leaves_nothing(few, tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(catalogue, "write_json", interrupt)
    with pytest.raises(KeyboardInterrupt):
        catalogue.draw_demo(tmp_path / "demo")
    assert list(tmp_path.iterdir()) == []


def test_it_is_drawn_once_and_again_when_the_drawings_have_changed(few, tmp_path, monkeypatch, capsys):
    root = demo_root(tmp_path)
    assert "drawing the demo catalogue" in capsys.readouterr().err
    (root / "mine").touch()
    assert demo_root(tmp_path) == root and (root / "mine").exists() and capsys.readouterr().err == ""
    monkeypatch.setattr(catalogue, "VERSION", catalogue.VERSION + 1)
    demo_root(tmp_path)
    assert not (root / "mine").exists() and catalogue.is_drawn(root, 0)


def test_of_two_processes_that_draw_at_once_the_second_keeps_the_first_one_s(few, tmp_path):
    catalogue.draw_demo(tmp_path / "demo")
    (tmp_path / "demo" / "first").touch()
    catalogue.draw_demo(tmp_path / "demo")
    assert (tmp_path / "demo" / "first").exists() and [path.name for path in tmp_path.iterdir()] == ["demo"]
