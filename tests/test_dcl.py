"""Destruction and construction learning: the shuffle, the loss, the heads, the script and what becomes of its run."""

import random
from collections import Counter
from math import exp, log, tanh

import pytest
import torch
from conftest import write_aliproducts
from PIL import Image
from scipy.stats import chi2_contingency
from test_training import SMALL, assert_same_run, train

from data import Batch, move_regions, shuffle_regions, shuffled_places
from finetune_dcl import step
from losses import dcl_loss
from models import ARCHS, DCL, create_model
from models.checkpoint import load_checkpoint, network_of
from predictions.reading import open_member
from training.loop import parameter_groups

# the shuffle -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("grid, size", [(7, (28, 28)), (4, (16, 24)), (1, (5, 5)), (2, (2, 2))])
def test_every_source_is_a_permutation_and_moving_regions_back_restores_the_batch(grid, size, layout):
    images = torch.randn(5, 3, *size).contiguous(memory_format=layout)
    moved, source = shuffle_regions(images, grid, 2, torch.Generator().manual_seed(1))
    assert torch.equal(source.sort(1).values, torch.arange(grid**2).expand(5, -1))
    assert torch.equal(move_regions(moved, source.argsort(1)), images)
    assert grid == 1 or not torch.equal(moved, images)


def test_source_names_the_region_that_lies_at_each_place():
    images = torch.randn(3, 2, 12, 20)
    moved, source = shuffle_regions(images, 4)
    height, width = 3, 5
    for b in range(3):
        for place in range(16):
            (r, c), (y, x) = divmod(place, 4), divmod(int(source[b, place]), 4)
            there = moved[b, :, r * height : (r + 1) * height, c * width : (c + 1) * width]
            assert torch.equal(there, images[b, :, y * height : (y + 1) * height, x * width : (x + 1) * width])


@pytest.mark.parametrize("grid, reach", [(7, 2.0), (7, 1.0), (9, 3.5), (5, 0.4)])
def test_a_region_moves_by_less_than_twice_the_reach_in_its_row_and_in_its_column(grid, reach):
    source = shuffled_places(10_000, grid, reach, generator=torch.Generator().manual_seed(0))
    place = torch.arange(grid**2)
    rows, columns = (source // grid - place // grid).abs(), (source % grid - place % grid).abs()
    assert max(rows.max(), columns.max()) < 2 * reach
    if reach < 0.5:
        assert torch.equal(source, place.expand_as(source))
    else:
        assert min(rows.max(), columns.max()) >= 1, "and some do move"


def test_without_reach_nothing_moves():
    images = torch.randn(4, 3, 14, 14)
    for reach in (0, 1e-9):
        moved, source = shuffle_regions(images, 7, reach)
        assert torch.equal(moved, images) and torch.equal(source, torch.arange(49).expand(4, -1))


def slow_places(grid: int, reach: float, rng: random.Random) -> list[int]:
    """The paper's section 3.1 with plain lists: rows first, then the columns of the result."""
    rows = []
    for row in range(grid):
        keys = [column + rng.uniform(-reach, reach) for column in range(grid)]
        rows.append([row * grid + column for column in sorted(range(grid), key=keys.__getitem__)])
    columns = []
    for column in range(grid):
        keys = [row + rng.uniform(-reach, reach) for row in range(grid)]
        columns.append([rows[row][column] for row in sorted(range(grid), key=keys.__getitem__)])
    return [columns[place % grid][place // grid] for place in range(grid**2)]


def one_each(seed: int, count: int) -> list[torch.Generator]:
    """A generator an image, as training has them."""
    return [torch.Generator().manual_seed(seed + number) for number in range(count)]


@pytest.mark.parametrize("generators", [lambda seed, _: torch.Generator().manual_seed(seed), one_each])
@pytest.mark.parametrize("axis", ["row", "column"])
def test_displacements_are_distributed_as_in_a_slow_implementation(axis, generators):
    grid, reach, draws = 7, 2.0, 2_000
    rng = random.Random(5)
    slow = [slow_places(grid, reach, rng) for _ in range(draws)]
    fast = shuffled_places(draws, grid, reach, generator=generators(6, draws)).tolist()

    def displacements(sources) -> Counter:
        """How often the region at a place (of either end or the middle) has come how far."""
        part = divmod if axis == "row" else lambda index, n: divmod(index, n)[::-1]
        return Counter(
            (part(p, grid)[0], part(s, grid)[0] - part(p, grid)[0]) for source in sources for p, s in enumerate(source)
        )

    counts = displacements(slow), displacements(fast)
    keys = sorted(counts[0].keys() | counts[1].keys())
    # regions of a row are not independent, which makes the statistic larger if anything: the level is lenient
    table = [[count[key] + 1 for key in keys] for count in counts]
    assert chi2_contingency(table).pvalue > 1e-4
    wrong = displacements(shuffled_places(draws, grid, 1.8, generator=generators(6, draws)).tolist())
    assert chi2_contingency([table[0], [wrong[key] + 1 for key in keys]]).pvalue < 1e-4, "and it can tell"


def test_one_generator_gives_one_shuffle():
    a, b, c = (shuffled_places(4, 7, 2, generator=torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(a, b) and not torch.equal(a, c)
    assert not torch.equal(a[0], a[1]), "each image has its own"


def test_a_shuffle_that_cannot_be_is_refused():
    with pytest.raises(ValueError, match="grid of 7 does not divide images of 50 × 49"):
        shuffle_regions(torch.zeros(1, 3, 50, 49), 7)
    with pytest.raises(ValueError, match="reach -1"):
        shuffled_places(1, 7, -1)


# the loss --------------------------------------------------------------------------------------------------------


def slow_cross_entropy(row: list[float], target: int) -> float:
    return log(sum(exp(value) for value in row)) - row[target]


@pytest.mark.parametrize("adversary", ["2k", "2"])
@pytest.mark.parametrize("beta, gamma", [(1.0, 1.0), (0.5, 0.01), (0.0, 3.0)])
def test_the_loss_equals_the_paper_s_sums(adversary, beta, gamma):
    torch.manual_seed(0)
    batch, classes, places = 6, 5, 9
    logits = torch.randn(batch, classes, dtype=torch.float64)
    swap_logits = torch.randn(batch, 2 * classes if adversary == "2k" else 2, dtype=torch.float64)
    law, law_target = torch.rand(2, batch, places, dtype=torch.float64) - 0.5
    target, destructed = torch.randint(classes, (batch,)), torch.tensor([False, True] * 3)
    expected = 0.0
    for b in range(batch):
        y, d = int(target[b]), int(destructed[b])
        expected += slow_cross_entropy(logits[b].tolist(), y) / batch
        expected += (
            beta * slow_cross_entropy(swap_logits[b].tolist(), y + classes * d if adversary == "2k" else d) / batch
        )
        expected += gamma * sum(abs(float(law[b, p] - law_target[b, p])) for p in range(places)) / (batch * places)
    loss = dcl_loss(logits, swap_logits, law, target, destructed, law_target, beta, gamma)
    assert loss.item() == pytest.approx(expected, rel=1e-12)


def test_heads_that_do_not_fit_the_classes_are_refused():
    logits, target, destructed, law = (
        torch.zeros(2, 5),
        torch.tensor([0, 4]),
        torch.tensor([False, True]),
        torch.zeros(2, 9),
    )
    with pytest.raises(ValueError, match="swap_logits have 8 columns: expected 2 or, for 5 classes, 10"):
        dcl_loss(logits, torch.zeros(2, 8), law, target, destructed, law)
    with pytest.raises(ValueError, match=r"law is \(2, 9\), law_target \(1, 9\)"):
        dcl_loss(logits, torch.zeros(2, 10), law, target, destructed, law[:1])


# the network -----------------------------------------------------------------------------------------------------


def batch_of(images: torch.Tensor, target: torch.Tensor) -> Batch:
    return Batch(images, target, torch.arange(len(images)), [])


@pytest.mark.parametrize("arch", ARCHS)
def test_every_backbone_learns_through_all_heads(arch):
    torch.manual_seed(0)
    net = DCL(create_model(arch, 3), grid=4)
    loss, metrics = step(net, batch_of(torch.randn(2, 3, 64, 64), torch.tensor([0, 2])), 4, 2.0, 1.0, 1.0)
    loss.backward()
    first = next(module for module in net.net.modules() if isinstance(module, torch.nn.Conv2d))
    for part in (net.swap_classifier, net.law, net.classifier, first):
        assert all(p.grad.abs().sum() > 0 for p in part.parameters()), part
    assert all(p.grad is not None for p in net.parameters())
    assert metrics.keys() == {"top1", "law"}


@pytest.mark.parametrize("grid, size", [(7, 448), (7, 98), (3, 96), (4, 64)])
def test_shapes_and_places_for_feature_maps_of_any_size(grid, size):
    net = DCL(create_model("resnet18", 5), grid).eval()
    with torch.no_grad():
        logits, swap_logits, law = net(torch.randn(2, 3, size, size))
    assert (logits.shape, swap_logits.shape, law.shape) == ((2, 5), (2, 10), (2, grid**2))
    assert law.abs().max() <= 1


def test_the_heads_are_the_paper_s():
    torch.manual_seed(0)
    net = DCL(create_model("resnet18", 3), grid=2).double().eval()
    image = torch.randn(1, 3, 128, 128, dtype=torch.float64)
    with torch.no_grad():
        logits, swap_logits, law = net(image)
        features = net.net.features(image)[0]  # (512, 4, 4)
        torch.testing.assert_close(logits, net.net(image))
        torch.testing.assert_close(swap_logits[0], net.swap_classifier.weight @ features.mean((1, 2)))
    assert net.swap_classifier.bias is None and net.swap_classifier.weight.shape == (6, 512)
    mask = torch.einsum("c,chw->hw", net.law.weight[0, :, 0, 0], features) + net.law.bias
    for place in range(4):
        top, left = place // 2 * 2, place % 2 * 2
        mean = sum(mask[top + y, left + x].item() for y in (0, 1) for x in (0, 1)) / 4
        assert law[0, place].item() == pytest.approx(tanh(mean), rel=1e-5)  # law is float32


def test_for_testing_the_logits_of_y_intact_and_y_destructed_are_added():
    net = DCL(create_model("resnet18", 3), grid=2).eval()
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        logits, swap_logits, _ = net(images)
        torch.testing.assert_close(net.predict(images), logits + swap_logits[:, :3] + swap_logits[:, 3:])
        two = DCL(net.net, 2, "2").eval()
        torch.testing.assert_close(two.predict(images), logits)
    with pytest.raises(ValueError, match="adversary '3k'"):
        DCL(net.net, 2, "3k")


def test_heads_and_classifier_learn_at_another_rate_and_every_parameter_is_in_one_group():
    net = DCL(create_model("resnet18", 3))
    slow, fast = parameter_groups(net, 10)
    assert (slow["lr_scale"], fast["lr_scale"]) == (1, 10)
    heads = {id(p) for part in (net.classifier, net.swap_classifier, net.law) for p in part.parameters()}
    assert {id(p) for p in fast["params"]} == heads
    assert {id(p) for p in slow["params"]} == {id(p) for p in net.parameters()} - heads


def test_one_batch_can_be_overfitted_and_the_law_finds_the_shuffled_places():
    torch.manual_seed(0)
    colours = 2 * torch.randn(8, 3, 2, 2)  # photographs whose regions can be told apart
    images = torch.randn(8, 3, 64, 64) + colours.repeat_interleave(32, 2).repeat_interleave(32, 3)
    batch = batch_of(images, torch.arange(8) % 4)
    net, state = DCL(create_model("resnet18", 4), grid=2), torch.random.get_rng_state()
    optimizer = torch.optim.Adam(net.parameters(), 1e-3)
    for turn in range(50):
        optimizer.param_groups[0]["lr"] = 1e-3 if turn < 40 else 1e-4
        torch.random.set_rng_state(state)  # the same shuffle every time
        loss, metrics = step(net, batch, 2, 2.0, 1.0, 1.0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    torch.random.set_rng_state(state)
    copy, source = shuffle_regions(images, 2, 2.0)
    assert not torch.equal(source, torch.arange(4).expand(8, -1))
    guess = (net(torch.cat([images, copy]))[2][8:] * 4 + 2).round()  # the copies as in training, beside the originals
    assert metrics["top1"] == 1 and torch.equal(guess.long(), source)


# the script ------------------------------------------------------------------------------------------------------

DCL_SMALL = ["--resize", 36, "--crop", 32, "--grid", 4, "--batch-size", 8, "--workers", 0, "--lr", 0.002]
DCL_SMALL += ["--precision", "float32", "--balanced", 0, "--decay-at", "none"]


@pytest.fixture
def base(script, aliproducts, tmp_path):
    """best.pt of a trained backbone."""
    train(script, aliproducts, "base", "--epochs", 1)
    return tmp_path / "base/best.pt"


def finetune(script, out, *more, code=0):
    return script("finetune_dcl.py", "--out", out, *DCL_SMALL, *more, code=code)


def test_it_goes_on_from_a_trained_network_and_keeps_its_classifier_and_catalogue(script, base, tmp_path):
    done = script("finetune_dcl.py", "--init", base, *DCL_SMALL, "--epochs", 1, "--lr", 1e-12)
    assert "resnet18" in done.stdout and "--grid" not in done.stderr
    before, after = load_checkpoint(base), load_checkpoint(tmp_path / "runs/resnet18-dcl/best.pt")
    assert after["settings"]["data"] == before["settings"]["data"]
    for name, _ in create_model("resnet18", 3).named_parameters():
        torch.testing.assert_close(after["model"][name], before["model"][name], rtol=0, atol=1e-8)


def test_a_resumed_run_equals_one_never_stopped(script, base, tmp_path):
    finetune(script, "whole", "--init", base, "--epochs", 2, "--ema", 0.9)
    finetune(script, "parts", "--init", base, "--epochs", 1, "--ema", 0.9)
    script("finetune_dcl.py", "--resume", "--out", "parts", "--epochs", 2)
    assert_same_run(tmp_path / "whole/last.pt", tmp_path / "parts/last.pt")
    whole, parts = (load_checkpoint(tmp_path / name / "last.pt")["heads"] for name in ("whole", "parts"))
    assert whole["options"] == parts["options"] == {"grid": 4, "adversary": "2k"}
    for part in ("model", "ema"):
        assert whole[part].keys() == {"swap_classifier.weight", "law.weight", "law.bias"}
        assert all(torch.equal(whole[part][key], parts[part][key]) for key in whole[part])


def test_heads_are_kept_for_going_on_and_fresh_ones_made_where_they_do_not_fit(script, base, tmp_path):
    finetune(script, "first", "--init", base, "--epochs", 1)
    finetune(script, "second", "--init", "first/best.pt", "--epochs", 1, "--lr", 1e-12)
    finetune(script, "two", "--init", "first/best.pt", "--epochs", 1, "--lr", 1e-12, "--adversary", 2)
    first, second, two = (load_checkpoint(tmp_path / f"{name}/best.pt")["heads"] for name in ("first", "second", "two"))
    for name in first["model"]:
        torch.testing.assert_close(second["model"][name], first["model"][name], rtol=0, atol=1e-8)
    assert two["model"]["swap_classifier.weight"].shape == (2, 512)


def test_predict_adds_the_logits_and_the_plain_head_is_the_exported_backbone(script, base, tmp_path):
    finetune(script, "dcl", "--init", base, "--epochs", 1, "--lr", 0.02, "--ema", 0.5)
    script("finetune_dcl.py", "--init", "dcl/best.pt", "--export-plain", "plain/best.pt")
    common = ("--crops", 1, "--workers", 0, "--dtype", "float32")
    script("predict.py", "dcl/best.pt", "--out", "sum.npy", *common)
    script("predict.py", "dcl/best.pt", "--out", "plain.npy", "--head", "plain", *common)
    script("predict.py", "plain/best.pt", "--out", "exported.npy", *common)
    summed, plain, exported = (open_member(tmp_path / f"{n}.npy").rows(0, 6) for n in ("sum", "plain", "exported"))
    assert (plain == exported).all() and abs(summed - plain).max() > 1e-4

    state = load_checkpoint(tmp_path / "dcl/best.pt")
    net = network_of(state, "", heads=True).eval()
    assert isinstance(net, DCL) and torch.equal(net.net.fc.weight, state["ema"]["fc.weight"])
    plain_state = load_checkpoint(tmp_path / "plain/best.pt")
    assert plain_state["heads"] is None
    assert plain_state["model"].keys() == create_model("resnet18", 3).state_dict().keys()
    assert all(torch.equal(plain_state["model"][key], state["ema"][key]) for key in state["ema"])


def test_a_checkpoint_with_heads_is_a_plain_one_to_train_py(script, base, tmp_path):
    data = load_checkpoint(base)["settings"]["data"]
    finetune(script, "dcl", "--init", base, "--epochs", 1)
    train(script, data, "a", "--init", "dcl/best.pt", "--epochs", 1)
    script("train.py", "--data", data, "--out", "b", *SMALL, "--weights", "dcl/best.pt", "--epochs", 1)
    assert_same_run(tmp_path / "a/last.pt", tmp_path / "b/last.pt")


def test_the_sheet_shows_photographs_before_and_after_training(script, base, tmp_path):
    script("finetune_dcl.py", "--init", base, *DCL_SMALL, "--show", "before.png")
    finetune(script, "runs/resnet18-dcl", "--init", base, "--epochs", 1)
    done = script("finetune_dcl.py", "--show", "after.png")  # of the newest run
    assert done.stdout.endswith("% of the places exact, by runs/resnet18-dcl/best.pt\n")
    with Image.open(tmp_path / "before.png") as before, Image.open(tmp_path / "after.png") as after:
        assert before.size == after.size and before.tobytes() != after.tobytes()
    assert not (tmp_path / "runs/resnet18-dcl-balanced").exists()


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([], "--init is missing"),
        (["--init", "nowhere.pt"], "nowhere.pt: no such checkpoint"),
        (["--init", "base/best.pt", "--grid", "7"], "--grid 7 does not divide --crop 32; take --crop 28 or 35"),
        (["--init", "base/best.pt", "--grid", "1"], "--grid: '1': expected an integer of at least 2"),
        (["--init", "base/best.pt", "--reach", "-1"], "--reach: '-1': expected a number of at least 0"),
        (["--init", "base/best.pt", "--adversary", "3k"], "--adversary"),
        (["--init", "base/best.pt", "--crop", "64"], "--crop 64 is larger than --resize 36"),
        (["--init", "base/best.pt", "--data", "more"], "base/best.pt"),
        (["--resume", "--out", "base"], "the run in base is one of train.py; go on with python train.py --resume"),
        (["--resume"], "--resume: name the folder of the run"),
        (["--show", "out.png"], "--init is missing"),
        (["--init", "base/best.pt", "--show", "out.xyz"], "out.xyz: .xyz names no picture format"),
        (["--init", "base/best.pt", "--export-plain", "plain.pt"], "base/best.pt: has no heads, it is plain already"),
    ],
)
def test_bad_arguments_get_one_clear_line_and_lose_nothing(script, base, tmp_path, arguments, message):
    write_aliproducts(tmp_path / "more", counts=(3, 3, 3, 3), ids=(1, 2, 3, 4))
    kept = (tmp_path / "base/last.pt").read_bytes()
    done = script("finetune_dcl.py", *DCL_SMALL, "--epochs", 1, *arguments, code=2)
    assert message in done.stderr and done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    assert not (tmp_path / "runs").exists() and (tmp_path / "base/last.pt").read_bytes() == kept


def test_overwriting_loses_nothing_until_the_new_run_can_begin(script, base, tmp_path):
    kept = base.read_bytes()
    finetune(script, "base", "--init", base, "--grid", 7, "--overwrite", code=2)
    train(script, load_checkpoint(base)["settings"]["data"], "base", "--init", "nowhere.pt", "--overwrite", code=2)
    assert base.read_bytes() == kept


def test_a_run_of_another_grid_or_script_is_not_gone_on_with(script, base):
    finetune(script, "dcl", "--init", base, "--epochs", 1)
    refused = script("finetune_dcl.py", "--resume", "--out", "dcl", "--epochs", 2, "--grid", 8, code=2)
    assert "--grid 8: the run in dcl has 4" in refused.stderr
    refused = script("train.py", "--resume", "--out", "dcl", "--epochs", 2, code=2)
    assert "the run in dcl is one of finetune_dcl.py" in refused.stderr
    refused = script("finetune_dcl.py", "--init", "dcl/best.pt", "--grid", 8, "--show", "out.png", code=2)
    assert "--grid 8: dcl/best.pt has learned with 4" in refused.stderr
