"""DCL's destruction: regions of photographs swap places with their neighbours, for a whole batch on the device."""

from collections.abc import Sequence

import torch
from torch import Tensor


def shuffle_regions(
    images: Tensor,
    grid: int = 7,
    reach: float = 2.0,
    generator: torch.Generator | Sequence[torch.Generator] | None = None,
) -> tuple[Tensor, Tensor]:
    """Cut images into grid × grid regions and shuffle them within their neighbourhood.

    In every row, region i gets the key i + u, u ~ U(−reach, reach), and the row is sorted by key; then the same in
    every column of the result. So a region moves by less than 2·reach along its row and along its column.
    Chen et al., "Destruction and Construction Learning", CVPR 2019, section 3.1.

    images: (B, C, H, W), grid dividing H and W; else ValueError.
    reach: k of the paper, at least 0; with 0 nothing moves.
    generator: one on the images' device, or one for each image on the CPU; None: torch's default generator.

    Returns the destructed images (B, C, H, W) and `source` (B, grid²): row-major index of the original region at each
    place, a permutation for every image.
    """
    source = shuffled_places(len(images), grid, reach, images.device, generator)
    return move_regions(images, source), source


def shuffled_places(
    batch: int,
    grid: int,
    reach: float,
    device: torch.device | str = "cpu",
    generator: torch.Generator | Sequence[torch.Generator] | None = None,
) -> Tensor:
    """`source` of `shuffle_regions`, int64 (batch, grid²)."""
    if reach < 0:
        raise ValueError(f"reach {reach}: expected at least 0")
    place = torch.arange(grid, device=device)
    if isinstance(generator, Sequence):
        noise = torch.stack([torch.rand(2, grid, grid, generator=each) for each in generator], dim=1).to(device)
    else:
        noise = torch.rand(2, batch, grid, grid, device=device, generator=generator)  # (2, B, N, N)
    from_column, from_row = (place + (2 * noise - 1) * reach).argsort(-1)  # (B, row, place), (B, column, place)
    source = place[:, None] * grid + from_column  # (B, N, N) after the rows
    return source.gather(1, from_row.mT).flatten(1)  # place (r, c) takes the region at (from_row[c, r], c)


def move_regions(images: Tensor, source: Tensor) -> Tensor:
    """images (B, C, H, W) with region source[b, p] of every image b moved to place p; source (B, grid²).

    `move_regions(moved, source.argsort(1))` moves them back. The result has channels last in memory.
    Raises ValueError where the grid does not divide H and W.
    """
    batch, channels, height, width = images.shape
    grid = round(source.shape[1] ** 0.5)
    if height % grid or width % grid:
        raise ValueError(f"a grid of {grid} does not divide images of {height} × {width}")
    # A region is `rows` pieces of adjacent pixels. Moving it copies these pieces, in one pass over the memory.
    rows, piece = height // grid, width // grid * channels
    row, column = (index.view(batch, grid, 1, grid) for index in (source // grid, source % grid))
    first = torch.arange(batch, device=images.device).view(-1, 1, 1, 1) * grid
    within = torch.arange(rows, device=images.device).view(-1, 1)
    index = ((first + row) * rows + within) * grid + column  # (B, N, rows, N): the piece for each place
    pieces = images.permute(0, 2, 3, 1).reshape(-1, piece)
    moved = pieces.index_select(0, index.flatten())
    return moved.view(batch, height, width, channels).permute(0, 3, 1, 2)
