"""The two losses of look-into-object: the extent of the object, and where its regions lie to each other."""

from collections.abc import Callable
from math import pi

import torch
from torch import Tensor

from losses.mean import to_float32


def pseudo_extent(features: Tensor, group: int) -> Tensor:
    """How much each region resembles the most similar region of the other photographs of its product.

    M_a[i] = mean over b ≠ a of max over j of <F_a[i], F_b[j]> / C. Zhou et al., CVPR 2020, object-extent learning.

    features F (B, C, N, N): the members of a group, photographs of one class, are adjacent; B a multiple of `group`.
    group: P + 1 ≥ 2 members. Returns M (B, N, N). Raises ValueError where B or `group` does not fit.
    """
    batch, channels, grid, _ = features.shape
    if group < 2 or batch % group:
        raise ValueError(f"{batch} photographs in groups of {group}: expected whole groups of at least 2")
    regions = features.flatten(2).mT.reshape(batch // group, group * grid**2, channels)  # (G, (P+1)·S, C)
    alike = (regions @ regions.mT / channels).unflatten(-1, (group, -1))  # (G, (P+1)·S, P+1, S): of a, i to b, j
    best = alike.max(-1).values.unflatten(1, (group, -1))  # (G, P+1, S, P+1): of a, i to b
    itself = torch.eye(group, dtype=torch.bool, device=features.device)[:, None]  # (P+1, 1, P+1)
    return best.masked_fill(itself, 0).sum(-1).div(group - 1).view(batch, grid, grid)


def object_extent_loss(features: Tensor, extent: Tensor, group: int) -> Tensor:
    """mean((m − M)²) of the predicted extent m and the pseudo extent M. Zhou et al., CVPR 2020, object-extent learning.

    The gradient flows into both sides, as in the authors' release: M is no constant.

    features F (B, C, N, N), group: see `pseudo_extent`, which raises ValueError. extent m (B, N, N).
    """
    return (to_float32(extent) - pseudo_extent(features, group)).square().mean()


def spatial_context_loss(context: Tensor, extent: Tensor, predictor: Callable[[Tensor], Tensor]) -> Tensor:
    """The error of distance and direction of the object's regions, seen from its most active region.

    A region is inside the object where m > mean(m). From the reference region o, the inside one with the largest mean
    of H, region i lies (r, c) rows and columns away, in units of N: at distance d = √(r² + c²) and angle
    θ = (atan2(c, r)/π + 1)/2. Its prediction (d̂, θ̂) = predictor([H_o, H_i]) costs (d̂ − d)² + (δ − mean_i δ)², where
    δ = θ̂ − θ, plus 1 where negative: the frame of reference may be turned. The loss is the mean over all regions, 0
    for those outside. Zhou et al., CVPR 2020, spatial context learning, as in the authors' release; but at o
    itself, where the angle is undefined, both sides are zero, so that a perfect prediction costs nothing.

    context H (B, C/2, N, N); extent m (B, N, N), which only chooses regions and learns nothing here.
    predictor: (..., C/2 + C/2) -> (..., 2), distance and angle.
    """
    grid = context.shape[-1]
    regions = context.flatten(2).mT  # (B, S, C/2)
    inside, reference = object_regions(context, extent)  # (B, S), (B, 1)
    at_reference = regions.take_along_dim(reference[..., None], 1)  # (B, 1, C/2)
    predicted = to_float32(predictor(torch.cat([at_reference.expand_as(regions), regions], -1)))  # (B, S, 2)

    place = torch.arange(grid**2, device=context.device)
    row = (place // grid - reference // grid).to(predicted.dtype) / grid  # (B, S)
    column = (place % grid - reference % grid).to(predicted.dtype) / grid
    distance, angle = torch.hypot(row, column), (torch.atan2(column, row) / pi + 1) / 2
    itself = place == reference
    predicted, angle = predicted.masked_fill(itself[..., None], 0), angle.masked_fill(itself, 0)
    turn = predicted[..., 1] - angle
    turn = torch.where(turn < 0, turn + 1, turn)
    error = (predicted[..., 0] - distance).square() + (turn - turn.mean(1, keepdim=True)).square()
    return (inside * error).mean()


def object_regions(context: Tensor, extent: Tensor) -> tuple[Tensor, Tensor]:
    """Which regions are inside the object, m > mean(m): (B, S) bool, and the reference among them, argmax of
    mean_c(H)·inside: (B, 1), both row-major; context H (B, C/2, N, N), extent m (B, N, N)."""
    extent = extent.flatten(1)
    inside = extent > extent.mean(1, keepdim=True)
    return inside, (context.mean(1).flatten(1) * inside).argmax(1, keepdim=True)
