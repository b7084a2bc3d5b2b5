"""Sums over the photographs of the current epoch, and the means and speed that follow from them."""

from torch import Tensor

from common.processes import summed, world


class Totals:
    """Sums of this process: `images`, `seconds`, and each metric summed over the photographs."""

    def __init__(self, sums: dict[str, float | Tensor] | None = None):
        self.sums = dict(sums or {})

    @property
    def images(self) -> int:
        return self.sums.get("images", 0)

    @property
    def seconds(self) -> float:
        return self.sums.get("seconds", 0)

    def add(self, name: str, value: float | Tensor) -> None:
        self.sums[name] = self.sums.get(name, 0) + value

    def copy(self) -> "Totals":
        return Totals(self.sums)

    def means(self) -> dict[str, float]:
        """The mean of each metric over the photographs of all processes; empty if there were no photographs."""
        sums = summed(self.sums)
        images = sums.get("images", 0)
        return {k: float(v) / images for k, v in sums.items() if k not in ("images", "seconds")} if images else {}

    def speed(self) -> dict[str, float]:
        """Images a second of all processes together, and seconds."""
        sums = summed(self.sums)
        seconds = sums["seconds"] / world().size
        return {"images_per_second": sums["images"] / seconds, "seconds": seconds}


def describe_epoch(row: dict, epochs: int) -> str:
    """A row of the log as the line that is printed."""
    text = f"epoch {row['epoch']}/{epochs}: loss {row['train_loss']:.3f}"
    if "train_top1" in row:
        text += f", top-1 {100 * row['train_top1']:.1f} %"
    if "val_top1_error" in row:
        text += f"; validation top-1 error {100 * row['val_top1_error']:.2f} %"
        text += f", mean class error {100 * row['val_mean_class_error']:.2f} %"
    return text + f"; {row['images_per_second']:.0f} images/s, lr {row['lr']:.3g}"
