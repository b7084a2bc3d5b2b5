"""Look into object: the group sampler, both losses, the heads, the script and what becomes of its run."""

from collections import Counter
from math import atan2, pi, sqrt

import numpy as np
import pytest
import torch
from conftest import write_aliproducts
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from test_training import SMALL, assert_same_run, train

from catalogues import open_catalogue
from common.errors import InputError
from data import Batch, GroupBatches, Photographs, collate_groups
from data.batch import Visit
from inference.sheets import receptive_field_offset, spread
from losses import object_extent_loss, object_regions, pseudo_extent, spatial_context_loss
from models import ARCHS, LIO, create_model
from models.backbone import Backbone
from models.checkpoint import load_checkpoint, network_of
from predictions.reading import open_member
from train_lio import step

# groups of photographs -------------------------------------------------------------------------------------------

catalogues = st.lists(st.integers(1, 25), min_size=1, max_size=9).map(
    lambda counts: np.random.default_rng(len(counts)).permutation(np.repeat(np.arange(len(counts)), counts))
)


@settings(deadline=None, max_examples=60)
@given(catalogues, st.integers(1, 4), st.integers(1, 6), st.integers(0, 5), st.integers(0, 5))
def test_an_epoch_has_every_image_as_an_anchor_beside_others_of_its_class(labels, positives, groups, seed, epoch):
    group = positives + 1
    batches = GroupBatches(np.arange(len(labels)), labels, groups * group, positives, seed)
    batches.epoch = epoch
    drawn, counts = list(batches), np.bincount(labels)
    assert len(drawn) == len(batches) == max(-(-len(labels) // groups), counts.max())
    sizes = [len(batch) // group for batch in drawn]
    assert max(sizes) <= groups and max(sizes) - min(sizes) <= 1 and min(sizes) >= 1
    anchors = []
    for batch in drawn:
        assert len(batch) % group == 0
        kinds = labels[[draw.index for draw in batch]].reshape(-1, group)
        assert (kinds == kinds[:, :1]).all(), "a group is of one class"
        assert len(set(kinds[:, 0])) == len(kinds), "the groups of a batch are of different classes"
        anchors += [draw.index for draw in batch[::group]]
        for first in range(0, len(batch), group):
            members, count = [draw.index for draw in batch[first : first + group]], counts[kinds[first // group, 0]]
            visits = Counter(members).values()
            assert len(visits) == min(group, count) and max(visits) - min(visits) <= 1
    assert sorted(anchors) == list(range(len(labels)))
    positions = [draw.position for batch in drawn for draw in batch]
    assert len(set(positions)) == len(positions), "every visit is augmented differently"
    assert {draw.epoch for batch in drawn for draw in batch} == {epoch}


def test_groups_are_taken_from_the_given_images_alone():
    labels = np.repeat([0, 1, 2], 20)
    indices = np.array([3, 4, 5, 6, 21, 22, 45])
    batches = GroupBatches(indices, labels, 8, 3)
    assert {draw.index for batch in batches for draw in batch} == set(indices.tolist())


def test_an_epoch_of_groups_resumed_at_a_batch_goes_on_with_that_batch():
    labels = np.repeat(np.arange(7), 9)
    batches = GroupBatches(np.arange(63), labels, 16, 3, seed=1)
    batches.epoch = 2
    whole = list(batches)
    batches.start = 5
    assert list(batches) == whole[5:]


def test_positives_are_drawn_anew_every_epoch_and_equally_often():
    labels = np.repeat(np.arange(5), 6)
    batches, seen = GroupBatches(np.arange(30), labels, 12, 2), Counter()
    for epoch in range(400):
        batches.epoch = epoch
        for batch in batches:
            for anchor in range(0, len(batch), 3):
                seen.update((batch[anchor].index, other.index) for other in batch[anchor + 1 : anchor + 3])
    # each of an anchor's 5 others is drawn 2/5 of 400 times, with variance 96; 150 counts, fewer degrees of freedom
    counts = np.array([seen[a, b] for a in range(30) for b in range(30) if a != b and labels[a] == labels[b]])
    assert len(counts) == 150 and ((counts - 160) ** 2 / 96).sum() < 208  # 99.9th percentile of chi-square of 150
    assert all(labels[a] == labels[b] and a != b for a, b in seen)


def test_a_batch_that_groups_do_not_fill_is_refused():
    with pytest.raises(
        InputError, match="--batch-size 30: no multiple of 4, the photographs of a group; take 32 or 28"
    ):
        GroupBatches(np.arange(4), np.zeros(4, int), 30, 3)
    with pytest.raises(InputError, match=r"take 4$"):
        GroupBatches(np.arange(4), np.zeros(4, int), 3, 3)


def test_a_member_that_cannot_be_read_is_replaced_and_a_group_without_any_left_out():
    image = [torch.full((3, 2, 2), value, dtype=torch.uint8) for value in range(9)]
    visits = [(image[0], 7, 10), ("broken", 7, 11), (image[2], 7, 12)]
    visits += [("gone", 8, 20), ("gone", 8, 21), ("gone", 8, 22), ("late", 9, 30), (image[7], 9, 31), (image[8], 9, 32)]
    visits = [Visit(*visit, seed=visit[2] + 100, whole=9) for visit in visits]
    batch = collate_groups(visits, 3)
    assert batch.seeds.tolist() == [110, 110, 112, 131, 131, 132] and batch.whole == 9
    assert batch.index.tolist() == [10, 10, 12, 31, 31, 32] and batch.target.tolist() == [7, 7, 7, 9, 9, 9]
    assert batch.images[:, 0, 0, 0].tolist() == [0, 0, 2, 7, 7, 8]
    assert batch.unreadable == [(11, "broken"), (20, "gone"), (21, "gone"), (22, "gone"), (30, "late")]
    assert collate_groups(visits[3:6], 3).images.shape[0] == 0


# the losses ------------------------------------------------------------------------------------------------------


def random_maps(batch: int, channels: int, grid: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(batch, channels, grid, grid, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def slow_pseudo_extent(features: torch.Tensor, group: int) -> list[list[float]]:
    """Section 4 of the design with plain loops: M_a[i] for every photograph and region."""
    batch, channels, grid, _ = features.shape
    regions = features.reshape(batch, channels, grid * grid)
    result = []
    for a in range(batch):
        row = []
        for i in range(grid * grid):
            best = []
            for b in range(a // group * group, (a // group + 1) * group):
                if b != a:
                    inner = [
                        sum(float(regions[a, c, i]) * float(regions[b, c, j]) for c in range(channels)) / channels
                        for j in range(grid * grid)
                    ]
                    best.append(max(inner))
            row.append(sum(best) / len(best))
        result.append(row)
    return result


@pytest.mark.parametrize("grid, positives", [(1, 1), (2, 1), (2, 3), (3, 2)])
def test_the_extent_loss_equals_plain_loops(grid, positives):
    group = positives + 1
    features, extent = random_maps(2 * group, 3, grid), random_maps(2 * group, 1, grid, seed=1)[:, 0]
    slow = torch.tensor(slow_pseudo_extent(features, group), dtype=torch.float64)
    torch.testing.assert_close(pseudo_extent(features, group).flatten(1), slow, rtol=1e-12, atol=1e-12)
    expected = sum(
        (float(extent.flatten(1)[b, i]) - float(slow[b, i])) ** 2 for b in range(2 * group) for i in range(grid**2)
    ) / (2 * group * grid**2)
    assert object_extent_loss(features, extent, group).item() == pytest.approx(expected, rel=1e-12)


def test_permuting_the_members_of_a_group_permutes_their_pseudo_extents():
    features = random_maps(8, 5, 3)
    order = torch.tensor([2, 0, 3, 1, 5, 4, 7, 6])
    torch.testing.assert_close(pseudo_extent(features[order], 4), pseudo_extent(features, 4)[order])


def test_groups_do_not_see_each_other():
    features = random_maps(8, 5, 3)
    other = torch.cat([features[:4], 9 * features[4:]])
    torch.testing.assert_close(pseudo_extent(other, 4)[:4], pseudo_extent(features, 4)[:4])


def slow_context_loss(context: torch.Tensor, extent: torch.Tensor, predictor) -> float:
    """Section 4 of the design with plain loops."""
    batch, channels, grid, _ = context.shape
    total = 0.0
    for b in range(batch):
        m = [float(extent[b, r, c]) for r in range(grid) for c in range(grid)]
        h = [context[b, :, r, c] for r in range(grid) for c in range(grid)]
        inside = [value > sum(m) / len(m) for value in m]
        activity = [float(h[i].sum()) / channels * inside[i] for i in range(grid**2)]
        o = activity.index(max(activity))
        deltas, distances = [], []
        for i in range(grid**2):
            r, c = (i // grid - o // grid) / grid, (i % grid - o % grid) / grid
            d_hat, theta_hat = predictor(torch.cat([h[o], h[i]])).tolist() if i != o else (0, 0)
            theta = (atan2(c, r) / pi + 1) / 2 if i != o else 0
            delta = theta_hat - theta
            deltas.append(delta + 1 if delta < 0 else delta)
            distances.append((d_hat - sqrt(r**2 + c**2)) ** 2)
        mean = sum(deltas) / len(deltas)
        total += sum(
            distance + (delta - mean) ** 2
            for distance, delta, within in zip(distances, deltas, inside, strict=True)
            if within
        )
    return total / (batch * grid**2)


def fresh_predictor(channels: int, seed: int = 0) -> torch.nn.Module:
    torch.manual_seed(seed)
    return LIO(TinyNet(2 * channels), 2).double().predictor


class TinyNet(Backbone):
    """As much of a backbone as LIO's heads look at."""

    def __init__(self, channels: int):
        super().__init__()
        self.feature_dim = self.trunk_dim = channels


@pytest.mark.parametrize("grid, batch", [(1, 2), (2, 3), (3, 4), (7, 2)])
def test_the_context_loss_equals_plain_loops(grid, batch):
    context, extent = random_maps(batch, 4, grid).abs(), random_maps(batch, 1, grid, seed=1)[:, 0]
    predictor = fresh_predictor(4)
    expected = slow_context_loss(context, extent, predictor)
    assert spatial_context_loss(context, extent, predictor).item() == pytest.approx(expected, rel=1e-12)
    assert grid == 1 or expected > 0


def polar(grid: int, reference: int) -> torch.Tensor:
    """True distance and angle of every region seen from `reference`, (S, 2); zero at itself."""
    seen = []
    for i in range(grid**2):
        r, c = (i // grid - reference // grid) / grid, (i % grid - reference % grid) / grid
        seen.append((sqrt(r * r + c * c), (atan2(c, r) / pi + 1) / 2) if i != reference else (0, 0))
    return torch.tensor(seen, dtype=torch.float64)


def test_the_reference_region_has_zero_prediction_and_zero_target():
    grid, reference = 5, 13
    context, extent = torch.ones(1, 2, grid, grid, dtype=torch.float64), torch.ones(1, grid, grid, dtype=torch.float64)
    context[0, :, reference // grid, reference % grid] = 2
    extent[0, 0, 0] = 0  # else no region is above the mean
    assert object_regions(context, extent)[1].item() == reference
    truth = polar(grid, reference)
    assert spatial_context_loss(context, extent, lambda pairs: truth[None]).item() == pytest.approx(0, abs=1e-15)
    wrong = truth.clone()
    wrong[reference] = torch.tensor([3.0, 0.7])  # what is predicted there is not looked at
    assert spatial_context_loss(context, extent, lambda pairs: wrong[None]).item() == pytest.approx(0, abs=1e-15)
    wrong[reference + 1] += 0.5
    assert spatial_context_loss(context, extent, lambda pairs: wrong[None]).item() > 0.01


def test_angles_wrap_at_half_a_turn_either_way():
    """Straight up lies at the seam, θ = 1, which is the direction θ = 0; a prediction just past it is nearly right."""
    context, extent = torch.ones(1, 2, 2, 2, dtype=torch.float64), torch.tensor([[[1.0, 0], [1, 0]]]).double()
    context[0, :, 1, 0] = 2  # the reference is below, region 0 straight above it
    seen = polar(2, 2)
    assert seen[0, 1] == 1.0
    for past in (1e-3, 1 + 1e-3):  # the same direction, a turn apart
        seen[0, 1] = past
        loss = spatial_context_loss(context, extent, lambda pairs: seen[None])
        assert loss.item() < 1e-6


def test_outside_regions_cost_nothing_but_turn_the_frame():
    context, extent = random_maps(1, 4, 3).abs(), random_maps(1, 1, 3, seed=1)[:, 0]
    inside, reference = object_regions(context, extent)
    assert inside.tolist() == (extent.flatten(1) > extent.mean()).tolist() and inside[0, reference[0, 0]]
    outside = (~inside[0]).nonzero()[0, 0]
    predicted = polar(3, int(reference))
    base = spatial_context_loss(context, extent, lambda pairs: predicted[None])
    predicted[outside, 0] += 5
    assert spatial_context_loss(context, extent, lambda pairs: predicted[None]) == base


@pytest.mark.parametrize("grid, group", [(2, 2), (3, 3)])
def test_gradients_of_both_losses_are_exact_away_from_the_argmax(grid, group):
    features, extent = random_maps(2 * group, 4, grid, 2), random_maps(2 * group, 1, grid, 3)[:, 0]
    context = random_maps(2 * group, 3, grid, 4).abs()
    weight, bias = random_maps(1, 6, 1, 5).view(1, 6).repeat(2, 1) / 4, torch.full((2,), 0.5, dtype=torch.float64)
    for tensor in (features, extent, context, weight, bias):
        tensor.requires_grad_()
    assert torch.autograd.gradcheck(lambda f, m: object_extent_loss(f, m, group), (features, extent))

    def context_loss(h, w, b):
        return spatial_context_loss(h, extent.detach(), lambda x: torch.nn.functional.linear(x, w, b).relu())

    assert torch.autograd.gradcheck(context_loss, (context, weight, bias))


def test_groups_that_do_not_divide_the_batch_are_refused():
    for batch, group in ((6, 4), (4, 1)):
        with pytest.raises(ValueError, match=f"{batch} photographs in groups of {group}: expected whole groups"):
            object_extent_loss(random_maps(batch, 2, 2), random_maps(batch, 1, 2)[:, 0], group)


# the network -----------------------------------------------------------------------------------------------------


def batch_of(images: torch.Tensor, target: torch.Tensor) -> Batch:
    return Batch(images, target, torch.arange(len(images)), [])


@pytest.mark.parametrize("stage", [2, 3])
@pytest.mark.parametrize("arch", ARCHS)
def test_every_backbone_learns_through_all_heads_at_both_stages(arch, stage):
    torch.manual_seed(0)
    net = LIO(create_model(arch, 3), 3, stage)
    loss, metrics = step(net, batch_of(torch.randn(4, 3, 64, 64), torch.tensor([0, 0, 2, 2])), 2, 0.1, 0.1)
    loss.backward()
    first = next(module for module in net.net.modules() if isinstance(module, torch.nn.Conv2d))
    for part in (net.extent, net.context, net.predictor, net.classifier, first):
        assert all(p.grad.abs().sum() > 0 for p in part.parameters()), part
    assert metrics.keys() == {"top1", "extent", "context"}


@pytest.mark.parametrize("arch", ARCHS)
def test_shapes_and_the_plain_logits_inside(arch):
    torch.manual_seed(0)
    for stage, name in ((2, "trunk_dim"), (3, "feature_dim")):
        net = LIO(create_model(arch, 5), 4, stage).eval()
        images = torch.randn(2, 3, 64, 96)
        with torch.no_grad():
            logits, features, extent, context = net(images)
            assert torch.equal(logits, net.net(images)) and torch.equal(net.predict(images), logits)
            trunk = net.net.trunk(images)
            assert trunk.shape == (2, net.net.trunk_dim, 4, 6)
            assert torch.equal(net.net.top(trunk), net.net.features(images))
        channels = getattr(net.net, name)
        assert (extent.shape, context.shape) == ((2, 4, 4), (2, channels // 2, 4, 4))
        assert features.shape == (2, channels, 4, 4) and context.min() >= 0
    with pytest.raises(ValueError, match="stage 1: expected one of 3, 2"):
        LIO(net.net, 4, 1)


def test_one_batch_can_be_overfitted():
    torch.manual_seed(0)
    images, target = torch.randn(8, 3, 64, 64), torch.arange(8) // 2
    batch, net = batch_of(images, target), LIO(create_model("resnet18", 4), grid=4, stage=2)
    optimizer, first = torch.optim.Adam(net.parameters(), 1e-3), None
    for _ in range(30):
        loss, metrics = step(net, batch, 2, 1.0, 1.0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        first = first or metrics
    assert metrics["top1"] == 1
    assert metrics["context"] < 0.5 * first["context"] and metrics["extent"] < 0.1 * first["extent"]


# where it looks --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arch, off", [("resnet18", -7.5), ("seresnext50", -5.5), ("efficientnet-b3", 7.5)])
def test_the_receptive_field_is_where_the_paddings_of_the_convolutions_put_it(arch, off):
    """Place i of the map of stride 16 looks around pixel 16·i, 16·i + 2 and 16·i + 15; its own middle is 16·i + 7.5."""
    torch.manual_seed(0)
    assert receptive_field_offset(create_model(arch, 3), 2) == pytest.approx((off, off), abs=1.6)


def test_values_are_spread_around_what_their_regions_see():
    values = torch.arange(9.0).view(3, 3)
    plain = values.repeat_interleave(4, 0).repeat_interleave(4, 1).numpy()
    assert (spread(values, 12, (0, 0), "nearest") == plain).all()
    moved = spread(values, 12, (-0.5, 0.25), "nearest")  # two pixels up, one to the right
    assert (moved[:10, 1:] == plain[2:, :11]).all()
    assert (moved[10:, 1:] == plain[11, :11]).all() and (moved[:10, 0] == plain[2:, 0]).all(), "the border goes on"


# the script ------------------------------------------------------------------------------------------------------

LIO_SMALL = [*SMALL, "--grid", 2, "--stage", 2, "--positives", 1, "--decay-at", "none"]


def look_into(script, root, out, *more, code=0):
    return script("train_lio.py", "--data", root, "--out", out, *LIO_SMALL, *more, code=code)


def test_the_best_network_is_a_plain_one_and_the_last_keeps_the_heads(script, aliproducts, tmp_path):
    look_into(script, aliproducts, "lio", "--epochs", 1, "--ema", 0.5)
    best, last = (load_checkpoint(tmp_path / f"lio/{name}.pt") for name in ("best", "last"))
    assert best["heads"] is None and best["ema"] is None and last["heads"]["kind"] == "LIO"
    assert best["model"].keys() == create_model("resnet18", 3).state_dict().keys()
    assert all(torch.equal(best["model"][key], last["ema"][key]) for key in best["model"])
    common = ("--crops", 1, "--workers", 0, "--dtype", "float32")
    for name in ("best", "last"):
        script("predict.py", f"lio/{name}.pt", "--out", f"{name}.npy", *common)
    plain, with_heads = (open_member(tmp_path / f"{name}.npy").rows(0, 6) for name in ("best", "last"))
    assert (plain == with_heads).all()
    assert type(network_of(last, "", heads=True)) is LIO and type(network_of(best, "", heads=True)) is not LIO


def test_a_resumed_run_equals_one_never_stopped(script, aliproducts, tmp_path):
    look_into(script, aliproducts, "whole", "--epochs", 2, "--ema", 0.9)
    look_into(script, aliproducts, "parts", "--epochs", 1, "--ema", 0.9, "--workers", 2)
    script("train_lio.py", "--resume", "--out", "parts", "--epochs", 2)
    assert_same_run(tmp_path / "whole/last.pt", tmp_path / "parts/last.pt")
    whole, parts = (load_checkpoint(tmp_path / name / "last.pt")["heads"] for name in ("whole", "parts"))
    assert whole["options"] == parts["options"] == {"grid": 2, "stage": 2}
    for part in ("model", "ema"):
        assert all(torch.equal(whole[part][key], parts[part][key]) for key in whole[part])
    refused = script("train_lio.py", "--resume", "--out", "parts", "--epochs", 3, "--positives", 3, code=2)
    assert "--positives 3: the run in parts has 1" in refused.stderr


def test_it_starts_from_a_trained_network_on_a_balanced_set_and_dcl_goes_on_from_it(script, aliproducts, tmp_path):
    train(script, aliproducts, "base", "--epochs", 1)
    look_into(script, aliproducts, "lio", "--init", "base/best.pt", "--balanced", 2, "--epochs", 1, "--lr", 1e-12)
    base, lio = load_checkpoint(tmp_path / "base/best.pt"), load_checkpoint(tmp_path / "lio/best.pt")
    for name, _ in create_model("resnet18", 3).named_parameters():
        torch.testing.assert_close(lio["model"][name], base["model"][name], rtol=0, atol=1e-8)
    assert lio["settings"]["balanced"] == 2
    more = ["--resize", 36, "--crop", 32, "--grid", 2, "--balanced", 0, "--batch-size", 8, "--workers", 0]
    script("finetune_dcl.py", "--init", "lio/best.pt", "--out", "dcl", "--epochs", 1, *more)
    script("finetune_dcl.py", "--init", "lio/last.pt", "--show", "dcl.png", *more)  # not with LIO's heads
    script("train_lio.py", "--init", "dcl/best.pt", "--positives", 1, "--show", "lio.png")


def test_small_classes_and_photographs_that_cannot_be_read_are_no_hindrance(script, tmp_path):
    root = write_aliproducts(tmp_path / "catalogue", counts=(9, 1, 2))
    broken = next((root / "train/00004").iterdir())
    broken.write_bytes(b"nothing")
    done = look_into(script, root, "lio", "--epochs", 1, "--positives", 3)
    assert "1 unreadable photograph(s)" in done.stderr
    assert str(broken) in (tmp_path / "lio/unreadable.txt").read_text()


def test_the_sheet_shows_extents_before_and_after_training(script, aliproducts, tmp_path):
    train(script, aliproducts, "base", "--epochs", 1)
    script("train_lio.py", "--init", "base/best.pt", "--positives", 1, "--grid", 2, "--show", "before.png")
    look_into(script, aliproducts, "runs/resnet18-lio", "--epochs", 1)
    done = script("train_lio.py", "--show", "after.png")  # of the newest run
    assert done.stdout == "after.png: 4 photographs, the extents of runs/resnet18-lio/last.pt\n"
    with Image.open(tmp_path / "before.png") as before, Image.open(tmp_path / "after.png") as after:
        assert before.size == after.size and before.tobytes() != after.tobytes()
    refused = script("train_lio.py", "--grid", 3, "--show", "out.png", code=2)
    assert "runs/resnet18-lio/last.pt has learned with 2; leave --grid out" in refused.stderr


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--positives", "0"], "--positives: '0': expected an integer of at least 1"),
        (["--positives", "6"], "--batch-size 8: no multiple of 7, the photographs of a group; take 14 or 7"),
        (["--stage", "1"], "--stage: invalid choice: 1"),
        (["--grid", "1"], "--grid: '1': expected an integer of at least 2"),
        (["--extent", "nan"], "--extent: 'nan': expected a number of at least 0"),
        (["--init", "nowhere.pt"], "nowhere.pt: no such checkpoint"),
        (["--resume", "--out", "base"], "the run in base is one of train.py; go on with python train.py --resume"),
        (["--resume", "--out", "nothing"], "nothing/last.pt: no such checkpoint"),
        (["--show", "out.png"], "--init is missing"),
        (["--init", "base/best.pt", "--show", "out.xyz"], "out.xyz: .xyz names no picture format"),
        (["--init", "base/best.pt", "--positives", "20", "--show", "out.png"], "lower --positives 20"),
    ],
)
def test_bad_arguments_get_one_clear_line_and_lose_nothing(script, aliproducts, tmp_path, arguments, message):
    train(script, aliproducts, "base", "--epochs", 1)
    kept = (tmp_path / "base/last.pt").read_bytes()
    done = script("train_lio.py", "--data", aliproducts, *LIO_SMALL, "--epochs", 1, *arguments, code=2)
    assert message in done.stderr and done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    assert not (tmp_path / "runs").exists() and (tmp_path / "base/last.pt").read_bytes() == kept


def test_photographs_of_a_group_are_those_that_the_sampler_names(aliproducts):
    split = open_catalogue(aliproducts).split("train")
    batches = GroupBatches(np.arange(len(split)), split.labels, 6, 2)
    photographs = Photographs(split, 32)
    for draws in batches:
        batch = collate_groups([photographs[draw] for draw in draws], 3)
        assert batch.index.tolist() == [draw.index for draw in draws]
        assert batch.target.tolist() == split.labels[batch.index].tolist()
