"""Shards: what they hold, that packing can be stopped anywhere, and that training from them changes nothing else."""

import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import threading
import time

import numpy as np
import pytest
import torch
import webdataset
from conftest import write_aliproducts
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2
from torch import nn
from tqdm import tqdm

import catalogues.shards as shards
import data.pack as packing
import data.pack_shards as pack_shards
import data.pack_workers as pack_workers
from catalogues import open_catalogue, with_extra_labels
from common.device import Compute
from common.errors import InputError
from data import (
    EpochBatches,
    StreamBatches,
    TrainTransform,
    UnreadablePhotograph,
    balanced_subset,
    eval_loader,
    normalise,
    read_photograph,
    read_squashed,
    train_loader,
)
from data.duplicates import find_clusters
from drawings import draw_photograph
from inference import Classifier
from predictions.reading import open_member

SIDE, PER_SHARD = 48, 10
CLASSES = {4: 16, 17: 12, 90: 9, 103: 5}  # number -> training photographs
VAL = TEST = 3
UNREADABLE = {"train": "train17_3.jpg", "val": "val90_1.jpg"}


def draw_catalogue(root):
    """64 photographs as the demo draws them, in AliProducts' layout; one of train and one of val cut short."""
    number = 0
    for split in ("train", "val", "test"):
        images = []
        for product, (class_id, count) in enumerate(CLASSES.items()):
            for place in range(count if split == "train" else VAL):
                name, folder = f"{split}{class_id}_{place}.jpg", root / split
                folder = folder if split == "test" else folder / f"{class_id:05d}"
                folder.mkdir(parents=True, exist_ok=True)
                draw_photograph(4 * product, np.random.default_rng(number))[0].save(folder / name)
                images.append({"image_id": name} | ({} if split == "test" else {"class_id": class_id}))
                number += 1
        (root / f"{split}.json").write_text(json.dumps({"images": images}))
    (root / "product_tree.json").write_text(json.dumps({"drinks": {"red": 4, "blue": 17, "tea": 90}, "soap": 103}))
    for name in UNREADABLE.values():
        path = next(root.glob(f"*/*/{name}"))
        path.write_bytes(path.read_bytes()[:300])
    return root


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return draw_catalogue(tmp_path_factory.mktemp("drawn") / "shop")


def pack(root, out, workers=2, **settings):
    chosen = dict(size=SIDE, quality=95, per_shard=PER_SHARD, seed=0) | settings
    packing.pack(packing.Job(open_catalogue(root), out, **chosen), workers)
    return out


@pytest.fixture(scope="module")
def shared(root, tmp_path_factory):
    return pack(root, tmp_path_factory.mktemp("packed") / "shards")


@pytest.fixture
def packed(shared, tmp_path):
    """Shards that a test may damage."""
    return shutil.copytree(shared, tmp_path / "shards")


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def arguments(root, out, **settings):
    chosen = dict(data=root, out=out, size=SIDE, per_shard=PER_SHARD, workers=2) | settings
    return [part for name, value in chosen.items() for part in ("--" + name.replace("_", "-"), value)]


# What the shards hold


def test_the_webdataset_library_reads_every_readable_photograph_with_its_label_and_id(root, shared):
    for name, split in open_catalogue(root).splits.items():
        tars = sorted(map(str, shared.glob(f"{name}-*.tar")))
        assert len(tars) == -(-len(split) // PER_SHARD)
        samples = list(webdataset.WebDataset(tars, shardshuffle=False).decode("pil"))
        places = [int(sample["__key__"]) for sample in samples]
        bad = [place for place in range(len(split)) if split.image_id(place) == UNREADABLE.get(name)]
        assert sorted(places + bad) == list(range(len(split)))
        for place, sample in zip(places, samples, strict=True):
            about = {"id": split.image_id(place)}
            if split.labels is not None:
                about["class"] = ["red", "blue", "tea", "soap"][split.labels[place]]
            assert sample["json"] == about and sample.get("cls") == (None if name == "test" else split.labels[place])
            squashed = read_squashed(split.path(place), SIDE)
            # Of 255: JPEG at quality 95, without subsampling, is this far from what it was made of
            error = np.abs(np.asarray(sample["jpg"], int) - squashed)
            assert error.shape == (SIDE, SIDE, 3) and error.mean() < 2.5 and error.max() < 30


def test_the_jpegs_have_colours_as_fine_as_their_brightness(shared):
    piece = open_catalogue(shared).split("train").path(0)
    start = piece.read().index(b"\xff\xc0")  # the frame's header: for each component a byte of sampling factors
    components = np.frombuffer(piece.read()[start + 10 : start + 19], np.uint8).reshape(3, 3)
    assert components[:, 1].tolist() == [0x11] * 3


def test_packing_twice_gives_the_same_bytes_whatever_the_number_of_workers(root, shared, tmp_path):
    assert contents(pack(root, tmp_path / "again", workers=1)) == contents(shared)
    other = contents(pack(root, tmp_path / "other", seed=1))
    assert other["train-000000.tar"] != (shared / "train-000000.tar").read_bytes()
    assert other["val-000000.tar"] == (shared / "val-000000.tar").read_bytes()


def test_only_the_training_split_is_packed_in_random_order(root, shared):
    def order(name):
        tars = sorted(map(str, shared.glob(f"{name}-*.tar")))
        return [int(sample["__key__"]) for sample in webdataset.WebDataset(tars, shardshuffle=False)]

    assert order("val") == sorted(order("val")) and order("train") != sorted(order("train"))
    permutation = pack_shards.packing_order("train", 50, 0)
    assert sorted(permutation) == list(range(50))
    for words in (0, [0, 0], [0, 1]):  # of a balanced subset, of epochs: their draws must not be the shards'
        assert (permutation != np.random.default_rng(words).permutation(50)).any()


def test_a_packed_catalogue_lists_what_the_original_lists(root, shared):
    before, after = open_catalogue(root), open_catalogue(shared)
    assert after.format == "WebDataset shards" and after.root == shared
    assert (after.classes, after.class_ids, after.tree) == (before.classes, before.class_ids, before.tree)
    assert (after.levels() == before.levels()).all() and after.splits.keys() == before.splits.keys()
    for a, b in zip(before.splits.values(), after.splits.values(), strict=True):
        assert [a.image_id(place) for place in range(len(a))] == [b.image_id(place) for place in range(len(b))]
        assert (a.labels is None and b.labels is None) or (a.labels == b.labels).all()
        assert all(isinstance(array, np.memmap) for array in (b.shards.shard, b.shards.start, b.shards.size))
    balanced = [balanced_subset(catalogue.split("train").labels, 6) for catalogue in (before, after)]
    assert (balanced[0] == balanced[1]).all()


def test_shards_can_be_packed_again_smaller(shared, tmp_path):
    small = open_catalogue(pack(shared, tmp_path / "small", size=24)).split("test")
    large = open_catalogue(shared).split("test")
    assert read_photograph(small.path(0)).size == (24, 24) and small.image_id(5) == large.image_id(5)


def test_unreadable_photographs_are_announced_listed_and_keep_their_place(script, root, tmp_path):
    done = script("data.pack", *arguments(root, "shards"))
    assert "shards: 66 photographs in 9 shards" in done.stdout and "2 unreadable, listed in" in done.stdout
    listed = [line.split("\t") for line in (tmp_path / "shards/unreadable.txt").read_text().splitlines()]
    assert [path for path, _ in listed] == [str(next(root.glob(f"*/*/{name}"))) for name in UNREADABLE.values()]
    assert all(reason.startswith("OSError: ") for _, reason in listed)
    for name, image_id in UNREADABLE.items():
        split = open_catalogue(tmp_path / "shards").split(name)
        bad = [place for place in range(len(split)) if split.shards.size[place] == 0]
        assert [split.image_id(place) for place in bad] == [image_id]
        with pytest.raises(UnreadablePhotograph, match=r"could not be read when it was packed"):
            read_photograph(split.path(bad[0]))


# Stopped, full, foreign


def pack_with_its_own_lock(root, out):
    tqdm.set_lock(threading.RLock())  # forked processes share tqdm's: one that is killed could keep it for ever
    pack(root, out)


def test_killed_at_any_moment_the_same_command_ends_with_the_same_bytes(root, shared, tmp_path):
    fork, rng, killed = multiprocessing.get_context("fork"), np.random.default_rng(0), set()
    for attempt in range(12):
        out = tmp_path / f"shards{attempt % 3}"  # each is killed and gone on with four times
        process = fork.Process(target=pack_with_its_own_lock, args=(root, out))
        process.start()
        time.sleep(rng.uniform(0, 0.25))
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        killed.add(len(list(out.glob("*.tar"))))
    assert len(killed) > 1, "killed at different moments"
    for out in tmp_path.glob("shards*"):
        assert contents(pack(root, out)) == contents(shared)


def test_ctrl_c_stops_the_workers_and_leaves_nothing_half_written(root, tmp_path, monkeypatch):
    def press(*_, **__):
        while not list((tmp_path / "shards").glob(".train-000001*")):
            time.sleep(0.01)
        raise KeyboardInterrupt

    monkeypatch.setattr(pack_workers, "wait", press)
    monkeypatch.setattr(pack_shards, "add_sample", lambda *_: time.sleep(600))
    before = multiprocessing.active_children()
    with pytest.raises(KeyboardInterrupt):
        pack(root, tmp_path / "shards")
    assert multiprocessing.active_children() == before
    assert [path.name for path in (tmp_path / "shards").iterdir()] == ["pack.json"]


def test_what_is_there_is_not_packed_again(script, root, packed, monkeypatch):
    (packed / "train-000002.tar").unlink()
    before = contents(packed)
    monkeypatch.setattr(pack_shards, "add_sample", lambda *_: os._exit(1))
    refused = script("data.pack", *arguments(root, packed), code=2)
    assert (
        "a process that reads photographs died at " in refused.stderr
        and "8 of 9 shards are there already" in refused.stdout
    )
    assert refused.stderr.count("\n") == 1 and contents(packed) == before


@pytest.mark.parametrize("how", ["dies", "hangs"])
def test_a_worker_that_is_lost_is_named_with_its_photograph(script, root, shared, tmp_path, monkeypatch, how):
    split = open_catalogue(root).split("train")
    plain = pack_shards.read_squashed

    def read(path, *more):
        if path == split.path(3):
            os.kill(os.getpid(), signal.SIGKILL) if how == "dies" else time.sleep(600)
        return plain(path, *more)

    with monkeypatch.context() as patch:
        patch.setattr(pack_shards, "read_squashed", read)
        done = script("data.pack", *arguments(root, "shards"), "--worker-timeout", 1, code=2)
    told = "died of SIGKILL at {}; memory may have run out" if how == "dies" else "hangs at {} for "
    assert f"error: a process that reads photographs {told.format(split.path(3))}" in done.stderr
    assert done.stderr.count("\n") == 1
    script("data.pack", *arguments(root, "shards"))
    assert contents(tmp_path / "shards") == contents(shared)


def test_a_full_disk_leaves_a_folder_that_can_be_gone_on_with(script, root, shared, tmp_path, monkeypatch):
    add, added = pack_shards.add_sample, []

    def full(*arguments):
        added.append(arguments)
        if len(added) > 25:
            raise OSError(28, "No space left on device")
        add(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(pack_shards, "add_sample", full)
        done = script("data.pack", *arguments(root, "shards", workers=1), code=2)
    assert "shards: cannot be written (No space left on device); make room" in done.stderr
    assert done.stderr.count("\n") == 1
    assert {path.name for path in tmp_path.glob("shards/*.tar")} == {"train-000000.tar", "train-000001.tar"}
    assert not list(tmp_path.glob("shards/.*")), "nothing half-written is left"
    with pytest.raises(InputError, match=r"shards without a whole index, .* run the same python -m data\.pack again"):
        open_catalogue(tmp_path / "shards")
    again = script("data.pack", *arguments(root, "shards"))
    assert "2 of 9 shards are there already" in again.stdout and contents(tmp_path / "shards") == contents(shared)


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(size=32), "--size 32: {out} was packed with 48; give --size 48, another --out, or remove the folder"),
        (dict(quality=80), "--quality 80: {out} was packed with 95"),
        (dict(per_shard=9), "--per-shard 9: {out} was packed with 10"),
        (dict(seed=3), "--seed 3: {out} was packed with 0"),
    ],
)
def test_a_folder_of_other_settings_is_refused(script, root, shared, change, message):
    before = contents(shared)
    done = script("data.pack", *arguments(root, shared, **change), code=2)
    assert message.format(out=shared) in done.stderr and done.stderr.count("\n") == 1 and contents(shared) == before


def test_a_folder_of_a_catalogue_that_has_changed_is_refused(script, root, packed, tmp_path):
    moved = shutil.copytree(root, tmp_path / "moved")
    script("data.pack", *arguments(moved, packed))  # where it lies does not matter
    listed = json.loads((moved / "train.json").read_text())
    listed["images"][0]["class_id"] = 17
    (moved / "train.json").write_text(json.dumps(listed))
    done = script("data.pack", *arguments(moved, packed), code=2)
    assert f"{packed}: was packed from another catalogue than {moved} is now" in done.stderr


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--data", "shop", "--out", "new", "--size", 0], "--size: '0': expected an integer"),
        (
            ["--data", "shop", "--out", "new", "--quality", 101],
            "--quality: '101': expected an integer of at least 1, at most 100",
        ),
        (["--data", "shop", "--out", "new", "--per-shard", 0], "--per-shard: '0': expected an integer"),
        (["--data", "shop", "--out", "new", "--workers", 0], "--workers: '0': expected an integer"),
        (["--data", "shop", "--out", "new", "--size", "x"], "--size: 'x': expected an integer"),
        (["--data", "shop"], "give --data and --out, or --verify"),
        (["--data", "nowhere", "--out", "new"], "nowhere: no such folder"),
        (["--data", "foreign", "--out", "new"], "no catalogue is recognised there"),
        (["--data", "shop", "--out", "foreign"], "--out foreign: holds other files; choose a new folder"),
        (["--data", "shop", "--out", "foreign/notes"], "--out foreign/notes: is a file; choose a new folder"),
        (["--data", "shop", "--out", "shop"], "--out shop: lies in the catalogue shop; choose a folder outside"),
        (["--data", "shop", "--out", "shop/new"], "--out shop/new: lies in the catalogue shop"),
        (["--data", "shop", "--out", "foreign/notes/new"], "cannot be written (Not a directory)"),
        (["--verify", "foreign"], "foreign/SHA256SUMS: missing; packing has not ended"),
    ],
)
def test_bad_input_gets_one_clear_line_and_writes_nothing(script, tmp_path, arguments, message):
    write_aliproducts(tmp_path / "shop", counts=(1, 1, 1), val=1, test=1)
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign/notes").write_text("mine")
    before = contents(tmp_path)
    done = script("data.pack", *arguments, code=2)
    assert message in done.stderr and done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    assert contents(tmp_path) == before and not (tmp_path / "new").exists()


# Damage


def test_verify_names_what_is_damaged_or_missing_and_packing_again_mends_it(script, root, shared, packed):
    assert "all 9 shards are as they were packed" in script("data.pack", "--verify", packed).stdout
    flipped = bytearray((packed / "train-000001.tar").read_bytes())
    flipped[5000] ^= 1
    (packed / "train-000001.tar").write_bytes(flipped)
    (packed / "val-000000.tar").unlink()
    done = script("data.pack", "--verify", packed, code=2)
    assert "train-000001.tar is damaged, val-000000.tar cannot be read (No such file or directory);" in done.stderr
    assert done.stderr.count("\n") == 1 and "train-000000" not in done.stderr
    (packed / "train-000001.tar").unlink()
    script("data.pack", *arguments(root, packed))
    assert contents(packed) == contents(shared)


@pytest.mark.skipif(not shutil.which("sha256sum"), reason="sha256sum is not installed")
@pytest.mark.parametrize(
    "change",
    [
        dict(start=[0]),
        dict(start="abc"),
        dict(size=[-1] * 3),
        dict(size=[2**40] * 3),
        dict(start=[2**70] * 3),
        dict(unreadable=[[999, "x"]]),
        dict(unreadable=3),
        dict(sha256=None),
        None,
    ],
)
def test_a_shard_whose_facts_were_changed_is_packed_again(script, root, shared, packed, change):
    path = packed / "train-000001.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change) if change else "[" * 100_000)
    (packed / "index/facts.json").unlink()
    assert "8 of 9 shards are there already" in script("data.pack", *arguments(root, packed)).stdout
    assert contents(packed) == contents(shared)


def test_sums_do_not_lead_out_of_the_folder(script, packed):
    (packed / "SHA256SUMS").write_text(f"{'0' * 64}  ../../etc/passwd\n")
    assert "SHA256SUMS: no list of SHA-256 sums" in script("data.pack", "--verify", packed, code=2).stderr


def test_sha256sum_reads_the_sums(shared):
    done = subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=shared, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.count(": OK\n") == 9


def test_a_missing_or_shortened_shard_is_named_when_the_catalogue_is_opened(packed):
    content = (packed / "val-000000.tar").read_bytes()
    (packed / "val-000000.tar").write_bytes(content[:-1])
    with pytest.raises(
        InputError, match=rf"val-000000\.tar: .* expected a shard of {len(content):,} bytes; restore it"
    ):
        open_catalogue(packed)
    (packed / "val-000000.tar").unlink()
    with pytest.raises(InputError, match=r"val-000000\.tar: No such file or directory, expected a shard"):
        open_catalogue(packed)


@pytest.mark.parametrize("damage", ["pack.json alone", "facts", "arrays"])
def test_shards_without_a_whole_index_say_that_packing_has_not_ended(packed, damage):
    if damage == "pack.json alone":
        shutil.rmtree(packed / "index")
    elif damage == "facts":
        (packed / "index/facts.json").write_text("{")
    else:
        (packed / "index/train.start.npy").write_bytes(b"")
    with pytest.raises(InputError, match="shards without a whole index, packing has not ended; run the same"):
        open_catalogue(packed)


def test_photographs_of_a_shard_that_is_lost_or_cut_while_in_use_are_unreadable_and_named(packed):
    split = open_catalogue(packed).split("train")
    (packed / "train-000000.tar").unlink()
    os.truncate(packed / "train-000001.tar", 3000)
    for batch in eval_loader(split, SIDE, 16, 1, False):
        for _, reason in batch.unreadable:
            assert "No such file" in reason or "train-000001.tar ends before it" in reason or "was packed" in reason
        assert {int(split.shards.shard[place]) for place in batch.index.tolist()} <= {1, 2, 3, 4}
    lost = int(np.flatnonzero(split.shards.shard == 0)[0])
    assert str(split.path(lost)) == f"{packed}/train-000000.tar ({split.image_id(lost)})"


def test_a_process_keeps_a_bounded_number_of_shards_open(tmp_path):
    for number in range(300):
        (tmp_path / str(number)).write_bytes(b"%09d" % number)
    before = len(os.listdir("/proc/self/fd"))
    for number in [*range(300), *range(300)]:
        assert shards.PackedPhotograph(str(tmp_path / str(number)), 6, 3, "").read() == b"%03d" % number
    assert len(os.listdir("/proc/self/fd")) - before <= 128


# Training and predicting from shards


def test_training_photographs_are_those_of_the_originals_up_to_jpeg_s_rounding(root, shared):
    transform = TrainTransform(SIDE, 40, min_scale=0.5, autoaugment=False)
    batches = []
    for folder in (root, shared):
        split = open_catalogue(folder).split("train")
        loader = train_loader(split, EpochBatches(np.arange(len(split)), 14), transform, 2, 0, False)
        batches.append(list(loader))
    for one, other in zip(*batches, strict=True):
        assert torch.equal(one.index, other.index) and torch.equal(one.target, other.target)
        assert [place for place, _ in one.unreadable] == [place for place, _ in other.unreadable]
        error = (one.images.int() - other.images.int()).abs().float()
        assert 0 < error.mean() < 2.5 and error.max() < 30  # of 255, as in the shards themselves


SMALL = ["--arch", "resnet18", "--weights", "none", "--resize", SIDE, "--crop", 32, "--batch-size", 16, "--workers", 0]
SMALL += ["--lr", 0.02, "--precision", "float32", "--min-scale", 0.5, "--no-autoaugment"]


def train(script, root, out, *more, code=0, name="train.py"):
    return script(name, "--data", root, "--out", out, *SMALL, *more, code=code)


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        layers = (nn.Conv2d(3, 16, 5, 2), nn.ReLU(), nn.Conv2d(16, 32, 5, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
        self.features, self.classifier = nn.Sequential(*layers, nn.Flatten()), nn.Linear(32, 4)

    def forward(self, images):
        return self.classifier(self.features(images))

    predict = forward


def test_a_network_says_the_same_of_the_originals_and_of_the_shards(root, shared):
    torch.manual_seed(0)
    originals, packed = open_catalogue(root), open_catalogue(shared)
    split, net = originals.split("train"), Small()
    batches = EpochBatches(np.arange(len(split)), len(split))
    batch = next(iter(train_loader(split, batches, TrainTransform(SIDE, 32, 0.5, False), 0, 0, False)))
    optimizer = torch.optim.Adam(net.parameters(), 0.01)
    for _ in range(100):
        loss = nn.functional.cross_entropy(net(normalise(batch.images)), batch.target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    classifier = Classifier(
        net, Compute(torch.device("cpu"), False, torch.channels_last), SIDE, 32, [*"abcd"], [*"abcd"]
    )
    said = []
    for catalogue in (originals, packed):
        loader = eval_loader(catalogue.split("val"), SIDE, 16, 0, False)
        said.append(next(classifier.rows(loader, crops=10)))
    one, other = said
    assert [place for place, _ in one.unreadable] == [place for place, _ in other.unreadable] == [7]
    assert one.probabilities.max() > 0.9, "it has learned something"
    assert 0 < np.abs(one.probabilities - other.probabilities).max() < 0.1


def test_predictions_and_submissions_from_shards_have_the_ids_of_the_catalogue(script, shared, root, tmp_path):
    done = train(script, shared, "runs/net", "--epochs", 1, "--balanced", 4, "--resize", 64)
    assert "note: photographs packed at 48 pixels are enlarged to --resize 64" in done.stderr
    listed = (tmp_path / "runs/net/unreadable.txt").read_text()
    name = f"{shared}/val-000000.tar ({UNREADABLE['val']})"
    assert f"{name}\tOSError: has no bytes: it was empty, or could not be read when it was packed" in listed
    for folder in (root, shared):
        common = ("runs/net/best.pt", "--data", folder, "--crops", 1, "--workers", 0)
        done = script("predict.py", *common, "--out", f"{folder.name}.npy")
        script("predict.py", *common, "--split", "test", "--out", f"{folder.name}-test.npy")
        script("ensemble.py", f"{folder.name}-test.npy", "--submission", f"{folder.name}.csv")
    assert f"warning: {name} cannot be read, its row is uniform" in done.stderr
    one, other = (open_member(tmp_path / f"{folder.name}.npy").info for folder in (root, shared))
    assert (one.image_ids, one.labels, one.unreadable) == (other.image_ids, other.labels, other.unreadable)
    assert one.unreadable == [UNREADABLE["val"]]
    ids = [[line.split(",")[0] for line in (tmp_path / f"{f.name}.csv").open()] for f in (root, shared)]
    assert ids[0] == ids[1] and len(ids[0]) == 13


def test_labels_for_photographs_of_the_test_shards_bring_these_along(shared, tmp_path):
    (tmp_path / "labels.csv").write_text("id,class,probability\ntest17_2.jpg,103,0.9\ntest4_0.jpg,4,0.8\n")
    catalogue = open_catalogue(shared)
    extended, _ = with_extra_labels(catalogue, tmp_path / "labels.csv")
    train, test = extended.split("train"), catalogue.split("test")
    for place, other in ((42, 5), (43, 0)):
        assert train.image_id(place) == test.image_id(other) and train.path(place).read() == test.path(other).read()
    assert train.path(7) == catalogue.split("train").path(7)


def test_duplicates_are_found_in_shards(tmp_path):
    write_aliproducts(tmp_path / "shop")
    names = [tmp_path / "shop/train/00004" / f"train4_{place}.jpg" for place in (2, 7)]
    names[1].write_bytes(names[0].read_bytes())
    split = open_catalogue(pack(tmp_path / "shop", tmp_path / "shards", size=40)).split("train")
    assert find_clusters([split], 2, 0.1, 1) == ([[2, 7]], 0)


# Streaming


def stream(photographs, per_shard, at_once, batch_size, seed=0, order=None):
    order = pack_shards.packing_order("train", photographs, 0) if order is None else order
    shard = np.empty(photographs, np.int32)
    shard[order] = np.arange(photographs) // per_shard
    return StreamBatches(np.arange(photographs), shard, batch_size, at_once, seed)


@settings(deadline=None)
@given(st.integers(1, 200), st.integers(1, 60), st.integers(1, 7), st.integers(1, 30), st.integers(0, 3))
def test_an_epoch_visits_every_photograph_once_and_a_few_shards_at_a_time(n, per_shard, at_once, batch_size, epoch):
    batches = stream(n, per_shard, at_once, batch_size)
    batches.epoch = epoch
    drawn = list(batches)
    sizes = [len(batch) for batch in drawn]
    assert len(drawn) == len(batches) and max(sizes) <= batch_size and max(sizes) - min(sizes) <= 1
    visits = [draw.index for batch in drawn for draw in batch]
    assert sorted(visits) == list(range(n)) and {draw.epoch for batch in drawn for draw in batch} == {epoch}
    runs = batches.shard[visits]  # of the shards, which are visited at_once at a time
    while len(runs):
        first = list(dict.fromkeys(runs.tolist()))[:at_once]
        inside = np.isin(runs, first)
        assert (np.diff(inside.astype(int)) <= 0).all(), "a shard that is done is not opened again"
        runs = runs[~inside]
    batches.start = len(drawn) // 2
    assert list(batches) == drawn[len(drawn) // 2 :]


def test_every_epoch_and_seed_has_its_order_of_shards_and_photographs():
    def order(seed, epoch):
        batches = stream(60, 10, 2, 8, seed)
        batches.epoch = epoch
        return tuple(draw.index for batch in batches for draw in batch)

    assert len({order(seed, epoch) for seed in range(4) for epoch in range(4)}) == 16 and order(1, 1) == order(1, 1)


def p_value(batches, labels):
    """Of the chi-square test that batches and classes are independent: uniform if batches are those of a full shuffle,
    next to 0 if batches favour classes."""
    counts = np.array(
        [np.bincount(labels[[draw.index for draw in batch]], minlength=labels.max() + 1) for batch in batches]
    )
    expected = counts.sum(1, keepdims=True) * counts.sum(0) / counts.sum()
    statistic = ((counts - expected) ** 2 / expected).sum()
    return chi2.sf(statistic, (counts.shape[0] - 1) * (counts.shape[1] - 1))


def test_batches_of_a_catalogue_sorted_by_class_are_as_mixed_as_those_of_a_full_shuffle():
    n, labels = 8000, np.repeat(np.arange(10), 800)

    def p_values(make):
        values = []
        for epoch in range(20):
            batches = make()
            batches.epoch = epoch
            values.append(p_value(batches, labels))
        return np.array(values)

    full = p_values(lambda: EpochBatches(np.arange(n), 64))
    packed = p_values(lambda: stream(n, 400, 2, 64))
    unshuffled = p_values(lambda: stream(n, 400, 2, 64, order=np.arange(n)))
    for values in (full, packed):
        # 20 uniform numbers: their mean is 0.5 ± 0.065, and one below 0.0005 among them comes in one case of 100
        assert 0.29 < values.mean() < 0.71 and values.min() > 0.0005
    assert unshuffled.max() < 1e-9


def test_neighbours_of_one_epoch_are_not_neighbours_in_the_next():
    batches = stream(4000, 200, 4, 50)
    pairs = []
    for epoch in range(2):
        batches.epoch = epoch
        together = [sorted(draw.index for draw in batch) for batch in batches]
        pairs.append({(a, b) for batch in together for place, a in enumerate(batch) for b in batch[place + 1 :]})
    # By chance, 49 in 799 of those that stay in four shards: all pairs of one shard (a quarter of them), and 3 of 19
    # others. That is 2.3 in a hundred, where a full shuffle has 1.2.
    assert 0.015 < len(pairs[0] & pairs[1]) / len(pairs[0]) < 0.03


def test_each_epoch_asks_once_for_the_whole_of_each_shard(shared, monkeypatch):
    asked = []
    monkeypatch.setattr(os, "posix_fadvise", lambda *request: asked.append(request), raising=False)
    shards.read_ahead.cache_clear()
    split, transform = open_catalogue(shared).split("train"), TrainTransform(SIDE, 40)
    batches = StreamBatches(np.arange(len(split)), split.shards.shard, 8, 2)
    for epoch in range(2):
        batches.epoch = epoch
        list(train_loader(split, batches, transform, 0, 0, False))
        assert len(asked) == 5 * (epoch + 1) and {request[1:] for request in asked} == {(0, 0, os.POSIX_FADV_WILLNEED)}
    list(train_loader(split, EpochBatches(np.arange(len(split)), 8), transform, 0, 0, False))
    assert len(asked) == 10, "and only when streaming"


def test_a_run_keeps_its_stream(script, shared, tmp_path):
    train(script, shared, "run", "--epochs", 1, "--stream", 2, "--workers", 2)
    assert torch.load(tmp_path / "run/last.pt")["settings"]["stream"] == 2
    refused = script("train.py", "--resume", "--out", "run", "--epochs", 2, "--stream", 3, code=2)
    assert "--stream 3: the run in run has 2; leave --stream out" in refused.stderr


def test_stream_is_refused_where_it_cannot_be(script, root, shared, tmp_path):
    for done, message in (
        (train(script, root, "run", "--stream", 2, code=2), "is not packed; pack it with python -m data.pack"),
        (train(script, shared, "run", "--stream", 2, "--balanced", 3, code=2), "--balanced 3 takes a few"),
        (train(script, shared, "run", "--stream", 2, code=2, name="train_lio.py"), "train_lio.py draws photographs by"),
        (
            train(script, shared, "run", "--stream", 2, code=2, name="tricks/bbn.py"),
            "bbn.py draws photographs by",
        ),
        (train(script, shared, "run", "--stream", -1, code=2), "--stream: '-1': expected an integer of at least 0"),
    ):
        assert message in done.stderr and done.stderr.count("error: ") == 1 and "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()
