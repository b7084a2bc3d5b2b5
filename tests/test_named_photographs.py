"""Loose photographs: the same probabilities as in a catalogue, told to people and to programs, and where a network
looked: maps whose mean is the logit."""

import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import write_photograph
from PIL import Image, ImageFont
from test_bad_photographs import PHOTOGRAPHS
from test_training import SMALL
from torch import nn
from torch.nn.functional import normalize

import train
from catalogues import open_catalogue
from common.errors import InputError, one_line, shortened
from data import centre_crop, normalise, read_squashed
from inference.explain import class_maps, fitting, unpooled
from inference.photographs import photographs_in
from inference.sheets import heat_map, receptive_field_offset
from models import ARCHS, BBN, DCL, HEADS, LIO, Angular, create_model
from models.checkpoint import load_checkpoint, network_of, save_checkpoint, split_weights

# ------------------------------------------------------------------------------------ maps whose mean is the logit


def some_network(arch: str = "resnet18", classes: int = 6) -> nn.Module:
    """In float64; its branches are not those of a fresh one, which are zero."""
    torch.manual_seed(1)
    net = create_model(arch, classes)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.2)
    nn.init.normal_(net.classifier.bias)
    return net.double().eval()


def some_images(side: int = 64) -> torch.Tensor:
    return torch.randn(2, 3, side, side, dtype=torch.float64, generator=torch.Generator().manual_seed(2))


def weighted(features: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | float = 0.0) -> torch.Tensor:
    """Eq. 2 of Zhou et al., a loop over the classes and places, with the bias: (B, K, N, N)."""
    places = [(row, column) for row in range(features.shape[2]) for column in range(features.shape[3])]
    maps = torch.zeros(len(features), len(weight), *features.shape[2:], dtype=torch.float64)
    for k in range(len(weight)):
        for row, column in places:
            maps[:, k, row, column] = (features[:, :, row, column] * weight[k]).sum(1)
    return maps + (bias.view(1, -1, 1, 1) if isinstance(bias, torch.Tensor) else bias)


@pytest.mark.parametrize("arch", ARCHS)
@torch.no_grad()
def test_the_mean_of_a_class_s_map_is_its_logit(arch):
    net, images = some_network(arch), some_images()
    maps = class_maps(net, images)
    assert maps.shape == (2, 6, 2, 2)
    torch.testing.assert_close(maps.mean((2, 3)), net(images), rtol=1e-9, atol=1e-9)
    expected = weighted(net.features(images), net.classifier.weight, net.classifier.bias)
    torch.testing.assert_close(maps, expected, rtol=1e-9, atol=1e-9)


def by_hand(net: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """What each head adds to the maps, from the weights."""
    plain, features = net.classifier, net.net.features(images)
    if isinstance(net, DCL) and net.options["adversary"] == "2k":
        intact, destructed = net.swap_classifier.weight.chunk(2)
        return weighted(features, plain.weight + intact + destructed, plain.bias)
    if isinstance(net, Angular):
        return weighted(features, normalize(plain.weight))
    if isinstance(net, BBN):
        other = net.rebalancing.top(net.net.trunk(images))
        second = weighted(other, net.rebalancing.classifier.weight, net.rebalancing.classifier.bias)
        return (weighted(features, plain.weight, plain.bias) + second) / 2
    return weighted(features, plain.weight, plain.bias)


HEADED = [(DCL, dict(grid=3)), (DCL, dict(grid=3, adversary="2")), (LIO, dict(grid=3)), (Angular, {}), (BBN, {})]


@pytest.mark.parametrize(("kind", "options"), HEADED)
@torch.no_grad()
def test_the_maps_are_those_of_all_heads_that_predict_together(kind, options):
    net = kind(some_network(), **options).double().eval()
    for parameter in net.parameters():  # the second branch of BBN is a copy
        parameter += 0.01 * torch.randn_like(parameter)
    images = some_images()
    maps = class_maps(net, images)
    torch.testing.assert_close(maps.mean((2, 3)), net.predict(images), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(maps, by_hand(net, images), rtol=1e-9, atol=1e-9)


def test_no_kind_of_heads_is_forgotten():
    assert {kind for kind, _ in HEADED} == set(HEADS.values())


def test_a_network_pools_again_afterwards_whatever_happens():
    net = some_network()
    for images in (some_images(), torch.zeros(2, 5, 64, 64).double()):
        try:
            class_maps(net, images)
        except RuntimeError as error:
            assert "channels" in str(error)
    with pytest.raises(KeyError), unpooled(net):
        raise KeyError
    assert net(some_images()).shape == (2, 6)


def test_places_of_the_last_map_look_where_the_paddings_put_them():
    """Place i of the map of stride 32 looks around pixel 32·i; its own middle is 32·i + 15.5."""
    torch.manual_seed(0)
    assert receptive_field_offset(create_model("resnet18", 3), 3) == pytest.approx((-15.5, -15.5), abs=4)


def test_a_span_makes_pictures_comparable():
    grey, values = Image.new("RGB", (32, 32), (90, 90, 90)), torch.tensor([[-5.0, 0.0], [1.0, 2.0]])
    whole, half = (np.asarray(heat_map(grey, scale * values, (0, 0), (0, 2))).astype(int) for scale in (1, 0.5))
    assert (whole[2, 2] == whole[2, -2]).all(), "all that speaks against a class is as blue as nothing"
    assert (half[-2, -2] == whole[-2, 2]).all() and whole[-2, -2, 1] > half[-2, -2, 1]
    own = np.asarray(heat_map(grey, 0.5 * values, (0, 0))).astype(int)
    assert (own == np.asarray(heat_map(grey, values, (0, 0)))).all()


# ------------------------------------------------------------------------------------------------------ the script

FEW = ["CMYK", "rotated by EXIF", "16 bits", "palette with transparency", "HTML"]  # of PHOTOGRAPHS
LONG = "Granny's cider vinegar, organic, unfiltered, in a bottle with a handle " * 3 + "750 ml"
NAMES = ["a\nb\x1b[2J", LONG, "日本茶", os.fsdecode(b"caf\xe9")]


@pytest.fixture(scope="module")
def shop(tmp_path_factory) -> Path:
    """Catalogues of four classes whose validation splits are all/val/a and few/val/a, and networks for them."""
    folder = tmp_path_factory.mktemp("shop")
    for place in range(12):
        tint = [(0, 0, 0), (0, 90, 0), (0, 0, 90), (90, 0, 0)][place % 4]
        write_photograph(folder / f"all/train/{'abcd'[place % 4]}/{place}.jpg", place, tint=tint)
    write_photograph(folder / "all/val/good.jpg", 1)  # what a link of PHOTOGRAPHS leads to
    for name in ("all/val/a", "few/val/a"):
        (folder / name).mkdir(parents=True)
    (folder / "few/train").symlink_to(folder / "all/train")
    for number, (case, (name, write, _)) in enumerate(PHOTOGRAPHS.items()):
        for catalogue in ["all"] * (case != "a folder") + ["few"] * (case in FEW):
            write(folder / catalogue / f"val/a/{number:02}{name[2 * (len(name) > 250) :]}")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(os, "fsync", lambda file: None)
        words = ["train.py", "--data", "few", "--out", "run", "--epochs", 1, *SMALL]
        patch.setattr(sys, "argv", [str(word) for word in words])
        train.main()
    state = load_checkpoint(folder / "run/best.pt")
    save_checkpoint(folder / "odd/best.pt", state | {"classes": NAMES, "class_ids": [1, "2", 30, "4"]})
    torch.manual_seed(3)
    net = DCL(network_of(state, "run"), grid=2)
    net.swap_classifier.weight.data *= 20
    heads = {"kind": "DCL", "options": net.options, "model": split_weights(net)[1], "ema": None}
    save_checkpoint(folder / "dcl/best.pt", state | {"heads": heads})
    return folder


@pytest.fixture
def photographs(tmp_path) -> Path:
    for name, tint in {"x/2.jpg": 0, "x/10.JPG": 1, "a-b/1.jpg": 2, "a/1.png": 3, "z.jpg": 0}.items():
        write_photograph(tmp_path / "photographs" / name, tint, tint=[(0, 0, 0), (0, 90, 0), (0, 0, 90)][tint % 3])
    for name in (".hidden.jpg", ".hidden/1.jpg", "notes.txt"):
        write_photograph(tmp_path / "photographs/x" / Path(name).with_suffix(".jpg"), 0)
        (tmp_path / "photographs/x" / Path(name).with_suffix(".jpg")).rename(tmp_path / "photographs/x" / name)
    return tmp_path / "photographs"


ORDER = ["a/1.png", "a-b/1.jpg", "x/10.JPG", "x/2.jpg", "z.jpg"]
QUICK = ["--workers", 0, "--crops", 1]


def told(done) -> list[dict]:
    return json.loads(done.stdout, parse_constant=pytest.fail)


@pytest.mark.parametrize(
    ("catalogue", "net", "options"),
    [
        ("all", "run", ["--crops", 1]),
        ("few", "run", ["--batch-size", 2, "--resize", 48, "--crop", 40, "--precision", "bf16"]),
        ("few", "dcl", ["--workers", 2, "--precision", "float32"]),
        ("few", "dcl", ["--crops", 1, "--head", "plain"]),
    ],
)
def test_photographs_of_every_kind_have_the_probabilities_that_they_have_in_a_catalogue(
    script, shop, catalogue, net, options
):
    words = [shop / net / "best.pt", "--workers", 0, *options]
    entries = told(script("predict.py", *words, shop / catalogue / "val/a", "--json", "--top", 4))
    script("predict.py", *words, "--data", shop / catalogue, "--out", "p.npy", "--dtype", "float32")
    rows, split = np.load("p.npy"), open_catalogue(shop / catalogue).split("val")
    assert [entry["photograph"] for entry in entries] == [split.path(index) for index in range(len(split))]
    kinds = [case for case in PHOTOGRAPHS if case in FEW or (catalogue == "all" and case != "a folder")]
    for entry, row, kind in zip(entries, rows, kinds, strict=True):
        is_read = PHOTOGRAPHS[kind][2]
        assert ("top" in entry, "error" in entry) == (is_read, not is_read)
        if is_read:
            found = [(-one["probability"], one["class"]) for one in entry["top"]]
            assert found == sorted((-float(value), "abcd"[k]) for k, value in enumerate(row))


def test_the_heads_of_a_dcl_network_are_heard_unless_told_otherwise(script, shop, photographs):
    words = ["predict.py", shop / "dcl/best.pt", photographs, *QUICK, "--json"]
    plain = told(script("predict.py", shop / "run/best.pt", photographs, *QUICK, "--json"))
    assert told(script(*words, "--head", "plain")) == plain != told(script(*words))


def test_the_table_is_aligned_escaped_and_as_wide_as_the_terminal(script, shop, photographs, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.chdir(photographs)
    words = ["predict.py", shop / "odd/best.pt", "z.jpg", "x/2.jpg", *QUICK]
    done, entries = script(*words), told(script(*words, "--json"))
    lines = done.stdout.splitlines()
    assert done.stderr == "" and [line for line in lines if line[0] != " "] == ["z.jpg", "x/2.jpg"]
    shown = [line for line in lines if line[0] == " "]
    facts = [one for entry in entries for one in entry["top"]]
    assert len(shown) == len(facts) == 8 and max(map(len, shown)) == 60 and all(map(str.isprintable, shown))
    for line, one in zip(shown, facts, strict=True):
        assert line[:12] == f"  {100 * one['probability']:6.2f} %  "
        assert line[12:] == shortened(one["class"], 48)
    assert any(line.endswith("handle 750 ml") and "…" in line for line in shown)
    assert {(one["class"], one["class_id"]) for one in facts} == set(zip(NAMES, [1, "2", 30, "4"], strict=True))
    assert entries[0]["photograph"] == "z.jpg"


@pytest.mark.parametrize(("top", "shown"), [(1, 1), (3, 3), (10**12, 4)])
def test_as_many_classes_are_told_as_asked_for_and_best_first(script, shop, photographs, top, shown):
    words = ["predict.py", shop / "run/best.pt", photographs / "z.jpg", *QUICK, "--top", top]
    values = [one["probability"] for one in told(script(*words, "--json"))[0]["top"]]
    assert len(values) == shown and values == sorted(values, reverse=True)
    assert len(script(*words).stdout.splitlines()) == 1 + shown


def test_folders_are_searched_and_sorted_and_hidden_or_other_files_left_out(photographs):
    (photographs / "x/again").symlink_to(photographs)  # else without end
    top = str(photographs)
    assert photographs_in([top]) == [f"{top}/{name}" for name in ORDER]
    some = [f"{top}/z.jpg", f"{top}/x", f"{top}/x/notes.txt", f"{top}/z.jpg"]
    assert photographs_in(some) == [some[0], f"{top}/x/10.JPG", f"{top}/x/2.jpg", *some[2:]]


def test_photographs_may_stand_on_either_side_of_flags(script, shop, photographs, monkeypatch):
    monkeypatch.chdir(photographs)
    shutil.copy("z.jpg", "-x.jpg")
    first = told(script("predict.py", shop / "run/best.pt", "z.jpg", "a", "./-x.jpg", *QUICK, "--json"))
    assert told(script("predict.py", "--json", shop / "run/best.pt", "z.jpg", *QUICK, "a", "./-x.jpg")) == first
    assert [entry["photograph"] for entry in first] == ["z.jpg", "a/1.png", "./-x.jpg"]


def test_names_that_are_not_utf_8_are_shown_and_come_back_from_json(script, shop, photographs, straight, monkeypatch):
    name = b"caf\xe9\n\x1b[2J.jpg"
    monkeypatch.chdir(photographs)
    shutil.copy("z.jpg", "x/" + os.fsdecode(name))
    Path("x", os.fsdecode(b"\xff.jpg")).touch()
    words = ["predict.py", shop / "odd/best.pt", "x", *QUICK]
    done = script(*words, "--json", "--explain", "sheet.png")
    assert done.stdout.isascii()
    names = [os.fsencode(entry["photograph"]) for entry in told(done)]
    assert names == [b"x/10.JPG", b"x/2.jpg", b"x/" + name, b"x/\xff.jpg"]
    note, warning, drawn = done.stderr.splitlines()
    assert note == "note: x: 1 left out: 1 .txt"
    assert warning.startswith("warning: x/\\udcff.jpg cannot be read (") and warning.isprintable()
    assert drawn == "sheet.png: where the network looked in the centre crop; photographs: 3"
    assert "x/caf\\udce9\\n\\x1b[2J.jpg\n  " in script(*words).stdout


def test_one_that_cannot_be_read_is_named_and_the_others_are_predicted(script, shop, photographs):
    (photographs / "a/0.jpg").write_bytes(b"no photograph")
    words = ["predict.py", shop / "run/best.pt", photographs, *QUICK]
    done, entries = script(*words, "--batch-size", 2), told(script(*words, "--json"))
    reason = "UnidentifiedImageError: not a photograph of any known format"
    note = f"note: {photographs}: 1 left out: 1 .txt\n"
    assert done.stderr == f"{note}warning: {photographs}/a/0.jpg cannot be read ({reason})\n"
    assert [line for line in done.stdout.splitlines() if line[0] != " "] == [f"{photographs}/{name}" for name in ORDER]
    assert entries[0] == {"photograph": f"{photographs}/a/0.jpg", "error": reason}
    assert all(len(entry["top"]) == 4 for entry in entries[1:])


def refused(script, *words, parts=()) -> None:
    done = script("predict.py", *words, code=2)
    assert done.stdout == "" and done.stderr.startswith("error: ") and done.stderr.count("\n") == 1, done
    assert done.stderr[:-1].isprintable() and all(part in done.stderr for part in parts), done.stderr


@pytest.mark.parametrize("more", [[], ["--json"], ["--explain", "sheet.png"]])
def test_what_cannot_be_read_at_all_is_one_line(script, shop, tmp_path, more):
    (tmp_path / "x.jpg").touch()
    refused(script, shop / "run/best.pt", "x.jpg", *QUICK, *more, parts=["error: x.jpg: cannot be read (Unidentified"])
    (tmp_path / "y.jpg").touch()
    done = script("predict.py", shop / "run/best.pt", "x.jpg", "y.jpg", *QUICK, *more, code=2)
    assert done.stdout == "" and done.stderr.count("\nerror: none of 2 photographs can be read; x.jpg: ") == 1
    assert done.stderr.count("warning: ") == 2 and sorted(os.listdir(tmp_path)) == ["x.jpg", "y.jpg"]


@pytest.mark.parametrize("path", ["nowhere.jpg", "no\nwhere", "x" * 300, "empty", "texts", "texts/a.txt/x.jpg", ""])
def test_paths_without_a_photograph_are_one_line(script, shop, tmp_path, path):
    for folder in ("empty", "texts"):
        (tmp_path / folder).mkdir()
    (tmp_path / "texts/a.txt").touch()
    write_photograph(tmp_path / "good.jpg", 0)
    expected = "holds no photographs" if path in ("empty", "texts") else "no such photograph or folder"
    refused(script, shop / "run/best.pt", "good.jpg", path, parts=[expected if path else "is empty"])


def test_a_folder_that_cannot_be_listed_is_not_taken_for_an_empty_one(photographs, monkeypatch):
    listed = os.scandir

    def closed(path):
        if str(path).endswith("/x"):
            raise PermissionError(13, "Permission denied", path)
        return listed(path)

    monkeypatch.setattr(os, "scandir", closed)
    with pytest.raises(InputError, match=r"photographs/x: cannot be listed \(Permission denied\)"):
        photographs_in([str(photographs)])


WITH_A_CATALOGUE = ["--split=val", "--data=demo", "--out=a.npy", "--dtype=float16", "--top-k=1", "--save-every=0"]


@pytest.mark.parametrize("flag", [*WITH_A_CATALOGUE, "--json", "--top=5", "--explain=a.png"])
def test_a_flag_of_the_other_kind_of_call_is_one_line(script, tmp_path, flag):
    photographs = ["x.jpg"] if flag in WITH_A_CATALOGUE else []
    name = flag.partition("=")[0]
    kind = "a catalogue" if photographs else "your own photographs"
    refused(script, "none.pt", *photographs, flag, parts=[f"error: {name} is for {kind}; leave it out, or "])
    assert not list(tmp_path.iterdir())


def test_several_processes_are_refused_before_they_wait_for_each_other(script, shop, photographs, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    refused(script, shop / "run/best.pt", photographs, parts=["without torchrun"])


def test_a_network_that_has_no_probabilities_is_refused(script, shop, photographs):
    state = load_checkpoint(shop / "run/best.pt")
    save_checkpoint(Path("huge/best.pt"), state | {"model": {k: v * 1e30 for k, v in state["model"].items()}})
    name = one_line(photographs / "z.jpg")
    words = ["huge/best.pt", name, *QUICK, "--precision", "float32", "--json"]
    refused(script, *words, parts=[name, "a probability that is not a finite number"])


# --------------------------------------------------------------------------------------------- where it looked


@pytest.fixture
def straight(monkeypatch) -> None:
    """Places look at themselves; to find out where they look takes a second."""
    monkeypatch.setattr("inference.explain.receptive_field_offset", lambda net, stage: (0.0, 0.0))


def test_the_sheet_has_a_row_a_photograph_with_what_the_network_saw_and_where(script, shop, photographs, tmp_path):
    (photographs / "a/0.jpg").touch()
    words = [*QUICK, "--resize", 72, "--crop", 64, "--precision", "float32", "--explain", "new/sheet.JPG"]
    done = script("predict.py", shop / "dcl/best.pt", photographs, *words)
    assert done.stdout.endswith("\nnew/sheet.JPG: where the network looked in the centre crop; photographs: 5\n")
    assert [line.split(":")[0] for line in done.stderr.splitlines()] == ["note", "warning"]
    with Image.open(tmp_path / "new/sheet.JPG") as sheet:
        pixels = np.asarray(sheet.convert("RGB")).astype(int)
    row = 288 + 24 + 8
    assert pixels.shape == (24 + 5 * row, 8 + 3 * 296, 3)
    net = network_of(load_checkpoint(shop / "dcl/best.pt"), "dcl", heads=True).eval()
    off = [part / 32 for part in receptive_field_offset(net.net, 3)]
    for place, name in enumerate(ORDER):
        image = centre_crop(torch.from_numpy(read_squashed(photographs / name, 72)).permute(2, 0, 1), 64)
        maps = class_maps(net, normalise(image[None]))[0]  # (4, 2, 2)
        best = maps.mean((1, 2)).topk(2).indices
        maps = maps[best] - maps.mean(0)
        seen = Image.fromarray(image.permute(1, 2, 0).numpy()).resize((288, 288), Image.Resampling.BICUBIC)
        for column, expected in enumerate(
            [seen, *(heat_map(seen, values, off, (0, float(maps.max()))) for values in maps)]
        ):
            top, left = 24 + place * row, 8 + column * 296
            assert np.abs(pixels[top : top + 288, left : left + 288] - np.asarray(expected)).mean() < 3


def test_a_sheet_has_no_more_rows_than_a_person_looks_at_and_says_so(
    script, shop, photographs, tmp_path, straight, monkeypatch
):
    monkeypatch.setattr("inference.photographs.MOST_ROWS", 2)
    words = [photographs / "z.jpg"] * 4
    done = script("predict.py", shop / "odd/best.pt", *words, *QUICK, "--explain", "a.png", "--top", 1)
    assert done.stdout.endswith("\na.png: where the network looked in the centre crop; photographs: the first 2 of 4\n")
    assert len(done.stdout.splitlines()) == 4 * 2 + 1
    with Image.open(tmp_path / "a.png") as sheet:
        assert sheet.height == 24 + 2 * 320


def test_a_network_of_one_class_is_explained_by_one_map(script, shop, photographs, tmp_path, straight):
    state = load_checkpoint(shop / "run/best.pt")
    model = {key: value[:1] if key.startswith("fc.") else value for key, value in state["model"].items()}
    save_checkpoint(Path("one/best.pt"), state | {"model": model, "classes": ["x"], "class_ids": ["x"]})
    done = script("predict.py", "one/best.pt", photographs / "z.jpg", *QUICK, "--explain", "a.png")
    assert "\n  100.00 %  x\na.png: " in done.stdout
    with Image.open(tmp_path / "a.png") as sheet:
        assert sheet.width == 8 + 2 * 296


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("mine.jpg", "is there already"),
        ("a.txt", "names no picture format"),
        ("sheet", "names no picture format"),
        ("folder.png", "not an ordinary file"),
        ("mine.jpg/a.png", "cannot be written"),
        ("x" * 300 + ".png", "File name too long"),
    ],
)
def test_a_sheet_that_cannot_be_written_is_one_line_and_no_photograph_is_lost(script, shop, tmp_path, name, complaint):
    write_photograph(tmp_path / "mine.jpg", 0)
    (tmp_path / "folder.png").mkdir()
    before = (tmp_path / "mine.jpg").read_bytes()
    # as with the value of --explain forgotten
    refused(script, shop / "run/best.pt", "--explain", name, "mine.jpg", *QUICK, parts=[complaint])
    assert (tmp_path / "mine.jpg").read_bytes() == before
    assert sorted(os.listdir(tmp_path)) == ["folder.png", "mine.jpg"]


def test_what_is_cut_keeps_its_beginning_and_its_end():
    assert shortened("a" * 10, 10) == "a" * 10
    assert shortened("0123456789", 7) == "0123…89" and shortened("0123456789", 7, 1) == "…456789"
    assert shortened("0123456789", 4) == "01…9" and shortened("a\nb" * 9, 8) == "a\\nba…nb"
    font = ImageFont.load_default(14)
    for text in [*NAMES, "x" * 10**5, "", "W" * 40]:
        cut = fitting(text, 100, font)
        assert font.getlength(cut) <= 100 and cut.isprintable()
        assert cut == one_line(text) or ("…" in cut and font.getlength(cut) > 70)
