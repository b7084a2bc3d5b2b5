"""The losses of single photographs: literal equations in float64, limits, exact gradients, extreme logits."""

import math
from functools import partial

import pytest
import torch
import torch.distributed as dist
from torch import Tensor
from torch.multiprocessing import spawn
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel

from common.command_line import leave
from losses import (
    accuracy_loss,
    annealed_lambda,
    asoftmax_loss,
    bitempered_loss,
    focal_loss,
    hierarchy_loss,
    tempered_softmax,
)

CLASSES = 6
LEVELS = torch.tensor([[0, 0, 1, 1, 2, 2], [0, 0, 0, 0, 1, 1]])  # families, departments
LOSSES = {
    "accuracy": accuracy_loss,
    "focal": focal_loss,
    "focal 0.5": partial(focal_loss, gamma=0.5),
    "bitempered": bitempered_loss,
    "hierarchy": partial(hierarchy_loss, levels=LEVELS, level_weights=[0.5, 0.25]),
}
every_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)


def some_logits(batch: int = 7, scale: float = 2.0, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn(batch, CLASSES, dtype=torch.float64, generator=generator)
    return logits, torch.randint(CLASSES, (batch,), generator=generator)


def probabilities(row: Tensor) -> list[float]:
    powers = [math.exp(float(value)) for value in row]
    return [power / sum(powers) for power in powers]


# each against its equation ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("prediction_is", ["y", "y hat"])
def test_the_accuracy_loss_is_the_report_s_equation_read_either_way(prediction_is):
    logits, target = some_logits()
    fractions = []
    for row, t in zip(logits, target.tolist(), strict=True):
        p, truth = probabilities(row), [float(k == t) for k in range(CLASSES)]
        y, y_hat = (p, truth) if prediction_is == "y" else (truth, p)
        above = sum(b * a for a, b in zip(y, y_hat, strict=True))
        below = sum(b * a + (1 - a) * b for a, b in zip(y, y_hat, strict=True))
        fractions.append(above / below)
    expected = 1 - sum(fractions) / len(fractions)
    assert accuracy_loss(logits, target).item() == pytest.approx(expected, rel=1e-12)


def test_the_accuracy_loss_is_the_error_rate_to_expect_of_a_random_answer():
    logits, target = some_logits(4)
    answers = torch.multinomial(logits.softmax(1), 20_000, replacement=True, generator=torch.Generator().manual_seed(1))
    wrong = (answers != target[:, None]).double().mean()
    assert accuracy_loss(logits, target).item() == pytest.approx(wrong.item(), abs=0.01)


def test_the_gradient_of_the_accuracy_loss_dies_where_the_network_is_sure_of_something_else():
    logits = torch.tensor([[30.0, 0.0], [0.0, 0.0]], dtype=torch.float64, requires_grad=True)
    accuracy_loss(logits, torch.tensor([1, 1])).backward()
    assert logits.grad[0].abs().max() < 1e-12 and logits.grad[1].abs().max() == pytest.approx(0.125)


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_focal_loss_equals_its_equation(gamma):
    logits, target = some_logits()
    p = [probabilities(row)[t] for row, t in zip(logits, target.tolist(), strict=True)]
    expected = sum(-((1 - q) ** gamma) * math.log(q) for q in p) / len(p)
    assert focal_loss(logits, target, gamma).item() == pytest.approx(expected, rel=1e-12)


def slow_tempered_softmax(row: list[float], t: float) -> list[float]:
    """By bisection for the normalisation."""

    def power(x: float) -> float:
        return max(0.0, 1 + (1 - t) * x) ** (1 / (1 - t))

    low, high = max(row), max(row) + 1e6
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if sum(power(a - middle) for a in row) > 1 else (low, middle)
    return [power(a - low) for a in row]


@pytest.mark.parametrize("t", [0.5, 1.2, 2.0, 4.0])
def test_the_tempered_softmax_equals_a_slow_one_and_sums_to_one(t):
    logits, _ = some_logits()
    slow = torch.tensor([slow_tempered_softmax(row.tolist(), t) for row in logits], dtype=torch.float64)
    torch.testing.assert_close(tempered_softmax(logits, t), slow, rtol=1e-9, atol=1e-12)
    wide = torch.randn(3, 50_030, generator=torch.Generator().manual_seed(0))
    for rows in (wide, torch.zeros(1, 50_030), 1e4 * wide):
        torch.testing.assert_close(tempered_softmax(rows, t).sum(1), torch.ones(len(rows)), rtol=1e-4, atol=0)


@pytest.mark.parametrize("t1, t2", [(0.8, 1.2), (0.0, 2.0), (1.0, 1.3), (0.6, 1.0)])
def test_the_bitempered_loss_equals_its_equation(t1, t2):
    logits, target = some_logits()
    total = 0.0
    for row, t in zip(logits, target.tolist(), strict=True):
        p = slow_tempered_softmax(row.tolist(), t2) if t2 != 1 else probabilities(row)
        for k in range(CLASSES):  # Σ_k y·(log_t y − log_t p) − (y^(2 − t1) − p^(2 − t1)) / (2 − t1)
            y = float(k == t)
            if y:
                total -= math.log(p[k]) if t1 == 1 else (p[k] ** (1 - t1) - 1) / (1 - t1)
            total -= (y ** (2 - t1) - p[k] ** (2 - t1)) / (2 - t1)
    assert bitempered_loss(logits, target, t1, t2).item() == pytest.approx(total / len(target), rel=1e-8)


def test_the_bitempered_loss_is_bounded_for_an_outlier():
    far = torch.tensor([[1e4, 0.0, 0.0]])
    assert bitempered_loss(far, torch.tensor([1]), 0.8, 1.2).item() < 1 / 0.2
    assert cross_entropy(far, torch.tensor([1])).item() == 1e4


def test_the_hierarchy_loss_equals_its_equation():
    logits, target = some_logits()
    total = 0.0
    for row, t in zip(logits, target.tolist(), strict=True):
        p = probabilities(row)
        total -= math.log(p[t])
        for nodes, weight in zip(LEVELS.tolist(), (0.5, 0.25), strict=True):
            total -= weight * math.log(sum(p[k] for k in range(CLASSES) if nodes[k] == nodes[t]))
    loss = hierarchy_loss(logits, target, LEVELS, [0.5, 0.25])
    assert loss.item() == pytest.approx(total / len(target), rel=1e-12)


def angular(margin: int, lam: float, batch: int = 7) -> tuple[Tensor, Tensor, Tensor, float]:
    """Logits |x|·cos(θ) of random features and weights, and the loss by angles."""
    generator = torch.Generator().manual_seed(margin)
    x = 3 * torch.randn(batch, 4, dtype=torch.float64, generator=generator)
    w = torch.randn(CLASSES, 4, dtype=torch.float64, generator=generator)
    target = torch.randint(CLASSES, (batch,), generator=generator)
    total, logits, norm = 0.0, [], []
    for b in range(batch):
        length = math.sqrt(sum(float(v) ** 2 for v in x[b]))
        cosine = [float(x[b] @ row) / length / math.sqrt(float(row @ row)) for row in w]
        row = [length * c for c in cosine]
        theta = math.acos(cosine[int(target[b])])
        k = min(margin - 1, math.floor(margin * theta / math.pi))
        psi = (-1) ** k * math.cos(margin * theta) - 2 * k
        shifted = list(row)
        shifted[int(target[b])] = length * (lam * math.cos(theta) + psi) / (1 + lam)
        total += math.log(sum(math.exp(v) for v in shifted)) - shifted[int(target[b])]
        logits.append(row)
        norm.append(length)
    return torch.tensor(logits).double(), target, torch.tensor(norm).double(), total / batch


@pytest.mark.parametrize("margin", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("lam", [0.0, 5.0])
def test_asoftmax_equals_its_equation(margin, lam):
    logits, target, norm, expected = angular(margin, lam)
    # the inputs have passed through float32 once
    assert asoftmax_loss(logits, target, norm, margin, lam).item() == pytest.approx(expected, rel=1e-5)


def test_the_margin_of_asoftmax_falls_smoothly_from_0_to_pi():
    theta = torch.linspace(0, math.pi, 2001, dtype=torch.float64)
    logits = torch.stack([theta.cos(), torch.zeros_like(theta)], 1)
    target, norm = torch.zeros(1, dtype=torch.int64), torch.ones(1, dtype=torch.float64)
    losses = torch.stack([asoftmax_loss(row[None], target, norm, 4, 0.0) for row in logits])
    psi = -torch.log(torch.expm1(losses))  # loss = log(1 + exp(−ψ))
    assert (psi.diff() <= 1e-9).all() and psi.diff().abs().max() < 0.01
    assert psi[0].item() == pytest.approx(1) and psi[-1].item() == pytest.approx(-7)


def test_lambda_is_annealed_from_1000_to_5():
    values = [annealed_lambda(share / 100) for share in range(101)]
    assert values[0] == 1000 and values[-1] == 5 and values == sorted(values, reverse=True)
    assert annealed_lambda(100 / 28_000) == pytest.approx(1000 / 13)


# limits ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "loss",
    [
        partial(focal_loss, gamma=0),
        partial(bitempered_loss, t1=1, t2=1),
        partial(bitempered_loss, t1=1 - 1e-9, t2=1 + 1e-7),
        partial(hierarchy_loss, levels=LEVELS[:0], level_weights=[]),
        partial(hierarchy_loss, levels=LEVELS, level_weights=[0, 0]),
        partial(asoftmax_loss, norm=torch.full((7,), 100.0), margin=1, lam=0),
        partial(asoftmax_loss, norm=torch.full((7,), 100.0), margin=1, lam=5),
    ],
)
def test_each_is_cross_entropy_in_its_limit(loss):
    logits, target = some_logits()
    torch.testing.assert_close(loss(logits, target), cross_entropy(logits, target), rtol=1e-5, atol=1e-6)


def test_a_level_whose_nodes_are_the_classes_doubles_the_cross_entropy_and_a_single_root_adds_nothing():
    logits, target = some_logits()
    plain = cross_entropy(logits, target)
    torch.testing.assert_close(hierarchy_loss(logits, target, torch.arange(CLASSES)[None], [1]), 2 * plain)
    torch.testing.assert_close(hierarchy_loss(logits, target, torch.zeros(1, CLASSES).long(), [1]), plain)


# gradients, weights, numbers -------------------------------------------------------------------------------------


@every_loss
def test_gradients_are_exact(loss):
    logits, target = some_logits(4)
    assert torch.autograd.gradcheck(lambda x: loss(x, target), logits.requires_grad_())


@pytest.mark.parametrize("t", [0.5, 1.2, 3.0])
def test_gradients_of_the_tempered_softmax_are_exact(t):
    logits, _ = some_logits(2, scale=0.5)
    assert torch.autograd.gradcheck(lambda x: tempered_softmax(x, t), logits.requires_grad_())


@pytest.mark.parametrize("margin", [1, 2, 4])
def test_gradients_of_asoftmax_are_exact(margin):
    logits, target, norm, _ = angular(margin, 5.0, batch=4)
    logits, norm = logits.requires_grad_(), norm.requires_grad_()
    assert torch.autograd.gradcheck(lambda x, n: asoftmax_loss(x, target, n, margin, 5.0), (logits, norm))


@every_loss
def test_a_weight_of_two_is_a_photograph_twice_and_a_weight_of_none_is_none(loss):
    logits, target = some_logits(4)
    twice = loss(torch.cat([logits[:3], logits[:1]]), torch.cat([target[:3], target[:1]]))
    torch.testing.assert_close(loss(logits, target, weight=torch.tensor([2.0, 1, 1, 0])), twice)


@every_loss
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_every_loss_is_finite_at_extreme_logits(loss, dtype):
    logits = torch.tensor([[1e4, -1e4, 0, 1, 2, 3], [-1e4, 1e4, 0, 1, 2, 3], [1e4] * 6, [-1e4] * 6], dtype=dtype)
    logits.requires_grad_()
    value = loss(logits, torch.tensor([0, 0, 1, 2]))
    value.backward()
    assert value.isfinite() and value.dtype == torch.float32 and logits.grad.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_asoftmax_is_finite_at_extreme_logits(dtype):
    logits = torch.tensor([[1e4, -1e4, 0.0], [-1e4, 1e4, 0.0], [1e4, 1e4, 1e4]], dtype=dtype, requires_grad=True)
    value = asoftmax_loss(logits, torch.tensor([0, 0, 1]), torch.full((3,), 1e4, dtype=dtype), 4, 5.0)
    value.backward()
    assert value.isfinite() and logits.grad.isfinite().all()


@every_loss
def test_under_autocast_a_loss_stays_close_to_its_value_in_float64(loss):
    logits, target = some_logits()
    with torch.autocast("cpu", torch.bfloat16):
        value = loss(logits.bfloat16(), target)
    assert value.item() == pytest.approx(loss(logits, target).item(), rel=2e-2)


def train_half(rank: int, folder: str) -> None:
    """One of two processes: the gradient of the accuracy loss on its half of the batch."""
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    logits, target = some_logits(8)
    torch.manual_seed(0)
    net = DistributedDataParallel(torch.nn.Linear(CLASSES, CLASSES).double())
    accuracy_loss(net(logits[4 * rank : 4 * rank + 4]), target[4 * rank : 4 * rank + 4]).backward()
    torch.save(net.module.weight.grad, f"{folder}/{rank}.pt")
    leave(0)  # as the scripts end


def test_two_processes_have_the_gradient_of_the_accuracy_loss_of_the_whole_batch(tmp_path, monkeypatch):
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    spawn(train_half, (str(tmp_path),), nprocs=2)
    logits, target = some_logits(8)
    torch.manual_seed(0)
    net = torch.nn.Linear(CLASSES, CLASSES).double()
    accuracy_loss(net(logits), target).backward()
    for rank in (0, 1):
        torch.testing.assert_close(torch.load(tmp_path / f"{rank}.pt"), net.weight.grad)
