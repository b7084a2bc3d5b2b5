"""A checkpoint may come from anybody, or from a broken disk: it works, or is one line; it never runs."""

import copy
import io
import math
import os
import pickle
import random
import shutil
import sys
from collections import Counter
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from conftest import write_aliproducts
from test_training import SMALL

import finetune_dcl
import models.checkpoint
import train
from catalogues import open_catalogue
from common import command_line
from common.device import choose_compute
from common.errors import InputError
from models import DCL
from models.checkpoint import load_checkpoint, network_of
from models.checkpoint_format import checked
from training.checkpoints import require_resumable
from training.loop import Trainer
from training.settings import settings_of, training_settings
from training.start import starting_network

NAN, INFINITE = math.nan, math.inf


class Trained(NamedTuple):
    """Runs of train.py and finetune_dcl.py with averaged weights; last.pt is changed to one inside an epoch."""

    root: Path
    plain: Path
    dcl: Path


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Trained:
    folder = tmp_path_factory.mktemp("trained")
    root = write_aliproducts(folder / "catalogue")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(os, "fsync", lambda file: None)
        common = ["--data", root, "--epochs", 1, *SMALL]
        patch.setattr(sys, "argv", ["train.py", *map(str, ["--out", "plain", "--ema", 0.5, *common])])
        train.main()
        common.remove("--arch"), common.remove("resnet18"), common.remove("--weights"), common.remove("none")
        heads = ["--init", "plain/best.pt", "--out", "dcl", "--grid", 2, "--ema", 0.5]
        patch.setattr(sys, "argv", ["finetune_dcl.py", *map(str, [*heads, *common])])
        finetune_dcl.main()
    for name in ("plain", "dcl"):
        state = torch.load(folder / name / "last.pt", weights_only=True)
        totals = {"images": 8, "loss": torch.tensor(8.0, dtype=torch.float64), "seconds": 0.5}
        torch.save(state | dict(epoch=0, batch=1, log=[], best=INFINITE, totals=totals), folder / name / "last.pt")
    return Trained(root, folder / "plain/last.pt", folder / "dcl/last.pt")


@pytest.fixture
def bad(tmp_path) -> Path:
    """run/last.pt, to be made bad."""
    (tmp_path / "run").mkdir()
    return tmp_path / "run/last.pt"


FRESH = ["--out", "out", *SMALL]
FRESH_DCL = ["--out", "out", "--resize", 36, "--crop", 32, "--grid", 2, "--batch-size", 8, "--workers", 0]
USES = {
    "predict": ("predict.py", "run/last.pt", "--workers", 0, "--crops", 1),
    "init": ("train.py", "--init", "run/last.pt", "--data", "ROOT", "--epochs", 1, *FRESH),
    "teacher": ("train.py", "--teacher", "run/last.pt", "--data", "ROOT", "--epochs", 1, *FRESH),
    "resume": ("train.py", "--resume", "--out", "run"),
    "dcl": ("finetune_dcl.py", "--init", "run/last.pt", "--epochs", 1, *FRESH_DCL),
    "export": ("finetune_dcl.py", "--init", "run/last.pt", "--export-plain", "out.pt"),
    "show": ("finetune_dcl.py", "--init", "run/last.pt", "--show", "out.png", "--grid", 2),
    "lio": ("train_lio.py", "--init", "run/last.pt", "--show", "out.png", "--data", "ROOT"),
}


def refused(script, trained, use, part="run/last.pt: "):
    """The one line; nothing is written, nor is what is there."""
    name, *arguments = USES[use]
    before = {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}
    done = script(name, *(trained.root if word == "ROOT" else word for word in arguments), code=2)
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1 and part in done.stderr, done.stderr
    assert {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()} == before
    assert not Path("out").exists() and not Path("preds").exists()
    return done.stderr


class Code:
    """Pickled, it makes a folder when it is unpickled."""

    def __init__(self, trace: Path):
        self.trace = trace

    def __reduce__(self):
        return os.mkdir, (str(self.trace),)


def spoiled(how: str, trained: Trained, trace: Path) -> bytes:
    raw, state = trained.plain.read_bytes(), torch.load(trained.plain, weights_only=True)
    match how:
        case "cut off":
            return raw[: len(raw) // 2]
        case "flipped":
            half = len(raw) // 2
            return raw[:half] + bytes([raw[half] ^ 1]) + raw[half + 1 :]
        case "state dict":
            state = state["model"]
        case "other version":
            state["format"] = 2
        case "nan":
            state["model"]["conv1.weight"][0, 0, 0, 0] = NAN
        case "code":
            state["settings"]["seed"] = Code(trace)
        case "classes":
            state["classes"] = [None]
    file = io.BytesIO()
    torch.save(state, file)
    return file.getvalue()


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("how", ["cut off", "flipped", "state dict", "other version", "nan", "code", "classes"])
def test_whoever_opens_a_bad_checkpoint_says_so_in_one_line(script, trained, bad, tmp_path, use, how):
    bad.write_bytes(spoiled(how, trained, tmp_path / "ran"))
    refused(script, trained, use)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("use", USES)
def test_the_good_ones_go_through(script, trained, bad, use):
    shutil.copy(trained.dcl if use == "export" else trained.plain, bad)
    name, *arguments = USES[use]
    script(name, *(trained.root if word == "ROOT" else word for word in arguments))


@pytest.mark.parametrize("share", [0, 1e-6, 1e-4, 0.01, 0.1, 0.3, 0.6, 0.9, 0.999, 0.99999])
def test_a_file_that_is_cut_off_anywhere_is_refused(trained, bad, share):
    raw = trained.plain.read_bytes()
    bad.write_bytes(raw[: int(share * len(raw))])
    with pytest.raises(InputError, match=r"last\.pt: not a readable checkpoint \(cut off"):
        load_checkpoint(bad)


def test_flipped_bits_are_noticed_wherever_they_are(trained, bad):
    raw = trained.plain.read_bytes()
    for place in range(len(raw) // 40, len(raw), len(raw) // 20):  # in weights, in momentum, and in between
        bad.write_bytes(raw[:place] + bytes([raw[place] ^ 64]) + raw[place + 1 :])
        torch.load(bad, weights_only=True)  # which notices nothing
        with pytest.raises(InputError, match=r"damaged in .*data/\d+"):
            load_checkpoint(bad)


@pytest.mark.parametrize("place", ["settings", "log", "classes", "heads", "top", "key"])
@pytest.mark.parametrize("legacy", [False, True, None], ids=["zip", "legacy", "pickle"])
def test_code_is_never_run_wherever_it_hides(trained, bad, tmp_path, place, legacy):
    state, code = torch.load(trained.plain, weights_only=True), Code(tmp_path / "ran")
    hidden = {
        "settings": lambda: state["settings"].update(deep=[{"er": code}]),
        "log": lambda: state["log"].append({"loss": code}),
        "classes": lambda: state["classes"].append(code),
        "heads": lambda: state.update(heads={"kind": code}),
        "top": lambda: state.update(more=code),
        "key": lambda: state.update({code: 1}),
    }
    hidden[place]()
    with bad.open("wb") as file:
        if legacy is None:
            pickle.dump(state["settings"] | {"code": code}, file)
        else:
            torch.save(state, file, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(InputError, match=r"last\.pt: not a readable checkpoint"):
        load_checkpoint(bad)
    assert not (tmp_path / "ran").exists()
    with pytest.raises((FileExistsError, TypeError, AttributeError, pickle.UnpicklingError, KeyError, RuntimeError)):
        pickle.loads(pickle.dumps(code)), pickle.loads(pickle.dumps(code))  # it would have been, though
    assert (tmp_path / "ran").exists()


def test_pipes_folders_and_devices_are_no_checkpoints(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe", "/dev/zero"):
        with pytest.raises(InputError, match="not a file"):
            load_checkpoint(path)


def test_compressed_content_is_not_unpacked(trained, bad):
    import zipfile

    with zipfile.ZipFile(trained.plain) as good, zipfile.ZipFile(bad, "w", zipfile.ZIP_DEFLATED) as packed:
        for part in good.infolist():
            packed.writestr(part.filename, good.read(part))
    with pytest.raises(InputError, match="damaged in"):
        load_checkpoint(bad)


# What a stranger may have written, key by key ------------------------------------------------------------------------

WEIGHTS = "conv1.weight"  # (64, 3, 7, 7)


def change(path: str, value):
    """Sets state["a"]["b"] for the path a/b; DROP removes it."""

    def apply(state):
        *way, last = path.split("/")
        for key in way:
            state = state[key]
        if value is DROP:
            del state[last]
        else:
            state[last] = value

    return apply


DROP = object()
WRONG = [
    *[(key, DROP) for key in ("format", "arch", "classes", "class_ids", "settings", "model", "ema", "optimizer")],
    *[(key, DROP) for key in ("epoch", "batch", "log", "best", "settings/data", "settings/resize", "settings/crop")],
    *[("format", value) for value in (0, 2, "1", 1.0, None, [])],
    *[("arch", value) for value in ("resnet51", "", None, 3, [], {}, "resnet50")],
    *[("classes", value) for value in ([], ["a"], ["a"] * 10**6, [1, 2, 3], "abc", None, {}, ["a", "b", "c\0"])],
    *[("class_ids", value) for value in ([], ["4"], [4.5, 1, 2], None, "abc")],
    *[("settings", value) for value in (None, [], "demo", {}, {1: 2}, torch.zeros(2))],
    *[("settings/data", value) for value in ("a\0b", None, 3, ["demo"])],
    *[("settings/crop", value) for value in (0, -1, 31, 4097, "32", 32.0, True, None, 10**30, torch.tensor(32))],
    *[("model", value) for value in (None, {}, [], {"a": 1}, {1: torch.zeros(1)}, {"a": torch.zeros(1)})],
    *[(f"model/{WEIGHTS}", value) for value in (DROP, None, 1.0, [1.0], torch.full((64, 3, 7, 7), NAN))],
    *[(f"model/{WEIGHTS}", torch.full((64, 3, 7, 7), value)) for value in (INFINITE, -INFINITE)],
    (f"model/{WEIGHTS}", torch.zeros(64, 3, 7, 7, device="meta")),
    (f"model/{WEIGHTS}", torch.zeros(64, 3, 7, 7).to_sparse()),
    (f"model/{WEIGHTS}", torch.zeros(64, 3, 7, 7, dtype=torch.complex64)),
    (f"model/{WEIGHTS}", torch.zeros(64, 3, 7, 7, dtype=torch.int8)),
    (f"model/{WEIGHTS}", torch.zeros(1).expand(64, 3, 7, 7)),
    (f"model/{WEIGHTS}", torch.zeros(1).expand(10**6, 10**6, 10**6)),
    (f"model/{WEIGHTS}", torch.zeros(64, 3, 7)),
    ("model/more", torch.zeros(1)),
    *[("ema", value) for value in ({}, [], {"a": torch.zeros(1)}, False, 0)],
    (f"ema/{WEIGHTS}", torch.full((64, 3, 7, 7), NAN)),
    *[("optimizer", value) for value in (None, [], "SGD")],
    *[(key, value) for key in ("epoch", "batch") for value in (-1, "1", 1.0, None, True, [], 10**30, NAN)],
    *[("log", value) for value in (None, {}, [1], [[]], [{"loss": "x"}], [{1: 2.0}], [{"loss": torch.zeros(1)}], [{}])],
    *[("best", value) for value in ("0.5", None, NAN, True, [], torch.tensor(0.5), 10**400)],
    *[("totals", value) for value in (None, [], {"loss": "x"}, {"images": torch.zeros(2)}, {"images": 8}, {1: 1})],
    ("totals/seconds", 0),
    ("totals/images", -8),
    ("totals/loss", DROP),
    *[("script", value) for value in (None, 3, "a b", "../train.py", "train.py; reboot", "\x1b[2J", "x" * 9 + "\n")],
    *[("heads", value) for value in ({}, [], "DCL", {"kind": None}, {"kind": "XYZ"}, {"kind": []}, {"kind": "LIO"})],
]
WRONG_HEADS = [
    *[("heads/options", value) for value in (None, {}, {"grid": 2}, [], {"grid": 2, "adversary": "2k", "net": 3})],
    *[("heads/options/grid", value) for value in (0, 1, -1, 65, 10**9, "2", 2.0, None, [2], NAN)],
    *[("heads/options/adversary", value) for value in ("3k", "", None, 2, ["2k"])],
    *[("heads/model", value) for value in (None, {}, [], {"law.weight": torch.zeros(1)}, {"x": "y"})],
    ("heads/model/law.bias", torch.tensor([NAN])),
    ("heads/ema", None),
    ("heads/kind", "LIO"),
    ("heads/kind", "BBN"),
    ("heads/kind", "Angular"),
]


@pytest.fixture(scope="module")
def whole(trained):
    """Both checkpoints as dictionaries, in memory: a test changes a copy."""
    return {name: torch.load(getattr(trained, name), weights_only=True) for name in ("plain", "dcl")}


@pytest.fixture
def shallow_networks(monkeypatch):
    """Networks are made once an arch and number of classes: what is tested loads its weights anyway."""
    made, create = {}, models.checkpoint.create_model

    def create_model(arch, num_classes, weights=None):
        return copy.deepcopy(made.setdefault((arch, num_classes), create(arch, num_classes)))

    monkeypatch.setattr(models.checkpoint, "create_model", create_model)


def copied(state):
    """The dictionaries anew, the tensors shared."""
    if isinstance(state, dict):
        return {key: copied(value) for key, value in state.items()}
    return [copied(value) for value in state] if isinstance(state, list) else state


def use(state):
    """Do all that scripts do with a checkpoint before they read photographs. Returns the network."""
    state = checked(state, "x.pt")
    net = network_of(state, "x.pt", heads=True)
    require_resumable(state, net, True, (10.0 if state["heads"] else 1.0, 1.0), "x.pt")
    return net


@pytest.mark.parametrize("name", ["plain", "dcl"])
def test_the_unchanged_ones_are_accepted(whole, name):
    use(copied(whole[name]))


@pytest.mark.parametrize(("path", "value"), WRONG, ids=[f"{path} {place}" for place, (path, _) in enumerate(WRONG)])
def test_a_wrong_value_of_any_key_is_refused(whole, path, value, shallow_networks):
    state = copied(whole["plain"])
    change(path, value)(state)
    with pytest.raises(InputError, match=r"^x\.pt: ") as refusal:
        use(state)
    assert len(str(refusal.value)) < 400


def places(state, way=()):
    """The path of every key and list entry, at any depth."""
    inner = state.items() if isinstance(state, dict) else enumerate(state) if isinstance(state, list) else ()
    for key, value in inner:
        yield (*way, key)
        yield from places(value, (*way, key))


@pytest.mark.filterwarnings("error")
def test_any_nonsense_at_any_place_is_refused_or_harmless(whole):
    small = copied(whole["dcl"]) | {"skipped": [{"epoch": 1, "loss": "nan", "photographs": ["a.jpg"]}], "optimizer": {}}
    matrix = next(name for name, weights in small["model"].items() if weights.ndim == 2)
    for holder in (small, small["heads"]):
        for part in ("model", "ema"):
            names = [matrix] if holder is small else list(holder[part])[:1]
            holder[part] = {name: holder[part][name] for name in names}
    checked(copied(small), "x.pt")
    outcomes = Counter()
    for *way, last in list(places(small)):
        for value in [*NONSENSE, 10**400, (), set(), ("a",), [torch.zeros(1)], {"a": torch.zeros(2)}]:
            state = copied(small)
            inner = state
            for key in way:
                inner = inner[key]
            inner[last] = value
            try:
                state = checked(state, "x.pt")
            except InputError as error:
                assert str(error).startswith("x.pt: ")
                outcomes["refused"] += 1
            else:
                assert all(type(state[key]) is list for key in ("classes", "class_ids", "log", "skipped"))
                assert type(state["model"]) is dict
                outcomes["harmless"] += 1
    assert outcomes["refused"] > 1000 and outcomes["harmless"]


@pytest.mark.parametrize(("path", "value"), WRONG_HEADS, ids=[f"{p} {n}" for n, (p, _) in enumerate(WRONG_HEADS)])
def test_wrong_heads_are_refused(whole, path, value, shallow_networks):
    state = copied(whole["dcl"])
    change(path, value)(state)
    with pytest.raises(InputError, match=r"^x\.pt: "):
        use(state)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_weights_of_another_precision_are_converted(whole, dtype):
    state = copied(whole["plain"])
    state["ema"][WEIGHTS] = state["ema"][WEIGHTS].to(dtype)
    net = use(state)
    assert torch.equal(net.state_dict()[WEIGHTS], state["ema"][WEIGHTS].float())


def test_checkpoints_of_before_there_were_heads_totals_and_scripts_go_on_working(script, trained, bad, whole):
    state = copied(whole["plain"])
    for key in ("heads", "totals", "script"):
        del state[key]
    for name in ("loss", "extra", "exclude", "stream", "accumulate", "sync_bn", "compile", "save_every", "teacher"):
        del state["settings"][name]
    state["settings"]["a_flag_of_old"] = 3
    torch.save(state | dict(batch=0), bad)
    for name in ("resume", "predict", "init"):
        program, *arguments = USES[name]
        script(program, *(trained.root if word == "ROOT" else word for word in arguments))


# Settings --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("lr", value) for value in ("0.02", 0.0, -1.0, NAN, INFINITE, True, [0.02], {}, torch.ones(1), "x" * 999)],
        *[("batch_size", value) for value in (1, 8.0, "8", -8, None, 2**60)],
        *[("decay_at", value) for value in ("1,2", [-1.0], ["1"], [NAN], [[1.0]], 1.0, {})],
        *[("loss", value) for value in ("nonsense", 3, ["focal"], None)],
        *[("autoaugment", value) for value in (1, "yes", None, [])],
        *[("init", value) for value in (3, ["a.pt"], "a\0b")],
        *[("data", value) for value in ("relative", "../..")],
        ("precision", "bf15"),
        ("seed", 2**31 + 1),
        ("crop", 48),
    ],
)
def test_settings_that_the_script_would_not_accept_are_refused(script, trained, bad, whole, name, value):
    state = copied(whole["plain"])
    state["settings"][name] = value
    torch.save(state, bad)
    part = {"crop": "--crop 48 is larger than --resize 36"}.get(name, "run/last.pt: ")
    refused(script, trained, "resume", part)


def test_what_a_checkpoint_leaves_open_the_recipe_tells(script, trained, bad, whole):
    state = copied(whole["plain"])
    state["settings"]["lr"] = None
    torch.save(state, bad)
    assert " --lr 0.015 " in script("train.py", "--resume", "--out", "run").stdout


def test_of_a_tampered_checkpoint_nothing_but_settings_of_the_run_is_taken(script, trained, bad, whole, tmp_path):
    state = copied(whole["plain"])
    state["settings"] |= dict(out="elsewhere", overwrite=True, resume=False, device="meta", workers=10**6)
    state["settings"] |= dict(show="shown.png", export_plain="plain.pt", help=True, __class__="x", unknown=[1])
    torch.save(state, bad)
    script("train.py", "--resume", "--out", "run")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]
    kept = load_checkpoint(bad)["settings"]
    assert not kept.keys() & {"out", "overwrite", "resume", "device", "workers", "show", "export_plain", "unknown"}
    program, *arguments = USES["show"]
    script(program, *arguments)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.png", "run"]


def test_control_characters_of_a_checkpoint_do_not_reach_the_terminal(script, trained, bad, whole):
    state = copied(whole["plain"])
    state["settings"]["data"] = "\x1b[2J\nerror: all is lost"
    torch.save(state, bad)
    done = script("train.py", "--resume", "--out", "run", code=2)
    assert "\x1b" not in done.stdout + done.stderr and "\\x1b[2J\\nerror: all" in done.stderr


# Resuming --------------------------------------------------------------------------------------------------


def wrong_optimizers(good):
    group, size = good["param_groups"][0], len(good["param_groups"][0]["params"])
    yield {}
    yield {"state": {}, "param_groups": []}
    yield {"state": [], "param_groups": [group]}
    yield {"state": {}, "param_groups": [group, group]}
    yield {"state": {}, "param_groups": [None]}
    for name in group:
        yield good | {"param_groups": [{key: value for key, value in group.items() if key != name}]}
        yield good | {"param_groups": [group | {name: "x"}]}
        yield good | {"param_groups": [group | {name: [NAN]}]}
    for name in ("lr", "momentum", "weight_decay", "dampening"):
        yield good | {"param_groups": [group | {name: NAN}]}
        yield good | {"param_groups": [group | {name: -1.0}]}
    for name in ("maximize", "nesterov", "differentiable", "foreach"):
        yield good | {"param_groups": [group | {name: True}]}
    yield good | {"param_groups": [group | {"params": list(range(1, size + 1))}]}
    yield good | {"param_groups": [group | {"more": 1}]}
    for moment in (None, {}, {"momentum_buffer": torch.zeros(1)}, {"momentum_buffer": "x"}, {"step": torch.zeros(1)}):
        yield good | {"state": good["state"] | {0: moment}}
    for place in (-1, size, "0", None):
        yield good | {"state": good["state"] | {place: good["state"][0]}}
    yield good | {"state": {0: {"momentum_buffer": good["state"][0]["momentum_buffer"].to("meta")}}}


OPTIONAL_GROUP = {"nesterov", "maximize", "foreach", "differentiable", "fused"}  # which SGD itself fills in


def test_an_optimizer_that_is_not_the_runs_is_refused(whole):
    state = checked(copied(whole["plain"]), "x.pt")
    net = network_of(state, "x.pt")
    require_resumable(state, net, True, (1.0, 1.0), "x.pt")
    accepted = 0
    for optimizer in wrong_optimizers(state["optimizer"]):
        (group, *_) = optimizer.get("param_groups") or [None]
        try:
            require_resumable(state | {"optimizer": optimizer}, net, True, (1.0, 1.0), "x.pt")
        except InputError as error:
            assert str(error).startswith("x.pt: its optimizer is not that of this run")
        else:
            accepted += 1
            assert set(whole["plain"]["optimizer"]["param_groups"][0]) - set(group) <= OPTIONAL_GROUP
            torch.optim.SGD(net.parameters(), 0.1, fused=True).load_state_dict(copied(optimizer))
    assert accepted == len(OPTIONAL_GROUP), "those without a key that SGD fills in"


def test_a_run_cannot_go_on_from_a_best_pt_without_its_heads(script, trained, bad, whole):
    torch.save(copied(whole["plain"]) | {"optimizer": {}}, bad)
    assert "its optimizer is not that of this run" in refused(script, trained, "resume")


def test_another_head_rate_for_a_resumed_run_is_refused(script, trained, bad):
    shutil.copy(trained.dcl, bad)
    done = script("finetune_dcl.py", "--resume", "--out", "run", "--head-rate", 1, code=2)
    assert "--head-rate 1.0: the run in run has 10.0" in done.stderr and done.stderr.count("\n") == 1


def test_a_run_with_an_average_needs_the_averaged_weights(script, trained, bad, whole):
    torch.save(copied(whole["plain"]) | {"ema": None}, bad)
    assert "its weights are not those" in refused(script, trained, "resume")


# Anything --------------------------------------------------------------------------------------------------

NONSENSE = [None, "", -1, 0, 10**30, [], {}, NAN, INFINITE, "x" * 1000, True, [None], {"": {}}, b"raw", (1, 2), {1, 2}]
NONSENSE += [torch.zeros(2), torch.tensor(NAN), torch.zeros(2, device="meta"), 1j, "\ud800", "a\0b"]


def mutate(state, draw: random.Random) -> str:
    """Drops a key or replaces its value, at any depth; tells which and by what."""
    way = []
    while True:
        way.append(draw.choice(list(state) if isinstance(state, dict) else range(len(state))))
        inner = state[way[-1]]
        if not (isinstance(inner, dict | list) and len(inner)) or draw.random() < 0.2:
            break
        state = inner
    value = draw.choice([DROP, *NONSENSE])
    if value is DROP:
        del state[way[-1]]
    else:
        state[way[-1]] = value
    return f"{way}: {'dropped' if value is DROP else repr(value)[:50]}"


@pytest.mark.parametrize("name", ["plain", "dcl"])
def test_whatever_changes_it_works_or_is_refused(script, whole, monkeypatch, capsys, name):
    module, program = {"plain": (train, "train.py"), "dcl": (finetune_dcl, "finetune_dcl.py")}[name]
    monkeypatch.setattr(sys, "argv", [program, "--resume", "--out", "run"])
    draw, outcomes = random.Random(0), Counter()
    for _ in range(100):
        state = copied(whole[name])
        told = mutate(state, draw)
        monkeypatch.setattr("models.checkpoint.load_checkpoint", lambda path, state=state: checked(state, path))
        try:
            args, resume = training_settings(module.arguments(), module.recipe)
            heads = [] if name == "plain" else [partial(DCL, grid=args.grid, adversary=args.adversary)]
            catalogue = open_catalogue(args.data)
            net = starting_network(args, catalogue, resume, *heads)
            compute = choose_compute(net, args.device, args.precision, args.memory_format)
            Trainer(args, net, catalogue, compute, resume)
            outcomes["works"] += 1
        except InputError:
            outcomes["refused"] += 1
        except BaseException as error:
            pytest.fail(f"{told}: {error!r}")
    assert outcomes["works"] and outcomes["refused"] > 50


def test_settings_pass_the_parsers_own_checks_and_no_others(whole):
    parser = train.arguments()
    good = settings_of(parser, whole["plain"], "x.pt")
    assert good["arch"] == "resnet18" and good["lr"] == 0.02 and good["ema"] == 0.5 and "out" not in good
    for name in good.keys() - {"arch"}:
        with pytest.raises(InputError, match=rf"its setting {name} is a set, which --"):
            command_line.accepted(parser, good | {name: {3}}, "x.pt")
